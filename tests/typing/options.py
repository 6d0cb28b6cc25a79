# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""Give options, which are keywords with types, and hooks, which take one or two arguments."""

import logging
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, Unpack
from zoneinfo import ZoneInfo

from alligator import Batch, Gator, Options, Task
from alligator.options import BatchOptions, GatorOptions, Hook, ScheduleOptions, TaskOptions


def add(one: int, two: int) -> int:
    """Return a sum."""
    return one + two


gator = Gator("locmem://")
minute = timedelta(minutes=1)

# Every option, with values of each type that it may have.
gator.options(task_id="invoice-7", queue_name="mail", is_async=False, priority=-5)
gator.options(is_async="no")
gator.options(retries=3, retry_delay=5, retry_backoff=2, retry_max_delay=minute)
gator.options(retries=3, retry_delay=minute, retry_backoff=1.5, retry_max_delay=None)
gator.options(retries=3, retry_on=OSError, give_up_on=["requests.Timeout", KeyError])
gator.options(retries=3, retry_on=(OSError, KeyError), give_up_on="ValueError")
gator.options(delay_by=5)
gator.options(delay_by=minute)
gator.options(run_after=5)
gator.options(delay_until=1.5e9)
gator.options(delay_until=datetime.now(UTC))
gator.options(delay_until=date(2030, 1, 1))
gator.options(limit=3, limit_key="customer 7", rate="100/m", rate_key="mail")
gator.options(rate=(100, 60))
gator.options(rate=(100, minute))
gator.options(timeout=5, hook_timeout=0.5, expires=minute, save_results=60, history=minute)
gator.options(timeout=None, hook_timeout=None, expires=None, save_results=None, history=None)
gator.options(headers={"tenant": "7"})
gator.options(unique=True, unique_until="start")
gator.options(unique="report")
gator.options(on_commit=True)
gator.options(on_commit="other")
gator.options(debounce=5, debounce_max=minute)
gator.options(tz="Europe/Berlin", catch_up=True, overlap=False)
gator.options(tz=ZoneInfo("UTC"))

task = gator.task(add, 1, 2)
gator.options(depends_on=task)
gator.options(depends_on="id")
gator.options(depends_on=("queue", "id"))
gator.options(depends_on=[task, "id", ("queue", "id"), gator.task("myapp.f")])
gator.options(depends_on={task})

# The same in the other places that take them.
Task(retries=3, on_start=logging.info, depends_on=[task], timeout=minute)
Task("id", 3, False)
Gator("locmem://", options={"retries": 3, "timeout": minute, "on_success": print})
gator.batch(retries=3, on_error=print, queue_name="mail", depends_on=task)
with gator.batch() as batch:
    batch.options(retries=3, timeout=minute).task(add, 1, 2)
Options(gator, retries=3)
Batch(gator, retries=3, on_success="myapp.f")

# Options that are misspelt, or have another type.
gator.options(retrys=3)  # type: ignore[call-arg]
gator.options(retries="3")  # type: ignore[arg-type]
gator.options(retries=None)  # type: ignore[arg-type]
gator.options(retry_delay="5")  # type: ignore[arg-type]
gator.options(retry_on=5)  # type: ignore[arg-type]
gator.options(retry_on=[5])  # type: ignore[list-item]
gator.options(give_up_on=int)  # type: ignore[arg-type]
gator.options(priority=0.5)  # type: ignore[arg-type]
gator.options(timeout="5s")  # type: ignore[arg-type]
gator.options(delay_by=datetime.now(UTC))  # type: ignore[arg-type]
gator.options(delay_until=minute)  # type: ignore[arg-type]
gator.options(rate=100)  # type: ignore[arg-type]
gator.options(rate=("100", 60))  # type: ignore[arg-type]
gator.options(headers={"tenant": 7})  # type: ignore[dict-item]
gator.options(unique_until="over")  # type: ignore[arg-type]
gator.options(on_commit=5)  # type: ignore[arg-type]
gator.options(queue_name=b"mail")  # type: ignore[arg-type]
gator.options(depends_on=5)  # type: ignore[arg-type]
gator.options(depends_on=[5])  # type: ignore[list-item]
gator.options(tz=2)  # type: ignore[arg-type]
gator.options(catch_up="yes")  # type: ignore[arg-type]
gator.options({"retries": 3})  # type: ignore[arg-type, call-arg]
Task(retrys=3)  # type: ignore[call-arg]
Task(timeout="5s")  # type: ignore[arg-type]
Task(on_start=5)  # type: ignore[arg-type]
Gator("locmem://", options={"retrys": 3})  # type: ignore[arg-type]
Gator("locmem://", options={"retries": "3"})  # type: ignore[arg-type]
gator.batch(retrys=3)  # type: ignore[call-arg]
gator.batch(timeout="5s")  # type: ignore[arg-type]
batch.options(retrys=3)  # type: ignore[call-arg]
Options(gator, retrys=3)  # type: ignore[call-arg]

# Options that are not for that place.
Gator("locmem://", options={"task_id": "id"})  # type: ignore[arg-type]
gator.batch(tz="Europe/Berlin")  # type: ignore[call-arg]
batch.options(overlap=False)  # type: ignore[call-arg]
Task(catch_up=True)  # type: ignore[call-arg]


# Hooks take the task, or the task and its outcome.
def nothing() -> None:
    """Take nothing."""


def of_task(task: Task) -> None:
    """Take the task."""


def of_result(task: Task, result: int) -> str:
    """Take what it returned, too, and return something."""
    return f"{task.id} {result}"


def of_error(task: Task, err: Exception) -> None:
    """Take its exception, too."""


def of_three(task: Task, result: object, more: object) -> None:
    """Take too much."""


def of_number(number: int) -> None:
    """Take something else than a task."""


def of_any(*args: Any, **kwargs: Any) -> None:
    """Take all."""


class Sums:
    """Have hooks as methods."""

    def note(self, task: Task, result: Any = None) -> None:
        """Take one or two."""


gator.options(on_start=of_task, on_success=of_task, on_error=of_task)
gator.options(on_success=of_result, on_error=of_error)
gator.options(on_start=of_any, on_success=of_any, on_error=of_any)
gator.options(on_start=None, on_success=None, on_error=None)
gator.options(on_success=Sums().note, on_error=Sums().note, on_start=Sums().note)
gator.options(on_success=lambda task: print(task.id))
gator.options(on_success=lambda task, result: print(task.id, result))
gator.options(on_error=partial(of_three, more=5))
Task(on_success=of_result).on_error = of_error

gator.options(on_start=nothing)  # type: ignore[arg-type]
gator.options(on_start=of_result)  # type: ignore[arg-type]
gator.options(on_start=of_number)  # type: ignore[arg-type]
gator.options(on_success=nothing)  # type: ignore[arg-type]
gator.options(on_success=of_three)  # type: ignore[arg-type]
gator.options(on_success=of_number)  # type: ignore[arg-type]
gator.options(on_success="myapp.hook")  # type: ignore[arg-type]
gator.options(on_error=nothing)  # type: ignore[arg-type]
gator.options(on_error=of_three)  # type: ignore[arg-type]
gator.options(on_error=lambda: print())  # type: ignore[arg-type]
gator.batch(on_error=of_three)  # type: ignore[arg-type]
Task(on_success=of_three)  # type: ignore[arg-type]
Gator("locmem://", options={"on_error": of_three})  # type: ignore[arg-type]


# The types may be used in functions of an application.
def push_mail(to: str, **options: Unpack[TaskOptions]) -> Task[None]:
    """Push with options of the caller."""
    return gator.options(**options).task(print, to)


def nightly(hook: Hook, **options: Unpack[ScheduleOptions]) -> None:
    """Declare a schedule with options of the caller."""
    gator.options(**options).cron("0 5 * * *", print)
    gator.options(on_start=hook, on_error=hook)


push_mail("a@example.com", retries=3)
push_mail("a@example.com", retrys=3)  # type: ignore[call-arg]
nightly(of_task, tz="Europe/Berlin")
settings: GatorOptions = {"retries": 3}
Gator("locmem://", options=settings)
many: BatchOptions = {"retries": 3, "timeout": 5}
gator.batch(**many)
loose: dict[str, Any] = {"retries": 3}
gator.options(**loose)
