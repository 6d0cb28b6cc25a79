"""Test calls that a coroutine makes in threads, and coroutines that these wait for."""

import asyncio
import os
import socket
import threading
from contextvars import ContextVar

import pytest

from alligator.runtime.event_loop import AwaitedFromThread, EventLoop, in_thread, within

VALUE: ContextVar[str] = ContextVar("value", default="the default")


def test_in_a_thread_and_in_this_context():
    def call():
        assert VALUE.get() == "before"
        VALUE.set("after")
        return threading.current_thread()

    async def body():
        VALUE.set("before")
        assert await in_thread(call) is not threading.current_thread()
        return VALUE.get()

    assert asyncio.run(body()) == "after"
    with pytest.raises(ZeroDivisionError):
        asyncio.run(in_thread(lambda: 1 / 0))


def test_what_a_coroutine_returns_or_raises():
    async def divide(number):
        await asyncio.sleep(0)
        return 1 / number

    assert asyncio.run(within(divide(2), None)) == (0.5, None)
    result, error = asyncio.run(within(divide(0), 5))
    assert (result, type(error)) == (None, ZeroDivisionError)


@pytest.mark.parametrize("late", [False, True])
def test_canceled_with_what_it_waits_for(late):
    """Also if the coroutine has yet to begin: then it never does."""
    seen = []
    begun, may_call = threading.Event(), threading.Event()

    async def waits():
        seen.append("begun")
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("canceled")
            raise

    def call(waiting):
        if late:
            begun.set()
            may_call.wait(30)
        try:
            waiting.call()
        except asyncio.CancelledError:
            seen.append("told")
            raise

    async def body():
        waiting = AwaitedFromThread(waits)
        task = asyncio.create_task(waiting.wait_for(lambda: call(waiting)))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.sleep(0.001)
        may_call.set()
        done, _ = await asyncio.wait([task], timeout=30)
        assert done
        assert task.cancelled()
        seen.append("ended")

    asyncio.run(body())
    assert seen == ["told", "ended"] if late else ["begun", "canceled", "told", "ended"]


async def close_the_loops_descriptors(reader):
    running = asyncio.get_running_loop()
    failed = running.create_task(running.sock_recv(reader, 1))
    await asyncio.sleep(0)
    for each in (running._selector, running._ssock, running._csock, reader):
        os.close(each.fileno())
    await asyncio.sleep(0.01)
    return await asyncio.gather(failed, return_exceptions=True)


def test_a_coroutine_that_closes_the_descriptors_of_its_loop_goes_on():
    """What waits for a closed one is told, also of the new descriptors."""
    loop = EventLoop()
    for _ in range(2):
        ends = socket.socketpair()
        try:
            ends[0].setblocking(False)
            (error,) = loop.run(close_the_loops_descriptors(ends[0]))
            assert isinstance(error, OSError)
        finally:
            ends[0].detach()
            ends[1].close()
    loop.close()
