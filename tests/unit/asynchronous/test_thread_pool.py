"""Test the threads over which calls are awaited."""

import os
import sys
import threading
import time
from functools import partial

import pytest

from alligator.asynchronous import thread_pool
from alligator.asynchronous.thread_pool import ThreadPool, Threads
from tests.faults.test_sqlite_stopped import interrupted_at
from tests.support.helpers import eventually


def test_threads_start_when_needed_and_end_when_idle():
    pool, ran, gate = ThreadPool(3, idle_seconds=0.1), [], threading.Event()

    def call(number):
        gate.wait(30)
        ran.append((number, threading.current_thread().daemon))

    assert len(pool) == 0
    for number in range(10):
        pool.submit(lambda number=number: call(number))
    assert len(pool) == 3
    gate.set()
    eventually(lambda: len(ran) == 10, "all calls are made")
    assert all(daemon for _, daemon in ran)
    eventually(lambda: len(pool) == 0, "the threads end")
    pool.submit(lambda: ran.append(10))
    eventually(lambda: 10 in ran, "it starts again")


def test_calls_wait_in_their_order():
    pool, ran, gate = ThreadPool(1), [], threading.Event()
    pool.submit(lambda: gate.wait(30))
    for number in range(20):
        pool.submit(lambda number=number: ran.append(number))
    gate.set()
    eventually(lambda: len(ran) == 20, "all calls are made")
    assert ran == list(range(20))


def test_few_threads_do_for_calls_one_by_one():
    pool = ThreadPool(8)
    for number in range(30):
        ran = threading.Event()
        pool.submit(ran.set)
        assert ran.wait(30), number
        eventually(lambda: pool._idle, "the thread is idle again")
    assert len(pool) == 1


def test_no_call_is_lost_between_threads_that_come_and_go():
    pool, ran = ThreadPool(4, idle_seconds=0.001), []
    for number in range(500):
        pool.submit(lambda number=number: ran.append(number))
        time.sleep(0.0005)
    eventually(lambda: len(ran) == 500, "all calls are made")
    assert sorted(ran) == list(range(500))


def test_a_call_that_raises_ends_no_thread(caplog):
    pool, ran = ThreadPool(1), threading.Event()
    pool.submit(lambda: 1 / 0)
    pool.submit(ran.set)
    assert ran.wait(30)
    assert len(pool) == 1
    assert "ZeroDivisionError" in caplog.text


def test_close_ends_idle_threads_and_no_others():
    pool, gate, ended = ThreadPool(4), threading.Event(), threading.Event()
    together = threading.Barrier(3)  # else one thread may do for all of them
    pool.submit(lambda: gate.wait(30) and ended.set())
    for _ in range(3):
        pool.submit(lambda: together.wait(30))
    eventually(lambda: len(pool._idle) == 3, "three are idle")
    pool.close()
    assert len(pool) == 1
    gate.set()
    assert ended.wait(30)


def test_a_forked_child_starts_its_own():
    pool, ran = ThreadPool(2), threading.Event()
    pool.submit(ran.set)
    assert ran.wait(30)
    if not (child := os.fork()):
        again = threading.Event()
        pool.submit(again.set)
        os._exit(0 if again.wait(30) and len(pool) == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_no_room_for_a_thread(monkeypatch):
    pool = ThreadPool(2)

    def refuse(*args):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("alligator.asynchronous.thread_pool._thread.start_new_thread", refuse)
    with pytest.raises(RuntimeError, match="new thread"):
        pool.submit(lambda: None)
    assert len(pool) == 0
    monkeypatch.undo()
    ran = threading.Event()
    pool.submit(ran.set)
    assert ran.wait(30)


def test_room_for_one_thread_only(monkeypatch):
    ran = threading.Event()

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    Threads(1, ran.set, "only").start_one()
    assert ran.wait(30)


def has_idle_only(pool):
    eventually(lambda: len(pool._idle) == len(pool), "no thread is busy")


def keeps_two_busy(pool):
    """Check that two calls run at the same time, as both threads come to them."""
    both, ran = threading.Barrier(2), [threading.Event(), threading.Event()]
    for each in ran:
        pool.submit(lambda each=each: (both.wait(30), each.set()))
    return all(each.wait(30) for each in ran)


@pytest.mark.parametrize("is_fresh", [True, False])
@pytest.mark.parametrize("what", ["submit", "close"])
def test_ctrl_c_at_any_step_loses_no_call_and_no_thread(what, is_fresh):
    pool = ThreadPool(2, idle_seconds=60)
    for step in range(1, 100):
        if is_fresh:
            pool = ThreadPool(2, idle_seconds=60)
        has_idle_only(pool)
        call = pool.close if what == "close" else partial(pool.submit, int)
        is_done = interrupted_at(step, call) is None
        assert keeps_two_busy(pool), f"at step {step}"
        assert len(pool) == 2
        if is_done:
            break
    assert step > 2


def test_a_call_is_handed_over_by_no_code_that_ctrl_c_interrupts():
    """A semaphore of Python that was interrupted woke its thread up to ten seconds late."""
    pool, done, files = ThreadPool(1), threading.Event(), set()
    pool.submit(int)
    eventually(lambda: pool._idle, "it is idle")
    before = sys.gettrace()
    sys.settrace(lambda frame, *_: files.add(frame.f_code.co_filename))
    try:
        pool.submit(done.set)
    finally:
        sys.settrace(before)
    assert done.wait(30)
    assert files == {thread_pool.__file__}
