"""Test a backend that takes no more for now: it is full, draining, or asked too often.

A full server is reachable, and its workers live. On every backend, and in every
way of running: what has run does not run again, no retry is spent twice, no death is counted, and
it is said once.
"""

import asyncio
import logging
import math
import threading
import time
import uuid
from collections import Counter

import pytest

from alligator import FAILED, SUCCESS, Gator, Worker
from alligator.exceptions import QueueFull
from alligator.execution import without_worker
from alligator.producer import children_in_other_store
from alligator.testing import FlakyClient
from alligator.workers import fetcher
from tests.support import jobs

LEASE = 1.2  # seconds; on beanstalkd it is that of the push

ran: list[str] = []
clients: list["Full"] = []


@pytest.fixture(autouse=True)
def _clean():
    ran.clear()
    jobs.seen.clear()


def note(name):
    ran.append(name)


def fill_up(name):
    """Let the worker reserve, and then neither ack nor hand back."""
    ran.append(name)
    if len(ran) == 1:
        clients.pop().fill("ack", "reserve", "release")


def fail(name):
    ran.append(name)
    raise ValueError("too much")


async def fail_in_a_coroutine(name):
    ran.append(name)
    await asyncio.sleep(0)
    raise ValueError("too much")


def value(name):
    ran.append(name)
    return name


class Full(FlakyClient):
    """Refuses whatever needs room, when told to; notes the deaths of what it hands out."""

    def __init__(self, inner):
        super().__init__(inner)
        self.deaths = []

    def reserve(self, *args, **kwargs):
        found = super().reserve(*args, **kwargs)
        self.deaths += [each.deaths for each in found.deliveries]
        return found

    def fill(self, *operations):
        operations = operations or ("push", "push_many", "bury", "release")
        self.fail(*operations, times=math.inf, error=QueueFull)


class Said(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())

    def count(self, part):
        return sum(part in line for line in self.lines)

    def once(self):
        """Whether the trouble was said once, and its end once, and nothing that is not so."""
        wrong = ("reach", "lost its lease", "may run twice", "WorkerDied", "could not be settled")
        assert not any(self.count(each) for each in wrong), self.lines
        assert self.count("takes no more for now") == 1, self.lines
        return self.count("takes everything again") == 1


def eventually(check, said=None, within=15.0):
    deadline = time.monotonic() + within
    while not check():
        assert time.monotonic() < deadline, (ran, said and said.lines)
        time.sleep(0.01)


def running(gator, worker_class=Worker, **options):
    """Return a worker of short leases that runs in a thread, what it says, and the thread."""
    worker, said = worker_class(gator, lease=LEASE, **options), Said()
    worker.log.handlers[:] = [said]
    worker.log.setLevel(logging.INFO)
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    return worker, said, thread


def ended(worker, thread):
    worker.keep_running = False
    thread.join(15)
    assert not thread.is_alive()


def on(gator, **options):
    """Return the same on a client that can be full."""
    full = Full(gator.client)
    return Gator(gator.conn_string, gator.queue_name, backend_class=lambda _: full, **options)


@pytest.fixture
def local():
    gator = on(Gator(f"locmem://{uuid.uuid4().hex}", "q"))
    yield gator
    gator.close()


@pytest.fixture(params=["locmem", "sqlite", "redis", "beanstalk", "sqs"])
def gator(request, tmp_path):
    if request.param == "locmem":
        plain = Gator(f"locmem://{tmp_path}", "q")
    else:
        dsn = request.getfixturevalue(f"{request.param}_dsn")
        plain = Gator(dsn, f"full-{uuid.uuid4().hex[:8]}")
    if request.param == "sqs":
        for name in (plain.queue_name, f"{plain.queue_name}-dead"):
            plain.client.conn.create_queue(QueueName=name)
    gator = on(plain)
    yield gator
    gator.client.heal()
    gator.client.drop_all(gator.queue_name)
    gator.close()


class OneByOne(Worker):
    def check_and_run_task(self):
        return super().check_and_run_task()


WAYS = {
    "alone": {},
    "threads": {"concurrency": 3},
    "one by one": {"worker_class": OneByOne, "nap_time": 0.01},
}


def outcomes_are_held(gator, function, **options):
    gator.options(retries=1)(function, "again")
    gator.options(retries=0)(function, "never")
    for number in range(3):
        gator.task(note, f"{number}")
    gator.client.fill()
    worker, said, thread = running(gator, **options)
    eventually(lambda: len(ran) >= 5, said)
    time.sleep(1.5 * LEASE)
    assert Counter(ran) == Counter(["again", "never", "0", "1", "2"])
    eventually(lambda: gator.client.stats(gator.queue_name).running == 2, said)
    with pytest.raises(QueueFull):
        gator.task(note, "refused")
    gator.client.heal()
    eventually(lambda: len(gator.dead()) == 2, said)
    eventually(said.once, said)
    ended(worker, thread)
    assert Counter(ran) == Counter(["again", "again", "never", "0", "1", "2"])
    assert {each.error for each in gator.dead()} == {"ValueError: too much"}
    assert set(gator.client.deaths) == {0}
    assert said.count("the outcome of 1 task waits until it does") == 1
    assert said.count("the outcome of 2 tasks had to wait") == 1


def test_outcomes_are_held_until_they_are_taken(gator):
    outcomes_are_held(gator, fail)


@pytest.mark.parametrize("way", WAYS)
def test_outcomes_are_held_in_every_way_of_running(local, way):
    outcomes_are_held(local, fail, **WAYS[way])


def test_outcomes_of_coroutines_are_held(local):
    outcomes_are_held(local, fail_in_a_coroutine, concurrency=3)


def test_with_so_many_held_no_further_task_is_taken(local, monkeypatch):
    monkeypatch.setattr(fetcher, "MOST_HELD", 5)
    for number in range(20):
        local.task(fail, f"{number}")
    local.client.fill()
    worker, said, thread = running(local, prefetch=4)
    eventually(lambda: len(ran) >= 5, said)
    time.sleep(0.5)
    assert len(ran) == 5
    assert local.len() == 15
    local.client.heal()
    eventually(lambda: len(local.dead()) == 20, said)
    eventually(said.once, said)
    ended(worker, thread)
    assert Counter(ran) == Counter(f"{number}" for number in range(20))


def test_what_is_held_at_a_stop_is_told_within_the_grace(local):
    local.options(retries=1)(fail, "again")
    local.client.fill()
    worker, said, thread = running(local, grace=20)
    eventually(lambda: said.count("takes no more"), said)
    worker.keep_running = False
    time.sleep(0.3)
    assert thread.is_alive()
    local.client.heal()
    thread.join(15)
    assert not thread.is_alive()
    assert said.once()
    (delivery,) = local.client.reserve([local.queue_name]).deliveries
    assert (local.codec.decode(delivery).retries, delivery.deaths) == (0, 0)
    assert ran == ["again"]


def test_what_is_held_after_the_grace_is_handed_back(gator):
    """It runs again, at once, and no death of a worker is counted."""
    gator.options(retries=1)(fail, "again")
    gator.client.fill("bury", "push", "push_many")
    release = gator.client.inner.release

    def without_room(delivery, data=None, delay_until=None):
        if data is not None:
            raise QueueFull("no room for it")
        return release(delivery, None, delay_until)

    gator.client.inner.release = without_room
    worker, said, thread = running(gator, grace=0.2)
    eventually(lambda: said.count("takes no more"), said)
    ended(worker, thread)
    assert said.count("The outcome of 1 task was not taken in time: handed back") == 1, said.lines
    found = gator.client.reserve([gator.queue_name], wait=10.0).deliveries
    assert [(gator.codec.decode(each).retries, each.deaths) for each in found] == [(1, 0)]


def test_a_burst_waits_for_what_is_to_run_again(local):
    local.options(retries=1)(fail, "again")
    local.client.fill()
    _, said, thread = running(local, burst=True)
    eventually(lambda: said.count("takes no more"), said)
    time.sleep(0.3)
    local.client.heal()
    thread.join(10)
    assert not thread.is_alive()
    assert ran == ["again", "again"]
    assert len(local.dead()) == 1


def test_a_burst_does_not_wait_for_ever(local):
    local.options(retries=1)(fail, "again")
    local.client.fill()
    _, said, thread = running(local, burst=True, grace=0.3)
    thread.join(10)
    assert not thread.is_alive()
    assert ran == ["again"]
    assert said.count("handed back by the lease") == 1  # this one takes no hand-back either


def test_leases_go_on_while_acks_are_refused(local):
    for number in range(3):
        local.task(fill_up, f"{number}")
    clients.append(local.client)
    worker, said, thread = running(local, prefetch=3)
    time.sleep(1.5 * LEASE)
    local.client.heal()
    eventually(lambda: not local.client.stats(local.queue_name).running, said)
    eventually(lambda: len(ran) == 3 and not local.len(), said)
    ended(worker, thread)
    assert sorted(ran) == ["0", "1", "2"]
    assert set(local.client.deaths) == {0}
    assert not said.count("reach")


def test_a_single_check_waits_and_then_hands_back(local):
    worker = Worker(local, lease=LEASE, grace=5)
    said = Said()
    worker.log.handlers[:] = [said]
    local.options(retries=1)(fail, "again")
    local.client.fail("release", times=3, error=QueueFull)
    assert worker.check_and_run_task() is False
    assert said.once()
    (delivery,) = local.client.reserve([local.queue_name]).deliveries
    assert (local.codec.decode(delivery).retries, delivery.deaths) == (0, 0)
    local.client.release(delivery)
    worker.grace = 0.3
    local.client.fail("bury", times=math.inf, error=QueueFull)
    assert worker.check_and_run_task() is False
    assert said.count("handed back") == 1, said.lines
    (delivery,) = local.client.reserve([local.queue_name]).deliveries
    assert delivery.deaths == 0


# -- Where one stands. ----------------------------------------------------------------------


@pytest.mark.parametrize("way", ["pop", "get", "run_all"])
def test_where_one_stands_it_is_an_error_and_the_task_is_back(local, way, monkeypatch):
    monkeypatch.setattr(without_worker, "ROOM_WITHIN", 0.2)
    task = local.options(retries=0)(fail, "never")
    local.client.fail("bury", times=math.inf, error=QueueFull)
    call = {"get": lambda: local.get(task.task_id)}.get(way) or getattr(local, way)
    with pytest.raises(
        QueueFull, match=r"has run \(failed, with no retry left: ValueError: .*handed back"
    ):
        call()
    assert ran == ["never"]
    (delivery,) = local.client.reserve([local.queue_name]).deliveries
    assert delivery.deaths == 0
    local.client.release(delivery)
    local.client.heal()
    local.client.fail("bury", error=QueueFull)  # for a moment only
    if way == "run_all":
        call()
    else:
        with pytest.raises(ValueError, match="too much"):
            call()
    assert len(local.dead()) == 1
    assert ran == ["never"] * 2


def test_a_cancel_that_is_refused_leaves_the_task_where_it_was(local):
    task = local.task(note, "still there")
    local.client.fail("ack", error=QueueFull)
    with pytest.raises(QueueFull):
        local.cancel(task)
    assert local.run_all() == 1
    assert ran == ["still there"]


def test_a_task_that_ran_here_and_cannot_be_recorded_says_so(local, monkeypatch):
    def note(*args):
        raise QueueFull("no room")

    monkeypatch.setattr(local.store, "note", note)
    with pytest.raises(QueueFull, match="has run here, but there is no room to record"):
        local.options(is_async=False, save_results=60)(value, "here")
    assert ran == ["here"]


# -- The store, children and schedules. -----------------------------------------------------


@pytest.mark.parametrize("function", [value, fail])
def test_a_store_that_is_full_is_waited_for(function, monkeypatch):
    where = f"locmem://{uuid.uuid4().hex}", f"locmem://{uuid.uuid4().hex}"
    gator = Gator(where[0], "q", store=where[1])
    note, full = gator.store.note, threading.Event()

    def without_room(*args):
        if full.is_set():
            raise QueueFull("no room")
        return note(*args)

    monkeypatch.setattr(gator.store, "note", without_room)
    task = gator.options(save_results=60)(function, "once")
    full.set()
    worker, said, thread = running(gator)
    eventually(lambda: said.count("takes no more"), said)
    time.sleep(0.8)
    full.clear()
    assert task.wait(20)
    assert gator.status(task) == (SUCCESS if function is value else FAILED)
    eventually(said.once, said)
    ended(worker, thread)
    assert ran == ["once"]
    gator.close()


def test_children_wait_where_they_are_for_a_queue_that_is_full(caplog, monkeypatch):
    monkeypatch.setattr(children_in_other_store, "_EVERY", 0.5)
    plain = Gator(f"locmem://{uuid.uuid4().hex}", "q")
    gator = on(plain, store=f"locmem://{uuid.uuid4().hex}")
    parent = gator.task(note, "parent")
    gator.options(depends_on=[parent])(note, "child")
    gator.client.fill()
    worker, said, thread = running(gator)
    eventually(lambda: gator.status(parent) == SUCCESS, said)
    gator.options(depends_on=[parent])(note, "late child")  # it is safe in the store
    eventually(lambda: not gator.client.stats("q").running, said)
    assert ran == ["parent"]
    assert "runs again" not in caplog.text
    gator.client.heal()
    eventually(lambda: len(ran) == 3, said, within=20)
    ended(worker, thread)
    assert Counter(ran) == Counter(["parent", "child", "late child"])
    gator.close()


@pytest.mark.parametrize("apart", [False, True])
def test_a_tick_that_is_refused_comes_later_and_once(apart):
    plain = Gator(f"locmem://{uuid.uuid4().hex}", "q")
    gator = on(plain, store=f"locmem://{uuid.uuid4().hex}" if apart else None)
    declared = time.time()
    gator.options(catch_up=True).every(0.5, note, "tick")
    gator.schedules.fire()
    began = time.time()
    gator.client.fill()
    worker, said, thread = running(gator)
    time.sleep(1.2)
    assert ran == []
    gator.client.heal()
    healed = time.time()
    missed = int(healed / 0.5) - int(began / 0.5)
    eventually(lambda: len(ran) >= missed, said)
    eventually(lambda: said.count("is queued again"), said)
    ended(worker, thread)
    assert len(ran) <= int(time.time() / 0.5) - int(declared / 0.5)
    assert said.count("cannot be queued") == said.count("is queued again") == 1
    gator.close()
