# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""Call the public API: right calls, and wrong ones."""

import asyncio
import math
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, assert_type, overload

from alligator import (
    Batch,
    DeadTask,
    Gator,
    Options,
    Task,
    Worker,
    current_task,
    result_of,
    version,
)
from alligator.scheduling.scheduler import Schedule

T = TypeVar("T")


def add(one: int, two: int, *, three: int = 0) -> int:
    """Return a sum."""
    return one + two + three


def export(path: str, timeout: float = 1.0) -> None:
    """Have an argument that is called as an option is."""


async def fetch(url: str) -> bytes:
    """Return nothing."""
    return url.encode()


def any_arguments(a: int, /, *rest: str, key: bool = False, **more: float) -> None:
    """Have parameters of every kind."""


def same(value: T) -> T:
    """Return what it takes."""
    return value


@overload
def half(value: int) -> float: ...


@overload
def half(value: str) -> str: ...


def half(value: int | str) -> float | str:
    """Return another type for each that it takes."""
    return value[: len(value) // 2] if isinstance(value, str) else value / 2


@lru_cache
def cached(value: int) -> int:
    """Be an object that a decorator made."""
    return value


class Plan:
    """Have functions."""

    @staticmethod
    def of(value: int) -> int:
        """Be a function."""
        return value

    @classmethod
    def make(cls, value: int) -> "Plan":
        """Be a method of the class."""
        return cls()


gator = Gator("locmem://", options={"retries": 3})
opts = gator.options(retries=3)
minute = timedelta(minutes=1)

# By function, its arguments checked.
pushed: list[Task] = [
    gator.task(add, 1, 2, three=3),
    gator.task(fetch, "https://example.com"),
    opts.task(add, 1, two=2),
    opts(add, 1, 2),
    opts(add, 1, 2, timeout=5),
    opts(add, 1, 2, timeout=minute),
    opts(export, "a.csv", timeout=5),
]
pushed += [
    gator.task(add, result_of(pushed[0]), result_of("id"), three=result_of(("queue", "id"))),
    gator.task(export, result_of(7)),  # type: ignore
]
scheduled: list[Schedule] = [
    gator.every(60, add, 1, 2),
    gator.every(minute, add, 1, 2),
    gator.cron("0 5 * * tue", add, 1, 2),
    opts.every(minute, add, 1, 2, three=3),
    opts.cron("0 5 * * tue", fetch, "https://example.com"),
]

# Functions of all kinds.
pushed += [
    gator.task(any_arguments, 1, "a", "b", key=True, more=0.5),
    gator.task(same, 5),
    gator.task(cached, 5),
    gator.task(Plan.of, 5),
    gator.task(Plan.make, 5),
    gator.task(math.sqrt, 2),
    gator.task(print, "a", end=""),
    gator.task(asyncio.sleep, 5),
]
assert_type(gator.task(same, 5), Task[int])
assert_type(gator.task(half, 5), Task[float])
assert_type(gator.task(half, "5"), Task[str])
assert_type(gator.task(Plan.of, 5), Task[int])
assert_type(gator.task(asyncio.sleep, 5), Task[None])
gator.task(any_arguments, 1, 2)  # type: ignore[call-overload]
gator.task(any_arguments, a=1)  # type: ignore[call-overload]
gator.task(half, 5.5)  # type: ignore[call-overload]
gator.task(Plan.of, "5")  # type: ignore[call-overload]

# By name, with any arguments.
pushed += [
    gator.task("myapp.f", 1, two="2"),
    opts.task("myapp.f", 1, 2),
    opts("myapp.f", 1, 2, timeout=5),
]
scheduled += [
    gator.every(60, "myapp.f", 1, two=2),
    gator.cron("0 5 * * tue", "myapp.f", 1),
    opts.every(minute, "myapp.f", 1, two=2),
    opts.cron("0 5 * * tue", "myapp.f"),
]

# By name, and yet as a call: the checker alone sees the function.
if TYPE_CHECKING:
    by_name = add
else:
    by_name = "myapp.add"
pushed += [gator.task(by_name, 1, 2), opts.task(by_name, 1, two=2)]
scheduled += [gator.every(60, by_name, 1, 2)]
gator.task(by_name, 1)  # type: ignore[call-overload]
gator.cron("0 5 * * *", by_name, "1")  # type: ignore[call-overload]

with gator.options(timeout=minute) as within, gator.batch() as batch:
    pushed += [within.task(add, 1, 2), within.task("myapp.f", 1)]
    pushed += [batch.task(add, 1, 2), batch.task("myapp.f", 1, 2), batch(add, 1, 2)]
    batch.task(add, 1)  # type: ignore[call-overload]
    batch.task(None, 1)  # type: ignore[call-overload]
    pushed += [batch.options(retries=1).task(add, 1, 2)]

with gator.batch(on_success=(export, "a.csv"), on_done=export, retries=3) as batch:
    assert_type(batch.done_task, Task | None)
gator.batch(on_success="myapp.f")
gator.batch(on_success=("myapp.f", 1), on_done=(add, 1, 2))
gator.batch(on_done=7)  # type: ignore[arg-type]
gator.batch(on_done=(7, add))  # type: ignore[arg-type]
gator.batch(on_done=())  # type: ignore[arg-type]
gator.batch(on_done=fetch("a"))  # type: ignore[arg-type]

# A task that was made before.
assert_type(gator.push(Task(retries=3), add, 1, 2), Task[int])
assert_type(gator.push(Task(), fetch, "https://example.com"), Task[bytes])
assert_type(gator.push(Task(), "myapp.f", 1, two=2), Task)
gator.push(Task(), add, 1)  # type: ignore[call-overload]
gator.push(Task(), add, [1, 2], {})  # type: ignore[call-overload]
Task().to_call(add, 1, two=2)
Task().to_call("myapp.f", 1, two=2)
Task().to_call(add, 1)  # type: ignore[call-overload]
Task().to_call(add, 1, "2")  # type: ignore[call-overload]

# Arguments that do not fit the function.
gator.task(add, 1)  # type: ignore[call-overload]
gator.task(fetch("a"))  # type: ignore[call-overload]
gator.task(add, 1, "2")  # type: ignore[call-overload]
opts.task(add, 1, 2, 3)  # type: ignore[call-overload]
opts.task(add, 1, 2, three="3")  # type: ignore[arg-type]
opts.task(fetch, 5)  # type: ignore[call-overload]
opts(add, 1)  # type: ignore[call-overload]
opts(add, 1, 2, four=4)  # type: ignore[call-arg, arg-type]
gator.every(60, add, 1)  # type: ignore[call-overload]
gator.cron("0 5 * * tue", add, "1", 2)  # type: ignore[call-overload]
opts.every(minute, add, 1)  # type: ignore[call-overload]
opts.cron("0 5 * * tue", add, 1, 2, 3)  # type: ignore[call-overload]

# What is neither a function nor the name of one; no span of time, no expression.
gator.task(5, 1)  # type: ignore[call-overload]
opts.task(b"myapp.f", 1)  # type: ignore[call-overload]
opts(None)  # type: ignore[call-overload]
opts.every("60", add, 1, 2)  # type: ignore[call-overload]
opts.cron(60, "myapp.f")  # type: ignore[call-overload]

# What calls return.
task = opts.task(add, 1, 2)
assert_type(task, Task[int])
assert_type(opts, Options)
assert_type(gator.batch(), Batch)
assert_type(gator.status(task), int | None)
assert_type(gator.wait(task), bool)
assert_type(gator.result("id"), Any)
assert_type(gator.pop(), Task | None)
assert_type(gator.get("id"), Task | None)
assert_type(gator.cancel(task), Task | None)
assert_type(gator.len(), int)
assert_type(gator.run_all(), int)
assert_type(gator.dead(), list[DeadTask])
assert_type(gator.dead(limit=5)[0].error, str)
assert_type(gator.revive(task, retries=3), int)
assert_type(Worker(gator, max_tasks=5).run_forever(), int)
assert_type(current_task(), Task | None)
assert_type(version(), str)

# What they refuse.
Gator(5)  # type: ignore[arg-type]
Worker("locmem://")  # type: ignore[arg-type]
Worker(gator, max_tasks="5")  # type: ignore[arg-type]
gator.status(5)  # type: ignore[arg-type]
gator.get(5)  # type: ignore[arg-type]
gator.dead("5")  # type: ignore[arg-type]
gator.revive(task, retries="3")  # type: ignore[arg-type]
gator.push(add, [1, 2], {})  # type: ignore[call-overload]

# Spans of time.
task.wait(minute)
gator.wait([task, "id"], minute)
gator.result(task, timeout=2.5)
task.wait("60")  # type: ignore[arg-type]
gator.result(task, "60")  # type: ignore[call-overload]
