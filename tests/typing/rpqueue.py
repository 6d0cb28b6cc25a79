# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""Declare tasks with decorators, as rpqueue has them."""

from datetime import timedelta
from typing import assert_type

from alligator.contrib.rpqueue import cron_task, periodic_task, task


@task
def plain(number: int) -> str:
    """Be declared without options."""
    return str(number)


@task(queue="mail", attempts=3, save_results=60, timeout=timedelta(minutes=1))
def with_options(number: int) -> str:
    """Have some."""
    return str(number)


@periodic_task(60, never_skip=True, overlap=False)
def each_minute() -> None:
    """Run each minute."""


@cron_task("0 5 * * *", tz="Europe/Berlin")
def each_day() -> None:
    """Run each day."""


assert_type(plain(5), str)
assert_type(with_options(5), str)
assert_type(plain.execute(5, delay=60).cancel(), bool)
plain("5")  # type: ignore[arg-type]
plain.execute(5, delay="60")  # type: ignore[arg-type]
task(timeot=5)  # type: ignore[call-overload]
task(timeout="5s")  # type: ignore[call-overload]
periodic_task("60")  # type: ignore[arg-type]
cron_task("0 5 * * *", tz=5)  # type: ignore[arg-type]
