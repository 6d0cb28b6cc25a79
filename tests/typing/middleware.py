# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""Give middleware, which has one method of four, or several."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from alligator import Gator, Task
from alligator.contrib.opentelemetry import OpenTelemetryMiddleware
from alligator.contrib.sentry import SentryMiddleware


class Tenant:
    """Have two of them, without types of their own."""

    def push(self, task: Task, call_next: Callable[[], Any]) -> None:
        """Pass the task on."""
        task.headers["tenant"] = "7"
        call_next()

    async def run(self, task: Task, call_next: Callable[[], Awaitable[Any]]) -> None:
        """Wait for the task."""
        await call_next()


class Plain:
    """Have a plain run."""

    def run(self, task: Task, call_next: Callable[[], Any]) -> Any:
        """Return what the task returned."""
        return call_next()


class Bulk:
    """Have only what is called around many."""

    def push_batch(self, tasks: Sequence[Task], call_next: Callable[..., Any]) -> Any:
        """Pass the tasks on."""
        return call_next()


class Counts:
    """Have only what is told of tasks that ended."""

    def activity(self, rows: list[Any]) -> None:
        """Look at them."""


class Other:
    """Have none of them."""

    def before(self, task: Task) -> None:
        """Have a name that Alligator does not call."""


class TakesTooLittle:
    """Have one that cannot be called."""

    def run(self, task: Task) -> None:
        """Have no way to go on."""


class TakesAnother:
    """Have one that is called with something else."""

    def push(self, task: int, call_next: Callable[[], Any]) -> None:
        """Take no task."""


Gator("locmem://", middleware=[Tenant(), Plain(), Bulk(), Counts()])
Gator("locmem://", middleware=(Plain(),))
Gator("locmem://", middleware=[OpenTelemetryMiddleware(), SentryMiddleware()])
Gator("locmem://", middleware=None)

Gator("locmem://", middleware=Plain())  # type: ignore[arg-type]
Gator("locmem://", middleware=[Plain])  # type: ignore[list-item]
Gator("locmem://", middleware=[Other()])  # type: ignore[list-item]
Gator("locmem://", middleware=[object()])  # type: ignore[list-item]
Gator("locmem://", middleware=[TakesTooLittle()])  # type: ignore[list-item]
Gator("locmem://", middleware=[TakesAnother()])  # type: ignore[list-item]
