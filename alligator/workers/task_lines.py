"""Log one line when a task starts, and one when it ends.

Both have the function, the id, the queue and the attempt, the second one also the duration: in
their text, and as fields of the record, for loggers that write JSON.
"""

import logging
from collections.abc import Callable
from typing import Any

from alligator.backends.base import Delivery
from alligator.common.text import short_id, shorten
from alligator.exceptions import LeaveNow
from alligator.execution.attempt import Outcome, Verdict
from alligator.tasks.attempt_numbers import number_of
from alligator.tasks.functions import wire_name
from alligator.tasks.task import Task

#: What the field ``outcome`` says.
_OUTCOMES = {
    Verdict.ACK: "succeeded",
    Verdict.RETRY: "retried",
    Verdict.LATER: "handed back",
    Verdict.BURY: "dead letter",
    Verdict.CANCEL: "canceled",
    Verdict.CARRIED: "started",
}


def fields_of(outcome: Outcome, took: float) -> dict[str, Any]:
    """Return the fields of the record of an end.

    :param took: seconds.
    """
    found = _fields(outcome.task, outcome.delivery, outcome.attempt)
    return {**found, "outcome": _OUTCOMES[outcome.verdict], "duration": round(took, 6)}


def _fields(task: Any, delivery: Delivery, attempt: int) -> dict[str, Any]:
    return {
        "task_id": delivery.task_id,
        "function": _function_of(task),
        "queue_name": delivery.queue_name,
        "attempt": attempt,
    }


def _function_of(task: Any) -> str:
    try:
        return shorten(".".join(wire_name(task.func)))
    except LeaveNow:
        raise
    except BaseException:  # the user's own Task class, or a function that was not found
        return ""


class TaskLines:
    """Logs the lines of the tasks of one worker; no error of a logger reaches a task."""

    def __init__(self, log: logging.Logger) -> None:
        self.log = log

    def begins(
        self, further: Callable[[Task, Delivery], None] | None
    ) -> Callable[[Task, Delivery], None]:
        """Return what to call with a task right before it runs.

        :param further: also to be called then.
        """

        def begin(task: Task, delivery: Delivery) -> None:
            self.start(task, delivery)
            if further is not None:
                further(task, delivery)

        return begin

    def start(self, task: Task, delivery: Delivery) -> None:
        """Log that a task starts."""
        fields = _fields(task, delivery, number_of(delivery, task))
        self._write(
            "Task %s %s starts (queue %s, attempt %d).",
            (
                short_id(delivery.task_id),
                fields["function"],
                delivery.queue_name,
                fields["attempt"],
            ),
            {**fields, "outcome": "started"},
        )

    def succeed(self, outcome: Outcome, took: float) -> None:
        """Log that a task has succeeded."""
        fields, delivery = fields_of(outcome, took), outcome.delivery
        self._write(
            "Task %s %s succeeded in %.3f s (queue %s, attempt %d).",
            (
                short_id(delivery.task_id),
                fields["function"],
                took,
                delivery.queue_name,
                fields["attempt"],
            ),
            fields,
        )

    def _write(self, text: str, args: tuple[Any, ...], fields: dict[str, Any]) -> None:
        try:
            self.log.info(text, *args, extra=fields)
        except LeaveNow:
            raise
        except Exception:  # noqa: S110 - a handler that raises must fail no task
            pass


def described(outcome: Outcome, took: float) -> str:
    """Return what a line about a failure has at its end: function, queue, attempt, duration."""
    function = _function_of(outcome.task) if outcome.task is not None else ""
    delivery = outcome.delivery
    about = [function] if function else []
    about += [f"queue {delivery.queue_name}", f"attempt {outcome.attempt}", f"{took:.3f} s"]
    return f"({', '.join(about)})"
