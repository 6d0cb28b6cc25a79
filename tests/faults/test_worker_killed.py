"""Kill a real worker process in the middle of its task: no task is lost."""

import signal
import sys
import time
import uuid

import pytest

from alligator import Gator
from tests.support.processes import processes

JOBS = """
import os, time

def record(folder, line):
    descriptor = os.open(os.path.join(folder, "lines"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line} {os.getpid()}\\n".encode())
    os.close(descriptor)

def first_time_slow(folder, name):
    record(folder, f"start-{name}")
    if not os.path.exists(os.path.join(folder, "killed")):
        time.sleep(60)
    record(folder, f"end-{name}")

def quick(folder, name):
    record(folder, f"end-{name}")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "kill_jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("kill_jobs", None)


@pytest.fixture
def workers(folder):
    with processes(folder) as run:
        yield lambda dsn, *flags: run("-m", "alligator", dsn, "--lease", "2", *flags)


def lines(folder):
    path = folder / "lines"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def eventually(check, folder, what, within=30.0):
    deadline = time.monotonic() + within
    while not check():
        said = (folder / "out").read_text()[-1500:] if (folder / "out").exists() else ""
        assert time.monotonic() < deadline, f"not within {within} s: {what}; it said:\n{said}"
        time.sleep(0.02)


def test_sigkill_mid_task_loses_nothing(durable_dsn, durable_gator, folder, workers):
    queue = f"kill-{uuid.uuid4().hex[:8]}"
    gator = durable_gator(queue)
    flags = ["--queue", gator.queue_name]
    gator.task("kill_jobs.first_time_slow", str(folder), "slow")
    for number in range(10):
        gator.task("kill_jobs.quick", str(folder), str(number))
    victim = workers(durable_dsn, *flags, "--prefetch", "5")
    eventually(lambda: ["start-slow", str(victim.pid)] in lines(folder), folder, "it starts")
    (folder / "killed").touch()
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    killed_at = time.monotonic()
    workers(durable_dsn, *flags)
    expected = {"end-slow", *(f"end-{number}" for number in range(10))}
    eventually(
        lambda: {line[0] for line in lines(folder)} >= expected, folder, "everything has run"
    )
    assert time.monotonic() - killed_at < 2 + 20  # the lease, and a slow machine
    ends = [line[0] for line in lines(folder) if line[0].startswith("end-")]
    assert sorted(ends) == sorted(expected), "each ended exactly once"
    eventually(lambda: gator.stats()["running"] == 0, folder, "all acked")
    assert gator.len() == 0
    assert gator.dead() == []


def test_after_a_batch_each_callback_runs_once(durable_dsn, durable_gator, folder, workers):
    if not durable_dsn.startswith(("sqlite", "redis")):
        pytest.skip("its queue is no store")
    gator = durable_gator(f"kill-{uuid.uuid4().hex[:8]}")
    flags = ["--queue", gator.queue_name]
    after = {
        name: ("kill_jobs.record", str(folder), f"end-{name}") for name in ("on_success", "on_done")
    }
    with gator.batch(**after) as batch:
        batch.task("kill_jobs.first_time_slow", str(folder), "slow")
        batch.task("kill_jobs.quick", str(folder), "quick")
    victim = workers(durable_dsn, *flags)
    eventually(lambda: ["start-slow", str(victim.pid)] in lines(folder), folder, "it starts")
    (folder / "killed").touch()
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    workers(durable_dsn, *flags)
    eventually(lambda: {"end-on_success", "end-on_done"} <= names(folder), folder, "both run")
    eventually(lambda: gator.stats()["running"] == gator.len() == 0, folder, "all acked")
    ends = [line[0] for line in lines(folder) if line[0].startswith("end-")]
    assert sorted(ends) == ["end-on_done", "end-on_success", "end-quick", "end-slow"]
    assert set(ends[:2]) == {"end-quick", "end-slow"}


def names(folder):
    return {line[0] for line in lines(folder)}


def test_a_task_that_kills_its_worker_ends_as_a_dead_letter(sqlite_dsn, folder, workers):
    (folder / "kill_jobs.py").write_text(JOBS + "\n\ndef deadly():\n    os._exit(9)\n")
    gator = Gator(sqlite_dsn)
    gator.task("kill_jobs.deadly")
    for number in range(10):
        gator.task("kill_jobs.quick", str(folder), str(number))
    supervisor = workers(sqlite_dsn, "--lease", "1", "--processes", "2", "--prefetch", "8")
    eventually(lambda: gator.stats()["dead"] == 1, folder, "it is a dead letter")
    eventually(lambda: len(lines(folder)) >= 10, folder, "its neighbours have run")
    supervisor.terminate()
    assert supervisor.wait(20) == 0
    (letter,) = gator.dead()
    assert "3 deaths of its worker" in letter.error
    assert sorted({line[0] for line in lines(folder)}) == [f"end-{n}" for n in range(10)]
    gator.close()
