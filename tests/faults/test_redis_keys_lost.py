"""Test lost keys of a queue on redis: flushed, evicted, or deleted by hand."""

import itertools
import logging
import subprocess
import sys
import threading
import time

import pytest

from alligator import Gator, Worker
from alligator.backends.base import Message
from alligator.backends.redis import client as redis_client
from alligator.backends.redis.encoding import encode_id
from alligator.backends.redis_backend import Client
from alligator.backends.store import Child, Parent
from alligator.common.ids import new_task_id
from alligator.constants import DELAYED, RUNNING, SUCCESS, WAITING
from alligator.exceptions import QueueFull
from tests.support import jobs
from tests.support.helpers import eventually


@pytest.fixture
def client(own_redis):
    found = Client(own_redis.dsn)
    found.conn.flushall()
    yield found
    found.conn.config_set("maxmemory-policy", "noeviction")
    found.close()


# -- All of them, under workers that wait. ----------------------------------------------------


class Idle:
    """So many that wait for tasks, each in one long reserve; ``got`` has what came, and when."""

    def __init__(self, client, count, queues=("q",)):
        self.got = []
        clients = [Client(client.conn_string) for _ in range(count)]
        self.threads = [threading.Thread(target=self.wait, args=[c, queues]) for c in clients]
        for thread in self.threads:
            thread.start()
        eventually(lambda: client.conn.info("clients")["blocked_clients"] == count)

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
    assert idle.within(8.0) == ["a", "b"]  # and not as their wait of 12 s ends


def test_a_second_task_after_a_flush_wakes_a_second_worker(client):
    idle = Idle(client, 3)
    client.conn.flushall()
    for name in "abc":
        client.push("q", name, "data")
        eventually(lambda n=name: n in [each for each, _ in idle.got], within=8.0)
    idle.within(8.0)


def test_a_new_queue_has_no_mark_where_nobody_waits(client):
    client.push("q", "a", "data")
    assert sorted(client.conn.keys("*")) == [
        b"alligator:queues",
        b"alligator:{q}:data",
        b"alligator:{q}:ready",
        b"alligator:{q}:seq",
        b"alligator:{q}:since",
    ]


def test_a_long_wait_marks_its_queue_now_and_then(client, monkeypatch):
    """Else the loss would stay unknown for as long as it goes on."""
    monkeypatch.setattr("alligator.backends.redis.reserve.LONGEST_WAIT", 0.3)
    idle = Idle(client, 1)
    client.conn.delete("alligator:{q}:waiting")
    eventually(lambda: client.conn.exists("alligator:{q}:waiting"), within=8.0)
    client.push("q", "a", "data")
    assert idle.within(8.0) == ["a"]


# -- A server that evicts keys. ---------------------------------------------------------------


@pytest.fixture
def no_earlier_look(monkeypatch):
    monkeypatch.setattr(redis_client, "_servers_asked", set())


FIRST = {
    "push": lambda client: client.push("q", "a", "data"),
    "push_many": lambda client: client.push_many("q", [Message("a", "1"), Message("b", "2")]),
}


@pytest.mark.parametrize("push", FIRST)
@pytest.mark.parametrize(
    ("policy", "what"), [("allkeys-lru", "tasks"), ("volatile-ttl", "records and marks")]
)
@pytest.mark.usefixtures("no_earlier_look")
def test_a_first_push_warns_of_eviction(client, caplog, policy, what, push):
    client.conn.config_set("maxmemory-policy", policy)
    for _ in range(2):
        FIRST[push](client)
        FIRST[push](Client(client.conn_string))
    (warning,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    said = f"deletes {what} when its memory is full: maxmemory-policy is {policy};"
    assert said in warning.getMessage()
    assert warning.name == "alligator.backends.redis_backend", "as documented"


@pytest.mark.usefixtures("no_earlier_look")
def test_who_knows_already_is_not_told_again(client, caplog):
    client.conn.config_set("maxmemory-policy", "allkeys-lru")
    assert "allkeys-lru" in client.durability_warning()
    client.push("q", "a", "data")
    assert caplog.records == []


@pytest.mark.usefixtures("no_earlier_look")
def test_a_first_push_costs_one_round_trip_and_needs_no_right_to_ask(client, caplog):
    client.push("q", new_task_id(), "data")  # the script is known, and there is a connection
    again = new_task_id()
    admin = client.conn
    admin.config_set("maxmemory-policy", "allkeys-lru")
    admin.acl_setuser("plain", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-info"])
    limited = Client(client.conn_string.replace("127", "plain:x@127", 1))
    limited.len("q")
    before = admin.info("stats")["total_commands_processed"]
    scripts = admin.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert limited.push("q", again, "data") == again
    assert limited.push("q", again, "data") == again
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


@pytest.mark.usefixtures("no_earlier_look")
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


# -- One of them, while there are tasks. ------------------------------------------------------


def key(name):
    return f"alligator:{{q}}:{name}"


def taken(client, limit=10):
    """Take what there is, as a worker does; return ids and data."""
    found = []
    while deliveries := client.reserve(["q"], limit).deliveries:
        assert client.ack(deliveries) == []
        found += [(each.task_id, each.data) for each in deliveries]
    return sorted(found)


def leased(client, *names):
    """Push tasks, lease them, and lose the leases."""
    client.push_many("q", [Message(name, f"old {name}") for name in names])
    found = client.reserve(["q"], len(names)).deliveries
    assert len(found) == len(names)
    client.conn.delete(key("leases"))
    return found


AGAIN = {
    "push": lambda client: client.push("q", "a", "new"),
    "with a priority": lambda client: client.push("q", "a", "new", priority=1),
    "push_many": lambda client: client.push_many("q", [Message("a", "new")]),
    "push_once": lambda client: client.store.push_once(client, "k", 60, "q", Message("a", "new")),
}


@pytest.mark.parametrize("push", AGAIN)
def test_a_push_of_an_id_whose_lease_is_lost_is_not_swallowed(client, push):
    (old,) = leased(client, "a")
    AGAIN[push](client)
    assert client.find("q", "a").state == WAITING
    assert client.find("q", "a").ahead == 0
    assert taken(client, 1) == [("a", "new")]
    assert client.ack([old]) == [old]


def test_a_push_of_an_id_that_runs_comes_after_it_though_another_lease_is_lost(client):
    client.push_many("q", [Message(name, "old") for name in ("x:a", "a", "a*", "b")])
    runs = {each.task_id: each for each in client.reserve(["q"], 4).deliveries}
    client.conn.zrem(key("leases"), runs["a"].receipt)
    for name in ("a", "x:a", "a*"):
        client.push("q", name, "new")
        state = client.find("q", name).state
        assert state == (WAITING if name == "a" else RUNNING)
    assert client.reserve(["q"], 4).deliveries[0].task_id == "a"
    assert client.reserve(["q"], 4).deliveries == []
    assert client.ack([runs["x:a"], runs["a*"]]) == []
    assert {name for name, _ in taken(client)} == {"x:a", "a*"}


def test_the_last_push_behind_a_lost_lease_counts(client):
    client.push("q", "a", "1")
    client.reserve(["q"])
    client.push("q", "a", "2")
    client.conn.delete(key("leases"))
    assert client.stats("q").running == 0
    assert taken(client) == [("a", "2")]
    client.push("q", "a", "3")
    client.reserve(["q"])
    client.push("q", "a", "4")
    client.conn.delete(key("leases"))
    client.push("q", "a", "5")
    assert taken(client) == [("a", "5")]
    assert client.len("q") == 0


@pytest.mark.parametrize("lost", ["leases", "ready", "delayed"])
def test_tasks_that_lost_their_place_are_found_again(client, lost, caplog):
    """By the next worker that looks for tasks; until then they count as waiting."""
    names = [f"{number:04}" for number in range(700)]
    due = time.time() + 3600 if lost == "delayed" else None
    client.push_many("q", [Message(name, f"data {name}", due) for name in names])
    if lost == "leases":
        client.reserve(["q"], 500)
        client.push("q", "other", "data other")
        names.append("other")
    client.conn.delete(key(lost))
    stats = client.stats("q")
    assert (stats.waiting, stats.delayed, stats.running) == (len(names), 0, 0)
    assert client.find("q", names[0]).state == WAITING
    assert client.peek("q", names[0]) == f"data {names[0]}"
    assert taken(client, 100) == [(name, f"data {name}") for name in sorted(names)]
    assert "wait again" in caplog.text
    assert client.stats("q").waiting == 0


def test_others_keep_their_places(client):
    client.push("q", "delayed", "x", time.time() + 3600)
    client.push("q", "runs", "x")
    (runs,) = client.reserve(["q"]).deliveries
    client.push("q", "lost", "x")
    client.conn.zrem(key("ready"), "lost")
    assert [each.task_id for each in client.reserve(["q"], 10).deliveries] == ["lost"]
    assert client.reserve(["q"], 10).deliveries == []
    assert client.find("q", "delayed").state == DELAYED
    assert client.find("q", "runs").state == RUNNING
    assert client.ack([runs]) == []


def test_what_is_lost_can_be_taken_by_its_id(client):
    leased(client, "a", "b")
    assert client.get("q", "a") == "old a"
    assert client.get("q", "a") is None
    assert client.get("q", "b") == "old b"
    assert client.len("q") == 0


def test_a_waiting_worker_finds_what_is_lost_and_so_does_a_burst(client, own_redis):
    jobs.seen.clear()
    gator = Gator(own_redis.dsn, "q")
    for number in range(3):
        gator.task(jobs.note, number)
    client.reserve(["q"], 3)
    client.conn.delete(key("leases"))
    Worker(gator, burst=True, log_level="CRITICAL").run_forever()
    assert sorted(args for args, _ in jobs.seen) == [(0,), (1,), (2,)]
    gator.task(jobs.note, 3)
    client.reserve(["q"], 3)
    client.conn.delete(key("leases"))
    assert gator.run_all() == 1
    gator.task(jobs.note, 4)
    client.reserve(["q"], 3)
    client.conn.delete(key("leases"))
    assert len(client.reserve(["r", "q"], wait=5).deliveries) == 1


def test_a_child_whose_mark_is_lost_waits_on_for_its_parents(client):
    gator = Gator(client.conn_string, "q")
    parent = gator.task(jobs.note, "parent")
    child = gator.options(depends_on=parent).task(jobs.note, "child")
    client.conn.delete(key("held"))
    (delivery,) = client.reserve(["q"], 10).deliveries
    assert delivery.task_id == parent.id
    assert client.reserve(["q"], 10).deliveries == []
    assert client.stats("q").held == 1
    client.ack([delivery])
    assert [each.task_id for each in client.reserve(["q"], 10).deliveries] == [child.id]


def test_a_child_takes_the_id_of_a_task_whose_lease_is_lost(client):
    leased(client, "child")
    client.push("q", "parent", "data")
    child = Child("q", Message("child", "new"), (Parent("parent", ("q",)),))
    assert client.store.hold(client, [child]) == [WAITING]
    assert taken(client) == [("child", "new"), ("parent", "data")]


# -- What is known of a task afterwards. ------------------------------------------------------

KEYS = ("data", "leases", "ready", "delayed", "seq", "since")
LOSSES = [*(some for n in range(1, 7) for some in itertools.combinations(KEYS, n)), ("its data",)]
MAY_BE = {
    "waiting": {None, WAITING},
    "delayed": {None, WAITING, DELAYED},
    "running": {None, WAITING, RUNNING},
    "ended": {None, SUCCESS},
}


def make(gator, state):
    """Return a task in that state."""
    due = 3600 if state == "delayed" else None
    task = gator.options(delay_by=due).task(jobs.note)
    if state in ("running", "ended"):
        found = gator.client.reserve(["q"], 1, 0.01).deliveries
        if state == "ended":
            gator.client.ack(found)
    return task


def lose(client, lost, task):
    for each in lost:
        if each == "its data":
            client.conn.hdel(key("data"), encode_id(task.task_id))
        else:
            client.conn.delete(key(each))


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("state", MAY_BE)
def test_no_task_with_lost_keys_is_called_done(client, state, beside):
    """Neither at once, nor once its lease or its place has gone as well."""
    gator, wrong = Gator(client.conn_string, "q"), []
    for lost in LOSSES:
        client.conn.flushall()
        if beside:
            gator.task(jobs.note, "before")
            client.reserve(["q"], 1, 3600)
        task = make(gator, state)
        lose(client, lost, task)
        found = [gator.status(task)]
        if state != "ended":
            found.append(SUCCESS if gator.wait(task, 0) else None)
        if any(each not in MAY_BE[state] for each in found):
            wrong.append((lost, found))
        if "its data" in lost or "data" in lost:
            gator.task(jobs.note, "later")
            eventually(lambda: client.ack(client.reserve(["q"], 10).deliveries) == [])
            assert client.reserve(["q"]).deliveries == []
            if gator.status(task) not in MAY_BE[state]:
                wrong.append((lost, "later"))
    assert wrong == []


@pytest.mark.parametrize("lost", [["data"], ["its data"]])
@pytest.mark.parametrize("state", ["waiting", "running"])
def test_later_tasks_are_known_again(client, state, lost):
    gator = Gator(client.conn_string, "q")
    task = make(gator, state)
    lose(client, lost, task)
    eventually(lambda: client.reserve(["q"]).deliveries == [] and gator.status(task) is None)
    for _ in range(2):
        later = make(gator, "ended")
        assert gator.status(later) == SUCCESS
        assert gator.status(task) is None


def test_a_task_that_runs_on_without_its_data_has_ended_once_it_is_acked(client):
    gator = Gator(client.conn_string, "q")
    task = gator.task(jobs.note)
    (delivery,) = client.reserve(["q"]).deliveries
    lose(client, ["its data"], task)
    assert gator.status(task) == RUNNING
    assert client.ack([delivery]) == []
    assert gator.status(task) == SUCCESS


def test_a_user_who_may_not_look_is_no_worse_off(client):
    admin = client.conn
    forbidden = ["-hscan", "-zscan", "-hlen"]
    admin.acl_setuser("bare", enabled=True, nopass=True, keys=["*"], commands=["+@all", *forbidden])
    bare = Client(client.conn_string.replace("127", "bare:x@127", 1))
    leased(client, "a")
    bare.push("q", "a", "new")
    bare.push("q", "b", "b", time.time() + 0.3)
    started = time.monotonic()
    assert [each.task_id for each in bare.reserve(["q"], wait=15).deliveries] == ["b"]
    assert time.monotonic() - started < 10
    assert taken(client) == [("a", "new")]
    bare.close()
