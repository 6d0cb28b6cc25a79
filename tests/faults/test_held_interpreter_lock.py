"""Test C code that holds the interpreter's lock for longer than the lease."""

import os
import signal
import sys
import time
import uuid
from pathlib import Path

import pytest

from alligator import Gator
from alligator.backends.base import Delivery
from alligator.execution.lease_process import TAKE_BACK, LeaseProcess, Watcher
from tests.support.processes import processes

JOBS = """
import ctypes, os, time

def record(folder, line):
    descriptor = os.open(os.path.join(folder, "lines"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line} {os.getpid()} {time.time()}\\n".encode())
    os.close(descriptor)

def short(folder, name):
    record(folder, name)

def hold(folder, name, seconds):
    record(folder, name)
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # unlike CDLL, it keeps the lock
    record(folder, f"{name}-end")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "standstill_jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("standstill_jobs", None)


@pytest.fixture(params=["sqlite", "redis"])
def gator(request):
    dsn = request.getfixturevalue(f"{request.param}_dsn")
    gator = Gator(dsn, f"still-{uuid.uuid4().hex[:8]}")
    yield gator
    gator.client.drop_all(gator.queue_name)
    gator.close()


@pytest.fixture
def start(folder):
    with processes(folder) as run:

        def start(gator, *flags):
            flags = ("--queue", gator.queue_name, "--lease=5", *flags)
            return run("-m", "alligator", gator.conn_string, *flags)

        yield start


def lines(folder):
    """Return what was recorded: name, pid, time."""
    path = folder / "lines"
    rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [(name, int(pid), float(at)) for name, pid, at in rows]


def names(folder):
    return [name for name, _, _ in lines(folder)]


def eventually(check, folder, within=30.0):
    deadline = time.monotonic() + within
    while not check():
        said = (folder / "out").read_text()[-3000:] if folder else ""
        assert time.monotonic() < deadline, f"not within {within} s; it said:\n{said}"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gator", "flags"),
    [("sqlite", ["--concurrency=4"]), ("redis", ["--processes=1"])],
    indirect=["gator"],
)
def test_it_runs_once_and_no_death_is_counted(gator, folder, start, flags):
    """Several workers wait for its lease to end; each took it over before, until it was dead."""
    import standstill_jobs as jobs

    for _ in range(2):
        start(gator, *flags)
    gator.task(jobs.hold, str(folder), "held", 7.5)
    eventually(lambda: "held" in names(folder), folder)
    for number in range(3):
        gator.task(jobs.short, str(folder), f"short-{number}")
    eventually(lambda: "held-end" in names(folder), folder)
    eventually(lambda: gator.client.stats(gator.queue_name).running == 0, folder)
    found = names(folder)
    assert found.count("held") == found.count("held-end") == 1
    assert gator.dead() == []
    assert {f"short-{number}" for number in range(3)} <= set(found[: found.index("held-end")])
    told = "Nothing of Python ran in this process"
    eventually(lambda: told in (folder / "out").read_text(), folder)


@pytest.mark.slow
@pytest.mark.parametrize("gator", ["redis"], indirect=True)
def test_what_was_fetched_with_it_runs_elsewhere_once(gator, folder, start):
    import standstill_jobs as jobs

    with gator.batch() as batch:
        batch.task(jobs.hold, str(folder), "held", 7.5)
        for number in range(5):
            batch.task(jobs.short, str(folder), f"short-{number}")
    first = start(gator, "--prefetch", "6")
    eventually(lambda: "held" in names(folder), folder)
    assert gator.stats()["running"] == 6
    start(gator)
    eventually(lambda: "held-end" in names(folder), folder)
    found = lines(folder)
    early = found[: [name for name, _, _ in found].index("held-end")]
    assert sorted(name for name, _, _ in early[1:]) == [f"short-{number}" for number in range(5)]
    assert first.pid not in {pid for _, pid, _ in early[1:]}
    # "In good time": before their lease would have ended, from the moment that others could.
    eventually(lambda: gator.client.stats(gator.queue_name).running == 0, folder)
    time.sleep(0.3)
    assert len(lines(folder)) == 7  # each ran once
    assert gator.dead() == []


@pytest.mark.slow
@pytest.mark.parametrize("gator", ["redis"], indirect=True)
def test_a_stopped_worker_is_left_to_its_lease(gator, folder, start):
    import standstill_jobs as jobs

    first = start(gator)
    gator.task(jobs.hold, str(folder), "held", 0.5)
    eventually(lambda: "held" in names(folder), folder)
    first.send_signal(signal.SIGSTOP)
    start(gator)
    eventually(lambda: names(folder).count("held") == 2, folder)
    first.kill()


def beside(pid):
    """Return the processes whose parent it is."""
    found = []
    for each in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = each.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(each.parent.name))
    return found


@pytest.mark.parametrize("gator", ["redis"], indirect=True)
def test_the_process_beside_it_ends_with_it_and_is_replaced(gator, folder, start):
    worker = start(gator)
    eventually(lambda: beside(worker.pid), folder)
    (one,) = beside(worker.pid)
    memory = Path(f"/proc/{one}/status").read_text()
    assert "redis" not in Path(f"/proc/{one}/maps").read_text(), memory
    os.kill(one, signal.SIGKILL)
    eventually(lambda: beside(worker.pid) not in ([], [one]), folder)
    (other,) = beside(worker.pid)
    os.kill(other, signal.SIGTERM)  # as the system stops all of a service
    worker.terminate()
    assert worker.wait(30) == 0
    eventually(lambda: not Path(f"/proc/{other}").exists(), folder)
    worker = start(gator)
    eventually(lambda: beside(worker.pid), folder)
    (one,) = beside(worker.pid)
    worker.kill()
    worker.wait()
    eventually(lambda: not Path(f"/proc/{one}").exists(), folder)


# -- The parts. -------------------------------------------------------------------------------


@pytest.fixture
def process(gator, monkeypatch):
    """One that has a board, and no process."""
    monkeypatch.setattr(LeaseProcess, "_spawn", lambda self: None)
    process = LeaseProcess(gator.client, 3.0)
    assert process.start()
    yield process
    process.stop()


def test_what_is_held_is_what_is_read(gator, process):
    for number in range(4):
        gator.client.push(gator.queue_name, str(number), "x")
    held = gator.client.reserve([gator.queue_name], 4).deliveries
    board = process._board

    def read():
        return [[gator.client.shared(*each).receipt for each in part] for part in board.read()[1:]]

    receipts = [each.receipt for each in held]
    assert process.hold(held[:3])
    process.started()
    assert read() == [receipts[:1], receipts[1:3]]
    assert process.hold(held[3:])
    process.started()
    assert read() == [receipts[:2], receipts[2:]]
    process.rewrite(held[1:2], held[2:3])
    assert read() == [receipts[1:2], receipts[2:3]]
    assert process.hold(held[3:])
    process.started()
    assert read() == [receipts[1:3], receipts[3:]]


def test_more_than_there_is_room_for(gator, process, monkeypatch):
    many = [Delivery("q", "", "", (number, 1)) for number in range(40_000)]
    monkeypatch.setattr(
        gator.client, "share", lambda found: [b"%060d" % each.receipt[0] for each in found]
    )
    process.rewrite(many[:10], many[10:])
    _, started, waiting = process._board.read()
    assert len(started) == 10
    assert 5_000 < len(waiting) < 40_000
    assert not process.hold(many[:1])  # until all is written again
    process.rewrite([], many[:5])
    assert process.hold(many[5:6])
    assert [int(raw) for _, raw in process._board.read()[2]] == [0, 1, 2, 3, 4, 5]


def test_a_lease_that_was_shared_is_extended_and_released(gator, process):
    """By another client, as in another process; what is not is left as it is."""
    client, other = gator.client, Gator(gator.conn_string).client
    for number in range(3):
        client.push(gator.queue_name, str(number), "x")
    held = client.reserve([gator.queue_name], 3, 1.0).deliveries
    process.hold(held)
    process.started()
    lives = True
    watcher = Watcher(process._board, 3.0, lambda: lives, lambda: other)
    began = process._board.noted_at
    watcher.look(began + 0.2)  # all is well
    assert client.stats(gator.queue_name).running == 3
    lives = False
    watcher.look(began + 20)  # it is stopped
    assert client.stats(gator.queue_name).running == 3
    lives = True
    assert not process.was_taken_back()
    eventually(lambda: time.monotonic() > process._board.noted_at + TAKE_BACK, None)
    watcher.look(time.monotonic())
    stats = client.stats(gator.queue_name)
    assert (stats.running, stats.waiting) == (1, 2)
    assert process.was_taken_back()
    assert not process.was_taken_back()
    again = client.reserve([gator.queue_name], 3).deliveries
    assert [(each.task_id, each.deaths) for each in again] == [("1", 0), ("2", 0)]
    assert client.extend(held, 1.0) == held[1:]
    other.close()
