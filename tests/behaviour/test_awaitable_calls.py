"""Test the awaitable calls of a Gator, on every backend."""

import asyncio
import inspect
import operator
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from alligator import CANCELED, FAILED, SUCCESS, WAITING, Gator, Task, Worker, current_task
from alligator.exceptions import (
    InvalidTask,
    NoRunningLoop,
    ResultTimeout,
    TaskCanceled,
    TaskFailed,
    UnsupportedOption,
)
from tests.support.helpers import eventually, skip_without_children

seen = threading.Event()


def tell_twice():
    """Say twice how far it is, and go on once that was seen."""
    for _ in range(2):
        current_task().progress(0.75, "at 0.75")
        assert seen.wait(20)
    return "done"


def fail(what):
    raise ValueError(what)


@contextmanager
def working(gator, **options):
    """Have a worker run the tasks of a Gator meanwhile, in a thread."""
    worker = Worker(gator, nap_time=0.02, log_level="ERROR", **options)
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        worker.keep_running = False
        thread.join(20)
        assert not thread.is_alive()


def test_push_and_result(gator_with_store):
    gator = gator_with_store

    async def main():
        opts = gator.options(save_results=60)
        one = await opts.atask(operator.add, 1, 2)
        assert one.is_pushed
        assert one.status == WAITING
        many = await asyncio.gather(*(opts.atask(operator.add, number, 1) for number in range(70)))
        assert len({task.task_id for task in many}) == 70
        async with gator.abatch(save_results=60) as batch:
            first, second = batch.task(operator.add, 1, 1), await batch.atask(operator.add, 2, 2)
            assert not first.is_pushed
        assert second.is_pushed
        with working(gator):
            assert await gator.aresult(one, 20) == 3
            assert await gator.aresult(one.task_id, 20) == 3
            assert await gator.aresult(one) == 3
            found = await asyncio.gather(*(gator.aresult(task, 20) for task in many))
            assert found == list(range(1, 71))
            assert await gator.await_([first, second], 20)
        assert (first.status, first.result, second.result) == (SUCCESS, 2, 4)
        assert await second.await_(0)
        assert await gator.astatus(one.task_id) == SUCCESS

    asyncio.run(main())


def test_errors_are_those_of_the_plain_calls(gator_with_store):
    gator = gator_with_store

    async def main():
        opts = gator.options(save_results=60)
        failed, waits = await opts.atask(fail, "too much"), await opts.atask(operator.add, 1, 1)
        canceled = await opts.atask(operator.add, 2, 2)
        if "sqs" not in gator.conn_string:
            assert (await gator.acancel(canceled)).status == CANCELED
            with pytest.raises(TaskCanceled):
                await gator.aresult(canceled, 5)
            assert not await canceled.await_(5)
            assert await waits.acancel()
            assert waits.status == CANCELED
        plain = await gator.options(delay_by=60).atask(operator.add, 1, 1)
        with pytest.raises(UnsupportedOption, match="save_results"):
            await gator.aresult(plain, 5)
        began = time.monotonic()
        with pytest.raises(ResultTimeout):
            await gator.aresult("never-heard-of", 0.2)
        assert 0.19 < time.monotonic() - began < 10
        assert not await gator.await_(["never-heard-of"], 0.1)
        with working(gator):
            with pytest.raises(TaskFailed, match="too much"):
                await gator.aresult(failed, 20)
            with pytest.raises(TaskFailed, match="too much") as raised:
                await gator.aresult(failed.task_id, 20)
        assert "ValueError" in raised.value.error
        assert await failed.await_(5)
        assert failed.status == FAILED
        assert await gator.arevive(failed) == 1
        assert failed.status == WAITING

    asyncio.run(main())


def test_events(gator_with_store):
    gator = gator_with_store

    async def main():
        task = await gator.options(save_results=60).atask(tell_twice)
        told = []

        async def events(of):
            found = []
            async for event in gator.aevents(of):
                found.append(event)
                told.extend([event.fraction] * (event.fraction is not None))
                if len(told) == 3:  # by each of them
                    seen.set()
            return found

        seen.clear()
        several = [asyncio.create_task(events(each)) for each in (task, task, task.task_id)]
        await asyncio.sleep(0.1)
        with working(gator):
            for found in await asyncio.wait_for(asyncio.gather(*several), 20):
                states = list(dict.fromkeys(event.state for event in found))
                assert states[-1] == "success"
                assert states[-2] == "running"
                fractions = [event.fraction for event in found if event.fraction is not None]
                assert fractions == [0.75], "told once, as it did not change"
                assert found[-1].fraction is None
        gone = [event.state async for event in gator.aevents(task)]
        assert gone == ["success"]
        if "sqs" not in gator.conn_string:
            assert [each.status async for each in gator.aevents("unknown")] == [None]

    asyncio.run(main())


def test_tasks_that_save_nothing(gator_with_store):
    gator = gator_with_store

    async def main():
        plain, fails = await gator.atask(operator.add, 1, 2), await gator.atask(fail, "too much")
        if "sqs" in gator.conn_string:
            gator.client.drop_all(gator.queue_name)
            return
        starts = asyncio.create_task(plain.await_(20, started=True))
        with working(gator):
            assert await gator.await_([plain, fails], 20)
            assert await starts
        assert fails.status == FAILED
        with pytest.raises(TaskFailed, match="too much"):
            raise fails.error

    asyncio.run(main())


def test_dropped_tasks_are_not_waited_for(gator_with_store):
    gator = gator_with_store
    if gator.store is not gator.client.store:
        pytest.skip("the store is not told of it")

    async def main():
        task = await gator.options(save_results=60).atask(operator.add, 1, 2)
        waits = [asyncio.create_task(task.await_(20)), asyncio.create_task(gator.aresult(task, 20))]
        gator.client.drop_all(gator.queue_name)
        began = time.monotonic()
        assert not await waits[0]
        with pytest.raises(ResultTimeout, match="Nothing is known"):
            await waits[1]
        assert time.monotonic() - began < 15, "neither took its 20 s"

    asyncio.run(main())


def test_what_is_no_id_ends_alone(gator_with_store):
    gator = gator_with_store

    async def main():
        task = await gator.options(save_results=60).atask(operator.add, 1, 2)
        good = asyncio.create_task(gator.aresult(task, 20))
        await asyncio.sleep(0.1)  # it is asked for together with the others from now on
        surrogate = asyncio.create_task(gator.await_("\ud800", 20))
        for bad in (None, 5, b"x", ["x"]):
            with pytest.raises(InvalidTask, match="neither a task nor the id"):
                await gator.await_([bad], 20)
            with pytest.raises(InvalidTask, match="neither a task nor the id"):
                await anext(gator.aevents(bad))
        with working(gator):
            assert await good == 3
        if "redis" in gator.client.conn_string or "sqlite" in gator.client.conn_string:
            with pytest.raises(InvalidTask, match="utf-8"):
                await surrogate
        surrogate.cancel()

    asyncio.run(main())


def test_events_of_a_failure():
    gator = Gator("locmem://events-of-a-failure")

    async def main():
        task = await gator.options(save_results=60).atask(fail, "too much")
        events = gator.aevents(task)
        assert (await anext(events)).state == "waiting"
        await gator.arun_all()
        found = [event async for event in events]
        assert (found[-1].state, found[-1].error) == ("failed", "ValueError: too much")
        stopped = gator.aevents(task)
        async for _ in stopped:
            break
        await stopped.aclose()
        listener = gator._shared_calls["calls"].listener
        await asyncio.to_thread(eventually, lambda: listener._watched == {}, "it is left")

    asyncio.run(main())


def test_tasks_with_parents_and_unique_ones(gator_with_store):
    gator = gator_with_store
    skip_without_children(gator)

    async def main():
        parent = await gator.options(save_results=60).atask(operator.add, 1, 1)
        child, other = await asyncio.gather(
            gator.options(depends_on=[parent], save_results=60).atask(operator.add, 2, 2),
            gator.options(save_results=60).atask(operator.add, 3, 3),
        )
        with working(gator):
            assert await gator.aresult(child, 20) == 4
            assert await gator.aresult(other, 20) == 6
        if "unique" in gator.client.controls:
            opts = gator.options(unique=True)
            found = await asyncio.gather(*(opts.atask(operator.add, 5, 5) for _ in range(9)))
            assert len({task.task_id for task in found}) == 1
            assert sum(task.is_duplicate for task in found) == 8

    asyncio.run(main())


def test_each_caller_gets_an_error_of_its_own(gator_with_store):
    gator = gator_with_store

    async def main():
        calls = [gator.atask(operator.add, number, 1) for number in range(9)]
        calls.insert(3, gator.atask(operator.add, 1, 2, 3))
        calls.insert(5, gator.atask(operator.add, {1}, 2))
        calls.insert(7, gator.atask(operator.add, "\ud800", 2))
        found = await asyncio.gather(*calls, return_exceptions=True)
        refused = [index for index, each in enumerate(found) if isinstance(each, InvalidTask)]
        assert refused == [3, 5] or refused == [3, 5, 7]
        assert (await asyncio.to_thread(gator.stats))["waiting"] == 12 - len(refused)

    asyncio.run(main())


async def twice(number):
    await asyncio.sleep(0)
    return 2 * number


def test_tasks_that_are_not_async_run_in_a_thread():
    gator = Gator("locmem://inline")

    async def main():
        opts = gator.options(is_async=False)
        task = await opts.atask(twice, 21)
        assert (task.status, task.result) == (SUCCESS, 42)
        with pytest.raises(ValueError, match="too much"):
            await opts.atask(fail, "too much")
        assert (await opts.atask(threading.get_ident)).result != threading.get_ident()

    asyncio.run(main())


CALLS = ["atask", "apush", "astatus", "aresult", "await_", "aprogress", "aevents", "acancel"]


@pytest.mark.parametrize("name", CALLS)
def test_outside_of_a_coroutine_it_says_what_to_write(name):
    gator = Gator("locmem://outside")
    arguments = (Task(), operator.add, 1, 2) if name == "apush" else (operator.add, 1, 2)
    if name not in ("atask", "apush"):
        arguments = ("some-id",)
    with pytest.raises(NoRunningLoop, match=r"await gator\.a.*async def.*gator\.") as raised:
        getattr(gator, name)(*arguments)
    assert "\n" not in str(raised.value)
    assert gator.len() == 0


def test_what_ran_here_needs_no_wait():
    gator = Gator("locmem://ran-here")

    async def main():
        task = await gator.options(is_async=False, save_results=60).atask(operator.add, 1, 2)
        began = time.monotonic()
        assert await task.await_(60)
        assert await gator.aresult(task, 60) == 3
        assert await gator.await_([task, task], 60)
        assert time.monotonic() - began < 30
        with pytest.raises(InvalidTask, match="not pushed"):
            await Task().await_(5)
        with pytest.raises(InvalidTask, match="not pushed"):
            await Task().acancel()

    asyncio.run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 has no such mark")
def test_frameworks_can_tell_that_they_are_awaited():
    gator = Gator("locmem://marked")
    for each in (gator.atask, gator.aresult, gator.options().atask, gator.aclose):
        assert inspect.iscoroutinefunction(each)


def test_a_batch_says_how_it_is_used():
    gator = Gator("locmem://batch")

    async def main():
        with pytest.raises(RuntimeError, match="async with gator.abatch"):
            async with gator.batch():
                pass
        with pytest.raises(RuntimeError, match="async with"), gator.abatch():
            pass
        with pytest.raises(RuntimeError, match="async with"):
            gator.abatch().task(operator.add, 1, 2)
        with pytest.raises(ZeroDivisionError):
            async with gator.abatch() as batch:
                batch.task(operator.add, 1, 2)
                1 / 0  # noqa: B018
        assert await asyncio.to_thread(gator.len) == 0

    asyncio.run(main())


def test_results_are_waited_for_by_one_thread(redis_dsn):
    gator = Gator(redis_dsn, "one-thread")
    gator.client.drop_all("one-thread")
    others = set(threading.enumerate())  # of Gators that other tests left

    async def main():
        async with gator.abatch(save_results=60) as batch:
            tasks = [batch.task(operator.add, number, 1) for number in range(1000)]
        await asyncio.sleep(0)
        before = threading.active_count()
        waits = [asyncio.create_task(gator.aresult(task, 60)) for task in tasks]
        waits += [asyncio.create_task(gator.aresult(task.task_id, 60)) for task in tasks[:100]]
        await asyncio.sleep(0.3)
        assert threading.active_count() <= before + 1
        await gator.arun_all()
        assert await asyncio.gather(*waits[:1000]) == list(range(1, 1001))
        assert await asyncio.gather(*waits[1000:]) == list(range(1, 101))
        await gator.aclose()
        eventually(lambda: set(threading.enumerate()) <= others, "the threads end")

    asyncio.run(main())
