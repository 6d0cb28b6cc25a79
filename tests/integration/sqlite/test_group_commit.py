"""Test pushes of several threads that one transaction writes to a SQLite file."""

import os
import signal
import threading
import time
from contextlib import contextmanager

import pytest

from alligator.backends.sqlite_backend import Client
from alligator.exceptions import InvalidTask, QueueFull

LONE_SURROGATE = "\ud800"  # no text that SQLite can store


class Caller(threading.Thread):
    """Push one task, and keep the outcome."""

    def __init__(self, client, task_id, data="x"):
        super().__init__(daemon=True)
        self.client, self.task_id, self.data = client, task_id, data
        self.error = None
        self.start()

    def run(self):
        try:
            self.client.push("q", self.task_id, self.data)
        except Exception as err:
            self.error = err


@pytest.fixture
def client(sqlite_dsn):
    client = Client(sqlite_dsn)
    client.setup_tables()
    yield client
    client.close()


@contextmanager
def in_line(client, callers):
    """Have them all wait behind a writer; in here, it has not ended yet."""
    with client.database.lock:
        threads = [Caller(client, *each) for each in callers]
        until = time.monotonic() + 30
        while len(client.database.pushes) < len(callers):
            assert time.monotonic() < until
            time.sleep(0.001)
        yield threads
    for each in threads:
        each.join(60)
        assert not each.is_alive()


def test_those_in_line_are_written_in_one_transaction(client):
    before = client.database.commits
    with in_line(client, [(f"{n}",) for n in range(20)]) as threads:
        assert client.len("q") == 0
    assert client.len("q") == 20
    assert client.database.commits == before + 1
    assert [each.error for each in threads] == [None] * 20


def test_one_that_cannot_be_stored_fails_alone(client):
    callers = [("a",), ("bad", LONE_SURROGATE), ("b",)]
    with in_line(client, callers) as threads:
        pass
    assert [type(each.error) for each in threads] == [type(None), InvalidTask, type(None)]
    assert {client.pop("q"), client.pop("q"), client.pop("q")} == {"x", None}
    assert len(client.database.pushes) == 0


def test_no_room_for_all_may_be_room_for_each(client, monkeypatch):
    needs = []
    make = client.database._disk.ensure

    def make_a_little(connection, need):
        needs.append(need.size)
        if need.size > 3000:
            raise QueueFull("There is no room.")
        make(connection, need)

    monkeypatch.setattr(client.database._disk, "ensure", make_a_little)
    with in_line(client, [("a",), ("b",), ("c", "x" * 4000)]) as threads:
        pass
    assert sorted(type(each.error).__name__ for each in threads) == [
        "NoneType",
        "NoneType",
        "QueueFull",
    ]
    assert max(needs) > 6000  # they were tried together first
    assert client.len("q") == 2


def test_the_same_id_from_two_threads_is_one_task(client):
    with in_line(client, [("a", "1"), ("a", "2"), ("b", "3")]):
        pass
    assert client.len("q") == 2
    assert client.stats("q").waiting == 2


def test_a_push_that_was_interrupted_in_line_is_not_made(client):
    inside, leave = threading.Event(), threading.Event()

    def write():
        with client.database.lock:
            inside.set()
            leave.wait(60)

    def interrupt(*_):
        raise KeyboardInterrupt

    writer = threading.Thread(target=write)
    writer.start()
    assert inside.wait(30)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            client.push("q", "interrupted", "x")
    finally:
        signal.signal(signal.SIGALRM, before)
    leave.set()
    writer.join(30)
    started = time.monotonic()
    client.push("q", "later", "y")
    assert time.monotonic() - started < 20
    assert client.find("q", "interrupted") is None
    assert client.len("q") == 1


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_of_a_fork_leaves_the_line_to_its_parent(client, sqlite_dsn):
    with in_line(client, [("of a thread",), ("of another",)]):
        pid = os.fork()
        if not pid:
            client.push("q", "of the child", "x")
            os._exit(client.len("q"))
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 1
    assert client.len("q") == 3


def test_a_signal_handler_may_push_while_its_thread_does(client):
    """It says no rather than wait for the thread that it interrupted."""
    with client.database.transaction() as step:
        step.execute("SELECT 1")
        with pytest.raises(Exception, match="in the middle of writing"):
            client.push("q", "from a handler", "x")
    client.push("q", "afterwards", "x")
    assert client.len("q") == 1


def test_many_threads_lose_and_double_nothing(client):
    def go(name):
        for n in range(40):
            client.push("q", f"{name}-{n:02}", f"{name}-{n:02}")

    threads = [threading.Thread(target=go, args=[name]) for name in "abcdefgh"]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    found = []
    while got := client.reserve(["q"], 50).deliveries:
        assert client.ack(got) == []
        found += [each.data for each in got]
    assert sorted(found) == [f"{name}-{n:02}" for name in "abcdefgh" for n in range(40)]
    for name in "abcdefgh":  # each thread's in its order
        assert [each for each in found if each[0] == name] == sorted(
            each for each in found if each[0] == name
        )
