"""Test ``manage.py latergator --autoreload``: with real files that are saved while tasks run."""

import os
import signal
from functools import partial

from tests.integration.django.test_worker_command import migrated, site
from tests.support.helpers import eventually

__all__ = ["migrated", "site"]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def has_started(site, times):
    return len(site.notes("started")) == times


def test_three_reloads_during_a_task_make_no_dead_letter(site, redis_dsn):
    site = site(redis_dsn, QUEUES=["autoreload"])
    task = site.gator.options(save_results=600).task("shop.tasks.until_told", "a")
    worker = site.start("--autoreload", "--grace=0.3")
    for number in range(1, 5):
        eventually(partial(has_started, site, number), "it runs")
        if number < 4:
            site.save("text.py", f"VERSION = {number}\n")
    (site.folder / "go").touch()
    assert task.wait(60)
    site.gator.task("shop.tasks.version")
    eventually(lambda: site.notes("version 3"), "the last code runs")
    assert site.gator.dead() == []
    assert site.out().count("text.py has changed; reloading.") == 3
    worker.send_signal(signal.SIGINT)
    assert worker.wait(60) == 0
    pids = [int(line.split()[-1]) for line in site.notes("started")]
    assert len(set(pids)) == 4
    assert not any(map(is_alive, pids))


def test_a_task_that_ends_within_the_grace_runs_once_and_errors_are_waited_out(site):
    site = site()
    site.gator.task("shop.tasks.until_told", "a")
    worker = site.start("--autoreload", "--grace=20")
    eventually(lambda: site.notes("started"), "it runs")
    good = (site.folder / "shop" / "models.py").read_text()
    site.save("models.py", "from django.db import (")
    eventually(lambda: "was told to stop" in site.out(), "it is to stop")
    (site.folder / "go").touch()
    eventually(lambda: "it waits for a file to change" in site.out(), "the code is in error")
    assert "SyntaxError" in site.out()
    assert site.notes("started", "ended")[1:] == ["ended a"], "it ran once"
    site.save("models.py", good)
    site.save("text.py", "VERSION = 'new'\n")
    site.gator.task("shop.tasks.version")
    eventually(lambda: site.notes("version new"), "the new code runs")
    pid = eventually(site.gator.workers, "it is listed")[0].pid
    worker.kill()  # the worker process notices
    eventually(lambda: not is_alive(pid), "it has ended")


def test_settings_and_applications_in_error_are_waited_out(site):
    site = site()
    places = ("mysite/settings.py", "shop/__init__.py", "shop/models.py")
    waits_out_errors(site, places)


def test_errors_outside_of_the_applications_are_waited_out(site):
    """A module that failed to import is among no modules, and these are of no application."""
    site = site()
    with (site.folder / "mysite" / "settings.py").open("a") as file:
        file.write("ROOT_URLCONF = 'mysite.urls'\n")
    tasks = site.folder / "mysite" / "far" / "from_" / "the" / "start"
    tasks.mkdir(parents=True)
    (tasks / "tasks.py").write_text("")
    (site.folder / "mysite" / "urls.py").write_text(
        "from mysite.far.from_.the.start import tasks\n\nurlpatterns = []\n"
    )
    waits_out_errors(site, ["mysite/urls.py", "mysite/far/from_/the/start/tasks.py"])


def waits_out_errors(site, places):
    """Break and mend each of these files in turn, while a worker runs."""
    worker = site.start("--autoreload")
    eventually(site.gator.workers, "it works")

    def said(text, times):
        return site.out().count(text) == times

    for number, place in enumerate(places, 1):
        file = site.folder / place
        text = file.read_text()
        file.write_text(f"{text}\nimport missing_{number}\n")
        eventually(partial(said, "it waits for a file to change", number), "it is in error")
        file.write_text(text)
        eventually(partial(said, "starting & consuming", number + 1), "it is loaded again")
    assert "exited with" not in site.out()
    worker.send_signal(signal.SIGINT)
    assert worker.wait(60) == 0


def test_a_queue_that_is_new_in_the_settings_is_served(site):
    site = site()
    site.start("--autoreload")
    eventually(site.gator.workers, "it works")
    with (site.folder / "mysite" / "settings.py").open("a") as file:
        file.write("ALLIGATOR['QUEUES'] = ['urgent', 'all']\n")
    site.gator.options(queue_name="urgent").task("shop.tasks.version")
    eventually(lambda: site.notes("version"), "it is served")


def test_queues_of_the_command_line_stay_those_of_the_worker(site):
    site = site(QUEUES=["mail"])
    site.start("--autoreload", "--queue=mail", "--queue=all")
    [before] = eventually(site.gator.workers, "it works")
    with (site.folder / "mysite" / "settings.py").open("a") as file:
        file.write("ALLIGATOR['QUEUES'] = ['urgent']\n")
    eventually(lambda: site.out().count("starting & consuming") == 2, "it is loaded again")
    [after] = eventually(site.gator.workers, "it works")
    assert after.pid != before.pid
    assert list(after.queues) == ["mail", "all"]
