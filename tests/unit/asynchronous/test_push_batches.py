"""Test that pushes which are awaited at the same time are sent together, as if each were alone."""

import asyncio
import logging
import operator
import threading
import uuid

import pytest

from alligator import Gator, Task
from alligator.exceptions import ConnectionLost, InvalidTask, QueueFull
from tests.support.helpers import eventually


@pytest.fixture
def gator():
    found = Gator(f"locmem://{uuid.uuid4().hex}")
    yield found
    found.close()


@pytest.fixture
def sends(gator, monkeypatch):
    """Note how many messages each send has, by queue."""
    found: list[tuple[str, int]] = []
    push_many = gator.client.push_many

    def many(queue_name, messages):
        found.append((queue_name, len(messages)))
        return push_many(queue_name, messages)

    monkeypatch.setattr(gator.client, "push_many", many)  # which push calls, too
    return found


async def pushed(calls):
    return await asyncio.gather(*calls, return_exceptions=True)


async def push_numbers(gator, count):
    return await pushed([gator.atask(operator.add, number, 0) for number in range(count)])


def test_in_their_order_and_in_few_sends(gator, sends):
    asyncio.run(push_numbers(gator, 200))
    tasks = [gator.pop() for _ in range(200)]
    assert [task.func_args[0] for task in tasks] == list(range(200))
    assert sum(count for _, count in sends) == 200
    assert len(sends) <= 20


def test_one_alone_is_sent_at_once_as_a_plain_push_is(gator, sends):
    asyncio.run(push_numbers(gator, 1))
    assert sends == [(gator.queue_name, 1)]


def test_a_queue_that_does_not_answer_holds_up_no_other(gator, monkeypatch):
    under_way, gate, push = threading.Event(), threading.Event(), gator.client.push

    def slow(queue_name, *args, **kwargs):
        if queue_name == "slow":
            under_way.set()
            assert gate.wait(60)
        return push(queue_name, *args, **kwargs)

    monkeypatch.setattr(gator.client, "push", slow)

    async def main():
        stuck = asyncio.create_task(gator.options(queue_name="slow").atask(operator.add, 1, 1))
        for number in range(10):
            await asyncio.wait_for(gator.atask(operator.add, number, 1), 10)
        assert await asyncio.to_thread(under_way.wait, 20)  # else they are sent with the first
        again = [gator.on_queue("slow").atask(operator.add, number, 1) for number in range(5)]
        behind = [asyncio.create_task(each) for each in again]
        await asyncio.sleep(0.02)
        assert not any(each.done() for each in (stuck, *behind))
        gate.set()
        await asyncio.gather(stuck, *behind)

    asyncio.run(main())
    assert gator.on_queue("slow").len() == 6


def test_each_gets_an_error_object_of_its_own(gator, monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionLost("It is gone.") from OSError("cut")

    monkeypatch.setattr(gator.client, "push", refuse)
    monkeypatch.setattr(gator.client, "push_many", refuse)
    found = asyncio.run(push_numbers(gator, 9))
    assert {(type(each), str(each)) for each in found} == {(ConnectionLost, "It is gone.")}
    assert len({id(each) for each in found}) == 9
    assert all(isinstance(each.__cause__, OSError) for each in found)


def test_a_full_queue_takes_what_it_can(gator, monkeypatch):
    push_many = gator.client.push_many

    def nearly_full(queue_name, messages):
        if gator.len() + len(messages) > 5:
            raise QueueFull("It is full.")
        return push_many(queue_name, messages)

    monkeypatch.setattr(gator.client, "push_many", nearly_full)

    async def main():
        calls = [gator.atask(operator.add, number, 0) for number in range(9)]
        found = await pushed(calls)
        assert [isinstance(each, QueueFull) for each in found] == [False] * 5 + [True] * 4

    asyncio.run(main())
    assert gator.len() == 5


def test_one_canceled_before_its_send_is_not_pushed(gator, monkeypatch):
    gate, entered, push = threading.Event(), threading.Event(), gator.client.push

    def slow(*args, **kwargs):
        entered.set()
        assert gate.wait(60)
        return push(*args, **kwargs)

    monkeypatch.setattr(gator.client, "push", slow)

    async def main():
        first, second, third = Task(), Task(), Task()
        calls = [asyncio.create_task(gator.apush(first, operator.add, 0, 0))]
        assert await asyncio.to_thread(entered.wait, 20)
        calls += [
            asyncio.create_task(gator.apush(each, operator.add, 0, 0)) for each in (second, third)
        ]
        await asyncio.sleep(0.02)
        calls[0].cancel()  # under way
        calls[1].cancel()  # behind it
        await asyncio.sleep(0)
        gate.set()
        assert await calls[2] is third
        assert [each.is_pushed for each in (first, second, third)] == [True, False, True]
        assert all(each.cancelled() for each in calls[:2])

    asyncio.run(main())
    assert gator.len() == 2


def test_an_error_after_its_coroutine_has_ended_is_logged(gator, monkeypatch, caplog):
    gate, entered = threading.Event(), threading.Event()

    def refuse(*args, **kwargs):
        entered.set()
        assert gate.wait(60)
        raise ConnectionLost("It is gone.")

    monkeypatch.setattr(gator.client, "push", refuse)
    caplog.set_level(logging.WARNING)

    async def main():
        task = Task()
        call = asyncio.create_task(gator.apush(task, operator.add, 1, 0))
        assert await asyncio.to_thread(entered.wait, 20)
        call.cancel()
        await asyncio.wait([call])
        gate.set()
        for _ in range(3000):
            if caplog.messages:
                break
            await asyncio.sleep(0.01)
        assert task.task_id in caplog.text
        assert "It is gone" in caplog.text

    asyncio.run(main())


def test_debounce_limits_and_unique_are_as_with_single_pushes(gator):
    async def main():
        debounced = gator.options(debounce=60, unique="key")
        found = await pushed([debounced.atask(operator.add, number, 0) for number in range(5)])
        assert [task.is_duplicate for task in found] == [False, True, True, True, True]
        limited = gator.options(limit=1, limit_key="one", queue_name="limited")
        assert len(await pushed([limited.atask(operator.add, n, 0) for n in range(5)])) == 5

    asyncio.run(main())
    (row,) = gator.tasks("delayed")
    assert "4" in row.args, "the last call counts"
    assert gator.on_queue("limited").stats()["waiting"] == 5


class OwnTask(Task):
    """A class of the user's own."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.headers = {"made": "here"}


def test_a_task_class_of_ones_own():
    gator = Gator(f"locmem://{uuid.uuid4().hex}", task_class=OwnTask)
    found = asyncio.run(push_numbers(gator, 9))
    assert all(type(each) is OwnTask for each in found)
    assert gator.pop().headers == {"made": "here"}
    assert gator.run_all() == 8


def test_a_client_that_breaks_its_contract(gator, monkeypatch):
    monkeypatch.setattr(gator.client, "push_each", lambda queue_name, messages: ["one id"])
    found = asyncio.run(push_numbers(gator, 9))
    assert all(isinstance(each, ValueError) for each in found)
    monkeypatch.undo()
    assert all(each.is_pushed for each in asyncio.run(push_numbers(gator, 9)))


def test_no_room_for_a_thread(gator, monkeypatch):
    def refuse(*args):
        raise RuntimeError("can't start new thread")

    async def main():
        with monkeypatch.context() as patched:
            patched.setattr("alligator.asynchronous.thread_pool._thread.start_new_thread", refuse)
            found = await pushed([gator.atask(operator.add, number, 0) for number in range(3)])
            assert [str(each) for each in found] == ["can't start new thread"] * 3
        assert (await gator.atask(operator.add, 1, 0)).is_pushed

    asyncio.run(main())
    eventually(lambda: gator.len() == 1, "the last one is queued")


def test_invalid_arguments_are_refused_at_the_await(gator):
    async def main():
        call = gator.atask(operator.add, {1}, 2)
        with pytest.raises(InvalidTask, match="JSON|set"):
            await call

    asyncio.run(main())
