"""Test ``gator.pause``, on every backend and in every way to run tasks."""

import datetime
import math
import threading
import time
import uuid

import pytest

from alligator import Gator, Worker
from alligator.backends.base import GET, PAUSE
from alligator.exceptions import InvalidTask, UnsupportedOption
from alligator.testing import FakeClock
from tests.support.helpers import eventually

go_on = threading.Event()
seen: list = []


def note(what):
    seen.append(what)


def note_slowly(what):
    seen.append(what)
    time.sleep(0.05)


def wait_until_told():
    seen.append("started")
    assert go_on.wait(20)
    seen.append("ended")


@pytest.fixture(autouse=True)
def nothing_seen():
    seen.clear()
    go_on.clear()
    yield
    go_on.set()


@pytest.fixture
def locmem():
    return Gator(f"locmem://{uuid.uuid4().hex}")


@pytest.fixture
def start():
    """Return a function that runs a worker in a thread until the test ends."""
    started = []

    def run(gator, **options):
        worker = Worker(gator, nap_time=0.05, **options)
        thread = threading.Thread(target=worker.run_forever, daemon=True)
        thread.start()
        started.append((worker, thread))
        return worker

    yield run
    go_on.set()
    for worker, _ in started:
        worker.keep_running = False
    for _, thread in started:
        thread.join(20)


def test_a_worker_starts_nothing_of_a_paused_queue(gator_with_store, start):
    gator = gator_with_store
    start(gator, concurrency=2 if "sq" in gator.conn_string else 1)
    gator.task(note, "before")
    eventually(lambda: seen == ["before"], "the worker is up")
    gator.pause()
    if PAUSE not in gator.client.controls:
        time.sleep(1.2)  # it may look once a second
    tasks = [gator.task(note, number) for number in range(3)]
    time.sleep(0.4)  # nothing is to happen
    assert seen == ["before"]
    assert gator.paused() == math.inf
    assert "is paused until it is resumed" in gator.explain(tasks[0])
    began = time.monotonic()
    assert gator.resume() is True
    eventually(lambda: len(seen) == 4, "all have run")
    assert time.monotonic() - began < 15
    assert gator.resume() is False
    assert gator.paused() is None
    assert gator.dead() == []


def test_what_runs_is_finished(locmem, start):
    start(locmem)
    locmem.task(wait_until_told)
    eventually(lambda: seen == ["started"], "it runs")
    locmem.pause()
    locmem.task(note, "later")
    go_on.set()
    eventually(lambda: seen == ["started", "ended"], "it ends")
    eventually(lambda: locmem.stats()["running"] == 0, "and is acked")
    assert locmem.stats()["waiting"] == 1


@pytest.mark.parametrize("kind", ["locmem", "sqlite+locmem"])
def test_what_a_worker_holds_in_advance_does_not_start(kind, start, tmp_path, monkeypatch):
    if kind == "locmem":
        gator = Gator(f"locmem://{uuid.uuid4().hex}")
    else:  # as on a backend that does not pause by itself
        monkeypatch.setattr("alligator.backends.sqlite.client.Client.controls", frozenset())
        gator = Gator(f"sqlite://{tmp_path}/q.db", store=f"locmem://{uuid.uuid4().hex}")
    with gator.batch() as batch:
        for number in range(400):
            batch.task(note_slowly, number)
    start(gator, prefetch=400)
    eventually(lambda: seen, "they run")
    gator.pause()
    began = time.monotonic()
    eventually(lambda: gator.stats()["running"] == 0, "what has not started goes back")
    assert time.monotonic() - began < 15
    count = len(seen)
    assert count < 300
    assert gator.stats()["waiting"] == 400 - count
    gator.resume()
    eventually(lambda: len(seen) > count, "they go on")
    assert sorted(set(seen)) == sorted(seen), "none ran twice"


def test_other_queues_go_on(gator_with_store, start):
    gator = gator_with_store
    if gator.conn_string.startswith("sqs"):
        pytest.skip("its queues have to be created")
    other = f"{gator.queue_name}-2"
    gator.pause(other)
    gator.options(queue_name=other).task(note, "paused")
    start(gator, to_consume=[other, gator.queue_name])
    for number in range(3):
        gator.task(note, number)
    eventually(lambda: len(seen) == 3, "they run")
    assert sorted(seen) == [0, 1, 2]
    assert [each.name for each in gator.queues() if each.paused] == [other]
    gator.resume(other)
    eventually(lambda: "paused" in seen, "resumed")
    gator.client.drop_all(other)


def test_what_stands_for_a_worker_obeys(gator_with_store):
    gator = gator_with_store
    gator.pause(seconds=300)
    task = gator.task(note, "1")
    assert gator.pop() is None
    assert gator.run_all() == 0
    worker = Worker(gator, burst=True)
    assert worker.check_and_run_task() is False
    assert worker.run_forever() == 0
    assert seen == []
    if GET in gator.client.supports:
        found = gator.get(task.backend_id or task.task_id)
        assert found.task_id == task.task_id
        assert seen == ["1"]
    gator.task(note, "2")
    gator.resume()
    eventually(lambda: gator.run_all() or "2" in seen, "it runs")
    assert "2" in seen


def test_tasks_that_are_not_async_run_at_once(locmem):
    locmem.pause()
    locmem.options(is_async=False).task(note, "here")
    assert seen == ["here"]


def test_a_pause_ends_by_itself(gator_with_store):
    gator = gator_with_store
    now = time.time()
    gator.pause(seconds=datetime.timedelta(seconds=600))
    assert abs(gator.paused() - now - 600) < 60
    gator.task(note, "1")
    assert gator.run_all() == 0
    now = time.time()
    gator.pause(seconds=0.4)
    eventually(lambda: gator.run_all() or seen, "it runs")
    assert time.time() - now > 0.39
    assert gator.paused() is None
    assert seen == ["1"]


@pytest.mark.parametrize("scheme", ["locmem", "sqlite"])
def test_an_injected_clock_ends_it(scheme, tmp_path):
    where = tmp_path / "q.db" if scheme == "sqlite" else uuid.uuid4().hex
    gator = Gator(f"{scheme}://{where}", clock=FakeClock())
    gator.pause(seconds=3600)
    gator.task(note, "1")
    assert gator.run_until("+59m") == 0
    assert gator.run_until("+1m") == 1


def test_schedules_and_delays_go_on(locmem):
    gator = Gator(f"locmem://{uuid.uuid4().hex}", clock=FakeClock())
    schedule = gator.every(60, note, "tick")
    gator.pause()
    gator.options(delay_by=90).task(note, "delayed")
    assert "is paused until it is resumed" in gator.explain(schedule)
    assert gator.run_until("+5m") == 0
    assert gator.stats()["waiting"] + gator.stats()["delayed"] == 6
    gator.resume()
    assert gator.run_all() == 6


@pytest.mark.parametrize("dsn", ["beanstalk://localhost:1/", "sqs://eu-west-1/", "old"])
def test_a_backend_without_a_store_says_so(dsn):
    gator = Gator("locmem://", backend_class=NoPause) if dsn == "old" else Gator(dsn)
    for call in (gator.pause, gator.resume):
        with pytest.raises(UnsupportedOption, match="store=") as caught:
            call()
        assert "\n" not in str(caught.value)
    assert gator.paused() is None


class NoPause:
    """What a third party wrote in 2015."""

    def __init__(self, conn_string):
        self.conn_string = conn_string


@pytest.mark.parametrize("seconds", [0, -1, "soon", True, math.inf, math.nan, [1]])
def test_a_time_that_is_none_is_refused(locmem, seconds):
    with pytest.raises(InvalidTask, match="seconds="):
        locmem.pause(seconds=seconds)
    assert locmem.paused() is None


@pytest.mark.parametrize("name", ["no/slash", "x" * 81, 7])
def test_a_queue_that_cannot_be_is_refused(locmem, name):
    for call in (locmem.pause, locmem.resume):
        with pytest.raises(InvalidTask, match="Queue name"):
            call(name)


def test_a_long_pause_is_kept_by_any_store(tmp_path, redis_dsn):
    for store in (f"sqlite://{tmp_path}/s.db", redis_dsn):
        gator = Gator("beanstalk://localhost:1/", f"q-{uuid.uuid4().hex}", store=store)
        gator.pause()
        assert gator.paused() == math.inf
        gator.resume()
        gator.close()
