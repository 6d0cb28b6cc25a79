"""Test how a worker runs several tasks at once: functions in threads, coroutines on the loop."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
import uuid
from contextvars import ContextVar

import pytest

from alligator import Gator, Task, Worker, current_task
from alligator.backends.base import Delivery
from alligator.exceptions import LeaveNow
from alligator.execution.leases import Leases
from alligator.runtime.event_loop import EventLoop
from alligator.workers.pool import Executor
from alligator.workers.prefetch_size import FEW, Prefetch

seen: list = []
free = threading.Event()
here: ContextVar[str] = ContextVar("here", default="nothing")


def name():
    return threading.current_thread().name


def threads(prefix):
    return sum(each.name.startswith(prefix) for each in threading.enumerate())


async def meet(count):
    """Wait until so many are in here at once, and note how many threads that took."""
    seen.append("in")
    while seen.count("in") < count:
        await asyncio.sleep(0.01)
    seen.append(threads("task-"))


def hold():
    seen.append("holds" if free.wait(60) else "not held")


async def release():
    free.set()


async def give(value=None):
    await asyncio.sleep(0)
    return value


async def fail():
    await asyncio.sleep(0)
    raise ValueError("too much")


async def mark():
    """Note what another left in this context, and leave something."""
    seen.append((here.get(), current_task().task_id))
    here.set("left behind")
    await asyncio.sleep(0)
    assert here.get() == "left behind"


def note_name():
    time.sleep(0.001)
    seen.append(name())


async def pause():
    await asyncio.sleep(0.002)


def pass_by():
    pass


async def swallow():
    while not free.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.01)


def mark_too():
    here.set("left behind")


def wait_for_it(task, *extra):
    seen.append(("hook", name(), free.wait(20), current_task() is task, sys.exception()))


def note_thread(task, *extra):
    seen.append((name(), type(sys.exception()).__name__))


counts = {"now": 0, "most": 0}
lock = threading.Lock()


def enter(step):
    with lock:
        counts["now"] += step
        counts["most"] = max(counts["most"], counts["now"])


def count_function():
    enter(1)
    time.sleep(0.002)
    enter(-1)


async def count_coroutine():
    enter(1)
    await asyncio.sleep(0.002)
    enter(-1)


async def outlast():
    os.kill(os.getpid(), signal.SIGTERM)
    while not free.is_set():
        await asyncio.sleep(0.01)
    return "late"


async def outlast_all():
    while not free.is_set():
        await asyncio.sleep(0.01)


async def begin():
    free.set()
    await asyncio.sleep(0.2)
    seen.append("finished")


class Own(Task):
    def run(self):
        seen.append("own")
        return super().run()


@pytest.fixture(autouse=True)
def nothing_seen():
    seen.clear()
    free.clear()
    counts.update(now=0, most=0)


@pytest.fixture
def gator():
    return Gator(f"locmem://{uuid.uuid4().hex}")


def work(gator, kind=Worker, **options):
    worker = kind(gator, burst=True, log_level="CRITICAL", **options)
    worker.run_forever()
    return worker


def until(true):
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.005)


def test_coroutines_that_wait_take_no_threads(gator):
    for _ in range(200):
        gator.task(meet, 200)
    assert work(gator, concurrency=200).tasks_complete == 200
    assert max(each for each in seen if each != "in") < 50, "a few, if the machine is busy"
    until(lambda: not threads("task-"))
    until(lambda: not threads("executor-"))


def test_functions_that_wait_hold_up_no_coroutine(gator):
    for _ in range(7):
        gator.task(hold)
    gator.task(release)
    work(gator, concurrency=8)
    assert seen == ["holds"] * 7


def test_functions_and_coroutines_together_are_no_more_than_the_concurrency(gator):
    for _ in range(60):
        gator.task(count_function)
        gator.task(count_coroutine)
    assert work(gator, concurrency=5, prefetch=40).tasks_complete == 120
    assert 1 < counts["most"] <= 5


@pytest.mark.parametrize("option", ["on_start", "on_success"])
def test_a_hook_that_waits_holds_up_no_coroutine(gator, option):
    gator.options(**{option: wait_for_it}).task(give)
    gator.task(meet, 1)
    gator.task(release)
    assert work(gator, concurrency=3).tasks_complete == 3
    (hook,) = [each for each in seen if isinstance(each, tuple)]
    assert hook[2:] == (True, True, None), "and it knows its task"


def test_hooks_results_and_settling_keep_off_the_event_loop(gator, monkeypatch):
    class Showing(Worker):
        def result(self, result):
            seen.append((name(), result))

    for each in ("bury", "release"):
        before = getattr(gator.client, each)

        def noted(*args, each=each, before=before, **options):
            seen.append((name(), each))
            return before(*args, **options)

        monkeypatch.setattr(gator.client, each, noted)
    gator.task(give)
    gator.task(give, 7)
    gator.options(on_success=note_thread, save_results=60).task(give, 8)
    gator.options(retries=1, on_error=note_thread).task(fail)
    work(gator, Showing, concurrency=3)
    assert sorted((each[1] for each in seen), key=repr) == sorted(
        [None, 7, 8, "NoneType", "release", "bury", "ValueError", "ValueError"], key=repr
    )
    assert all(each[0].startswith("executor-") for each in seen)


def test_a_result_method_of_one_worker_alone_keeps_off_the_event_loop(gator):
    gator.task(give)
    worker = Worker(gator, burst=True, concurrency=2, log_level="CRITICAL")
    worker.result = lambda result: seen.append((name(), result))
    worker.run_forever()
    ((thread, result),) = seen
    assert thread.startswith("executor-")
    assert result is None


def test_no_more_results_are_shown_at_a_time_than_tasks_may_run(gator):
    class Slow(Worker):
        def result(self, result):
            enter(1)
            time.sleep(0.005)
            enter(-1)

    for _ in range(20):
        gator.task(give, 7)
    assert work(gator, Slow, concurrency=2).tasks_complete == 20
    assert 1 <= counts["most"] <= 2


def test_a_thread_whose_work_another_one_took_stays(gator):
    for _ in range(150):
        gator.task(note_name)
        gator.task(pause)
    work(gator, concurrency=2)
    assert len(seen) == 150
    assert len(set(seen)) <= 2


def test_each_has_a_context_of_its_own(gator):
    gator.task(mark_too)
    ids = [gator.task(mark).task_id for _ in range(20)]
    gator.task(mark)
    worker = Worker(gator, max_tasks=22, concurrency=2, log_level="CRITICAL")
    assert here.get() == "nothing"
    worker.run_forever()
    assert {each[1] for each in seen} >= set(ids)
    assert here.get() == "nothing"
    assert current_task() is None


def test_a_task_class_that_runs_in_its_own_way_does_so(gator):
    gator = Gator(gator.conn_string, task_class=Own)
    gator.task(give)
    assert work(gator, concurrency=2).tasks_complete == 1
    assert seen == ["own"]


def test_a_worker_that_is_told_to_stop_waits_for_coroutines(gator):
    gator.task(begin)
    worker = Worker(gator, concurrency=2, log_level="CRITICAL")
    thread = threading.Thread(target=worker.run_forever)
    thread.start()
    assert free.wait(20)
    worker.keep_running = False
    thread.join(20)
    assert seen == ["finished"]
    assert gator.stats()["running"] == 0


def test_what_ends_after_its_worker_is_acked_all_the_same(gator):
    gator.task(outlast)
    Worker(gator, concurrency=2, grace=0.1, log_level="CRITICAL").run_forever()
    assert gator.stats()["running"] == 1, "its lease is left to it"
    free.set()
    until(lambda: not gator.stats()["running"])
    assert gator.len() == 0


def test_a_worker_that_has_to_leave_is_there_until_all_is_handed_back(gator, monkeypatch):
    for task in (swallow, outlast_all, outlast_all):
        gator.options(timeout=0.05 if task is swallow else None).task(task)
    worker = Worker(gator, concurrency=3, grace=0.0, log_level="CRITICAL")
    worker.owns_process = True
    thread = threading.Thread(target=worker.run_forever)
    release, left = gator.client.release, threading.Event()

    def slow_release(*args, **options):
        thread.join(0.1)
        seen.append(thread.is_alive())
        return release(*args, **options)

    def leave(status):
        seen.append(status)
        left.set()
        free.set()

    monkeypatch.setattr(gator.client, "release", slow_release)
    monkeypatch.setattr("alligator.workers.worker.os._exit", leave)
    thread.start()
    assert left.wait(20)
    thread.join(20)
    assert seen == [True, True, 1]


def test_nothing_is_carried_by_a_loop_that_has_ended():
    loop, coroutine = EventLoop(), give()
    loop.run(give())
    loop.close()
    with pytest.raises(LeaveNow):
        loop.carry(coroutine, None, print)
    assert not loop.is_busy


def test_arguments_that_do_not_fit_fail_that_task_alone(gator):
    gator.task(f"{__name__}.give", 1, 2, 3)
    gator.task(give)
    assert work(gator, concurrency=2).tasks_complete == 1
    assert gator.dead()[0].error.startswith("TypeError: give()")


@pytest.mark.parametrize("wanted", [True, False])
def test_an_ack_need_not_wait_for_the_next_turn_of_the_lease_thread(gator, monkeypatch, wanted):
    monkeypatch.setattr("alligator.execution.leases._LONGEST_PAUSE", 600.0)
    with Leases(gator.client, 1800.0, log=logging.getLogger("test")) as leases:
        until(lambda: leases._wake._cond._waiters)
        gator.task(give)
        leases.take(gator.client.reserve(["all"], 1, 30).deliveries)
        leases.end(leases.start_next(), ack=True)
        if wanted:
            leases.ack_soon()
            until(lambda: not gator.stats()["running"])
        assert gator.stats()["running"] == (not wanted)


def test_nor_need_that_of_a_function(gator, monkeypatch):
    monkeypatch.setattr("alligator.execution.leases._LONGEST_PAUSE", 600.0)
    worker = Worker(gator, concurrency=2, lease=1800, log_level="CRITICAL")
    with worker._leases() as leases:
        until(lambda: leases._wake._cond._waiters)
        gator.task(pass_by)
        leases.take(gator.client.reserve(["all"], 1, 1800).deliveries)
        worker._processor(leases, EventLoop()).run(leases.start_next())
        until(lambda: not gator.stats()["running"])


def test_whoever_waits_for_a_turn_hears_that_the_last_one_has_started(gator):
    leases = Leases(gator.client, 30, log=logging.getLogger("test"))
    leases.take([Delivery("all", str(number), "{}", None) for number in range(2)])
    thread = threading.Thread(target=leases.wait_for_turn, args=[20.0])
    thread.start()
    until(lambda: leases._lookers)
    began = time.monotonic()
    leases.start_next()
    leases.start_next()
    thread.join(20)
    leases.wait_for_turn(20, most=3)  # it started just before
    assert time.monotonic() - began < 10


def test_so_many_run_and_no_more(gator):
    leases = Leases(gator.client, 30, log=logging.getLogger("test"))
    one, two = (Delivery("all", str(number), "{}", None) for number in range(2))
    leases.take([one, two])
    assert leases.start_next(most=1) is one
    assert leases.start_next(most=1) is None
    assert leases.unattended(1) == 0.0
    assert leases.unattended(2) > 0.0, "another one could start"
    leases.end(one, ack=False, frees_place=False)
    assert leases.counts() == (1, 1)
    assert leases.start_next(most=1) is None, "it is still being told of"
    leases.free_place()
    assert leases.start_next(most=1) is two


def test_there_are_as_many_threads_as_are_busy():
    executor, ended = Executor(), []

    def wait():
        ended.append(free.wait(60))

    before = set(threading.enumerate())  # some of an earlier test may end meanwhile

    def started():
        return [each for each in set(threading.enumerate()) - before if "executor-" in each.name]

    for _ in range(5):
        executor.call(wait)
    until(lambda: len(started()) >= 5)
    free.set()
    executor.join(lambda: False)
    assert ended == [True] * 5
    assert not started()


def test_a_call_waits_until_there_is_room_for_a_thread():
    executor, called = Executor(), threading.Event()
    start, executor._start = executor._start, lambda *_: None
    executor.call(called.set)
    executor._start = start
    executor.look()
    assert called.wait(20)
    executor.join(lambda: False)


def test_a_few_are_reserved_ahead_of_slow_tasks_where_several_run():
    prefetch = Prefetch("auto", 32)
    assert prefetch.limit(32) == 32, "as many as there are hands, until it is known"
    prefetch.add(0.1)
    assert prefetch.limit(1) == 16, "50 ms of work for all of them"
    assert prefetch.limit(20) == 20
    assert prefetch.expected(16) == pytest.approx(0.05)
    prefetch.add(60.0)
    assert prefetch.limit(1) == 1
    wide = Prefetch("auto", 200)
    wide.add(0.06)
    assert wide.limit(1) == FEW
