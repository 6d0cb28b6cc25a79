"""Dead letters in a queue of their own, ``<queue>-dead`` (``<queue>-dead.fifo``).

A dead letter is the task's message with the reason noted beside it, so what the service's own
redrive policy moves into the same queue is a dead letter as well. SQS has no listing: letters
are received, read, and made visible again, which is approximate and which one process should
do at a time.
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
    Note,
    decode,
    encode,
    encode_dead,
    receive_count,
    successor,
)
from alligator.exceptions import InvalidTask, QueueNotFound

log = logging.getLogger("alligator.backends.sqs")

#: Letters that one listing reads at most, for a hundred requests.
MOST_READ = 1000

#: Seconds that a letter is out of sight while a listing goes on, should that never end.
_HELD = 120

_MOVED = "Moved here by the queue's redrive policy."


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter in hand."""

    message_id: str
    handle: str
    task: DeadTask
    note: Note

    def goes_by(self, task_id: str) -> bool:
        """Whether this is the id of the letter, of its task, or given at the push."""
        return task_id in (self.task.task_id, self.note.own_id, self.message_id)


def dead_name(queue_name: str) -> str:
    """Return the name of the queue for the dead letters of a queue."""
    if queue_name.endswith(".fifo"):
        return queue_name.removesuffix(".fifo") + "-dead.fifo"
    return f"{queue_name}-dead"


def send(
    connection: Connection, taken: Delivery, data: Data, reason: Reason, died_at: float
) -> bool:
    """Put a dead letter on its queue; return False if there is none, or none that takes it."""
    note = replace(successor(taken), deaths=0, died_at=died_at)
    for why in (reason, Reason(reason.error[:256])):  # the queue may have a smaller limit
        letter = encode_dead(data, note, why)
        # Its own group: one letter in hand must not hide the others from a listing.
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
    connection: Connection,
    queue_name: str,
    task_id: str | None,
    group: str,
    renew: Renew | None,
) -> int:
    """Send dead letters to their queue, then delete them; return how many."""
    revived = set[str]()
    with _listing(connection, queue_name) as letters:
        for letter in letters:
            if task_id is not None and not letter.goes_by(task_id):
                continue
            if letter.task.task_id not in revived:
                note = Note(letter.note.own_id, letter.task.task_id)
                data = letter.task.data
                message = encode(renew(letter.task.task_id, data) if renew else data, note)
                (sent,) = connection.send(queue_name, [message], [0], group)
                if not isinstance(sent, str):
                    raise sent
                revived.add(letter.task.task_id)
            letters.delete(letter)
    return len(revived)


def purge(connection: Connection, queue_name: str, until: float) -> int:
    """Delete dead letters that died before; return how many."""
    purged = set[str]()
    with _listing(connection, queue_name) as letters:
        for letter in letters:
            if letter.task.died_at <= until:
                letters.delete(letter)
                purged.add(letter.task.task_id)
    return len(purged)


class _Letters:
    """The letters of one listing; those not deleted become visible again at its end."""

    def __init__(self, connection: Connection, queue_name: str) -> None:
        self._connection, self._queue_name = connection, queue_name
        self._dead_queue = dead_name(queue_name)
        self._held: dict[str, str] = {}  # message id → handle
        self._doomed: list[str] = []

    def __iter__(self) -> Iterator[Letter]:
        count = "ApproximateNumberOfMessages"
        expected = max(1, int(self._connection.attributes(self._dead_queue, count).get(count, 0)))
        seen = set[str]()
        while True:
            # A short poll asks only some of the servers, so it may miss what is there.
            wait = 1 if len(seen) < expected else 0
            batch = self._connection.receive(self._dead_queue, BATCH, _HELD, wait)
            self._held |= {each["MessageId"]: each["ReceiptHandle"] for each in batch}
            fresh = [each for each in batch if each["MessageId"] not in seen]
            seen.update(each["MessageId"] for each in fresh)
            for message in fresh:
                yield _letter(self._queue_name, message)
            self.flush()
            if not fresh:
                return

    def delete(self, letter: Letter) -> None:
        """Delete a letter, together with others of its batch."""
        del self._held[letter.message_id]
        self._doomed.append(letter.handle)

    def flush(self) -> None:
        """Delete what is to be deleted."""
        doomed, self._doomed = self._doomed, []
        self._connection.delete(self._dead_queue, doomed)

    def close(self) -> None:
        """Let the others be seen again."""
        self.flush()
        self._connection.change(self._dead_queue, list(self._held.values()), 0)


@contextmanager
def _listing(connection: Connection, queue_name: str) -> Iterator[_Letters]:
    letters = _Letters(connection, queue_name)
    try:
        with connection.listing:
            try:
                yield letters
            finally:
                letters.close()
    except QueueNotFound:
        # Without a queue for them there are no dead letters; without the queue itself, say so.
        connection.attributes(queue_name, "QueueArn")


def _letter(queue_name: str, message: dict[str, Any]) -> Letter:
    data, note = decode(message)
    sent = float(message.get("Attributes", {}).get("SentTimestamp", 0)) / 1000
    task = DeadTask(
        task_id=note.first_id or message["MessageId"],
        queue_name=queue_name,
        data=data,
        error=note.error or _MOVED,
        traceback=note.traceback,
        died_at=note.died_at or sent,
        attempts=note.attempts or receive_count(message),
    )
    return Letter(message["MessageId"], message["ReceiptHandle"], task, note)


def put_in_log(taken: Delivery, data: Data, reason: Reason, *, left: bool) -> None:
    """Write a dead letter that no queue takes to the log, whole."""
    log.error(
        "Dead letter of queue %r (%s %r, which would keep it): task %r, own id %r, attempts %d, "
        "error %r, traceback %r, data %r",
        taken.queue_name,
        "left to its redrive policy, for want of" if left else "deleted, for want of",
        dead_name(taken.queue_name),
        taken.task_id,
        taken.receipt.note.own_id,
        taken.attempt,
        reason.error,
        reason.traceback,
        data,
    )
