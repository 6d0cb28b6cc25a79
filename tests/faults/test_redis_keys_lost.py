"""Keys of a queue on redis that are gone: flushed, evicted, deleted by hand."""

import logging
import subprocess
import sys
import threading
import time

import pytest

from alligator.backends import redis_backend
from alligator.backends.base import Message
from alligator.backends.redis_backend import Client
from alligator.exceptions import QueueFull
from tests.servers import redis as servers


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    found = servers.start(tmp_path_factory.mktemp("redis"))
    yield found
    found.stop()


@pytest.fixture
def client(server):
    found = Client(server.dsn)
    found.conn.flushall()
    yield found
    found.conn.config_set("maxmemory-policy", "noeviction")
    found.close()


def until(check, within=10.0):
    """Poll until true."""
    deadline = time.monotonic() + within
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# -- All of them, under workers that wait. ----------------------------------------------------


class Idle:
    """So many that wait for tasks, each in one long reserve; ``got`` has what came, and when."""

    def __init__(self, client, count, queues=("q",)):
        self.got = []
        clients = [Client(client.conn_string) for _ in range(count)]
        self.threads = [threading.Thread(target=self.wait, args=[c, queues]) for c in clients]
        for thread in self.threads:
            thread.start()
        until(lambda: client.conn.info("clients")["blocked_clients"] == count)

    def wait(self, client, queues):
        for delivery in client.reserve(queues, 1, 30, 12).deliveries:
            self.got.append((delivery.task_id, time.monotonic()))
        client.close()

    def within(self, seconds):
        """Wait until all have ended; return what came within so many seconds."""
        began = time.monotonic()
        for thread in self.threads:
            thread.join()
        return sorted(name for name, when in self.got if when - began < seconds)


PUSHES = {
    "one by one": lambda client: [client.push("q", name, "data") for name in "ab"],
    "with a priority": lambda client: [client.push("q", name, "data", priority=3) for name in "ab"],
    "soon due": lambda client: [client.push("q", name, "x", time.time() + 0.2) for name in "ab"],
    "together": lambda client: client.push_many("q", [Message("a", "data"), Message("b", "data")]),
    "once": lambda client: [
        client.store.push_once(client, name, 60, "q", Message(name, "data")) for name in "ab"
    ],
    "once, soon due": lambda client: [
        client.store.push_once(client, name, 60, "q", Message(name, "x", time.time() + 0.2))
        for name in "ab"
    ],
}


@pytest.mark.parametrize("push", PUSHES)
def test_workers_that_wait_are_woken_after_a_flush(client, push):
    """Though the mark that they wait is gone with all the rest."""
    client.push("q", "before", "data")
    client.pop("q")
    idle = Idle(client, 2, ["first", "q"])
    client.conn.flushall()
    PUSHES[push](client)
    assert idle.within(1.0) == ["a", "b"]


def test_a_second_task_after_a_flush_wakes_a_second_worker(client):
    idle = Idle(client, 3)
    client.conn.flushall()
    for name in "abc":
        client.push("q", name, "data")
        until(lambda n=name: n in [each for each, _ in idle.got], within=1.0)
    idle.within(1.0)


def test_a_new_queue_has_no_mark_where_nobody_waits(client):
    client.push("q", "a", "data")
    assert sorted(client.conn.keys("*")) == [
        b"alligator:{q}:data",
        b"alligator:{q}:ready",
        b"alligator:{q}:seq",
        b"alligator:{q}:since",
    ]


def test_a_long_wait_marks_its_queue_now_and_then(client, monkeypatch):
    """Else nobody would know of it for as long as it goes on."""
    monkeypatch.setattr("alligator.backends.redis_reserve._LONGEST_WAIT", 0.3)
    idle = Idle(client, 1)
    client.conn.delete("alligator:{q}:waiting")
    until(lambda: client.conn.exists("alligator:{q}:waiting"), within=1.0)
    client.push("q", "a", "data")
    assert idle.within(1.0) == ["a"]


# -- A server that evicts keys. ---------------------------------------------------------------


@pytest.fixture
def nobody_asked(monkeypatch):
    monkeypatch.setattr(redis_backend, "_asked", set())


FIRST = {
    "push": lambda client: client.push("q", "a", "data"),
    "push_many": lambda client: client.push_many("q", [Message("a", "1"), Message("b", "2")]),
}


@pytest.mark.parametrize("push", FIRST)
@pytest.mark.parametrize(
    ("policy", "what"), [("allkeys-lru", "tasks"), ("volatile-ttl", "records and marks")]
)
@pytest.mark.usefixtures("nobody_asked")
def test_a_first_push_warns_of_eviction(client, caplog, policy, what, push):
    client.conn.config_set("maxmemory-policy", policy)
    for _ in range(2):
        FIRST[push](client)
        FIRST[push](Client(client.conn_string))
    (warning,) = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert f"deletes {what} when its memory is full: maxmemory-policy is {policy};" in warning


@pytest.mark.usefixtures("nobody_asked")
def test_who_knows_already_is_not_told_again(client, caplog):
    client.conn.config_set("maxmemory-policy", "allkeys-lru")
    assert "allkeys-lru" in client.durability_warning()
    client.push("q", "a", "data")
    assert caplog.records == []


@pytest.mark.usefixtures("nobody_asked")
def test_a_first_push_costs_one_round_trip_and_needs_no_right_to_ask(client, caplog):
    client.push("q", "a", "data")  # the script is known now, and there is a connection
    admin = client.conn
    admin.config_set("maxmemory-policy", "allkeys-lru")
    admin.acl_setuser("plain", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-info"])
    limited = Client(client.conn_string.replace("127", "plain:x@127", 1))
    limited.len("q")
    before = admin.info("stats")["total_commands_processed"]
    scripts = admin.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert limited.push("q", "b", "data") == "b"
    assert limited.push("q", "b", "data") == "b"
    assert admin.info("commandstats")["cmdstat_evalsha"]["calls"] == scripts + 3
    assert admin.info("stats")["total_commands_processed"] > before
    assert caplog.records == []
    assert client.len("q") == 2
    limited.close()


def test_a_script_with_one_push_says_it(client):
    client.conn.config_set("maxmemory-policy", "allkeys-lfu")
    code = f"from alligator import Gator; Gator({client.conn_string!r}, 'q').task(len, 'abc')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert found.stderr.count("maxmemory-policy is allkeys-lfu") == 1
    assert client.len("q") == 1


@pytest.mark.usefixtures("nobody_asked")
def test_a_first_push_that_was_refused_leaves_it_to_the_next(client, caplog):
    client.conn.config_set("maxmemory", 1)
    try:
        with pytest.raises(QueueFull):
            client.push("q", "a", "data")
    finally:
        client.conn.config_set("maxmemory", 0)
    client.conn.config_set("maxmemory-policy", "allkeys-lru")
    assert caplog.records == []
    client.push("q", "a", "data")
    assert "allkeys-lru" in caplog.text
