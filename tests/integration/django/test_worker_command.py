"""Test ``manage.py latergator`` as the program that it is."""

import json
import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from alligator import Gator
from tests.support import ROOT
from tests.support.helpers import eventually

PROJECT = Path(__file__).parent / "project"


@pytest.fixture(scope="module")
def migrated(tmp_path_factory):
    """A copy of the project with its tables."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(PROJECT, folder, dirs_exist_ok=True)
    site = Site(folder, "locmem://")
    done = site.run("migrate", "--run-syncdb", "--verbosity=0", "--skip-checks")
    assert done.returncode == 0, done.stderr
    return folder


class Site:
    """The project in a folder, and what its settings say."""

    def __init__(self, folder, dsn, **settings):
        self.folder, self.started = folder, []
        self.gator = Gator(dsn, settings.get("QUEUES", ["all"])[0])
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "SHOP_FOLDER": str(folder),
            "SHOP_ALLIGATOR": json.dumps({"DSN": dsn, **settings}),
        }

    def run(self, *arguments):
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def start(self, *arguments):
        with (self.folder / "out").open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "manage.py", "latergator", *arguments],
                cwd=self.folder,
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self.started.append(process)
        return process

    def notes(self, *beginning):
        file = self.folder / "notes"
        lines = file.read_text().splitlines() if file.exists() else []
        return [each for each in lines if not beginning or each.startswith(beginning)]

    def out(self):
        return (self.folder / "out").read_text()

    def save(self, name, text):
        (self.folder / "shop" / name).write_text(text)

    def close(self):
        self.gator.close()
        for process in self.started:
            if process.poll() is None:
                process.terminate()
        for process in self.started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def site(migrated, tmp_path):
    made = []

    def make(dsn=f"sqlite://{tmp_path}/queue.db", **settings):
        shutil.copytree(migrated, tmp_path, dirs_exist_ok=True)
        made.append(Site(tmp_path, dsn, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_it_serves_the_queues_of_the_settings(site):
    site = site(QUEUES=["urgent", "bulk"], TASK_CLASS="alligator.Task")
    for queue in ("bulk", "urgent", "other"):
        site.gator.options(queue_name=queue).task("shop.tasks.order", queue)
    done = site.run("latergator", "--burst", "--hide-results")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in site.notes("urgent", "bulk")] == ["urgent", "bulk"]
    assert site.run("latergator", "--burst", "--queue=other", "--max-tasks=1").returncode == 0
    assert site.notes("other")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_stop_signal_lets_the_task_finish(site, number):
    site = site()
    site.gator.task("shop.tasks.until_told", "a")
    site.gator.task("shop.tasks.order", "later")
    worker = site.start()
    eventually(lambda: site.notes("started"), "it runs")
    worker.send_signal(number)
    eventually(lambda: "was told to stop" in site.out(), "it knows")
    (site.folder / "go").touch()
    assert worker.wait(60) == 0
    assert (site.notes("ended"), site.gator.len()) == (["ended a"], 1)


def test_each_of_several_processes_has_django(site):
    site = site()
    worker = site.start("--processes=2", "--grace=5")
    for number in range(4):
        site.gator.task("shop.tasks.until_told", str(number))
    started = eventually(lambda: (n := site.notes("started"))[1:] and n, "two processes run")
    pids = {int(line.split()[-1]) for line in started}
    assert len(pids) == 2
    assert worker.pid not in pids
    site.gator.task("shop.tasks.order", "last")
    (site.folder / "go").touch()
    eventually(lambda: site.notes("last"), "it uses the database")
    worker.terminate()
    assert worker.wait(60) == 0


def test_a_process_for_a_task_that_killed_one_has_django(site):
    site = site()
    site.gator.task("shop.tasks.kill_once")
    site.start("--processes=1", "--concurrency=2", "--lease=1.5")
    eventually(lambda: site.notes("after a kill"), "it was run again, in a process of its own")
    assert site.gator.dead() == []


@pytest.mark.parametrize(
    ("settings", "arguments", "code", "said"),
    [
        ({}, ["--alias=mail"], 2, "ALLIGATOR has no alias 'mail'. It has: default."),
        ({"QUEUE": "no good name\n"}, [], 1, "alligator.E003"),
        ({"QUEUES_": []}, [], 1, "unknown key 'QUEUES_'. Did you mean 'QUEUES'?"),
        ({"QUEUES_": []}, ["--skip-checks"], 2, "Did you mean 'QUEUES'?"),
        ({"DSN": "redis://127.0.0.1:1/0"}, [], 2, "127.0.0.1:1"),
        ({"DSN": "redis://127.0.0.1:1/0"}, ["--autoreload"], 2, "127.0.0.1:1"),
        ({}, ["--max-tasks=few"], 2, "--max-tasks"),
        ({}, ["--metrics-host=0.0.0.0"], 2, "--metrics-host needs --metrics-port"),
    ],
)
def test_what_keeps_it_from_starting_is_said(site, settings, arguments, code, said):
    site = site()
    given = json.loads(site.environment["SHOP_ALLIGATOR"]) | settings
    site.environment["SHOP_ALLIGATOR"] = json.dumps(given)
    done = site.run("latergator", *arguments)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_a_function_of_a_shell_is_refused(site):
    code = "def f(): pass\nfrom alligator.contrib.django import gators\ngators['default'].task(f)"
    done = site().run("shell", "-c", code)
    said = "If it was defined in a shell, put it into a module, such as myapp/tasks.py."
    assert said in done.stderr.splitlines()[-1]


def test_a_command_that_it_does_not_have_is_pointed_to(site):
    done = site().run("latergator", "status", "--watch")
    assert done.returncode == 2
    assert "has no 'status'" in done.stderr
    said = "DJANGO_SETTINGS_MODULE=mysite.settings latergator.py status --app "
    assert f"{said}alligator.contrib.django:gators" in done.stderr


@pytest.mark.parametrize(
    "app", ["alligator.contrib.django:gators", "alligator.contrib.django.command_line:default"]
)
def test_the_other_commands_find_its_queue(site, app):
    site = site()
    site.gator.task("shop.tasks.order", "a")
    done = subprocess.run(
        [sys.executable, "-m", "alligator", "status", "--app", app, "--json"],
        cwd=site.folder,
        env={**site.environment, "DJANGO_SETTINGS_MODULE": "mysite.settings"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert json.loads(done.stdout)["queues"][0]["waiting"] == 1, done.stderr


# -- Database connections. ------------------------------------------------------------------------


@pytest.mark.parametrize(("max_age", "connected"), [("0", 3), ("null", 1)])
def test_connections_live_as_long_as_django_says(site, max_age, connected):
    site = site()
    site.environment["SHOP_MAX_AGE"] = max_age
    for name in "abc":
        site.gator.task("shop.tasks.order", name)
    assert site.run("latergator", "--burst").returncode == 0
    assert len(site.notes("connected")) == connected


@pytest.mark.parametrize("kind", ["", "a"], ids=["function", "coroutine"])
def test_one_that_was_closed_while_it_was_idle_is_renewed(site, kind):
    site = site()
    site.environment["SHOP_MAX_AGE"] = "null"
    site.start("--concurrency=4")
    for name in ("first", "second"):
        site.gator.task(f"shop.tasks.{kind}order", name)
        eventually(partial(has_ended, site, name), "it ends")
        if name == "first":
            site.gator.task(f"shop.tasks.{kind}close_quietly")
            eventually(lambda: site.notes("closed"), "as a server does that restarts")
    assert site.notes("second"), "no task has failed"


def test_hooks_of_a_coroutine_have_a_connection_that_works(site):
    site = site()
    site.environment["SHOP_MAX_AGE"] = "null"
    site.start("--concurrency=4")
    push = "gators['default'].options(on_success=tasks.hook).task(tasks.aorder, %r)"
    for name in ("lose", "first", "second"):
        start = "from shop import tasks; from alligator.contrib.django import gators; "
        assert site.run("shell", "-c", start + push % name).returncode == 0
        noted = "lost" if name == "lose" else f"hook {name}"
        eventually(partial(site.notes, noted), "its hook was called")
    assert site.notes("hook") == ["hook first 2", "hook second 3"]


def has_ended(site, name):
    return site.notes(name) or len(site.gator.dead()) > 1


def test_queries_of_earlier_tasks_are_forgotten(site):
    site = site()
    for name in ("order", "note_queries"):
        site.gator.task(f"shop.tasks.{name}", *["a"] * (name == "order"))
    assert site.run("latergator", "--burst").returncode == 0
    assert site.notes("queries") == ["queries 0"]


@pytest.mark.parametrize("concurrency", ["1", "4"])
@pytest.mark.parametrize("kind", ["", "a"], ids=["function", "coroutine"])
def test_a_connection_that_broke_is_renewed(site, kind, concurrency):
    site = site()
    site.environment["SHOP_MAX_AGE"] = "null"
    site.start(f"--concurrency={concurrency}")
    site.gator.task(f"shop.tasks.{kind}order", "before")
    eventually(lambda: site.notes("before"), "it uses the database")
    site.gator.task(f"shop.tasks.{kind}lose_connection")
    (dead,) = eventually(site.gator.dead, "it fails")
    assert "closed" in dead.error
    for name in ("first", "second"):
        site.gator.task(f"shop.tasks.{kind}order", name)
        eventually(partial(has_ended, site, name), "it ends")
    assert [line.split()[:2] for line in site.notes("first", "second")] == [
        ["first", "2"],
        ["second", "3"],
    ]
    # Each thread has its own, and which of them takes a task is not known.
    most = 4 if concurrency == "4" and not kind else 2
    assert 2 <= len(site.notes("connected")) <= most
