"""Test that workers record once a minute how full queues are, and that a Gator tells it."""

import logging
import threading
import time
import uuid

import pytest

from alligator import Gator, Worker
from alligator.backends.types import QueueStats
from alligator.exceptions import ConnectionLost, InvalidTask, UnsupportedOption
from alligator.monitoring.rows import DepthRow, QueueRow
from alligator.testing import FakeClock
from alligator.workers import heartbeat
from alligator.workers.queue_depths import MOST_QUEUES, QueueDepths
from tests.support import jobs
from tests.support.helpers import eventually

BACKENDS = ["locmem", "sqlite", "redis", "beanstalk+sqlite"]


def made(request, backend, **options):
    names = backend.split("+")
    if backend == "locmem":
        return Gator(f"locmem://{uuid.uuid4().hex}", "deep", **options)
    dsn, *store = (request.getfixturevalue(f"{each}_dsn") for each in names)
    name = f"deep-{uuid.uuid4().hex[:8]}"
    return Gator(dsn, name, store=store[0] if store else None, **options)


@pytest.fixture(params=BACKENDS)
def gator(request):
    found = made(request, request.param)
    yield found
    found.close()


@pytest.fixture
def local():
    return Gator(f"locmem://{uuid.uuid4().hex}")


@pytest.fixture
def fast(monkeypatch):
    monkeypatch.setattr(heartbeat, "REPORT_EVERY", 0.02)
    monkeypatch.setattr(heartbeat, "EVERY", 0.05)


class Working:
    """A worker that runs in a thread, on a queue."""

    def __init__(self, gator, queue_name):
        self.worker = Worker(gator, to_consume=[queue_name], log_level=logging.CRITICAL)
        self.thread = threading.Thread(target=self.worker.run_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self.worker

    def __exit__(self, *exc):
        self.worker.keep_running = False
        self.thread.join(30)
        assert not self.thread.is_alive()


def own(gator, name=None):
    name = name or gator.queue_name
    return [each for each in gator.depths() if each.queue_name == name]


def test_a_worker_records_its_queues(gator, fast):
    """Delayed ones count apart; and no row of it is among the activity."""
    for _ in range(3):
        gator.options(delay_by=300).task(jobs.note, 1)
    with Working(gator, gator.queue_name):
        eventually(lambda: own(gator), "it has looked")
    (row,) = own(gator)
    assert (row.waiting, row.delayed, row.running, row.oldest) == (0, 3, 0, 0.0)
    assert row.minute % 60 == 0
    assert time.time() - 120 < row.minute <= time.time()
    assert gator.activity() == [] or all(each.function != "(queue)" for each in gator.activity())


def test_what_is_asked_for_is_recorded(gator):
    """Several looks in a minute do not add up: the most counts."""
    for _ in range(4):
        gator.task(jobs.note, 1)
    gator.record_depths()
    gator.record_depths(gator.queues())
    gator.client.drop_all(gator.queue_name)
    gator.record_depths()
    rows = own(gator)
    assert [max(each.waiting for each in rows), sum(each.running for each in rows)] == [4, 0]
    assert len(rows) <= 2  # the minute may have ended


def test_minutes_are_kept_apart():
    clock = FakeClock()
    gator = Gator(f"locmem://{uuid.uuid4().hex}", "deep", clock=clock)
    for count in range(3):
        gator.task(jobs.note, count)
        gator.record_depths()
        clock.advance(60)
    assert [each.waiting for each in gator.depths()] == [1, 2, 3]
    assert [round(each.oldest) for each in gator.depths()] == [0, 60, 120]
    assert [each.waiting for each in gator.depths(minutes=2)] == [3]


def test_a_queue_without_workers_is_recorded_by_those_of_others(local, fast):
    """So it can be seen how it grew after its last worker was killed."""
    mail = local.options(queue_name="mail")
    for _ in range(5):
        mail.task(jobs.note, 1)
    with Working(local, "other"):
        eventually(lambda: own(local, "mail"), "it was seen")
    assert {each.waiting for each in own(local, "mail")} == {5}


@pytest.mark.parametrize("ways", ["worker", "record_depths"])
def test_it_is_off_with_activity(fast, ways):
    dsn = f"locmem://{uuid.uuid4().hex}"
    off = Gator(dsn, "deep", activity=False)
    off.task(jobs.note, 1)
    if ways == "worker":
        assert off.new_recording() is None
        with Working(off, "deep"):
            eventually(lambda: not off.len(), "it works")
    else:
        off.record_depths()
    assert Gator(dsn, "deep").depths() == []


def test_without_a_store_it_cannot_be_told(beanstalk_dsn):
    gator = Gator(beanstalk_dsn)
    deep = QueueRow("q", 1, 0, 0, 0, None, paused=False, workers=0)
    for call in (gator.depths, lambda: gator.record_depths([deep])):
        with pytest.raises(UnsupportedOption, match="store"):
            call()


@pytest.mark.parametrize("value", [0, 2881, 1.5, "60", True, None])
def test_minutes_that_are_none_are_refused(local, value):
    with pytest.raises(InvalidTask, match="minutes="):
        local.depths(minutes=value)


def test_a_look_that_fails_disturbs_nothing(local, fast, caplog):
    """The heartbeat goes on, nothing is said aloud, and the next minute is another try."""
    tries = []

    def stats(name):
        tries.append(name)
        raise ConnectionLost("not now")

    local.client.stats = stats
    caplog.set_level(logging.INFO)
    with Working(local, "all") as worker:
        eventually(lambda: tries, "it tried")
        eventually(lambda: local.store.workers("all"), "it lives")
        assert worker.keep_running
    assert "not now" not in caplog.text
    assert local.depths() == []


class Client:
    def __init__(self):
        self.asked = []

    def stats(self, name):
        self.asked.append(name)
        return QueueStats(1, 0, 0, 0, None)


def test_it_looks_once_a_minute_and_at_few_queues():
    """No more than 100 of a worker; and each worker looks at another second."""
    client, clock, noted = Client(), FakeClock(), []
    names = [f"q{number}" for number in range(150)]
    depths = QueueDepths(client, names, lambda *each: noted.append(each), clock)
    for _ in range(50):
        depths.look()
    assert client.asked == names[:MOST_QUEUES]
    for _ in range(600):
        clock.advance(1)
        depths.look()
    assert len(noted) == len(client.asked) == 11 * MOST_QUEUES


def test_nothing_is_asked_during_an_outage():
    class Outage:
        lasts = True

    client = Client()
    depths = QueueDepths(client, ["q"], lambda *_: None, FakeClock(), Outage())
    depths.look()
    assert client.asked == []
    Outage.lasts = False
    depths.look()
    assert client.asked == ["q"]


def test_a_depth_is_kept_while_the_store_is_away(local):
    recording = local.new_recording()
    recording.note_depth("q", QueueStats(5, 1, 2, 0, 3.5))
    recording.note_depth("q", QueueStats(9, 0, 2, 0, None))
    real = local.store.report
    local.store.report = lambda report: 1 / 0
    recording.flush_quietly()
    local.store.report = real
    recording.flush_quietly()
    assert {(r.waiting, r.delayed, r.running, r.oldest) for r in local.depths()} <= {
        (9, 1, 2, 3.5),
        (5, 1, 2, 3.5),
        (9, 0, 2, 0.0),
    }
    assert isinstance(local.depths()[0], DepthRow)
