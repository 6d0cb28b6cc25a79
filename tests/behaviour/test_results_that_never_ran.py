"""Test functions that return a generator, a coroutine or the like: this is never a success."""

import asyncio
import functools
import gc
import logging
import re
import types
import uuid
import warnings

import pytest

from alligator import FAILED, SUCCESS, Gator, Task, Worker
from alligator.constants import RETRYING
from alligator.contrib import rpqueue
from alligator.exceptions import InvalidTask, TaskFailed
from alligator.tasks.functions import kind_of
from tests.support import jobs

ran: list = []


def generator(number=1):
    ran.append(number)
    yield number


async def async_generator(number=1):
    ran.append(number)
    yield number


async def coroutine(number=1):
    await asyncio.sleep(0)
    ran.append(number)
    return number


def logged(func):
    @functools.wraps(func)
    def call(*args, **kwargs):
        return func(*args, **kwargs)

    return call


def to_the_end(func):
    @functools.wraps(func)
    def call(*args):
        return list(func(*args))

    return call


class Caller:
    """A decorator written as a class."""

    def __init__(self, func):
        functools.update_wrapper(self, func)
        self.func = func


class Hands(Caller):
    def __call__(self, *args):
        return self.func(*args)


class Yields(Caller):
    def __call__(self, *args):
        yield self.func(*args)


class Later:
    def __init__(self, number):
        self.number = number

    def __await__(self):
        return coroutine(self.number).__await__()


logged_generator = logged(generator)
logged_async_generator = logged(async_generator)
logged_coroutine = logged(coroutine)
logged_cached = logged(functools.lru_cache(generator))
handed_coroutine = functools.wraps(coroutine)(lambda *args: coroutine(*args))
listed = to_the_end(generator)


@functools.lru_cache
def cached(number=1):
    ran.append(number)
    yield number


@Yields
def yields(number=1):
    ran.append(number)


@Hands
def hands(number=1):
    ran.append(number)
    yield number


@to_the_end
def runs(number=1):
    ran.append(number)
    yield number


def wraps_a_function():
    @functools.wraps(jobs.note)
    def call(*args):
        yield jobs.note(*args)

    return call


def later(number=1):
    return Later(number)


@types.coroutine
def old_coroutine(number=1):
    ran.append(number)
    yield
    return number


def maybe(number=1):
    """Return a generator or a number, as no signature tells."""
    return (ran.append(each) for each in range(number)) if number > 1 else number


async def coroutine_of_coroutine(number=1):
    return coroutine(number)


async def coroutine_of_generator(number=1):
    return generator(number)


async def started_and_left(number=1):
    return asyncio.get_running_loop().create_task(coroutine(number))


@logged
def by_decorator(number=1):
    ran.append(number)
    yield number


@pytest.fixture(autouse=True)
def nothing_ran():
    ran.clear()
    jobs.seen.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as "was never awaited"
        yield
        gc.collect()


@pytest.fixture
def gator():
    return Gator(f"locmem://{uuid.uuid4().hex}")


def name(func):
    return f"{__name__}.{func}"


def work(gator, **options):
    worker = Worker(gator, log_level="CRITICAL", **{"burst": True, **options})
    worker.run_forever()
    return worker


SEEN_AT_THE_CALL = ["generator", "async_generator", "cached", "yields"]
FOUND_BY_RUNNING = [
    *("hands", "by_decorator", "coroutine_of_coroutine", "coroutine_of_generator"),
    *("logged_generator", "logged_async_generator"),
]


@pytest.mark.parametrize("func", SEEN_AT_THE_CALL)
def test_what_can_be_seen_is_refused_at_the_call(gator, func):
    func = globals()[func]
    opts = gator.options(retries=1)
    for call in (gator.task, opts.task, opts, gator.options(is_async=False).task):
        with pytest.raises(InvalidTask, match=r"has a 'yield', which makes it an? .*generator f"):
            call(func, 1)
    with pytest.raises(InvalidTask, match="Iterate over it inside another function"):
        gator.push(Task(), func, 1)
    with pytest.raises(InvalidTask, match="runs nothing of it"), gator.batch() as batch:
        batch.task(func, 1)
    with pytest.raises(InvalidTask, match="runs nothing of it"):
        gator.every(5, func)
    with pytest.raises(InvalidTask, match="runs nothing of it"):
        opts.cron("* * * * *", func)
    assert gator.len() == 0
    assert ran == []


@pytest.mark.parametrize("func", [functools.partial(generator, 2), wraps_a_function()])
def test_and_what_runs_at_once_need_not_be_importable_to_be_refused(gator, func):
    with pytest.raises(InvalidTask, match="runs nothing of it"):
        gator.options(is_async=False).task(func)


def test_by_name_at_once(gator):
    with pytest.raises(InvalidTask, match="runs nothing of it"):
        gator.options(is_async=False).task(name("generator"))


def test_rpqueue_refuses_it_where_it_is_declared():
    for func in (generator, async_generator):
        with pytest.raises(InvalidTask, match="runs nothing of it"):
            rpqueue.task(func)
        with pytest.raises(InvalidTask, match="runs nothing of it"):
            rpqueue.periodic_task(5)(func)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_by_name_it_is_a_dead_letter_on_every_backend(durable_gator, concurrency):
    gator = durable_gator(f"never-{uuid.uuid4().hex[:8]}")
    for func in ("generator", "async_generator", "coroutine_of_coroutine"):
        gator.task(name(func), 1)
    work(gator, burst=False, max_tasks=3, concurrency=concurrency)
    assert ran == []
    assert sorted(each.error for each in gator.dead()) == [
        "TaskFailed: async_generator returned an async generator, of which nothing has run: "
        "iterate over it inside, and return the outcome.",
        "TaskFailed: coroutine_of_coroutine returned a coroutine, of which nothing has run: "
        "await it inside, and return what it returns.",
        "TaskFailed: generator returned a generator, of which nothing has run: "
        "iterate over it inside, and return the outcome.",
    ]


@pytest.mark.parametrize("func", [*SEEN_AT_THE_CALL, *FOUND_BY_RUNNING])
def test_each_way_to_run_one(gator, func):
    took = "returned an? .*of which nothing has run"
    gator.task(name(func), 1)
    assert work(gator).tasks_complete == 0
    gator.task(name(func), 1)
    assert work(gator, concurrency=3).tasks_complete == 0
    gator.task(name(func), 1)
    assert gator.run_all() == 1
    gator.task(name(func), 1)
    assert Worker(gator, log_level="CRITICAL").check_and_run_task() is False
    assert len(gator.dead()) == 4
    gator.task(name(func), 1)
    with pytest.raises(TaskFailed, match=took):
        gator.pop()
    task = gator.task(name(func), 1)
    with pytest.raises(TaskFailed, match=took):
        gator.get(task.task_id)
    held = Task(is_async=False, on_error=jobs.on_error)
    held.to_call(globals()[func], 1)
    with pytest.raises(TaskFailed, match=took):
        gator.execute(held)
    assert held.status == FAILED
    assert jobs.seen == [("on_error", FAILED, "TaskFailed")]
    assert ran == []


def test_nor_is_what_goes_on_by_itself_a_success(gator):
    for options in ({}, {"concurrency": 3}):
        gator.task(name("started_and_left"))
        assert work(gator, **options).tasks_complete == 0
    gator.task(name("started_and_left"))
    with pytest.raises(TaskFailed, match="an awaitable object, which is never awaited"):
        gator.pop()
    assert len(gator.dead()) == 3


def test_its_outcome_is_a_failure(gator_with_store):
    gator = gator_with_store
    task = gator.options(save_results=60).task(name("generator"), 1)
    work(gator, burst=False, max_tasks=1)
    assert task.wait(5) is True
    assert task.status == FAILED
    with pytest.raises(TaskFailed, match="of which nothing has run"):
        gator.result(task)


def test_it_is_retried_as_any_failure_is(gator):
    gator.options(retries=1).task(maybe, 3)
    assert gator.pop().status == RETRYING
    with pytest.raises(TaskFailed):
        gator.pop()
    assert ran == []
    assert gator.options(is_async=False).task(maybe, 1).result == 1


def test_what_can_be_awaited_is_awaited(gator):
    for func in (logged_coroutine, later, old_coroutine, coroutine):
        assert gator.options(is_async=False).task(func, 5).result == 5
        gator.task(name("later"), 5)
        assert gator.pop().result == 5
    for options in ({}, {"concurrency": 3}):
        ran.clear()
        for func in ("logged_coroutine", "later", "old_coroutine"):
            gator.task(name(func), 5)
        assert work(gator, **options).tasks_complete == 3
        assert ran == [5, 5, 5]
    assert gator.dead() == []


def test_what_a_wrapper_runs_to_the_end_is_a_task(gator):
    task = gator.options(is_async=False).task(runs, 3)
    assert (task.status, task.result) == (SUCCESS, [3])
    gator.task(runs, 3)
    assert gator.pop().result == [3]


@pytest.mark.parametrize(
    ("func", "kind"),
    [
        (jobs.note, ""),
        (len, ""),
        (runs, ""),
        (Later, ""),
        (generator, "generator function"),
        (functools.partial(functools.partial(generator, 1)), "generator function"),
        (functools.lru_cache(async_generator), "async generator function"),
        (coroutine, "coroutine function"),
        (old_coroutine, "coroutine function"),
        (Yields(jobs.note).__call__, "generator function"),
        ([], ""),
    ],
)
def test_kinds(func, kind):
    assert kind_of(func) == kind


@pytest.mark.parametrize("option", ["on_start", "on_success", "on_error"])
@pytest.mark.parametrize(
    ("hook", "kind"),
    [
        (generator, "a generator function"),
        (async_generator, "an async generator function"),
        (coroutine, "a coroutine function"),
        (functools.partial(coroutine, 1), "a coroutine function"),
    ],
)
def test_hooks_of_that_kind_are_refused_at_the_call(gator, option, hook, kind):
    with pytest.raises(InvalidTask, match=f"is {kind}; hooks are plain functions"):
        gator.options(**{option: hook})
    for is_async in (True, False):
        task = Task(is_async=is_async)
        setattr(task, option, hook)
        with pytest.raises(InvalidTask, match=f"is {kind}; hooks are plain functions"):
            gator.push(task, jobs.note)


def test_hooks_of_that_kind_by_name_make_a_dead_letter(gator):
    text = gator.options(on_success=jobs.log_func).task(jobs.note).serialize()
    gator.client.drop_all("all")
    for hook in ("generator", "async_generator", "coroutine"):
        changed = text.replace(
            '"tests.support.jobs","callable":"log_func"', f'"{__name__}","callable":"{hook}"'
        )
        assert changed != text
        gator.client.push("all", hook, changed)
    work(gator)
    assert jobs.seen == []
    assert len(gator.dead()) == 3
    assert all("is no plain function but a" in each.error for each in gator.dead())


@pytest.mark.parametrize("hook", ["by_decorator", "hands", "logged_coroutine", "later"])
def test_what_such_a_hook_returns_is_closed_and_told(gator, hook, caplog):
    caplog.set_level(logging.ERROR)
    task = gator.options(is_async=False, on_success=globals()[hook]).task(jobs.note)
    assert task.status == SUCCESS
    assert ran == []
    assert "raised; it goes on" in caplog.text
    assert re.search("of which nothing has run|which is never awaited", caplog.text)
