"""What the middleware for OpenTelemetry and for Sentry share."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Generic, ParamSpec, TypeVar

from alligator.common.log import SafeTracebacks
from alligator.exceptions import InvalidTask, LeaveNow, RunAgain, TaskCanceled
from alligator.tasks.attempt_numbers import number_of
from alligator.tasks.functions import split_name, wire_name
from alligator.tasks.task import Task
from alligator.tasks.validation import CHECKS

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

P = ParamSpec("P")
T = TypeVar("T")

#: The header that both write: https://www.w3.org/TR/baggage/.
BAGGAGE = "baggage"


class Quiet:
    """Calls functions so that no error of tracing changes what happens to a task.

    :param name: what is traced with, for the log. It is told of the first error, and no other.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._told = False

    def __call__(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Return what the call returns; None if it raises an Exception."""
        try:
            return call(*args, **kwargs)
        except Exception:
            if not self._told:
                self._told = True
                log.exception("%s raised; tasks go on. Said once.", self.name)
            return None

    def around(
        self, begin: Callable[[], T], end: Callable[[T | None, BaseException | None], object]
    ) -> "Around[T]":
        """Return a context manager that begins what is traced before its block, and then ends it.

        :param end: is given what ``begin`` returned, and what the block raised.
        """
        return Around(self, begin, end)


class Around(Generic[T]):
    """Traces a block; see :meth:`Quiet.around`."""

    def __init__(
        self,
        quietly: Quiet,
        begin: Callable[[], T],
        end: Callable[[T | None, BaseException | None], object],
    ) -> None:
        self._quietly, self._begin, self._end = quietly, begin, end
        self._begun: T | None = None

    def __enter__(self) -> None:
        self._begun = self._quietly(self._begin)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._quietly(self._end, self._begun, error)


class Headers:
    """Writes the context of a trace into the headers of tasks.

    :param is_own: whether an item of the baggage is one of these; the others are kept.
    """

    def __init__(self, is_own: Callable[[str], bool]) -> None:
        self.is_own = is_own
        self._told = False

    def write(self, task: Task, found: Mapping[str, str], names: Collection[str]) -> None:
        """Set them as far as there is room: without the baggage, or none, before a push fails.

        :param names: the headers that there may be; older ones, of a push before, are taken out.
        """
        before = task.headers
        rest = {name: text for name, text in before.items() if name not in names}
        rest.pop(BAGGAGE, None)
        items = [each for each in before.get(BAGGAGE, "").split(",") if each.strip()]
        items = [each for each in items if not self.is_own(each.strip())]
        without = {name: text for name, text in found.items() if name != BAGGAGE}
        if items:
            without[BAGGAGE] = ",".join(items)
        own = [found[BAGGAGE]] if found.get(BAGGAGE) else []
        full = {**without, BAGGAGE: ",".join([*items, *own])} if own else without
        bare = {BAGGAGE: without[BAGGAGE]} if items else {}
        for headers in (full, without, bare):
            try:
                task.headers = CHECKS["headers"](rest | headers)
            except InvalidTask:
                continue
            if headers is not full and not self._told:
                self._told = True
                log.warning(
                    "A task has no room in its headers for %s, and is pushed without. Said once.",
                    "the baggage of its trace" if headers is without else "its trace",
                )
            return


def function_name(task: Task) -> str:
    """Return the name of a task's function, ``'myapp.mail.send'``."""
    func = task.func
    if isinstance(func, str):
        return ".".join(split_name(func))
    try:
        return ".".join(wire_name(func))
    except InvalidTask:  # with is_async=False it may be any callable
        return getattr(func, "__qualname__", type(func).__qualname__)


def queue_name(task: Task) -> str:
    """Return the queue that a task is pushed to, or was delivered from."""
    return task.queue_name or "" if task.delivery is None else task.delivery.queue_name


def attempt(task: Task) -> int:
    """Return the number of this attempt at a task, from 1; see ``DeadTask.attempts``."""
    return task.retried + 1 if task.delivery is None else number_of(task.delivery, task)


def outcome(task: Task, error: BaseException | None) -> str:
    """Return how a run ended.

    ``succeeded``; ``retried``: it failed and runs again; ``postponed``: it asked to run again;
    ``dead letter``; ``canceled``; ``interrupted``: its worker leaves, and hands it back.
    """
    if error is None:
        return "succeeded"
    if isinstance(error, RunAgain):
        return "postponed"
    if task.is_canceled and isinstance(error, TaskCanceled | asyncio.CancelledError):
        return "canceled"
    if isinstance(error, LeaveNow | asyncio.CancelledError):
        return "interrupted"
    return "retried" if task.may_retry(error) else "dead letter"


def is_failure(outcome: str) -> bool:
    """Return whether a run ended so because it failed."""
    return outcome in ("retried", "dead letter")
