"""Look at the queues of SQS, purge them, and tell how they are set up."""

import json
from collections.abc import Iterable
from typing import Any

from alligator.backends.base import Finding, QueueStats
from alligator.backends.sqs import dead_letters
from alligator.backends.sqs.connection import Connection
from alligator.backends.sqs.encoding import BATCH
from alligator.backends.sqs.errors import is_in_progress
from alligator.exceptions import ConnectionLost, QueueNotFound

_WAITING = "ApproximateNumberOfMessages"
_DELAYED = "ApproximateNumberOfMessagesDelayed"
_RUNNING = "ApproximateNumberOfMessagesNotVisible"
_RETENTION = "MessageRetentionPeriod"
_LONGEST_RETENTION = 1_209_600  # 14 days (SQS service quota; the default is 4 days)


class Admin:
    """Administers queues over one process's connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def len(self, queue_name: str) -> int:
        """Return about how many tasks wait or are delayed."""
        found = self._counts(queue_name, _WAITING, _DELAYED)
        return found[_WAITING] + found[_DELAYED]

    def stats(self, queue_name: str) -> QueueStats:
        """Return about how many tasks are in which state.

        A task that was released with a delay counts as running.
        """
        found = self._counts(queue_name, _WAITING, _DELAYED, _RUNNING)
        dead = 0
        if self._has_dead_queue(queue_name):
            dead_queue = dead_letters.dead_name(queue_name)
            dead = sum(self._counts(dead_queue, _WAITING, _RUNNING).values())
        return QueueStats(found[_WAITING], found[_DELAYED], found[_RUNNING], dead, None)

    def _counts(self, queue_name: str, *names: str) -> dict[str, int]:
        found = self._connection.attributes(queue_name, *names)
        return {name: int(found.get(name, 0)) for name in names}

    def _has_dead_queue(self, queue_name: str) -> bool:
        try:
            self._connection.attributes(dead_letters.dead_name(queue_name), "QueueArn")
        except QueueNotFound:
            return False
        return True

    def purge(self, queue_name: str) -> None:
        """Purge a queue and its dead letters.

        SQS purges a queue once in 60 seconds. Within them, visible messages are received and
        deleted one batch at a time; delayed and running ones stay.
        """
        self._purge(queue_name)
        if self._has_dead_queue(queue_name):
            self._purge(dead_letters.dead_name(queue_name))

    def _purge(self, queue_name: str) -> None:
        connection = self._connection
        try:
            connection.call(queue_name, "purge_queue")
        except ConnectionLost as err:
            if not is_in_progress(err):
                raise
            while found := connection.receive(queue_name, BATCH, 30, 1):
                connection.delete(queue_name, [each["ReceiptHandle"] for each in found])

    def has_redrive(self, queue_name: str) -> bool:
        """Whether a queue has a redrive policy."""
        return bool(_redrive(self._connection.attributes(queue_name, "RedrivePolicy")))

    def warning(self, queue_names: Iterable[str], most_receives: int) -> str | None:
        """Return how the set-up of these queues may lose tasks; None: it does not.

        :param most_receives: the most that a task may need.
        """
        found = [each for name in queue_names for each in self.risks(name, most_receives)]
        return "SQS: " + "; ".join(each.found for each in found) if found else None

    def risks(self, queue_name: str, most_receives: int) -> list[Finding]:
        """Return how the set-up of a queue may lose tasks; see :meth:`warning`."""
        found = self._connection.attributes(queue_name, _RETENTION, "RedrivePolicy")
        retention = int(found.get(_RETENTION, _LONGEST_RETENTION))
        risks = []
        if retention < _LONGEST_RETENTION:
            risks.append(
                Finding(
                    "persistence",
                    f"queue {queue_name!r} drops a task {_span(retention)} after its push, done or "
                    f"not ({_RETENTION}; at most 14 days)",
                    f"set {_RETENTION} to {_LONGEST_RETENTION}",
                    must_change=True,
                )
            )
        policy = _redrive(found)
        most = int(policy.get("maxReceiveCount", 0))
        if policy and most < most_receives:
            risks.append(
                Finding(
                    "dead letters",
                    f"the redrive policy of {queue_name!r} takes tasks away after {most} receives, "
                    f"hand-backs included (maxReceiveCount; {most_receives} is fine)",
                    f"set maxReceiveCount to {most_receives}",
                    must_change=True,
                )
            )
        if not policy and not self._has_dead_queue(queue_name):
            dead_queue = dead_letters.dead_name(queue_name)
            risks.append(
                Finding(
                    "dead letters",
                    f"there is no queue {dead_queue!r}, so dead letters are only logged",
                    "make that queue",
                    must_change=True,
                )
            )
        return risks


def _redrive(attributes: dict[str, str]) -> dict[str, Any]:
    policy: dict[str, Any] = json.loads(attributes.get("RedrivePolicy") or "{}")
    return policy


def _span(seconds: int) -> str:
    if seconds % 86_400 == 0:
        return f"{seconds // 86_400} days"
    return f"{seconds} seconds"
