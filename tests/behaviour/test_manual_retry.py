"""Test ``current_task().retry()``: a task that puts itself back on the queue."""

import asyncio
import math
import uuid

import pytest

from alligator import RETRYING, Gator, Task, Worker, current_task
from alligator.exceptions import InvalidTask, RunAgain, TaskFailed
from alligator.testing import FakeClock
from tests.support import jobs

seen: list = []


def again(delay=0.0):
    seen.append(current_task().retries)
    try:
        current_task().retry(delay=delay)
    except Exception:
        seen.append("swallowed")
    seen.append("went on")


async def again_in_a_coroutine(delay=0.0):
    await asyncio.sleep(0)
    again(delay)


def handle(message):
    seen.append(current_task().retries)
    try:
        jobs.fail(message)
    except ValueError:
        current_task().retry()


def fail_until_zero(value):
    """The example of rpqueue's document."""
    seen.append(value)
    try:
        if value != 0:
            value -= 1
            jobs.fail()
    except BaseException:
        current_task().retry(args=[value])
    else:
        seen.append("succeeded")


def with_a_bad(what, value):
    current_task().retry(**{what: value})


def of_another():
    Task().retry()


def swallow():
    try:
        current_task().retry(delay=3600)
    except BaseException:
        raise ValueError("another failure") from None


@pytest.fixture(autouse=True)
def nothing_seen():
    seen.clear()
    jobs.seen.clear()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def gator(clock):
    return Gator(f"locmem://{uuid.uuid4().hex}", clock=clock)


def work(gator, **options):
    worker = Worker(gator, burst=True, **{"log_level": "CRITICAL", **options})
    worker.run_forever()
    return worker


both = pytest.mark.parametrize("func", [again, again_in_a_coroutine])


@both
def test_it_ends_the_run_and_comes_back_after_the_delay(gator, clock, func):
    task = gator.options(retries=3, retry_delay=500).task(func, 60)
    work(gator)
    assert seen == [3], "and no except Exception swallows it"
    assert gator.client.find("all", task.task_id).due == clock.time() + 60
    clock.advance(59)
    work(gator)
    assert seen == [3]
    clock.advance(1)
    work(gator)
    assert seen == [3, 2]


@both
@pytest.mark.parametrize("concurrency", [1, 3])
def test_at_once_unless_told_otherwise_and_as_often_as_there_are_retries(gator, concurrency, func):
    gator.options(retries=2, retry_delay=500).task(func)
    worker = work(gator, concurrency=concurrency)
    assert seen == [2, 1, 0]
    assert worker.tasks_complete == 0
    (letter,) = gator.dead()
    assert letter.error == "TaskFailed: It asked to run again, and had no retry left."


@both
def test_each_way_to_run_one(gator, func):
    with pytest.raises(TaskFailed):
        gator.options(retries=2, is_async=False).task(func, 60)
    assert seen == [2, 1, 0]
    seen.clear()
    gator.options(retries=1).task(func)
    assert gator.pop().status == RETRYING
    with pytest.raises(TaskFailed):
        gator.pop()
    assert seen == [1, 0]
    seen.clear()
    gator.options(retries=1).task(func)
    assert gator.run_all() == 2


def test_it_is_no_failure(gator, capsys):
    gator.options(retries=1, on_error=jobs.on_error, on_success=jobs.on_success).task(again)
    gator.pop()
    assert jobs.seen == []
    gator.run_all()
    assert [each[0] for each in jobs.seen] == ["on_error"], "with none left it is one"
    gator.options(retries=1).task(again)
    work(gator, log_level="INFO", max_tasks=1)
    out = capsys.readouterr().out
    assert "INFO Task" in out
    assert "asked to run again in 0 s." in out


def test_with_none_left_it_fails_with_what_was_being_handled(gator):
    gator.options(retries=1, on_error=jobs.on_error).task(handle, "the real one")
    work(gator)
    assert seen == [1, 0]
    (letter,) = gator.dead()
    assert letter.error == "ValueError: the real one"
    assert jobs.seen[0][2] == "ValueError"


def test_not_with_what_was_being_handled_around_it(gator):
    try:
        jobs.fail("another task's")
    except ValueError:
        with pytest.raises(TaskFailed, match="no retry left"):
            gator.options(is_async=False).task(again)


@pytest.mark.parametrize("is_async", [True, False])
def test_the_example_of_rpqueue(gator, is_async):
    """attempts=3, so that it never comes to 'succeeded'."""
    gator.options(retries=2, is_async=is_async).task(fail_until_zero, 2)
    work(gator)
    assert seen == [2, 1, 0, "succeeded"]
    seen.clear()
    if is_async:
        gator.options(retries=2).task(fail_until_zero, 3)
        work(gator)
        assert len(gator.dead()) == 1
    else:
        with pytest.raises(ValueError, match="too much"):
            gator.options(retries=2, is_async=False).task(fail_until_zero, 3)
    assert seen == [3, 2, 1]


def test_new_arguments_hold_for_the_runs_after_it(gator):
    gator.options(retries=1).task(fail_until_zero, 5)
    gator.pop()
    (delivery,) = gator.client.reserve(["all"]).deliveries
    task = gator.codec.decode(delivery)
    assert (task.func_args, task.func_kwargs, task.retries) == ((4,), {}, 0)


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("delay", -1),
        ("delay", math.nan),
        ("delay", "soon"),
        ("args", [object(), 1]),
        ("args", [1]),
        ("kwargs", {"no_such": 1}),
    ],
)
def test_what_cannot_be_is_refused_inside(gator, what, value):
    task = Task(is_async=False, retries=1)
    task.to_call(with_a_bad, what, value)
    with pytest.raises(InvalidTask):
        task.run()


def test_only_the_task_itself_may(gator):
    with pytest.raises(RuntimeError, match="not the one that runs here"):
        Task().retry()
    with pytest.raises(RuntimeError, match="not the one that runs here"):
        gator.options(is_async=False).task(of_another)


def test_a_request_that_was_swallowed_is_none(gator, clock):
    gator.options(retries=1).task(swallow)
    gator.pop()
    assert gator.stats()["waiting"] == 1, "at once, as retry_delay says"
    assert not issubclass(RunAgain, Exception)


def test_on_a_real_server(durable_gator):
    gator = durable_gator(f"manual-{uuid.uuid4().hex[:8]}")
    gator.options(retries=2).task(fail_until_zero, 2)
    Worker(gator, max_tasks=1, log_level="CRITICAL").run_forever()
    assert seen == [2, 1, 0, "succeeded"]
