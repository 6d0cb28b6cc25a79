"""Test that each task and its hooks run in a context of their own, in every way of running."""

import asyncio
import logging
import time
import uuid
from contextvars import ContextVar, copy_context
from types import SimpleNamespace

import pytest

from alligator import Gator, Task, Worker, current_task
from tests.support import jobs

VALUE: ContextVar[str] = ContextVar("value", default="the default")
seen: list = []


def note(what):
    task = current_task()
    seen.append((what, task and task.task_id, VALUE.get()))


def change(value="a task's", *, fail=False):
    note("function")
    VALUE.set(value)
    if fail:
        raise ValueError(value)


async def change_in_a_coroutine(value="a task's", *, fail=False):
    await asyncio.sleep(0)
    change(value, fail=fail)
    await asyncio.sleep(0)
    VALUE.set(VALUE.get() + "!")


async def change_beside(value="a task's", *, fail=False):
    """What runs beside it has a context of its own, as ever in asyncio."""
    await asyncio.gather(asyncio.create_task(change_in_a_coroutine("another's")))
    mine = current_task() and current_task().task_id
    seen.remove(next(each for each in reversed(seen) if each[:2] == ("function", mine)))
    change(value, fail=fail)


def hands_on_a_coroutine(value="a task's", *, fail=False):
    return change_in_a_coroutine(value, fail=fail)


def on_start(task):
    note("on_start")
    VALUE.set("on_start's")


def on_success(task, result):
    note("on_success")
    VALUE.set("on_success's")


def on_error(task, err):
    note("on_error")
    VALUE.set("on_error's")


def push_another(dsn):
    """Run another at once, in the middle of a task."""
    VALUE.set("outer's")
    task = Gator(dsn).options(is_async=False, on_success=on_success).task(change)
    seen.append((VALUE.get(), current_task().task_id != task.task_id))


async def push_another_in_a_coroutine(dsn):
    await asyncio.sleep(0)
    push_another(dsn)


def wait_for_the_other():
    VALUE.set(current_task().task_id)
    seen.append("in")
    deadline = time.monotonic() + 10
    while seen.count("in") < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    seen.append(VALUE.get() == current_task().task_id)


class OwnWay(Task):
    """Runs its function by itself."""

    def run(self):
        note("own")
        VALUE.set("a class's")
        return super().run()


@pytest.fixture(autouse=True)
def nothing_seen():
    seen.clear()
    jobs.seen.clear()


@pytest.fixture
def gator():
    return Gator(f"locmem://{uuid.uuid4().hex}")


def work(gator, **options):
    Worker(gator, log_level="CRITICAL", **{"burst": True, **options}).run_forever()


def work_given(gator, tasks):
    """As in a process that runs single tasks."""
    worker = Worker(gator, log_level="CRITICAL")
    worker.given = SimpleNamespace(keys=lambda stop: [("all", each.task_id) for each in tasks])
    worker.run_forever()


def here(call):
    """Call it in a context with a value of its own, which nothing may change."""

    def inner():
        VALUE.set("the caller's")
        before = dict(copy_context().items())
        call()
        after = dict(copy_context().items())
        assert VALUE.get() == "the caller's"
        # asyncio and others may leave something of their own, but no task leaves anything.
        assert {each: after[each] for each in before} == before
        assert current_task() is None

    copy_context().run(inner)


HOOKS = {"on_start": on_start, "on_success": on_success, "on_error": on_error}
FUNCS = [change, change_in_a_coroutine, change_beside, hands_on_a_coroutine]
functions = pytest.mark.parametrize("func", FUNCS)


def check(func, first="the caller's", *, fail=False):
    """Two tasks have run: each began with the first value, and its hooks saw what it set."""
    after = "a task's!" if func in (change_in_a_coroutine, hands_on_a_coroutine) else "a task's"
    end = ("on_error", "a task's") if fail else ("on_success", after)
    ids = {task_id for _, task_id, _ in seen}
    assert len(ids) == 2
    for each in ids:
        found = [(what, value) for what, task_id, value in seen if task_id == each]
        assert found == [("on_start", first), ("function", "on_start's"), end]


@functions
@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize(
    "way", ["inline", "threads", "given", "run_all", "pop", "get", "one by one"]
)
def test_from_a_queue(gator, func, fail, way):
    tasks = [gator.options(**HOOKS).task(func, fail=fail) for _ in range(2)]

    def pop(take):
        for task in tasks:
            try:
                take(task)
            except ValueError:
                assert fail

    here(
        {
            "inline": lambda: work(gator),
            "threads": lambda: work(gator, concurrency=3),
            "given": lambda: work_given(gator, tasks),
            "run_all": gator.run_all,
            "pop": lambda: pop(lambda task: gator.pop()),
            "get": lambda: pop(lambda task: gator.get(task.task_id)),
            "one by one": lambda: pop(
                lambda task: Worker(gator, log_level="CRITICAL").check_and_run_task()
            ),
        }[way]
    )
    check(func, fail=fail)


@functions
@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("way", ["at once", "execute", "run"])
def test_without_a_queue(gator, func, fail, way):
    def once():
        if way == "at once":
            gator.options(is_async=False, **HOOKS).task(func, fail=fail)
            return
        task = Task(**HOOKS)
        task.to_call(func, fail=fail)
        gator.execute(task) if way == "execute" else task.run()

    def twice():
        for _ in range(2):
            try:
                once()
            except ValueError:
                assert fail

    here(twice)
    check(func, fail=fail)


@functions
@pytest.mark.parametrize("concurrency", [1, 3])
def test_on_a_real_server(durable_gator, func, concurrency):
    gator = durable_gator(f"contexts-{uuid.uuid4().hex[:8]}")
    for _ in range(2):
        gator.options(**HOOKS).task(func)
    here(lambda: work(gator, burst=False, max_tasks=2, concurrency=concurrency))
    check(func)


def test_within_a_loop_of_ones_own(gator):
    async def body():
        VALUE.set("the caller's")
        for _ in range(2):
            gator.options(is_async=False, **HOOKS).task(change_in_a_coroutine)
        assert VALUE.get() == "the caller's"

    asyncio.run(body())
    check(change_in_a_coroutine)


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("func", [push_another, push_another_in_a_coroutine])
def test_a_task_within_a_task(gator, func, concurrency):
    gator.task(func, gator.conn_string)
    here(lambda: work(gator, concurrency=concurrency))
    (_, inner, first), (_, same, then), outer = seen
    assert (inner == same, first, then) == (True, "outer's", "a task's")
    assert outer == ("outer's", True)


def test_two_at_a_time(gator):
    for _ in range(2):
        gator.task(wait_for_the_other)
    work(gator, concurrency=2)
    assert seen == ["in", "in", True, True]


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_task_class_that_runs_in_a_way_of_its_own(gator, concurrency):
    gator.task_class = OwnWay
    for _ in range(2):
        gator.task(change)
    here(lambda: work(gator, concurrency=concurrency))
    for _ in range(2):
        gator.task(change)
    here(gator.run_all)
    here(lambda: gator.options(is_async=False).task(change))
    assert [value for _, _, value in seen] == ["the caller's", "a class's"] * 5


def test_every_retry_has_a_new_one(gator):
    def at_once():
        with pytest.raises(ValueError, match="a task's"):
            gator.options(is_async=False, retries=2).task(change, fail=True)

    here(at_once)
    gator.options(retries=2).task(change, fail=True)
    here(gator.run_all)
    assert [value for _, _, value in seen] == ["the caller's"] * 6


def test_the_task_is_known_until_its_hooks_have_ended_and_not_after(gator, caplog):
    caplog.set_level(logging.CRITICAL)
    opts = gator.options(is_async=False, timeout=5, **HOOKS)
    with pytest.raises(ValueError, match="a task's"):
        opts.task(change, fail=True)
    assert current_task() is None
    assert len({task_id for _, task_id, _ in seen}) == 1
    assert seen[0][1] is not None
