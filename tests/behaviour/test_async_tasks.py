"""Test ``async def`` tasks: every backend takes them, one loop per worker runs them."""

import asyncio
import gc
import os
import signal
import threading
import time
import uuid

import pytest

from alligator import Gator, Worker, current_task
from alligator.exceptions import InvalidTask
from tests.support import jobs

seen: list = []


async def add(left, right=0):
    await asyncio.sleep(0)
    return left + right


async def where():
    """Return the loop, the thread and the task that this runs in."""
    await asyncio.sleep(0)
    seen.append((id(asyncio.get_running_loop()), threading.get_ident()))
    return current_task().task_id


async def fail(message):
    await asyncio.sleep(0)
    raise ValueError(message)


async def raise_one(name):
    await asyncio.sleep(0)
    raise {"exit": SystemExit, "interrupt": KeyboardInterrupt, "cancel": asyncio.CancelledError}[
        name
    ]


async def leave_behind(name):
    """Return, with something on the loop that will do its worst."""
    running = asyncio.get_running_loop().create_task(raise_one(name))
    seen.append(running)


async def meet(count):
    """Wait until so many are in here at once, and note how many that were."""
    seen.append("in")
    deadline = time.monotonic() + 20
    while seen.count("in") < count and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    seen.append(f"met {seen.count('in')}")


async def nested(gator_dsn):
    task = Gator(gator_dsn).options(is_async=False, timeout=5).task(add, 1, 2)
    return [task.result, current_task().task_id]


async def stop_myself():
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.2)
    seen.append("finished")


async def insist():
    # The system may choose this thread to take them.
    for each in (signal.SIGINT, signal.SIGQUIT):
        signal.pthread_kill(threading.get_ident(), each)
    try:
        await asyncio.sleep(20)
    except asyncio.CancelledError:
        seen.append("canceled")
        raise
    seen.append("never")


def returns_a_coroutine(left, right):
    return add(left, right)


@pytest.fixture(autouse=True)
def nothing_seen():
    seen.clear()
    yield
    seen.clear()
    # What was left on a loop is logged by the collector, with a traceback. Python 3.11 fails
    # if that comes in the middle of an ast.parse (gh-106905), as pytest does it: so have it now.
    gc.collect()


@pytest.fixture
def gator():
    return Gator(f"locmem://{uuid.uuid4().hex}")


class Listening(Worker):
    def result(self, result):
        seen.append(result)


def work(gator, **options):
    worker = Listening(gator, burst=True, log_level="CRITICAL", **options)
    worker.run_forever()
    return worker


@pytest.mark.parametrize("func", [add, returns_a_coroutine, f"{__name__}.add"])
def test_each_way_to_run_one(gator, func):
    assert gator.options(is_async=False).task(func, 1, right=2).result == 3
    gator.task(func, 1, right=2)
    assert gator.pop().result == 3
    task = gator.task(func, 1, right=2)
    assert gator.get(task.task_id).result == 3
    gator.task(func, 1, right=2)
    assert gator.run_all() == 1
    gator.task(func, 1, right=2)
    assert Listening(gator).check_and_run_task() is True
    gator.task(func, 1, right=2)
    work(gator)
    gator.task(func, 1, right=2)
    work(gator, concurrency=3)
    assert seen == [3, 3, 3]
    assert gator.dead() == []


def test_on_a_real_server(durable_gator):
    gator = durable_gator(f"coroutines-{uuid.uuid4().hex[:8]}")
    for number in range(5):
        gator.task(add, number, 1)
    Listening(gator, max_tasks=5, concurrency=5, log_level="CRITICAL").run_forever()
    assert sorted(seen) == [1, 2, 3, 4, 5]


def test_arguments_are_checked_and_hooks_must_be_plain(gator):
    with pytest.raises(InvalidTask, match="cannot be called with these"):
        gator.task(add)
    with pytest.raises(InvalidTask, match="hooks are plain"):
        gator.options(on_success=add)


def test_hooks_get_result_and_error(gator):
    jobs.seen.clear()
    gator.options(on_success=jobs.on_success).task(add, 1)
    gator.options(on_error=jobs.on_error, retries=1).task(fail, "too much")
    work(gator)
    assert [each[0] for each in jobs.seen] == ["on_success", "on_error", "on_error"]
    assert jobs.seen[0][2] == 1
    (letter,) = gator.dead()
    assert letter.error == "ValueError: too much"
    assert "in fail" in letter.traceback


@pytest.mark.parametrize("concurrency", [1, 4])
def test_one_loop_per_worker_and_the_task_is_known_in_it(gator, concurrency):
    ids = [gator.task(where).task_id for _ in range(8)]
    work(gator, concurrency=concurrency)
    places = {each for each in seen if isinstance(each, tuple)}
    assert len(places) == 1
    assert next(iter(places))[1] != threading.get_ident()
    assert sorted(each for each in seen if isinstance(each, str)) == sorted(ids)
    assert current_task() is None
    work(gator)
    assert not [each for each in threading.enumerate() if each.name == "alligator-event-loop"]


def test_two_hundred_at_once(gator):
    for _ in range(200):
        gator.task(meet, 200)
    worker = work(gator, concurrency=200)
    assert seen.count("met 200") == 200
    assert worker.tasks_complete == 200


def test_no_more_than_the_concurrency_at_once(gator):
    for _ in range(6):
        gator.task(meet, 3)
    work(gator, concurrency=3)
    assert seen.index("met 3") == 3


def test_an_idle_worker_holds_no_threads_that_it_never_needed(gator):
    worker = Worker(gator, concurrency=200, log_level="CRITICAL")
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    gator.task(add, 1)
    deadline = time.monotonic() + 10
    while not worker.tasks_complete:
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)
    names = [each.name for each in threading.enumerate()]
    assert sum(name.startswith("task-") for name in names) == 1
    worker.keep_running = False
    thread.join(10)
    assert not thread.is_alive()


def test_coroutines_and_functions_side_by_side(gator):
    for number in range(20):
        gator.task(add, number)
        gator.task(jobs.note, number)
    jobs.seen.clear()
    work(gator, concurrency=4)
    assert sorted(call[0][0] for call in jobs.seen) == list(range(20))
    assert gator.stats()["dead"] == 0


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize(
    ("name", "error"),
    [("exit", "SystemExit"), ("interrupt", "KeyboardInterrupt"), ("cancel", "CancelledError")],
)
def test_whatever_it_raises_it_fails_alone(gator, name, error, concurrency):
    gator.task(raise_one, name)
    gator.task(add, 1)
    work(gator, concurrency=concurrency)
    assert seen == [1]
    assert [letter.error for letter in gator.dead()] == [error]


@pytest.mark.parametrize("name", ["exit", "interrupt", "cancel"])
def test_what_it_leaves_behind_does_not_end_the_loop(gator, name):
    for _ in range(3):
        gator.task(leave_behind, name)
        gator.task(add, 1)
    work(gator)
    assert seen.count(1) == 3
    assert gator.dead() == []


@pytest.mark.parametrize("concurrency", [1, 2])
def test_one_that_runs_another_at_once(gator, concurrency):
    task = gator.task(nested, gator.conn_string)
    work(gator, concurrency=concurrency)
    assert seen == [[3, task.task_id]]


def test_inside_a_loop_of_ones_own(gator):
    async def body():
        return gator.options(is_async=False).task(add, 1, 2).result

    assert asyncio.run(body()) == 3


def test_the_first_signal_lets_it_finish(gator):
    gator.task(stop_myself)
    gator.task(add, 1)
    Listening(gator, log_level="CRITICAL").run_forever()
    assert seen == ["finished", None]
    assert gator.len() == 1


@pytest.mark.parametrize("concurrency", [1, 2])
def test_the_second_cancels_it_and_hands_it_back(gator, concurrency):
    gator.task(insist)
    Listening(gator, log_level="CRITICAL", concurrency=concurrency).run_forever()
    deadline = time.monotonic() + 10
    while "canceled" not in seen:
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)
    stats = gator.stats()
    assert (stats["waiting"], stats["running"], stats["dead"]) == (1, 0, 0)
