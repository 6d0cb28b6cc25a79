"""Test batches that a worker reserves while it runs the one before."""

import logging
import threading
import time
import uuid
from types import SimpleNamespace

import pytest

from alligator import Gator, Worker
from alligator.backends.base import Ahead
from alligator.backends.locmem_backend import Client
from alligator.exceptions import ConnectionLost
from alligator.execution.backend_trouble import Outage
from alligator.workers.fetcher import Fetcher
from alligator.workers.prefetch_size import Prefetch
from tests.support.helpers import eventually

ran = []
may_end = threading.Event()


def note(value):
    ran.append(value)


def block(value):
    ran.append(value)
    assert may_end.wait(60)


class Sent(Ahead):
    def __init__(self, client, reserved):
        self.client, self.reserved, self.sent = client, reserved, time.monotonic()

    def ready(self):
        return True

    def read(self):
        self.client.read += 1
        if self.client.broken:
            raise ConnectionLost("no reply")
        return self.reserved


class Eager(Client):
    """Leases at once what is sent for, as a server would; suspects apart."""

    sent = read = plain = 0
    broken = False

    def reserve(self, *args, **kwargs):
        self.plain += 1
        return super().reserve(*args, **kwargs)

    def begin_reserve(self, queue_names, limit=1, lease=30.0, *, acks=()):
        self.sent += 1
        reserved = super().reserve(queue_names, limit, lease, acks=acks)
        if reserved.deliveries and reserved.deliveries[0].deaths:
            self.release(reserved.deliveries.pop())
        return Sent(self, reserved)


@pytest.fixture
def gator(monkeypatch):
    ran.clear()
    may_end.clear()
    # A worker sends for no batch while its tasks seem to take long, as they may on a busy machine.
    monkeypatch.setattr("alligator.workers.fetcher.AHEAD", 60.0)
    monkeypatch.setattr("alligator.workers.fetcher._LOOK_EVERY", 60.0)
    yield Gator(f"locmem://{uuid.uuid4().hex}", backend_class=Eager)
    may_end.set()


def start(gator, **options):
    worker = Worker(gator, log_level="CRITICAL", **options)
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    return worker, thread


@pytest.mark.parametrize("concurrency", [1, 3])
def test_all_run_once_and_are_acked(gator, concurrency):
    with gator.batch() as batch:
        for number in range(100):
            batch.task(note, number)
    Worker(
        gator, burst=True, log_level="CRITICAL", prefetch=10, concurrency=concurrency
    ).run_forever()
    assert sorted(ran) == list(range(100))
    assert gator.client.sent == gator.client.read > 0
    stats = gator.stats()
    assert (stats["waiting"], stats["running"], stats["dead"]) == (0, 0, 0)


def test_they_are_handed_back_while_a_task_takes_long(gator):
    with gator.batch() as batch:
        for number in range(14):
            batch.task(note, number)
        batch.task(block, "long")
        for number in range(14, 40):
            batch.task(note, number)
    worker, thread = start(gator, prefetch=5)
    eventually(lambda: "long" in ran)
    assert gator.client.sent > 1
    before = len(ran)
    eventually(lambda: gator.stats()["running"] == 1)
    assert gator.stats()["waiting"] == 26
    assert len(ran) == before
    may_end.set()
    eventually(lambda: len(ran) == 41)
    worker.keep_running = False
    thread.join(30)
    assert gator.stats()["running"] == 0


def test_a_worker_that_ends_hands_them_back(gator):
    with gator.batch() as batch:
        for number in range(14):
            batch.task(note, number)
        batch.task(block, "long")
        for number in range(30):
            batch.task(note, number)
    worker, thread = start(gator, prefetch=5)
    eventually(lambda: "long" in ran)
    worker.keep_running = False
    may_end.set()
    thread.join(30)
    stats = gator.stats()
    assert (stats["waiting"] + len(ran), stats["running"]) == (45, 0)
    assert not any(each.deaths for each in gator.client.reserve(["all"], 100).deliveries)


def test_a_reply_that_does_not_come_costs_a_lease_at_most(gator):
    with gator.batch() as batch:
        for number in range(30):
            batch.task(note, number)
    gator.client.broken = True
    worker, thread = start(gator, prefetch=10, lease=1.0)
    eventually(lambda: gator.client.read > 0)
    gator.client.broken = False
    eventually(lambda: len(set(ran)) == 30)
    eventually(lambda: not gator.stats()["running"])
    worker.keep_running = False
    thread.join(30)
    assert len(ran) == 30, "acks that were lost are sent again"


def test_none_is_sent_for_where_one_at_a_time_is_wanted(gator):
    for number in range(20):
        gator.task(note, number)
    Worker(gator, burst=True, prefetch=1, log_level="CRITICAL").run_forever()
    assert (len(ran), gator.client.sent) == (20, 0)


def test_none_is_sent_for_beyond_max_tasks(gator):
    for number in range(20):
        gator.task(note, number)
    Worker(gator, max_tasks=12, prefetch=5, log_level="CRITICAL").run_forever()
    assert (len(ran), gator.client.sent) == (12, 0)
    assert gator.len() == 8


def test_a_reply_of_before_an_outage_is_no_sign_of_its_end():
    """It lay in the socket while a task took long."""
    outage = Outage(logging.getLogger(__name__))
    leases = SimpleNamespace(collect=lambda: 3)
    fetcher = Fetcher(
        SimpleNamespace(to_consume="q", burst=True, max_tasks=0),
        None,
        leases,
        Prefetch("auto", 1),
        suspects=None,
        schedules=None,
        store=None,
        outage=outage,
        log=outage.log,
        stop=lambda: False,
        ended=lambda: 0,
    )
    outage.begins(ConnectionLost("gone"))
    assert fetcher._collect(3) is True
    assert outage.lasts


def test_expired_leases_are_looked_for_all_the_same(gator, monkeypatch):
    """They come to a plain reserve, of which there is one now and then."""
    monkeypatch.setattr("alligator.workers.fetcher._LOOK_EVERY", 0.002)
    with gator.batch() as batch:
        for number in range(2000):
            batch.task(note, number)
    Worker(gator, burst=True, prefetch=20, log_level="CRITICAL").run_forever()
    assert len(ran) == 2000
    assert gator.client.sent >= 3
    assert gator.client.plain >= 4
