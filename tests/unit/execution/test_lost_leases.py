"""Test that the owner of a lost lease is told, and no other task."""

import asyncio
import contextlib
import logging
import threading
import time
import uuid

import pytest

from alligator import Gator, Worker
from alligator.backends.base import Delivery
from alligator.backends.locmem_backend import Client
from alligator.exceptions import AlligatorException, ConnectionLost
from alligator.execution.backend_trouble import Outage
from alligator.execution.leases import Leases
from alligator.execution.unsettled_outcomes import UnsettledOutcomes

LOST = "lost its lease"
LEASE = 10.0  # a busy machine keeps it
EVERY = 0.04  # seconds between two heartbeats

#: The client of the test that runs.
clients: list = []


class SlowToSettle(Client):
    """Settles at once, and replies when two more heartbeats have been answered."""

    lease_seconds = 3 * EVERY

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.answered = 0
        self.settled = 0
        clients.append(self)

    def extend(self, deliveries, lease):
        lost = super().extend(deliveries, lease)
        self.answered += 1
        return lost

    def _after(self, reply):
        until, deadline = self.answered + 2, time.monotonic() + 30
        self.settled += 1
        while self.answered < until and time.monotonic() < deadline:
            time.sleep(0.002)
        assert self.answered >= until, "no heartbeat came"
        return reply

    def release(self, *args, **kwargs):
        return self._after(super().release(*args, **kwargs))

    def bury(self, *args, **kwargs):
        return self._after(super().bury(*args, **kwargs))

    @property
    def store(self):
        store = super().store
        if "settle" not in vars(store):
            settle = store.settle
            store.settle = lambda *args: self._after(settle(*args))
        return store


class Overtaken(Client):
    """Another worker takes over the running task, as if this process had been stopped."""

    lease_seconds = 3 * EVERY

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.taken, self.lost = [], []
        clients.append(self)

    def reserve(self, *args, **kwargs):
        reserved = super().reserve(*args, **kwargs)
        self.taken = self.taken or reserved.deliveries
        return reserved

    def extend(self, deliveries, lease):
        lost = super().extend(deliveries, lease)
        self.lost += lost
        return lost

    def steal(self):
        """Take over the first task."""
        (delivery,) = self.taken
        assert super().extend([delivery], -1.0) == []
        (taken,) = super().reserve([delivery.queue_name], task_id=delivery.task_id).deliveries
        assert taken.receipt != delivery.receipt


def fail():
    raise ValueError("too much")


def succeed():
    return 1


async def fail_soon():
    await asyncio.sleep(0)
    raise ValueError("too much")


def be_overtaken(ends):
    """Lose the lease, wait for the heartbeat that sees it, and end in this way."""
    client = clients[-1]
    client.steal()
    deadline = time.monotonic() + 30
    while not client.lost and time.monotonic() < deadline:
        time.sleep(0.002)
    if ends == "badly":
        raise ValueError("too much")


def lose_and_fail():
    """Lose the lease with no heartbeat to see it, and fail."""
    clients[-1].steal()
    raise ValueError("too much")


def by_worker(gator, **options):
    worker = Worker(gator, lease=LEASE, **options)
    worker.log = logging.getLogger("alligator.workers")
    worker.run_forever()


def inline(gator):
    by_worker(gator, max_tasks=1)


def in_threads(gator):
    by_worker(gator, max_tasks=1, concurrency=3)


def in_a_burst(gator):
    by_worker(gator, burst=True)


def one_by_one(gator):
    worker = Worker(gator, lease=LEASE)
    worker.log = logging.getLogger("alligator.workers")
    for _ in range(3):
        worker.check_and_run_task()


def run_all(gator):
    gator.run_all()


def pop(gator):
    while gator.len():
        with contextlib.suppress(ValueError, AlligatorException):
            gator.pop()


WAYS = [inline, in_threads, in_a_burst, one_by_one, run_all, pop]


@pytest.fixture
def lines(caplog, monkeypatch):
    """What was logged of the kind."""
    monkeypatch.setattr("alligator.execution.without_worker.LEASE", LEASE)
    caplog.set_level(logging.INFO, "alligator")
    return lambda said=LOST: [each.getMessage() for each in caplog.records if said in each.msg]


def make(client):
    clients.clear()
    return Gator(f"locmem://{uuid.uuid4().hex}", backend_class=client)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("func", [fail, fail_soon])
def test_retry_and_burial_are_no_loss(way, func, lines):
    gator = make(SlowToSettle)
    gator.options(retries=1).task(func)
    way(gator)
    assert clients[-1].settled == 2
    assert gator.stats()["dead"] == 1
    assert lines() == []


@pytest.mark.parametrize("way", WAYS)
def test_an_ack_with_its_record_is_no_loss(way, lines):
    gator = make(SlowToSettle)
    task = gator.options(save_results=60).task(succeed)
    way(gator)
    assert clients[-1].settled == 1
    assert gator.result(task.task_id) == 1
    assert lines() == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ends", ["well", "badly"])
def test_a_loss_that_a_heartbeat_sees_is_told(way, ends, lines):
    gator = make(Overtaken)
    gator.task(be_overtaken, ends)
    way(gator)
    assert 1 <= len(lines()) <= 2  # by the heartbeat, and once it is settled


@pytest.mark.parametrize("way", WAYS)
def test_a_loss_that_only_the_settling_sees_is_told(way, lines, monkeypatch):
    monkeypatch.setattr("alligator.execution.leases.Leases._extend", lambda self: None)
    gator = make(Overtaken)
    gator.task(lose_and_fail)
    way(gator)
    assert len(lines()) == 1


def test_a_heartbeat_in_flight_at_the_end_says_nothing(caplog):
    """It was asked before the task was settled, and answered after."""
    gator = make(Client)
    gator.task("operator.add", 1, 2)
    client, extend = gator.client, gator.client.extend
    asked, settled = threading.Event(), threading.Event()

    def slow_extend(deliveries, lease):
        asked.set()
        assert settled.wait(30)
        return extend(deliveries, lease)

    client.extend = slow_extend
    with Leases(client, 3 * EVERY, log=logging.getLogger(__name__)) as leases:
        leases.take(client.reserve([gator.queue_name]).deliveries)
        delivery = leases.start_next()
        assert asked.wait(30)
        leases.settles(delivery)
        assert client.release(delivery, "again")
        settled.set()
        client.extend = extend
        leases._extend()
    assert [each for each in caplog.records if LOST in each.msg] == []


def test_what_is_told_again_and_refused_is_no_secret():
    refused = []
    outage = Outage(logging.getLogger(__name__))
    unsettled = UnsettledOutcomes(outage, lambda delivery, lost: refused.append((delivery, lost)))
    one, two, three = (Delivery("q", name, "{}", name) for name in ("one", "two", "three"))
    why = ConnectionLost("no reply")
    unsettled.add(one, lambda: True, why)
    unsettled.add(two, lambda: False, why)
    unsettled.add(three, lambda: True, why)
    unsettled.drop({id(three)})
    unsettled.settle_all()
    assert refused == [(three, False), (two, False)]


def test_a_retry_whose_reply_was_lost_is_no_loss(lines):
    """It counted, and is told again."""

    class ReplyLost(Overtaken):
        failures = 1

        def release(self, *args, **kwargs):
            reply = super().release(*args, **kwargs)
            if self.failures:
                self.failures -= 1
                raise ConnectionLost("no reply")
            return reply

    gator = make(ReplyLost)
    gator.options(retries=1).task(fail)
    in_a_burst(gator)
    assert gator.stats()["dead"] == 1
    assert lines() == []
    assert len(lines("sent again and refused")) == 1
