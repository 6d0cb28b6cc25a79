"""Test the thread that watches tasks for all coroutines, where its store has trouble."""

import asyncio
import operator
import time
import uuid

import pytest

from alligator import Gator
from alligator.asynchronous.result_listener import Following
from alligator.exceptions import BadSignature, ConnectionLost, NodeLost, ResultTimeout
from tests.faults.test_sqlite_stopped import interrupted_at
from tests.support.helpers import eventually


@pytest.fixture
def gator():
    found = Gator(f"locmem://{uuid.uuid4().hex}", options={"save_results": 60})
    yield found
    found.close()


def trouble(gator, monkeypatch, when):
    """Have the store raise what a function of the keys returns; note how often it is asked."""
    asked: list[int] = []
    records = gator.store.records

    def troubled(keys):
        asked.append(len(keys))
        if (err := when(keys)) is not None:
            raise err
        return records(keys)

    monkeypatch.setattr(gator.store, "records", troubled)
    return asked


def test_a_lost_node_keeps_no_task_of_another_one_waiting(gator, monkeypatch):
    async def main():
        tasks = [await gator.atask(operator.add, number, 1) for number in range(40)]
        lost = {task.task_id for task in tasks[::4]}

        def when(keys):
            if lost.intersection(keys):
                time.sleep(0.01)
                return NodeLost("One node is lost.", ["all"])
            return None

        trouble(gator, monkeypatch, when)
        waits = [asyncio.create_task(gator.aresult(task, 60)) for task in tasks]
        await asyncio.sleep(0.2)
        await gator.arun_all()
        there = [wait for task, wait in zip(tasks, waits, strict=True) if task.task_id not in lost]
        await asyncio.wait_for(asyncio.gather(*there), 30)
        assert sum(wait.done() for wait in waits) == 30
        with pytest.raises(ConnectionLost, match="One node is lost"):
            await gator.aresult(tasks[0], 1)
        lost.clear()  # the node is back
        assert await asyncio.gather(*waits) == list(range(1, 41))

    asyncio.run(main())


def test_a_lost_server_is_asked_a_few_times_a_second(gator, monkeypatch):
    is_lost = [True]
    asked = trouble(
        gator, monkeypatch, lambda keys: ConnectionLost("It is gone.") if is_lost[0] else None
    )

    async def main():
        tasks = [await gator.atask(operator.add, number, 1) for number in range(30)]
        waits = [asyncio.create_task(gator.aresult(task, 60)) for task in tasks]
        began = time.monotonic()
        await asyncio.sleep(1)
        assert len(asked) <= 12 * (time.monotonic() - began)
        with pytest.raises(ConnectionLost, match="It is gone"):
            await gator.aresult(tasks[0], 1)
        is_lost[0] = False
        await gator.arun_all()
        assert await asyncio.gather(*waits) == list(range(1, 31))

    asyncio.run(main())


def test_an_error_that_would_not_pass_is_told(gator):
    reader = Gator(gator.conn_string, secret_keys=["a key that is long enough"])

    async def main():
        task = await gator.atask(operator.add, 1, 1)
        waits = asyncio.create_task(reader.aresult(task.task_id, 10))
        await gator.arun_all()
        with pytest.raises(BadSignature):
            await waits

    asyncio.run(main())


def test_a_fault_ends_the_wait_for_its_task_alone(gator, monkeypatch):
    async def main():
        bad, good = await gator.atask(operator.add, 1, 1), await gator.atask(operator.add, 2, 2)

        def when(keys):
            return ZeroDivisionError("a fault") if bad.task_id in keys else None

        trouble(gator, monkeypatch, when)
        waits = [asyncio.create_task(gator.aresult(each, 60)) for each in (bad, good)]
        with pytest.raises(ZeroDivisionError, match="a fault"):
            await waits[0]
        await gator.arun_all()
        assert await waits[1] == 4

    asyncio.run(main())


def test_looks_grow_rarer(gator, monkeypatch):
    asked = trouble(gator, monkeypatch, lambda keys: None)

    async def main():
        task = await gator.atask(operator.add, 1, 1)
        with pytest.raises(ResultTimeout, match=r"not ended within 1\.5 s"):
            await gator.aresult(task, 1.5)

    asyncio.run(main())
    assert 5 <= len(asked) <= 60


def test_waits_for_the_same_task_share_its_looks(gator, monkeypatch):
    asked = trouble(gator, monkeypatch, lambda keys: None)

    async def main():
        task = await gator.atask(operator.add, 1, 1)
        waits = [asyncio.create_task(gator.aresult(task, 60)) for _ in range(50)]
        while len(asked) < 3:
            await asyncio.sleep(0.01)
        assert set(asked) == {1}
        waits[0].cancel()
        await gator.arun_all()
        assert await asyncio.gather(*waits[1:]) == [2] * 49

    asyncio.run(main())


def test_ctrl_c_at_any_step_ends_no_wait(gator):
    """The lock of a condition that Ctrl-C interrupted stayed locked, and no task was watched."""

    async def main():
        task = await gator.atask(operator.add, 1, 1)
        calls = gator._shared_calls["calls"]

        class Observer:
            loop = asyncio.get_running_loop()
            watches_status = watches_progress = False

            def seen(self, watched):
                return None

        def follow_and_leave():
            following = Following(gator.results, task, Observer())
            try:
                calls.listener.follow(following)
            finally:
                calls.listener.leave(following)

        for step in range(1, 1000):
            is_done = interrupted_at(step, follow_and_leave) is None
            is_known = await asyncio.wait_for(gator.await_(task, 0.001), 5)
            assert not is_known
            if is_done:
                break
        assert step > 10
        wait = asyncio.create_task(gator.aresult(task, 60))
        await gator.arun_all()
        assert await wait == 2
        calls.close()
        return calls.listener

    listener = asyncio.run(main())
    eventually(lambda: not len(listener._threads), "its thread ends")
    assert listener._watched == {}
