"""Test C code that holds the interpreter's lock, in workers without a helper process."""

import signal
import sys
import time
import uuid

import pytest

from tests.faults.test_held_interpreter_lock import JOBS
from tests.support.processes import processes

WORKER = """
import sys
from alligator import Gator, Worker
Worker(Gator(sys.argv[1], sys.argv[2]), lease=float(sys.argv[3]), grace=1).run_forever()
"""

KILL = """
def kill(folder):
    record(folder, "killed")
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "standstill_jobs.py").write_text(JOBS + KILL)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("standstill_jobs", None)


@pytest.fixture
def gator(durable_gator):
    return durable_gator(f"alone-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def lease(gator):
    return gator.client.lease_seconds or 1.0  # which SQS keeps in whole seconds


@pytest.fixture
def start(folder):
    with processes(folder) as run:
        yield lambda gator, lease: run(
            "-c", WORKER, gator.conn_string, gator.queue_name, str(lease)
        )


def names(folder):
    path = folder / "lines"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def eventually(check, folder, within=40.0):
    deadline = time.monotonic() + within
    while not check():
        said = (folder / "out").read_text()[-4000:]
        assert time.monotonic() < deadline, f"{names(folder)}; it said:\n{said}"
        time.sleep(0.05)


def is_over(gator):
    stats = gator.client.stats(gator.queue_name)
    return not (stats.waiting or stats.delayed or stats.running)


def test_it_gets_a_longer_lease_and_ends(gator, lease, folder, start):
    """It was run again and again, and in the end a dead letter, though no worker died."""
    import standstill_jobs as jobs

    for _ in range(3):
        start(gator, lease)
    gator.task(jobs.hold, str(folder), "held", 3.4 * lease)
    eventually(lambda: "held-end" in names(folder) and is_over(gator), folder)
    assert gator.dead() == []
    eventually(lambda: names(folder).count("held") == names(folder).count("held-end"), folder)
    # SQS counts no deaths: there it takes more.
    most = 5 if gator.conn_string.startswith("sqs") else 3
    assert names(folder).count("held") <= most
    assert "Give tasks that do so a timeout" in (folder / "out").read_text()


def test_with_a_timeout_it_runs_once(gator, lease, folder, start):
    """Its lease reaches beyond the timeout from the start, on every backend."""
    import standstill_jobs as jobs

    for _ in range(2):
        start(gator, lease)
    gator.options(timeout=30).task(jobs.hold, str(folder), "held", 3.4 * lease)
    eventually(lambda: "held-end" in names(folder) and is_over(gator), folder)
    assert names(folder).count("held") == 1
    assert gator.dead() == []


@pytest.mark.parametrize("durable_dsn", ["redis", "sqlite", "beanstalk"], indirect=True)
def test_what_kills_its_worker_is_given_up_all_the_same(gator, folder, start):
    import standstill_jobs as jobs

    workers = [start(gator, 0.25)]
    gator.task(jobs.kill, str(folder))

    def is_dead():
        if workers[-1].poll() is not None:
            assert workers[-1].returncode == -signal.SIGKILL
            workers.append(start(gator, 0.25))
        return gator.dead()

    eventually(is_dead, folder)
    assert names(folder) == ["killed"] * 3
    (letter,) = gator.dead()
    assert letter.error.startswith("WorkerDied: 3 deaths")
