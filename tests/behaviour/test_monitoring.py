"""Test what workers record of tasks, and how a Gator tells it: on every backend, in every way."""

import asyncio
import logging
import os
import threading
import time
import uuid
from contextlib import suppress
from itertools import pairwise

import pytest

from alligator import Gator, Task, Worker, current_task
from alligator.backends.base import LISTING
from alligator.backends.types import Report
from alligator.common.ids import new_task_id
from alligator.constants import CANCELED, FAILED, RETRYING, SUCCESS
from alligator.exceptions import AlligatorException, InvalidTask, UnsupportedOption
from alligator.execution.activity_report import LISTED, host
from alligator.monitoring.activity_counts import COUNTS, QUEUE, Measured, Tally, depth_numbers
from alligator.testing import FakeClock
from alligator.web.charts.recorded import merged_activity
from alligator.workers import heartbeat
from tests.support import jobs
from tests.support.helpers import eventually

BACKENDS = ["locmem", "sqlite", "redis", "cluster", "beanstalk+sqlite", "sqs+redis"]
go = threading.Event()


def fine(*args, **kwargs):
    return {"made": args, "token": "hunter2"}


def fails(*args, **kwargs):
    raise ValueError("too much")


def fails_once():
    if not current_task().retried:
        raise ValueError("too much")


def runs_again():
    if not current_task().retried:
        current_task().retry()


def waits(*args, **kwargs):
    go.wait(20)


async def coroutine():
    return None


async def waits_in_a_coroutine():
    while not go.is_set():
        await asyncio.sleep(0.01)


def made(request, backend, **options):
    name, *store = backend.split("+")
    if name == "locmem":
        dsn = f"locmem://{uuid.uuid4().hex}"
    else:
        dsn = request.getfixturevalue(f"{name}_dsn")
    store = request.getfixturevalue(f"{store[0]}_dsn") if store else None
    gator = Gator(dsn, f"seen-{uuid.uuid4().hex[:10]}", store=store, **options)
    if name == "sqs":
        gator.client.conn.create_queue(QueueName=gator.queue_name)
        gator.client.conn.create_queue(QueueName=f"{gator.queue_name}-dead")
    return gator


@pytest.fixture(params=BACKENDS)
def gator(request):
    found = made(request, request.param)
    yield found
    found.close()


@pytest.fixture
def local():
    return Gator(f"locmem://{uuid.uuid4().hex}")


def work(gator, way="inline", **options):
    """Run all that is due, in one of the ways."""
    if way == "run_all":
        gator.run_all()
    elif way == "pop":
        while gator.len():
            with suppress(ValueError, AlligatorException):  # those of the task
                gator.pop()
    elif way == "check_and_run_task":
        worker = Worker(gator, log_level=logging.CRITICAL)
        while gator.len():
            worker.check_and_run_task()
    else:
        options["concurrency"] = 3 if way == "threads" else 1
        Worker(gator, burst=True, log_level=logging.CRITICAL, **options).run_forever()


WAYS = ["inline", "threads", "run_all", "pop", "check_and_run_task"]


def counts(gator, function=None):
    """Return what happened on the queue of a Gator, without the zeros."""
    total = dict.fromkeys(COUNTS, 0)
    for row in gator.activity():
        if row.queue_name == gator.queue_name and function in (None, row.function):
            for name in COUNTS:
                total[name] += getattr(row, name)
    return {name: count for name, count in total.items() if count}


def recent(gator, **options):
    return [row for row in gator.recent(**options) if row.queue_name == gator.queue_name]


def name_of(func):
    return f"{__name__}.{func.__name__}"


# -- Activity, and what ended lately. ---------------------------------------------------------


def test_all_ends_are_counted_and_listed(gator):
    began = time.time()
    with gator.batch() as batch:
        for index in range(3):
            batch.task(fine, index, password="hunter2")
        batch.task(fails, 1)
        batch.task(coroutine)
    gator.options(retries=1).task(fails_once)
    gator.options(retries=1).task(runs_again)
    work(gator)
    ended = time.time()
    assert counts(gator) == {"succeeded": 6, "failed": 2, "retried": 2, "dead": 1}
    assert counts(gator, name_of(fine)) == {"succeeded": 3}
    assert counts(gator, name_of(fails_once)) == {"succeeded": 1, "failed": 1, "retried": 1}
    assert counts(gator, name_of(runs_again)) == {"succeeded": 1, "retried": 1}
    assert counts(gator, name_of(coroutine)) == {"succeeded": 1}
    rows = recent(gator)
    assert sorted(row.state for row in rows) == [SUCCESS] * 6 + [FAILED] + [RETRYING] * 2
    for row in rows:
        assert row.worker == f"{host()}:{os.getpid()}"
        assert began - 1 < row.pushed <= row.started + 0.1
        assert row.started <= row.ended < ended + 1
    (failed,) = recent(gator, state="failed")
    assert (failed.function, failed.args, failed.error) == (
        name_of(fails),
        "1",
        "ValueError: too much",
    )
    assert recent(gator, state=FAILED) == [failed]
    assert {row.args for row in recent(gator, function=fine)} == {
        f"{index}, password='***'" for index in range(3)
    }
    assert recent(gator, function=name_of(fine), state=FAILED) == []
    newest_first = [row.ended for row in rows]
    assert newest_first == sorted(newest_first, reverse=True)
    assert gator.workers() == [] or gator.client.conn_string != gator.store


@pytest.mark.parametrize("gator", [e for e in BACKENDS if e != "cluster"], indirect=True)
def test_runs_are_found_by_their_parents(gator):
    """Those of tasks that waited for one, and of no other; ids may be of any text."""
    parents = [gator.options(task_id=each).task(fine) for each in ('a"\\ü', "b", "ab")]
    both = gator.options(depends_on=parents[:2], history=60).task(fine)
    one = gator.options(depends_on=parents[1:2], history=60).task(fails)
    for _ in range(20):
        gator.options(history=60).task(fine)  # what is short is not listed each time
    work(gator)
    for parent, children in zip(parents, ({both}, {both, one}, set()), strict=True):
        rows = recent(gator, limit=1000, parent=parent.task_id)
        assert {row.task_id for row in rows} == {each.task_id for each in children}
        assert all(parent.task_id in row.parents for row in rows)
    (row,) = recent(gator, limit=1000, parent="b", state="failed")
    assert row.parents == ("b",)
    for wrong in ("", 7):
        with pytest.raises(InvalidTask, match="parent="):
            gator.recent(parent=wrong)


@pytest.mark.parametrize("way", WAYS)
def test_in_every_way_of_running(local, way):
    for func in (fine, coroutine, fails):
        local.task(func)
    local.options(retries=1).task(fails_once)
    work(local, way)
    assert counts(local) == {"succeeded": 3, "failed": 2, "retried": 1, "dead": 1}
    assert len(recent(local)) == 5
    row = next(row for row in local.activity() if row.function == name_of(coroutine))
    assert sum(row.duration_buckets) == sum(row.wait_buckets) == 1
    assert row.minute == int(time.time() // 60) * 60 or row.minute % 60 == 0


@pytest.mark.parametrize("way", WAYS)
def test_what_expired_is_counted_as_that(way):
    clock = FakeClock()
    gator = Gator(f"locmem://{uuid.uuid4().hex}", clock=clock)
    gator.options(expires=5).task(fine)
    clock.advance(10)
    work(gator, way)
    assert counts(gator) == {"expired": 1}
    (row,) = recent(gator)
    assert row.state == FAILED
    assert row.error.startswith("Expired")


def test_wait_and_duration_are_measured():
    clock = FakeClock()
    gator = Gator(f"locmem://{uuid.uuid4().hex}", clock=clock)
    gator.options(delay_by=100, task_id="mine").task(fine)
    clock.advance(107)
    gator.options(task_id="slow").task(time.sleep, 0.02)
    work(gator)
    rows = {row.function: row for row in gator.activity()}
    assert rows[name_of(fine)].wait_max == pytest.approx(7, abs=0.1), "from when it was due"
    assert rows["time.sleep"].wait_max == pytest.approx(0, abs=0.1)
    assert 0.02 <= rows["time.sleep"].duration_max < 5
    assert rows["time.sleep"].duration_sum == pytest.approx(rows["time.sleep"].duration_max)


def test_by_minute():
    clock = FakeClock()
    gator = Gator(f"locmem://{uuid.uuid4().hex}", clock=clock)
    for _ in range(3):
        gator.task(fine)
        work(gator)
        clock.advance(60)
    clock.advance(-60)
    assert [row.succeeded for row in gator.activity()] == [1, 1, 1]
    minutes = [row.minute for row in gator.activity()]
    assert [b - a for a, b in pairwise(minutes)] == [60, 60]
    assert [row.succeeded for row in gator.activity(minutes=1)] == [1]
    assert len(gator.activity(minutes=2)) == 2


def test_minutes_are_added_up():
    """A whole multiple of them is one row, with the same numbers; a loss is taken back from it."""
    clock = FakeClock(1_800_000_000.0)
    gator = Gator(f"locmem://{uuid.uuid4().hex}", clock=clock)
    for minute in range(7):
        for number in range(1 + minute):
            tally = Tally()
            tally.add("succeeded", 2 - 3 * (minute == 6))
            tally.add_runs(1, [Measured(0.1 * (number + 1), 0.2)])
            numbers = tally.take()
            at = int(clock.time())
            gator.store.report(Report("w", activity=[(at, "all", f"m.f{number}", numbers)]))
        gator.store.report(Report("w", activity=[(at, "all", QUEUE, depth_numbers(9, 0, 0, 1.0))]))
        clock.advance(60)
    single, depths = gator.activity_and_depths(10)
    assert gator.activity_and_depths(10, step=1) == (single, depths)
    five, same = gator.activity_and_depths(10, step=5)
    assert same == depths
    assert [row.minute for row in five] == [1_800_000_000] * 5 + [1_800_000_300] * 7
    assert [row.succeeded for row in five if row.function == "m.f0"] == [10, 1]
    assert five[:5] == merged_activity([row for row in single if row.minute < 1_800_000_300])
    for wrong in (0, 2881, True, "5"):
        with pytest.raises(InvalidTask, match="step="):
            gator.activity_and_depths(10, step=wrong)


def test_many_successes_are_counted_and_some_listed(local):
    with local.batch() as batch:
        for index in range(10 * LISTED):
            batch.task(fine, index)
        for index in range(2 * LISTED):
            batch.task(fails, index)
    work(local)
    assert counts(local)["succeeded"] == 10 * LISTED
    rows = recent(local, limit=10_000)
    assert sum(row.state == FAILED for row in rows) == 2 * LISTED, "each of them"
    assert LISTED <= sum(row.state == SUCCESS for row in rows) < 10 * LISTED


def test_a_message_that_cannot_be_read_is_listed(local):
    task_id = new_task_id()
    local.client.push(local.queue_name, task_id, '{"nonsense": \x1b')
    local.client.push(local.queue_name, new_task_id(), '{"module": "no.such", "callable": "\\n"}')
    work(local)
    assert counts(local) == {"failed": 2, "dead": 2}
    assert {row.function for row in recent(local)} == {"", "no.such.\n"}


def test_nothing_is_recorded_if_the_gator_says_so(request, redis_dsn):
    for dsn in (f"locmem://{uuid.uuid4().hex}", redis_dsn):
        gator = Gator(dsn, f"off-{uuid.uuid4().hex[:8]}", activity=False)
        gator.options(save_results=60, task_id="mine").task(fine)
        gator.task(fails)
        work(gator)
        gator.task(fine)
        gator.run_all()
        assert counts(gator) == {}
        assert recent(gator) == []
        assert gator.history("mine") is None
        assert gator.result("mine")
        gator.close()


@pytest.mark.parametrize(
    ("show", "shown"),
    [
        (False, "(hidden)"),
        (True, "1, key='***'"),
        (lambda task: f"{len(task.func_args)} of them", "1 of them"),
        (lambda task: task.nothing, "(cannot be shown)"),
    ],
)
def test_arguments_are_shown_as_the_gator_says(show, shown):
    gator = Gator(f"locmem://{uuid.uuid4().hex}", show_arguments=show)
    gator.options(save_results=60, task_id="mine").task(fine, 1, key="hunter2")
    work(gator)
    (row,) = recent(gator)
    assert row.args == shown
    assert gator.history("mine").args in (shown, "1")


@pytest.mark.parametrize("option", ["activity", "show_arguments"])
@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_bad_settings_are_refused(option, value):
    with pytest.raises(InvalidTask, match=option):
        Gator("locmem://", **{option: value})


# -- Workers, and what runs. ------------------------------------------------------------------


class Working:
    """A worker that runs in a thread for as long as the block goes on."""

    def __init__(self, gator, **options):
        self.worker = Worker(gator, log_level=logging.CRITICAL, **options)
        self.thread = threading.Thread(target=self.worker.run_forever, daemon=True)

    def __enter__(self):
        go.clear()
        self.thread.start()
        return self.worker

    def __exit__(self, *exc):
        go.set()
        self.worker.keep_running = False
        self.thread.join(30)
        assert not self.thread.is_alive()


def of_queue(gator):
    return [row for row in gator.workers() if gator.queue_name in row.queues]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_workers_tell_what_they_run(gator, concurrency, monkeypatch):
    monkeypatch.setattr(heartbeat, "REPORT_EVERY", 0.05)
    began = time.time()
    task = gator.task(waits, 1)
    with Working(gator, concurrency=concurrency):
        gator.task(fine)
        gator.task(fails)
        only = lambda row: [each.function for each in row.running] == [name_of(waits)]  # noqa: E731
        row = eventually(lambda: next(filter(only, of_queue(gator)), None))
        assert (row.host, row.pid, row.concurrency) == (host(), os.getpid(), concurrency)
        assert row.queues == (gator.queue_name,)
        assert row.version.count(".") == 2
        assert began - 1 < row.started <= row.last_seen + 1
        assert not row.is_lost
        (now,) = row.running
        assert now.task_id in (task.task_id, task.backend_id)
        assert (now.function, now.queue_name, now.attempt) == (name_of(waits), gator.queue_name, 1)
        assert began - 0.1 < now.started < time.time()
        (running,) = [row for row in gator.running() if row.task_id == now.task_id]
        assert running.task_id == now.task_id
        assert (running.worker, running.started) == (f"{host()}:{os.getpid()}", now.started)
        if LISTING in gator.client.controls:
            assert 0 < running.lease_left <= 31
        if concurrency > 1:
            row = eventually(lambda: next((r for r in of_queue(gator) if r.failed), None))
        go.set()
        row = eventually(lambda: next((r for r in of_queue(gator) if r.done == 2), None))
        eventually(lambda: of_queue(gator)[0].failed == 1)
        eventually(lambda: of_queue(gator)[0].running == ())
    assert of_queue(gator) == [], "gone after an orderly stop"


def test_a_coroutine_is_among_what_runs(local, monkeypatch):
    monkeypatch.setattr(heartbeat, "REPORT_EVERY", 0.02)
    local.task(waits_in_a_coroutine)
    with Working(local, concurrency=2):
        rows = eventually(local.running)
        assert [row.function for row in rows] == [name_of(waits_in_a_coroutine)]
        go.set()
        eventually(lambda: not local.running(), "and when it has ended no more")


@pytest.mark.parametrize("backend", ["locmem", "sqlite", "redis"])
def test_what_is_on_lease_runs_also_without_a_worker_that_tells(request, backend):
    gator = made(request, backend, activity=False)
    task = gator.options(task_id="mine").task(fine, 1)
    gator.task(fine)
    (delivery,) = gator.client.reserve([gator.queue_name], 1, 20.0).deliveries
    assert delivery.task_id == task.task_id
    (row,) = [row for row in gator.running() if row.queue_name == gator.queue_name]
    assert (row.task_id, row.function, row.attempt) == ("mine", name_of(fine), 1)
    assert (row.started, row.worker, row.progress) == (None, "", None)
    assert 15 < row.lease_left <= 20.5
    gator.client.ack([delivery])
    assert [row for row in gator.running() if row.queue_name == gator.queue_name] == []
    gator.close()


def test_an_idle_worker_sends_no_more_than_heartbeats(local, monkeypatch):
    monkeypatch.setattr(heartbeat, "REPORT_EVERY", 0.01)
    reports = []
    report = local.store.report
    monkeypatch.setattr(local.store, "report", lambda it: (reports.append(it), report(it))[1])
    with Working(local):
        eventually(lambda: reports, "it says that it lives")
        time.sleep(0.2)
        assert len(reports) == 1
        local.task(fine)
        eventually(lambda: counts(local))
        time.sleep(0.2)
        assert len(reports) <= 4, "what it did, and that nothing runs any more"
    assert reports[-1].seconds == 0.0


def test_at_most_one_report_a_second(local, monkeypatch):
    reports = []
    report = local.store.report
    monkeypatch.setattr(local.store, "report", lambda it: (reports.append(it), report(it))[1])
    began = time.monotonic()
    with Working(local):
        while time.monotonic() - began < 1.5:
            local.task(fine)
            time.sleep(0.01)
    assert len(reports) <= 2 + time.monotonic() - began


def test_a_worker_that_is_not_seen_is_lost():
    clock = FakeClock()
    gator = Gator(f"locmem://{uuid.uuid4().hex}", clock=clock)
    with Working(gator):
        eventually(gator.workers)
        clock.advance(heartbeat.COUNTS + 1)
        (row,) = gator.workers()
        assert row.is_lost
        assert gator.running() == []


def test_the_most_running_tasks_of_a_worker_are_bounded(local, monkeypatch):
    monkeypatch.setattr("alligator.workers.worker_description.MOST_RUNNING", 2)
    with local.batch() as batch:
        for _ in range(4):
            batch.task(waits)
    with Working(local, concurrency=4) as worker:
        eventually(lambda: len(worker._running()) == 4)
        eventually(lambda: local.workers() and len(local.workers()[0].running) == 2)


# -- A store that fails. ----------------------------------------------------------------------


def test_a_store_that_fails_is_said_once_and_gets_it_later(local, monkeypatch, caplog):
    monkeypatch.setattr(heartbeat, "REPORT_EVERY", 0.01)
    monkeypatch.setattr(heartbeat, "EVERY", 0.05)
    report, down = local.store.report, threading.Event()

    def failing(it):
        if down.is_set():
            raise RuntimeError("no room there")
        return report(it)

    monkeypatch.setattr(local.store, "report", failing)
    with Working(local) as worker:
        worker.log.propagate = True
        worker.log.setLevel(logging.INFO)
        eventually(local.workers)
        down.set()
        for _ in range(5):
            task = local.options(save_results=60).task(fine)
            assert task.wait(10)
            time.sleep(0.05)
        assert counts(local) == {}
        down.clear()
        eventually(lambda: counts(local) == {"succeeded": 5}, "none was lost, or counted twice")
        assert len(recent(local)) == 5
        assert local.history(task).attempts[0].outcome == "succeeded"
    assert caplog.text.count("The report of what this worker does failed") <= 1


def test_a_store_that_hangs_holds_up_no_task(local, monkeypatch):
    hanging = threading.Event()
    monkeypatch.setattr(local.store, "report", lambda it: hanging.wait(30))
    with Working(local):
        for _ in range(3):
            assert local.options(save_results=60).task(fine).wait(10)
        assert local.client.stats("all").running == 0
        go.set()
        ends = time.monotonic()
    assert time.monotonic() - ends < 20
    hanging.set()


# -- The history of one task. -----------------------------------------------------------------


def test_the_history_of_a_task(gator):
    began = time.time()
    task = gator.options(history=60, retries=2).task(fails, 1, secret="hunter2")
    assert gator.history(task) is None, "it has not started"
    work(gator)
    found = gator.history(task)
    assert found.task_id == task.task_id
    assert (found.function, found.queue_name) == (name_of(fails), gator.queue_name)
    assert (found.args, found.kwargs) == ("1", "secret='***'")
    assert found.result is None
    assert began - 1 < found.pushed <= found.attempts[0].started + 0.1
    assert [each.outcome for each in found.attempts] == ["retried", "retried", "failed"]
    for each in found.attempts:
        assert each.worker == f"{host()}:{os.getpid()}"
        assert each.error == "ValueError: too much"
        assert "raise ValueError" in each.traceback
        assert each.started <= each.ended
    starts = [each.started for each in found.attempts]
    assert starts == sorted(starts)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("option", ["save_results", "history"])
def test_the_history_in_every_way_of_running(local, way, option):
    task = local.options(**{option: 60}, retries=1).task(fails_once)
    plain = local.task(fine)
    declined = local.options(save_results=60, history=0).task(fine)
    work(local, way)
    found = local.history(task.task_id)
    assert [each.outcome for each in found.attempts] == ["retried", "succeeded"]
    assert found.attempts[1].error == found.attempts[1].traceback == ""
    assert local.history(plain) is local.history(declined) is None


def test_the_result_is_in_it_with_secrets_masked(local):
    task = local.options(save_results=60).task(fine, 1, "x")
    work(local)
    assert local.history(task).result == '{"made": [1, "x"], "token": "***"}'


def test_a_start_is_told_while_it_runs(gator, monkeypatch):
    monkeypatch.setattr(heartbeat, "REPORT_EVERY", 0.05)
    task = gator.options(history=60).task(waits)
    with Working(gator):
        found = eventually(lambda: gator.history(task))
        (attempt,) = found.attempts
        assert (attempt.outcome, attempt.ended) == ("running", None)
        go.set()
        eventually(lambda: gator.history(task).attempts[0].outcome == "succeeded")
    assert len(gator.history(task).attempts) == 1


def test_a_new_push_of_an_id_has_a_history_of_its_own(local):
    for _ in range(2):
        local.options(history=60, task_id="order-17").task(fails)
        time.sleep(0.01)
        work(local)
        assert len(local.history("order-17").attempts) == 1


def test_what_was_revived_goes_on_in_the_same_history(local):
    task = local.options(history=60).task(fails)
    work(local)
    assert local.revive(task) == 1
    work(local)
    assert [each.outcome for each in local.history(task).attempts] == ["failed", "failed"]


def test_an_expired_task_has_a_history():
    clock = FakeClock()
    gator = Gator(f"locmem://{uuid.uuid4().hex}", clock=clock)
    task = gator.options(history=600, expires=5).task(fine)
    clock.advance(10)
    work(gator)
    (attempt,) = gator.history(task).attempts
    assert attempt.outcome == "expired"
    assert attempt.error.startswith("Expired")


def test_a_history_ends_with_its_time():
    clock = FakeClock()
    gator = Gator(f"locmem://{uuid.uuid4().hex}", clock=clock)
    task = gator.options(history=60).task(fine)
    work(gator)
    assert gator.history(task)
    clock.advance(61)
    assert gator.history(task) is None


def test_an_end_that_only_the_record_tells(local, monkeypatch):
    """The worker was killed after the ack, and before it reported."""
    monkeypatch.setattr(heartbeat, "REPORT_EVERY", 0.02)
    task = local.options(save_results=60).task(waits)
    with Working(local):
        eventually(lambda: local.history(task))
        monkeypatch.setattr(local.store, "report", lambda it: 1 / 0)
        go.set()
        assert task.wait(10)
    (attempt,) = local.history(task).attempts
    assert attempt.outcome == "succeeded"
    assert attempt.ended


# -- Bad input. -------------------------------------------------------------------------------


def test_without_a_store_each_call_says_what_would_work(beanstalk_dsn):
    gator = Gator(beanstalk_dsn)
    for call in (gator.workers, gator.running, gator.activity, gator.recent):
        with pytest.raises(UnsupportedOption, match=r"store='redis://"):
            call()
    with pytest.raises(UnsupportedOption, match=r"store='redis://"):
        gator.history("x")
    with pytest.raises(UnsupportedOption, match=r"history.*store='redis://"):
        gator.options(history=60).task(jobs.note)


@pytest.mark.parametrize("value", [0, -1, 2881, 1.5, True, None, "5", float("nan")])
def test_minutes_that_cannot_be(local, value):
    with pytest.raises(InvalidTask, match="minutes="):
        local.activity(minutes=value)


@pytest.mark.parametrize("value", [0, -1, 10_001, 1.5, True, None, "5"])
def test_limits_that_cannot_be(local, value):
    with pytest.raises(InvalidTask, match="limit="):
        local.recent(value)


@pytest.mark.parametrize("value", ["done", 17, 0, True, 1.5, [], "\n"])
def test_states_that_cannot_be(local, value):
    with pytest.raises(InvalidTask, match=r"state=.*success, retrying, failed, canceled"):
        local.recent(state=value)


def test_states_by_number_and_name(local):
    for name, number in (("Failed", FAILED), ("canceled", CANCELED), ("success", SUCCESS)):
        assert local.recent(state=name) == local.recent(state=number) == []


@pytest.mark.parametrize("value", [lambda: 0, 5, Task])
def test_functions_that_cannot_be(local, value):
    with pytest.raises(InvalidTask):
        local.recent(function=value)


@pytest.mark.parametrize("value", [None, 5, "", b"x", []])
def test_ids_that_cannot_be(local, value):
    with pytest.raises(InvalidTask, match="no task and no id"):
        local.history(value)


@pytest.mark.parametrize("value", [-1, "soon", float("nan"), float("inf"), True])
def test_histories_that_cannot_be(local, value):
    with pytest.raises(InvalidTask, match="history"):
        local.options(history=value)


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "{}", "null", "[" * 5000, '{"queues": 5}', '{"attempts": [[]]}', "[1]"]
)
def test_what_others_wrote_into_the_store_is_passed_over(local, text):
    from alligator.backends.types import Report

    task = local.options(history=60, task_id="x").task(fine)
    work(local)
    documents = {"history:all\x1fx": (text or "-", 60.0)}
    local.store.report(Report("other", live=text, seconds=60, recent=[text], documents=documents))
    assert local.workers() == local.running() == []
    assert [row.function for row in local.recent()] == [name_of(fine)]
    assert local.history(task) is None
