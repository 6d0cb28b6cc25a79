"""Test a worker in a thread of a web server, which is told of no signal when the server ends."""

import asyncio
import operator
import threading

import pytest

from alligator import Gator, Worker
from tests.support.helpers import eventually

starts: list[str] = []
may_end = threading.Event()


def slow():
    starts.append("start")
    if len(starts) == 1:
        may_end.wait(20)


async def slow_coroutine():
    starts.append("start")
    while len(starts) == 1 and not may_end.is_set():
        await asyncio.sleep(0.01)


def in_thread(worker):
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(("func", "concurrency"), [(slow, 1), (slow, 4), (slow_coroutine, 4)])
def test_what_still_runs_is_handed_back(gator_with_store, func, concurrency):
    gator = gator_with_store
    starts.clear()
    may_end.clear()
    gator.task(func)
    worker = Worker(gator, concurrency=concurrency, lease=60, log_level="CRITICAL")
    thread = in_thread(worker)
    try:
        eventually(lambda: starts, "it runs")
        worker.keep_running = False
        thread.join(0.2)
        assert thread.is_alive(), "it waits for the task"
        worker.release()
        other = in_thread(Worker(gator, max_tasks=1, log_level="CRITICAL"))
        eventually(lambda: len(starts) == 2, "it is started again, long before the lease is over")
        other.join(10)
    finally:
        may_end.set()
    thread.join(10)
    assert not thread.is_alive()
    assert not other.is_alive()
    assert gator.dead() == []
    assert gator.len() == 0


def test_one_that_has_ended_has_nothing_to_hand_back(gator_with_store):
    worker = Worker(gator_with_store, burst=True, log_level="CRITICAL")
    worker.run_forever()
    worker.release()
    assert not worker.keep_running
    gator_with_store.task(operator.add, 1, 1)
    worker.run_forever()
    assert worker.tasks_complete == 1


def test_one_that_was_released_before_it_began_runs_nothing():
    """Its thread may be slow to begin, where the server ends as soon as it has started."""
    gator = Gator("locmem://released-before-it-began")
    worker = Worker(gator, log_level="CRITICAL")
    worker.release()
    gator.task(operator.add, 1, 1)
    thread = in_thread(worker)
    thread.join(10)
    assert not thread.is_alive()
    assert (worker.tasks_complete, worker.keep_running, gator.len()) == (0, False, 1)


def test_what_is_set_before_it_begins_does_not_count():
    """As in 1.0: a subclass may set it at will in its constructor."""
    gator = Gator("locmem://set-before-it-begins")
    worker = Worker(gator, burst=True, log_level="CRITICAL")
    worker.keep_running = False
    gator.task(operator.add, 1, 1)
    worker.run_forever()
    assert worker.tasks_complete == 1
