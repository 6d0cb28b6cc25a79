"""Kill worker processes, and look at what they recorded."""

import signal
import sys
import time
import uuid

import pytest

from alligator import Gator
from tests.support.helpers import eventually
from tests.support.processes import processes

JOBS = """
import os, signal, time

def slow(folder):
    if not os.path.exists(os.path.join(folder, "killed")):
        time.sleep(60)

def quick(number):
    return number

def dies(folder):
    path = os.path.join(folder, "died")
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)

def waits(folder):
    while not os.path.exists(os.path.join(folder, "go")):
        time.sleep(0.01)
"""

WORKER = """
import sys
from alligator import Gator, Worker
from alligator.workers import heartbeat

heartbeat.EVERY, heartbeat.COUNTS, heartbeat.REPORT_EVERY = 0.3, 2.0, 0.05
Worker(Gator(sys.argv[1], sys.argv[2]), lease=1.0).run_forever()
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "recorded_jobs.py").write_text(JOBS)
    (tmp_path / "start_worker.py").write_text(WORKER)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("recorded_jobs", None)


@pytest.fixture
def run(folder):
    with processes(folder) as start:
        yield start


@pytest.fixture(params=["sqlite", "redis"])
def gator(request):
    found = Gator(request.getfixturevalue(f"{request.param}_dsn"), f"r-{uuid.uuid4().hex[:8]}")
    yield found
    found.close()


def of_queue(gator):
    return [row for row in gator.workers() if gator.queue_name in row.queues]


def total(gator, name):
    rows = [row for row in gator.activity() if row.queue_name == gator.queue_name]
    return sum(getattr(row, name) for row in rows)


def test_a_killed_worker_is_lost_and_its_attempt_too(gator, folder, run):
    task = gator.options(history=600).task("recorded_jobs.slow", str(folder))
    start = ("start_worker.py", gator.conn_string, gator.queue_name)
    victim = run(*start)
    eventually(lambda: (found := gator.history(task)) and found.attempts, "it runs")
    (row,) = of_queue(gator)
    assert (row.pid, [each.task_id for each in row.running]) == (victim.pid, [task.task_id])
    assert not row.is_lost
    (folder / "killed").touch()
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    eventually(lambda: of_queue(gator)[0].is_lost, "it is said to be lost")
    other = run(*start)
    eventually(lambda: total(gator, "succeeded"), "it has run elsewhere")
    first, second = gator.history(task).attempts
    assert (first.outcome, first.ended, first.worker) == ("lost", None, f"{row.host}:{victim.pid}")
    assert second.outcome == "succeeded"
    assert second.worker.endswith(f":{other.pid}")
    assert total(gator, "lost") == 1
    living, lost = of_queue(gator)
    assert (living.pid, living.is_lost) == (other.pid, False)
    assert (lost.pid, lost.is_lost) == (victim.pid, True)
    other.send_signal(signal.SIGTERM)
    other.wait(20)
    assert [each.pid for each in of_queue(gator)] == [victim.pid], "the other ended in order"


def test_several_processes_count_together(sqlite_dsn, folder, run):
    gator = Gator(sqlite_dsn, "many")
    with gator.batch() as batch:
        for number in range(400):
            batch.task("recorded_jobs.quick", number)
        for _ in range(2):
            batch.task("recorded_jobs.waits", str(folder))
    flags = ["--queue", "many", "--processes", "2", "--prefetch", "1"]
    parent = run("-m", "alligator", sqlite_dsn, *flags)
    eventually(lambda: len({row.worker for row in gator.running() if row.worker}) == 2)
    assert {row.function for row in gator.running()} == {"recorded_jobs.waits"}
    assert len(of_queue(gator)) == 2
    (folder / "go").touch()
    eventually(lambda: total(gator, "succeeded") == 402, "each is counted once")
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(30) == 0
    assert total(gator, "succeeded") == 402
    assert of_queue(gator) == []


def test_a_suspect_in_a_process_of_its_own_is_recorded(sqlite_dsn, folder, run):
    gator = Gator(sqlite_dsn, "alone")
    task = gator.options(history=600).task("recorded_jobs.dies", str(folder))
    flags = ["--queue", "alone", "--lease", "1.5", "--concurrency", "2"]
    run("-m", "alligator", sqlite_dsn, *flags).wait(30)
    gator.task("recorded_jobs.waits", str(folder))  # so that the suspect does not run beside it
    worker = run("-m", "alligator", sqlite_dsn, *flags)
    eventually(lambda: total(gator, "succeeded") == 1, "the suspect has run")
    (folder / "go").touch()
    lost, attempt = eventually(lambda: (h := gator.history(task)) and h.attempts)
    assert (lost.outcome, attempt.outcome) == ("lost", "succeeded")
    assert attempt.worker.split(":")[1] != str(worker.pid), "it ran in another process"
    assert total(gator, "lost") == 1
    eventually(lambda: total(gator, "succeeded") == 2)


def test_a_task_that_makes_its_worker_leave_is_not_the_end_of_what_was_counted(
    sqlite_dsn, folder, run
):
    """The worker ends its process, and before that it reports."""
    gator = Gator(sqlite_dsn, "leaves")
    for number in range(5):
        gator.task("recorded_jobs.quick", number)
    gator.options(timeout=0.2).task("recorded_jobs.slow", str(folder))
    (folder / "stubborn.py").write_text(
        "import time\n\ndef stays():\n    end = time.monotonic() + 60\n"
        "    while time.monotonic() < end:\n"
        "        try:\n            time.sleep(1)\n        except BaseException:\n            pass\n"
    )
    gator.options(timeout=0.1).task("stubborn.stays")
    flags = ["--queue", "leaves", "--grace", "0.2", "--lease", "5"]
    began = time.monotonic()
    assert run("-m", "alligator", sqlite_dsn, *flags).wait(30) == 1
    assert time.monotonic() - began < 20
    assert total(gator, "succeeded") == 5
    assert total(gator, "failed") == 1
    assert of_queue(gator) == []
