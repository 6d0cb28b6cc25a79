"""Test the heartbeat of workers, and that a failed one does no harm."""

import logging
import threading
import time
import uuid

import pytest

from alligator import Gator, Worker
from alligator.exceptions import ConnectionLost
from alligator.execution.backend_trouble import Outage
from alligator.testing import FakeClock
from alligator.workers import heartbeat
from alligator.workers.heartbeat import Heartbeat
from tests.support import jobs
from tests.support.helpers import eventually


@pytest.fixture
def locmem_dsn():
    return f"locmem://{uuid.uuid4().hex}"


@pytest.fixture(params=["locmem", "sqlite", "redis", "beanstalk+sqlite"])
def gator(request):
    dsn, *store = (request.getfixturevalue(f"{name}_dsn") for name in request.param.split("+"))
    found = Gator(dsn, f"heartbeat-{uuid.uuid4().hex[:8]}", store=store[0] if store else None)
    yield found
    found.close()


class Working:
    """A worker that runs in a thread for as long as the block goes on."""

    def __init__(self, gator, **options):
        self.worker = Worker(gator, log_level=logging.CRITICAL, **options)
        self.thread = threading.Thread(target=self.worker.run_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self.worker

    def __exit__(self, *exc):
        self.worker.keep_running = False
        self.thread.join(30)
        assert not self.thread.is_alive()


class Store:
    """Notes the signs that it is given, and fails or hangs when told to."""

    def __init__(self):
        self.signs, self.tries, self.down, self.go = [], 0, False, threading.Event()
        self.go.set()

    def beat(self, worker, queue_names, seconds):
        self.tries += 1
        self.go.wait(30)
        if self.down:
            raise ConnectionLost("no server there")
        self.signs.append((worker, tuple(queue_names), seconds))


def test_a_worker_lives_from_its_start_to_its_end(gator):
    other = f"{gator.queue_name}-2"
    assert gator.store.workers(gator.queue_name) == []
    started = time.time()
    with Working(gator, to_consume=[gator.queue_name, other]):
        eventually(lambda: gator.store.workers(other), "it lives")
        (alive,) = gator.store.workers(gator.queue_name)
        assert set(alive.queue_names) == {gator.queue_name, other}
        assert alive.until - alive.seen == pytest.approx(heartbeat.COUNTS, abs=0.1)
        with Working(gator):
            eventually(lambda: len(gator.store.workers(gator.queue_name)) == 2, "two of them")
            assert len(gator.store.workers(other)) == 1
    assert gator.store.workers(gator.queue_name) == gator.store.workers(other) == []
    assert started - 2 < gator.store.last_seen(other) < time.time() + 2


def test_it_goes_on_living(monkeypatch):
    monkeypatch.setattr(heartbeat, "EVERY", 0.02)
    clock = FakeClock()
    gator = Gator(f"locmem://{uuid.uuid4().hex}", clock=clock)
    with Working(gator):
        eventually(lambda: gator.store.workers("all"), "it lives")
        for _ in range(3):
            clock.advance(heartbeat.COUNTS + 1)
            eventually(lambda: gator.store.workers("all"), "it still does")
    clock.advance(5)
    assert gator.store.workers("all") == []
    assert gator.store.last_seen("all") == clock.time() - 5


def made(store, log=None, outage=None):
    return Heartbeat(store, ["q"], log=log or logging.getLogger("test.heartbeat"), outage=outage)


def test_names_are_unique():
    assert made(None).name != made(None).name


def test_without_a_store_there_is_nothing():
    before = set(threading.enumerate())
    with made(None) as living:
        assert set(threading.enumerate()) <= before
        assert living.store is None


def test_a_store_that_is_down_is_said_once_and_no_goodbye_is_tried(monkeypatch, caplog):
    monkeypatch.setattr(heartbeat, "EVERY", 0.005)
    caplog.set_level(logging.INFO)
    store = Store()
    with made(store) as living:
        eventually(lambda: len(store.signs) > 2, "it goes on")
        store.down = True
        tries = store.tries
        eventually(lambda: store.tries > tries + 4, "it tries on")
        assert caplog.text.count("The heartbeat of this worker failed") == 1
        assert "no server there" in caplog.text
        store.down = False
        eventually(lambda: "gets through again" in caplog.text, "it is back")
    assert set(store.signs) == {(living.name, ("q",), heartbeat.COUNTS), (living.name, ("q",), 0.0)}
    assert store.signs[-1][2] == 0
    assert [each.levelname for each in caplog.records] == ["WARNING", "INFO"]


def test_who_could_not_say_hello_says_no_goodbye():
    store = Store()
    store.down = True
    with made(store):
        eventually(lambda: store.tries, "it tried")
    store.down = False
    assert (store.tries, store.signs) == (1, [])


def test_an_outage_of_the_queue_is_said_elsewhere(monkeypatch, caplog):
    """Where the store is beside the queue; what is wrong with the store alone is said."""
    monkeypatch.setattr(heartbeat, "EVERY", 0.005)
    store, outage = Store(), Outage(logging.getLogger("test.outage"))
    store.down = True
    outage.begins(ConnectionLost("gone"))
    caplog.clear()
    with made(store, outage=outage):
        eventually(lambda: store.tries > 5, "it tries on")
        assert caplog.text == ""
        outage.ends()
        eventually(lambda: caplog.text.count("heartbeat of") == 1, "now it is the store")


def test_a_store_that_hangs_holds_nothing_up(monkeypatch):
    """Not the tasks, nor their leases, nor the end."""
    store = Store()
    store.go.clear()
    gator = Gator(f"locmem://{uuid.uuid4().hex}")
    monkeypatch.setattr(gator.store, "beat", store.beat)
    jobs.seen.clear()
    task = gator.task(jobs.note, 1)
    with Working(gator):
        eventually(lambda: jobs.seen, "it works")
        eventually(lambda: gator.client.find("all", task.task_id) is None, "and acks")
        assert (store.tries, store.signs) == (1, [])
        ends = time.monotonic()
    assert time.monotonic() - ends < 20
    store.go.set()


def test_one_round_trip_for_all_queues(redis_dsn):
    gator = Gator(redis_dsn, "heartbeat")
    calls = lambda: gator.client.conn.info("commandstats")["cmdstat_evalsha"]["calls"]  # noqa: E731
    gator.store.beat("me", ["p1"], 1)
    before = calls()
    gator.store.beat("me", ["p1", "p2", "p3"], 60)
    assert calls() == before + 1
    assert [len(gator.store.workers(name)) for name in ("p1", "p2", "p3")] == [1, 1, 1]
    gator.store.beat("me", ["p1", "p2", "p3"], 0)
    assert gator.store.workers("p3") == []
    gator.close()
