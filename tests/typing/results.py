# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""Take the results of tasks, which have the types that their functions return."""

import copy
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar, assert_type

from alligator import Gator, Task, current_task, result_of

P = ParamSpec("P")
R = TypeVar("R")


def add(one: int, two: int) -> int:
    """Return a sum."""
    return one + two


def log(text: str) -> None:
    """Return nothing."""


def anything() -> Any:
    """Return what is not known."""


async def fetch(url: str) -> bytes:
    """Return what it waited for."""
    return url.encode()


def later(url: str) -> Awaitable[list[str]]:
    """Return what is awaited by the worker."""
    raise NotImplementedError


def logged(func: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Awaitable[R]]:
    """Return another coroutine function."""

    @wraps(func)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return await func(*args, **kwargs)

    return call


@logged
async def store(url: str, size: int = 0) -> dict[str, int]:
    """Return what its decorator passes on."""
    return {url: size}


gator = Gator("locmem://")
opts = gator.options(save_results=60)

# What a push returns knows it.
assert_type(gator.task(add, 1, 2), Task[int])
assert_type(gator.task(log, "a"), Task[None])
assert_type(gator.task(fetch, "a"), Task[bytes])
assert_type(gator.task(later, "a"), Task[list[str]])
assert_type(gator.task(store, "a", size=5), Task[dict[str, int]])
assert_type(gator.task(anything), Task[Any])
assert_type(gator.task("myapp.f", 1), Task[Any])
assert_type(opts.task(add, 1, 2), Task[int])
assert_type(opts.task(fetch, "a"), Task[bytes])
assert_type(opts.task("myapp.f", 1), Task[Any])
assert_type(opts(add, 1, 2), Task[int])
assert_type(opts(add, 1, 2, timeout=5), Task[int])
assert_type(opts(fetch, "a"), Task[bytes])
assert_type(opts(fetch, "a", timeout=5), Task[bytes])
assert_type(opts("myapp.f", 1), Task[Any])
with gator.batch(save_results=60) as batch:
    assert_type(batch.task(add, 1, 2), Task[int])
    assert_type(batch(fetch, "a"), Task[bytes])
    assert_type(batch.options(timeout=5).task(store, "a"), Task[dict[str, int]])

# And so does its result.
total, page = opts.task(add, 1, 2), opts.task(fetch, "a")
assert_type(total.result, int)
assert_type(page.result, bytes)
assert_type(gator.task("myapp.f", 1).result, Any)
assert_type(gator.result(total), int)
assert_type(gator.result(page, timeout=5), bytes)
assert_type(gator.result("id"), Any)
assert_type(gator.execute(total), Task[int])
assert_type(total.run(), int)
assert_type(copy.copy(page), Task[bytes])
text: str = gator.result(total)  # type: ignore[assignment]
text = page.result  # type: ignore[assignment]
gator.result(5)  # type: ignore[call-overload]

# It may be the argument of another task.
assert_type(result_of(total), int)
assert_type(result_of("id"), Any)
gator.task(add, result_of(total), result_of("id"))
gator.task(add, result_of(total), result_of(page))  # type: ignore[call-overload]

# A task without a parameter is a task of any function, and needs none.
every: list[Task] = [total, page]
wide: Task[object] = total
wrong: Task[str] = total  # type: ignore[assignment]


class Mine(Task):
    """A class of an application, as it was before."""


class Counted(Task[int]):
    """A class for functions that return a number."""


def hook(task: Task, result: int) -> None:
    """Have the plain type, as hooks do."""


assert_type(Mine(retries=3).result, Any)
assert_type(Counted().result, int)
assert_type(current_task(), Task[Any] | None)
hook(total, 5)
Gator("locmem://", task_class=Mine)
Gator("locmem://", task_class=Counted)
Gator("locmem://", task_class=int)  # type: ignore[arg-type]
