"""Keep dead letters in a queue of their own, ``<queue>-dead`` (``<queue>-dead.fifo``).

A dead letter is the task's message with the reason in its metadata. So a message that the service's
own redrive policy moves into the same queue is a dead letter as well. SQS has no listing: letters
are received, read, and made visible again. That is approximate, and one process should do it at
a time.
"""

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from alligator.backends.base import Data, DeadTask, Delivery, Reason, Renew
from alligator.backends.sqs.connection import Connection
from alligator.backends.sqs.encoding import (
    BATCH,
    Metadata,
    decode,
    encode,
    encode_dead,
    receive_count,
    successor,
)
from alligator.exceptions import InvalidTask, QueueNotFound

log = logging.getLogger("alligator.backends.sqs")

#: The most letters that one listing reads, in a hundred requests.
MOST_READ = 1000

#: Seconds that a listing hides its letters; they come back even if it never ends.
_HIDDEN = 120

_MOVED = "Moved here by the queue's redrive policy."


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter that a listing has received."""

    message_id: str
    handle: str
    task: DeadTask
    metadata: Metadata

    def has_id(self, task_id: str) -> bool:
        """Whether this is the id of the letter or of its task, or the one given at the push."""
        return task_id in (self.task.task_id, self.metadata.own_id, self.message_id)


def dead_name(queue_name: str) -> str:
    """Return the name of the queue for the dead letters of a queue."""
    if queue_name.endswith(".fifo"):
        return queue_name.removesuffix(".fifo") + "-dead.fifo"
    return f"{queue_name}-dead"


def send(
    connection: Connection, taken: Delivery, data: Data, reason: Reason, died_at: float
) -> bool:
    """Send a dead letter to its queue; False: there is no such queue, or it refuses the letter."""
    metadata = replace(successor(taken), deaths=0, died_at=died_at)
    for why in (reason, Reason(reason.error[:256])):  # the queue may have a smaller limit
        letter = encode_dead(data, metadata, why)
        # Its own group: one received letter must not hide the others from a listing.
        (sent,) = connection.send(dead_name(taken.queue_name), [letter], [0], uuid.uuid4().hex)
        if isinstance(sent, str):
            return True
        if isinstance(sent, QueueNotFound):
            return False
        if not isinstance(sent, InvalidTask):
            raise sent
    return False


def read(connection: Connection, queue_name: str, limit: int) -> list[DeadTask]:
    """Return dead letters, newest first among those read; one per task."""
    newest = dict[str, DeadTask]()
    with _listing(connection, queue_name) as letters:
        for _, letter in zip(range(max(limit, MOST_READ)), letters, strict=False):
            known = newest.get(letter.task.task_id)
            if known is None or known.died_at < letter.task.died_at:
                newest[letter.task.task_id] = letter.task
    return sorted(newest.values(), key=lambda task: task.died_at, reverse=True)[:limit]


def revive(
    connection: Connection, queue_name: str, task_id: str | None, renew: Renew | None
) -> int:
    """Send dead letters to their queue, then delete them; return how many."""
    revived = set[str]()
    with _listing(connection, queue_name) as letters:
        for letter in letters:
            if task_id is not None and not letter.has_id(task_id):
                continue
            if letter.task.task_id not in revived:
                metadata = Metadata(letter.metadata.own_id, letter.task.task_id)
                data = letter.task.data
                message = encode(renew(letter.task.task_id, data) if renew else data, metadata)
                (sent,) = connection.send(queue_name, [message], [0])
                if not isinstance(sent, str):
                    raise sent
                revived.add(letter.task.task_id)
            letters.delete(letter)
    return len(revived)


def purge(connection: Connection, queue_name: str, until: float) -> int:
    """Delete the dead letters up to a time; return how many."""
    purged = set[str]()
    with _listing(connection, queue_name) as letters:
        for letter in letters:
            if letter.task.died_at <= until:
                letters.delete(letter)
                purged.add(letter.task.task_id)
    return len(purged)


class _Listing:
    """The letters of one listing; all but the deleted ones become visible again at its end."""

    def __init__(self, connection: Connection, queue_name: str) -> None:
        self._connection, self._queue_name = connection, queue_name
        self._dead_queue = dead_name(queue_name)
        self._hidden: dict[str, str] = {}  # message id → handle
        self._to_delete: list[str] = []

    def __iter__(self) -> Iterator[Letter]:
        count = "ApproximateNumberOfMessages"
        expected = max(1, int(self._connection.attributes(self._dead_queue, count).get(count, 0)))
        seen = set[str]()
        while True:
            # A short poll asks only some of the servers, so it may miss letters.
            wait = 1 if len(seen) < expected else 0
            batch = self._connection.receive(self._dead_queue, BATCH, _HIDDEN, wait)
            self._hidden |= {each["MessageId"]: each["ReceiptHandle"] for each in batch}
            fresh = [each for each in batch if each["MessageId"] not in seen]
            seen.update(each["MessageId"] for each in fresh)
            for message in fresh:
                yield _letter(self._queue_name, message)
            self._delete()
            if not fresh:
                return

    def delete(self, letter: Letter) -> None:
        """Delete a letter, together with others of its batch."""
        del self._hidden[letter.message_id]
        self._to_delete.append(letter.handle)

    def _delete(self) -> None:
        handles, self._to_delete = self._to_delete, []
        self._connection.delete(self._dead_queue, handles)

    def close(self) -> None:
        """Delete the letters that are left to delete, and show the others again."""
        self._delete()
        self._connection.change(self._dead_queue, list(self._hidden.values()), 0)


@contextmanager
def _listing(connection: Connection, queue_name: str) -> Iterator[_Listing]:
    letters = _Listing(connection, queue_name)
    try:
        with connection.listing:
            try:
                yield letters
            finally:
                letters.close()
    except QueueNotFound:
        # Without their queue there are no dead letters. If the queue itself is missing, raise.
        connection.attributes(queue_name, "QueueArn")


def _letter(queue_name: str, message: dict[str, Any]) -> Letter:
    data, metadata = decode(message)
    sent = float(message.get("Attributes", {}).get("SentTimestamp", 0)) / 1000
    task = DeadTask(
        task_id=metadata.first_id or message["MessageId"],
        queue_name=queue_name,
        data=data,
        error=metadata.error or _MOVED,
        traceback=metadata.traceback,
        died_at=metadata.died_at or sent,
        attempts=metadata.attempts or receive_count(message),
    )
    return Letter(message["MessageId"], message["ReceiptHandle"], task, metadata)


def put_in_log(taken: Delivery, data: Data, reason: Reason, *, left: bool) -> None:
    """Log the whole of a dead letter that no queue takes."""
    log.error(
        "Dead letter of queue %r (%s %r, which would keep it): task %r, own id %r, attempts %d, "
        "error %r, traceback %r, data %r",
        taken.queue_name,
        "left to its redrive policy, for want of" if left else "deleted, for want of",
        dead_name(taken.queue_name),
        taken.task_id,
        taken.receipt.metadata.own_id,
        taken.attempt,
        reason.error,
        reason.traceback,
        data,
    )
