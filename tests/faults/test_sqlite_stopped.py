"""Test a SQLite file whose lock is held by a stopped process, or by a thread that hangs."""

import gc
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from alligator import Gator, Worker
from alligator.backends.sqlite import lock as sqlite_lock
from alligator.backends.sqlite_backend import Client
from alligator.exceptions import ConnectionLost
from alligator.runtime import safe_points
from tests.faults.test_sqlite_disk import eventually, working
from tests.support import ROOT, jobs

#: It stops itself in the middle of its third push, the lock held.
STOPS = """
import os, signal, sys
from alligator.backends.sqlite_backend import Client
from alligator.backends.sqlite.transaction import Transaction
client = Client(sys.argv[1])
finish = Transaction.finish
def stop(step):
    if client.len("q") == 2:
        print("stopped", flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)
    finish(step)
Transaction.finish = stop
for number in range(5):
    client.push("q", f"of the child {number}", "x")
"""


@pytest.fixture
def client(sqlite_dsn):
    client = Client(sqlite_dsn)
    client.setup_tables()
    yield client
    client.close()


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(sqlite_lock, "DEADLINE", 0.3)


@pytest.fixture
def stopped(client, sqlite_dsn):
    """A process that was stopped while it pushes."""
    process = subprocess.Popen(
        [sys.executable, "-c", STOPS, sqlite_dsn],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "stopped\n"
        os.waitpid(process.pid, os.WUNTRACED)
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=20)


def in_time(call, within=30.0):
    """Call it in a thread, which a lock without a deadline would not let go."""
    ended = []

    def run():
        try:
            ended.append(call())
        except BaseException as err:
            ended.append(err)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(within)
    assert ended, "it hangs"
    return ended[0]


def test_a_stopped_process_is_waited_for_but_not_for_ever(client, stopped, soon, sqlite_dsn):
    error = in_time(lambda: client.push("q", "ours", "x"))
    assert isinstance(error, ConnectionLost)
    assert sqlite_dsn.removeprefix("sqlite://") in str(error)
    if Path("/proc/locks").exists():
        assert f"process {stopped.pid} " in str(error)
        assert "which is stopped" in str(error)
    assert isinstance(in_time(lambda: client.reserve(["q"])), ConnectionLost)
    assert client.len("q") == 2  # to look needs no lock
    stopped.send_signal(signal.SIGCONT)
    stopped.communicate(timeout=20)
    client.push("q", "ours", "x")
    found = client.reserve(["q"], 10).deliveries
    assert Counter(each.task_id for each in found) == Counter(
        [*(f"of the child {n}" for n in range(5)), "ours"]
    )


def test_a_worker_goes_on_once_it_runs_again(client, stopped, soon, sqlite_dsn):
    """Each task once, and the outage is told in two lines."""
    gator = Gator(sqlite_dsn, "q")
    jobs.seen.clear()
    with working(gator) as said:
        eventually(lambda: said.found("has held its lock"), said)
        stopped.send_signal(signal.SIGCONT)
        stopped.communicate(timeout=20)
        for n in range(20):
            gator.task(jobs.note, n)
        eventually(lambda: len(jobs.seen) >= 20 and not gator.client.stats("q").running, said)
    assert Counter(call[0][0] for call in jobs.seen) == Counter(range(20))
    assert sum("has held its lock" in line for line in said.lines) == 1
    gator.client.close()


def test_a_thread_that_hangs_is_waited_for_but_not_for_ever(client, soon):
    inside, leave = threading.Event(), threading.Event()

    def hang():
        with client.database.transaction():
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=hang)
    thread.start()
    try:
        inside.wait(10)
        for call in (lambda: client.push("q", "x", "x"), lambda: client.len("q")):
            error = in_time(call)
            assert isinstance(error, ConnectionLost)
            assert "another thread" in str(error)
    finally:
        leave.set()
        thread.join(10)
    client.push("q", "x", "x")
    assert client.len("q") == 1


def test_a_lock_that_was_taken_in_vain_is_not_held(client, sqlite_dsn, soon, stopped):
    """A client that no longer waits has nothing left that others would wait for."""
    in_time(lambda: client.push("q", "ours", "x"))
    stopped.send_signal(signal.SIGCONT)
    stopped.communicate(timeout=20)
    other = Client(sqlite_dsn)
    other.push("q", "of another", "x")
    other.close()


class Interrupted(BaseException):
    pass


def interrupted_at(step, call):
    """Raise an exception at that step of a call, and return it; None: it has not so many.

    Where the interpreter looks for one from another thread, or calls a signal handler: as a
    function of Python begins, and as one of C has returned.
    """
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        if event in ("call", "c_return"):
            count += 1
            if count == step:
                sys.setprofile(None)
                raise Interrupted

    gc.disable()  # what it calls would swallow it
    sys.setprofile(profile)
    try:
        call()
    except Interrupted as err:
        return err
    finally:
        sys.setprofile(None)
        gc.enable()
    return None


@pytest.mark.parametrize("what", ["push", "reserve", "len"])
def test_no_exception_at_any_step_leaves_a_lock_held(what, client, sqlite_dsn, monkeypatch):
    """As that of a timeout. Hundreds of steps, and no other process or thread waits for long."""
    monkeypatch.setattr(sqlite_lock, "DEADLINE", 2)
    other = Client(sqlite_dsn)  # whose lock is another, as that of a process is
    calls = {
        "push": lambda: client.push("q", "x", "x"),
        "reserve": lambda: client.reserve(["q"]),
        "len": lambda: client.len("q"),
    }
    calls[what]()
    for step in range(1, 10_000):
        if interrupted_at(step, calls[what]) is None:
            break
        assert in_time(lambda: other.push("other", "x", "x")) == "x", f"at step {step}"
        assert in_time(lambda: client.push("other", "x", "x")) == "x", f"at step {step}"
    assert step > 10
    other.close()


def test_lazy_objects_of_a_framework_are_left_alone():
    """What another call was stopped in is looked for among all objects; no other one is touched."""
    touched = []

    class Lazy:
        @property
        def __class__(self):
            touched.append(self)
            raise RuntimeError("settings are not configured")

    lazy = [Lazy() for _ in range(3)]
    sqlite_lock.close_generator((sys._getframe(), [True]))
    assert touched == []
    assert len(lazy) == 3


def test_one_that_is_kept_with_its_traceback_does_neither(client, sqlite_dsn):
    """What it went through is not closed by itself; the next call sees to it, of that client or
    another.
    """
    other = Client(sqlite_dsn)
    other.setup_tables()
    push, kept = lambda: client.push("q", "x", "x"), []
    push()
    for step in range(1, 10_000):
        kept.append(interrupted_at(step, push))
        if kept[-1] is None:
            break
        if step % 2:  # else the other one does
            client.push("q", f"after step {step}", "x")
        assert in_time(lambda: other.push("other", "x", "x")) == "x", f"at step {step}"
        client.push("q", f"after step {step}", "x")
    assert client.len("q") == step
    other.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_hundreds_of_exceptions_from_another_thread(client, sqlite_dsn, soon):
    """What was told as done is there, and nothing is held afterwards."""
    import ctypes

    done, raised = [], []
    stop, ready = threading.Event(), threading.Event()

    def push():
        number = 0
        while not stop.is_set():
            number += 1
            try:
                ready.set()
                client.push("q", str(number), "x")
                done.append(str(number))
            except Interrupted:
                raised.append(number)

    thread = threading.Thread(target=push, daemon=True)
    thread.start()
    ready.wait(10)
    chance, until = random.Random(7), time.monotonic() + 60
    while len(raised) < 300 and time.monotonic() < until:
        before = len(raised)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(Interrupted)
        )
        again = time.monotonic() + 0.1  # it may be swallowed, by a callback of a weak reference
        while len(raised) == before and thread.is_alive() and time.monotonic() < again:
            time.sleep(0)
        time.sleep(chance.random() * 0.0005)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert len(raised) >= 300
    other = Client(sqlite_dsn)
    for each in (other, client, other):
        assert in_time(lambda each=each: each.push("q", "after", "x")) == "after"
    assert {each.task_id for each in other.reserve(["q"], 100_000).deliveries} >= {*done, "after"}
    other.close()


targets = []


def push_on():
    """A task that pushes to the file that it came from until its time is up."""
    until = (
        time.monotonic() + 5
    )  # the exception may be swallowed, by a callback of a weak reference
    while time.monotonic() < until:
        targets[0].task(jobs.note, 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("concurrency", "count"), [(1, 100), (4, 300)])
def test_tasks_whose_time_is_up_as_they_push_leave_the_file_free(
    concurrency, count, sqlite_dsn, monkeypatch
):
    """Also where it comes up in the middle of Alligator's own code, as it does at last."""
    monkeypatch.setattr(safe_points, "LONGEST", 0.0)
    monkeypatch.setattr(safe_points, "LONGEST_CALL", 0.0)
    gator = Gator(sqlite_dsn, "q")
    targets[:] = [Gator(sqlite_dsn, "others")]
    with gator.options(timeout=0.02) as short:
        for _ in range(count):
            short.task(push_on)
    worker = Worker(gator, concurrency=concurrency, burst=True, log_level=logging.CRITICAL)
    assert in_time(worker.run_forever, within=60) == 0
    assert gator.client.stats("q").dead == count
    assert all("TaskTimeout" in each.error for each in gator.client.dead("q", 1000))
    for each in (*targets, gator):
        assert in_time(lambda each=each: each.client.push("others", "after", "x")) == "after"
        each.client.close()
