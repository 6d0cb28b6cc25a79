"""Test ``--metrics-port`` with real workers, scraped over HTTP."""

import os
import re
import signal
import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from alligator import Gator
from tests.support.helpers import eventually
from tests.support.processes import processes

#: Seconds for several processes to start, on a busy machine.
PATIENCE = 60.0

JOBS = """
import os, time

from prometheus_client import Counter

from alligator import Gator
from alligator.contrib.prometheus import PrometheusMiddleware

mine = Counter("myapp_notes_total", "Of the application.")


def note(number):
    mine.inc()


def fork():
    if not os.fork():
        mine.inc()
        open("forked", "w").close()
        time.sleep(60)
        os._exit(0)


def die_once():
    if os.path.exists("died"):
        return
    open("died", "w").close()
    os.kill(os.getpid(), 9)


dsn = "sqlite://" + os.path.abspath("queue.db")
gator, counting = Gator(dsn), Gator(dsn, middleware=[PrometheusMiddleware()])
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "metered.py").write_text(JOBS)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/a/directory/of/a/web/server")
    return tmp_path


@pytest.fixture
def gator(folder):
    gator = Gator(f"sqlite://{folder}/queue.db")
    yield gator
    gator.close()


@pytest.fixture
def start(folder):
    with processes(folder) as start_process:
        yield lambda *flags, app="gator": start_process(
            *("-m", "alligator", "--app", f"metered:{app}", "--metrics-port=0"), *flags
        )


@pytest.fixture
def scrape(folder):
    """Return what a scrape finds, by name and values of labels, once the server is there."""

    def scrape():
        found = eventually(
            lambda: re.findall(r"Metrics are at (http://\S+)", (folder / "out").read_text()),
            within=PATIENCE,
        )
        with urllib.request.urlopen(found[-1], timeout=10) as answer:
            text = answer.read().decode()
        return {
            (each.name, *sorted(each.labels.values())): each.value
            for family in text_string_to_metric_families(text)
            for each in family.samples
        }

    return scrape


def succeeded(found):
    return found.get(("alligator_tasks_finished_total", "all", "metered.note", "succeeded"), 0)


def push(gator, count):
    with gator.batch() as batch:
        for number in range(count):
            batch.task("metered.note", number)


def directory(folder):
    (found,) = (folder / "tmp").glob("alligator_metrics_*")
    return found


def workers_of(gator):
    """Return the pids of the workers whose process lives."""
    pids = [each.pid for each in gator.workers()]
    return sorted(each for each in pids if Path(f"/proc/{each}").exists())


def test_one_worker(folder, gator, start, scrape):
    """Its own metrics, those of the application, and those of the queue."""
    push(gator, 20)
    gator.options(delay_by=600).task("metered.note", 1)
    process = start()
    eventually(lambda: succeeded(scrape()) == 20, within=PATIENCE)
    found = scrape()
    assert found["myapp_notes_total",] == 20
    assert found["alligator_queue_tasks", "all", "delayed"] == 1
    assert found["alligator_queue_tasks", "all", "waiting"] == 0
    assert found["alligator_queue_workers", "all"] == found["alligator_workers", "live"] == 1
    assert found["alligator_scrape_failed", "queues"] == 0
    assert found["alligator_task_wait_seconds_count", "all", "metered.note"] == 20
    assert directory(folder).stat().st_mode & 0o77 == 0
    process.terminate()
    assert process.wait(30) == 0
    assert list((folder / "tmp").iterdir()) == []


def test_a_forked_child_holds_neither_port_nor_numbers(folder, gator, start, scrape):
    """Here, the application has the middleware, which is not added again."""
    gator.task("metered.fork")
    push(gator, 3)
    process = start("--concurrency=2", app="counting")
    eventually(lambda: (folder / "forked").exists(), within=PATIENCE)
    eventually(lambda: succeeded(scrape()) == 3, within=PATIENCE)
    eventually(lambda: scrape().get(("myapp_notes_total",)) == 4, within=PATIENCE)
    (url,) = re.findall(r"http://127.0.0.1:(\d+)", (folder / "out").read_text())
    names = {each.name for each in directory(folder).glob("counter_*")}
    assert names == {"counter_0.db", "counter_1.db"}
    process.kill()
    process.wait()
    with socket.create_server(("127.0.0.1", int(url))):
        pass  # it is free


def test_processes_share_one_port_and_a_killed_one_loses_no_counts(folder, gator, start, scrape):
    process = start("--processes=2", "--lease=5")
    eventually(lambda: len(workers_of(gator)) == 2, within=PATIENCE)
    push(gator, 50)
    eventually(lambda: succeeded(scrape()) == 50, within=PATIENCE)
    files = {each.name for each in directory(folder).iterdir()}
    before, (killed, _) = scrape(), workers_of(gator)
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: killed not in (now := workers_of(gator)) and len(now) == 2, within=PATIENCE)
    push(gator, 50)
    eventually(lambda: succeeded(scrape()) == 100, within=PATIENCE)
    after = scrape()
    fell = {
        key
        for key, value in before.items()
        if key[0].endswith(("_total", "_count", "_bucket")) and after.get(key, 0) < value
    }
    assert not fell
    assert {each.name for each in directory(folder).iterdir()} == files, "one for each that lives"
    assert found_gauges(scrape()) == found_gauges(before), "and no gauge of one that died"
    process.terminate()
    assert process.wait(30) == 0
    assert list((folder / "tmp").iterdir()) == []


def found_gauges(found):
    suffixes = ("_total", "_count", "_bucket", "_sum")
    return {key for key in found if not key[0].endswith(suffixes)}


def test_a_lease_that_ran_out_counts(gator, start, scrape):
    """In the process of its own in which the task runs that has killed its worker."""
    gator.task("metered.die_once")
    process = start("--lease=1.5", "--concurrency=2", "--processes=1")
    done = ("alligator_tasks_finished_total", "all", "metered.die_once", "succeeded")
    found = eventually(lambda: (found := scrape()).get(done) and found, within=PATIENCE)
    assert found[done] == found["alligator_leases_expired_total", "all", "metered.die_once"] == 1
    process.terminate()
    assert process.wait(30) == 0
