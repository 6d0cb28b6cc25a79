"""What only looks at the queues of SQS, and keeps house among them."""

import json
import re
from typing import Any

from alligator.backends.base import DELAY, LEASES, Data, DeadTask, Place, QueueStats, Renew
from alligator.backends.base import Client as BaseClient
from alligator.backends.sqs import dead_letters
from alligator.backends.sqs.connection import Connection
from alligator.backends.sqs.encoding import BATCH, FREE_RECEIVES, LARGEST_TEXT
from alligator.backends.sqs.errors import is_in_progress, parse_address
from alligator.common.clock import Clock
from alligator.exceptions import ConnectionLost, QueueNotFound

GROUP = "alligator"  # the one message group of a FIFO queue

NO_IDS = "SQS cannot look a message up by id; keep a record of your own, or use another backend."
_WAITING = "ApproximateNumberOfMessages"
_DELAYED = "ApproximateNumberOfMessagesDelayed"
_RUNNING = "ApproximateNumberOfMessagesNotVisible"
_RETENTION = "MessageRetentionPeriod"
_LONGEST_RETENTION = 1_209_600  # 14 days (SQS service quota; the default is 4 days)
_MOST_REMEMBERED = 100


class Overview(BaseClient):
    """The half of the client that reserves no task."""

    supports = frozenset({LEASES, DELAY})
    queue_name_pattern = re.compile(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo")
    queue_name_rule = "1 to 80 letters, digits, '_' or '-', with or without '.fifo' at the end"

    def __init__(self, conn_string: str, *, clock: Clock | None = None) -> None:
        super().__init__(conn_string, clock=clock)
        self._address = parse_address(conn_string)
        self._names: dict[str, None] = {}  # the queues that durability_warning is about

    @property
    def _connection(self) -> Connection:
        raise NotImplementedError

    def check_queue_name(self, queue_name: str) -> None:
        """Raise :exc:`InvalidTask` unless SQS can have a queue of that name."""
        super().check_queue_name(queue_name)
        if len(self._names) < _MOST_REMEMBERED:
            self._names[queue_name] = None

    def max_size(self) -> int:
        """Return the largest task, in bytes of plain text; bytes have to be a quarter less."""
        return LARGEST_TEXT

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

    def drop_all(self, queue_name: str) -> None:
        """Purge the queue and its dead letters.

        SQS purges a queue once in 60 seconds. Within them, what is visible is received and
        deleted one batch at a time; what is delayed or running stays.
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

    # -- Dead letters. --------------------------------------------------------------------

    def dead(self, queue_name: str, limit: int = 100) -> list[DeadTask]:
        """Return dead letters, the newest first of the thousand or so that are read."""
        return dead_letters.read(self._connection, queue_name, limit)

    def revive(
        self, queue_name: str, task_id: str | None = None, renew: Renew | None = None
    ) -> int:
        """Put dead letters back on their queue; also by the id given at the push.

        One whose id is on the queue is revived nevertheless: SQS cannot look it up.
        """
        return dead_letters.revive(self._connection, queue_name, task_id, GROUP, renew)

    def purge_dead(self, queue_name: str, older_than: float = 0.0) -> int:
        """Delete dead letters older than so many seconds."""
        return dead_letters.purge(self._connection, queue_name, self.clock.time() - older_than)

    # -- What SQS has not. ----------------------------------------------------------------

    def get(self, queue_name: str, task_id: str) -> Data | None:
        """Not with SQS: raises :exc:`NotImplementedError`, as documented since 0.x."""
        raise NotImplementedError(NO_IDS)

    def find(self, queue_name: str, task_id: str) -> Place | None:
        """Not with SQS: raises :exc:`NotImplementedError`."""
        raise NotImplementedError(NO_IDS)

    def peek(self, queue_name: str, task_id: str) -> Data | None:
        """Not with SQS: raises :exc:`NotImplementedError`."""
        raise NotImplementedError(NO_IDS)

    # -- How the queues are set up. -------------------------------------------------------

    def durability_warning(self) -> str | None:
        """Return what may lose tasks on the queues whose names this client has checked."""
        found = [each for name in list(self._names) for each in self._risks(name)]
        return "SQS: " + "; ".join(found) if found else None

    def _risks(self, queue_name: str) -> list[str]:
        found = self._connection.attributes(queue_name, _RETENTION, "RedrivePolicy")
        retention = int(found.get(_RETENTION, _LONGEST_RETENTION))
        risks = []
        if retention < _LONGEST_RETENTION:
            risks.append(
                f"queue {queue_name!r} drops a task {_span(retention)} after its push, done or "
                f"not ({_RETENTION}; at most 14 days)"
            )
        policy = _redrive(found)
        most = int(policy.get("maxReceiveCount", 0))
        if policy and most < FREE_RECEIVES + self.max_deaths:
            risks.append(
                f"the redrive policy of {queue_name!r} takes tasks away after {most} receives, "
                f"hand-backs included (maxReceiveCount; {FREE_RECEIVES + self.max_deaths} is fine)"
            )
        if not policy and not self._has_dead_queue(queue_name):
            dead_queue = dead_letters.dead_name(queue_name)
            risks.append(f"there is no queue {dead_queue!r}, so dead letters are only logged")
        return risks

    def _has_redrive(self, queue_name: str) -> bool:
        return bool(_redrive(self._connection.attributes(queue_name, "RedrivePolicy")))


def _redrive(attributes: dict[str, str]) -> dict[str, Any]:
    policy: dict[str, Any] = json.loads(attributes.get("RedrivePolicy") or "{}")
    return policy


def _span(seconds: int) -> str:
    if seconds % 86_400 == 0:
        return f"{seconds // 86_400} days"
    return f"{seconds} seconds"
