"""Keep queues in one SQLite file, shared by processes of one machine. No server to run.

``sqlite:///var/lib/app/q.db`` (absolute) or ``sqlite://q.db`` (relative to the current
directory). Tasks survive ``kill -9`` and a reboot; a power cut too with
``?synchronous=FULL``, at the price of a disk flush per transaction.
"""

import math
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from alligator.backends.base import DEBOUNCE, LIMIT, LISTING, PAUSE, RATE, UNIQUE, push_in_steps
from alligator.backends.base import Client as BaseClient
from alligator.backends.sqlite import file_findings, listing, queue
from alligator.backends.sqlite.backup import backup
from alligator.backends.sqlite.config import parse_file_dsn
from alligator.backends.sqlite.database import Database
from alligator.backends.sqlite.disk_reserve import for_dead_letter, for_push
from alligator.backends.sqlite.store import SqliteStore
from alligator.backends.sqlite.transaction import Position
from alligator.backends.task_controls import unique_key
from alligator.backends.types import (
    ControlledMessage,
    Data,
    DeadTask,
    Delivery,
    Finding,
    Listed,
    Message,
    Place,
    QueueStats,
    Reason,
    Renew,
    Reserved,
    all_queued,
    queued_or_pending,
)
from alligator.common.clock import Clock
from alligator.constants import DELAYED, FAILED, HELD, RUNNING, WAITING
from alligator.exceptions import QueueFull, QueueNotFound

#: A cell of SQLite holds at most so many bytes (SQLITE_MAX_LENGTH, as Python builds it).
MAX_SIZE = 1_000_000_000

#: Seconds that a worker pauses after a call that was for others, so that they hear it.
_STEP_ASIDE = 0.005


class Client(BaseClient):
    """The contract, on a file."""

    idle_wait = 60.0
    notes_stops = True
    shares_leases = True
    controls = frozenset({LIMIT, RATE, UNIQUE, DEBOUNCE, LISTING, PAUSE})

    def __init__(self, conn_string: str, *, clock: Clock | None = None) -> None:
        super().__init__(conn_string, clock=clock)
        self.database = Database(*parse_file_dsn(conn_string), self.clock)
        self._store = SqliteStore(self, self.database)

    @property
    def conn(self) -> sqlite3.Connection:
        """The connection of this process."""
        return self.database.connection

    @property
    def store(self) -> SqliteStore:
        """The store in the same file."""
        return self._store

    def setup_tables(self) -> None:
        """Create the tables. Not needed: they appear by themselves; it does no harm."""
        _ = self.database.connection

    def max_size(self) -> int | None:
        return MAX_SIZE

    def backup(self, target: str) -> None:
        backup(self.database, Path(target))

    def close(self) -> None:
        self.database.close()

    # -- Pushing and reserving. ---------------------------------------------------------------

    def len(self, queue_name: str) -> int:
        with self.database.reading() as connection:
            counts = queue.counts(connection, queue_name)
        return counts[WAITING] + counts[DELAYED]

    def drop_all(self, queue_name: str) -> None:
        """Remove every task of the queue, whatever its state."""
        more = True
        while more:  # others may write in between
            with self.database.transaction() as tx:
                more = queue.drop_some(tx, queue_name)

    def push_many(self, queue_name: str, messages: Sequence[Message]) -> list[str]:

        def push(first: int, last: int) -> list[str]:
            some, database = messages[first:last], self.database
            if unique:  # alone, as the other threads are told no more than a position
                with database.transaction(for_push(some)) as tx:
                    at, pending = queue.push_unique(tx, queue_name, some)
                return queued_or_pending([each.task_id for each in some], pending, at)
            position = database.pushes.push(database.lock, database.transaction, queue_name, some)
            return all_queued((each.task_id for each in some), position)

        unique = ControlledMessage in set(map(type, messages)) and any(map(unique_key, messages))
        return push_in_steps(messages, push)

    def _lease(
        self,
        queue_names: Sequence[str],
        limit: int,
        lease: float,
        wait: float,
        acks: Sequence[Delivery],
        task_id: str | None,
    ) -> Reserved:
        # Without the writers' lock, so that idle workers delay no other process.
        if not acks and task_id is None and self._upcoming(queue_names) > 0:
            return Reserved([], [])
        try:
            with self.database.transaction() as tx:
                refused = queue.ack(tx, acks)
                if task_id is None:
                    found = queue.lease_next(tx, queue_names, limit, lease)
                else:
                    found = queue.lease_one(tx, queue_names, task_id, lease)
        except QueueFull:
            if limit == 1:
                raise
            return self._lease(queue_names, 1, lease, wait, acks, task_id)  # takes less room
        if tx.more:  # others may write in between
            found = self._lease(queue_names, limit, lease, wait, (), None).deliveries
        return Reserved(found, refused)

    def withdraw(self, queue_name: str, task_id: str, lease: float = 30.0) -> Reserved:
        with self.database.transaction() as tx:
            return Reserved(queue.lease_one(tx, [queue_name], task_id, lease, to_run=False), [])

    def _wait(
        self,
        queue_names: Sequence[str],
        limit: int,
        lease: float,
        seconds: float,
        stop: Callable[[], bool],
    ) -> list[Delivery]:
        deadline = time.monotonic() + seconds
        seen = self.database.version()
        due = self.next_change(queue_names)  # after the version: no push falls between

        def left() -> float:
            return min(deadline - time.monotonic(), due - self.clock.time())

        hops = (
            self.database.wakeup.wait(left, seen, self.database.version, stop) if left() > 0 else 0
        )
        found, _ = self._lease(queue_names, limit, lease, 0, (), None)
        if hops > 1 and not (found and self._upcoming(queue_names) > 0):
            # There is more than we take, or the call was for others: pass it on.
            self.database.wakeup.call(hops=hops - 1)
            if not found:
                time.sleep(min(_STEP_ASIDE, max(0.0, deadline - time.monotonic())))
        return found

    def _upcoming(self, queue_names: Sequence[str]) -> float:
        """Return in how many seconds there is something to take; 0 or less: now."""
        return self.next_change(queue_names) - self.clock.time()

    def next_change(self, queue_names: Sequence[str]) -> float:
        now = self.clock.time()
        with self.database.reading() as connection:
            return min(queue.next_change(connection, name, now) for name in queue_names)

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        with self.database.transaction() as tx:
            return queue.ack(tx, deliveries)

    def release(
        self, delivery: Delivery, data: Data | None = None, delay_until: float | None = None
    ) -> bool:
        with self.database.transaction() as tx:
            return queue.release(tx, delivery, data, delay_until, ran=data is not None)

    def postpone(self, delivery: Delivery, data: Data, delay_until: float) -> bool:
        with self.database.transaction() as tx:
            return queue.release(tx, delivery, data, delay_until, ran=False)

    def extend(self, deliveries: Sequence[Delivery], lease: float) -> list[Delivery]:
        with self.database.transaction() as tx:
            return queue.extend(tx, deliveries, lease)

    def note_stop(self, deliveries: Sequence[Delivery]) -> None:
        with self.database.transaction() as tx:
            queue.note_stop(tx, deliveries)

    def share(self, deliveries: Sequence[Delivery]) -> list[bytes]:
        """Return rows, tickets and deaths, which a release writes down again."""
        return [b"%d %d %d" % (*each.receipt, each.deaths) for each in deliveries]

    def shared(self, queue_name: str, raw: bytes) -> Delivery:
        row_id, ticket, deaths = map(int, raw.split())
        return Delivery(queue_name, "", "", (row_id, ticket), deaths=deaths)

    def run_now(self, queue_name: str, task_id: str) -> bool:
        with self.database.transaction() as tx:
            return queue.run_now(tx, queue_name, task_id)

    def pause(self, queue_name: str, until: float | None = None) -> None:
        with self.database.transaction() as tx:
            queue.pause(tx, queue_name, math.inf if until is None else until)

    def resume(self, queue_name: str) -> bool:
        with self.database.transaction() as tx:
            return queue.resume(tx, queue_name)

    def paused(self, queue_name: str) -> float | None:
        with self.database.reading() as connection:
            until = queue.paused(connection, queue_name)
        return until if until is not None and until > self.clock.time() else None

    # -- Dead letters, and looking. -----------------------------------------------------------

    def bury(self, delivery: Delivery, data: Data | None, reason: Reason) -> bool:
        with self.database.transaction(for_dead_letter(data or delivery.data, reason)) as tx:
            return queue.bury(tx, delivery, data, reason)

    def dead(self, queue_name: str, limit: int = 100) -> list[DeadTask]:
        with self.database.reading() as connection:
            return queue.dead(connection, queue_name, limit)

    def letter(self, queue_name: str, task_id: str) -> DeadTask | None:
        with self.database.reading() as connection:
            return queue.letter(connection, queue_name, task_id)

    def revive(
        self, queue_name: str, task_id: str | None = None, renew: Renew | None = None
    ) -> int:
        with self.database.transaction() as tx:
            upto = queue.last_dead(tx, queue_name)  # without tasks that die meanwhile
            revived, after = queue.revive(tx, queue_name, task_id, renew, 0, upto)
        while after:
            with self.database.transaction() as tx:
                count, after = queue.revive(tx, queue_name, task_id, renew, after, upto)
            revived += count
        return revived

    def purge_dead(self, queue_name: str, older_than: float = 0.0) -> int:
        purged = 0
        while True:
            with self.database.transaction() as tx:
                count = queue.purge_dead(tx, queue_name, older_than)
            purged += count
            if count < queue.AT_ONCE:
                return purged

    def delete_dead(self, queue_name: str, task_ids: Sequence[str]) -> int:
        deleted = 0
        for first in range(0, len(task_ids), queue.AT_ONCE):
            with self.database.transaction() as tx:
                some = task_ids[first : first + queue.AT_ONCE]
                deleted += queue.delete_dead(tx, queue_name, some)
        return deleted

    def find(self, queue_name: str, task_id: str) -> Place | None:
        with self.database.reading() as connection:
            return queue.find(connection, queue_name, task_id)

    def peek(self, queue_name: str, task_id: str) -> Data | None:
        with self.database.reading() as connection:
            return queue.peek(connection, queue_name, task_id)

    def check_exists(self) -> None:
        if not self.database.path.exists():
            raise QueueNotFound(
                f"There is no file {self.database.path}: nothing was ever queued there, or its "
                "path is another."
            )

    def examine(self) -> list[Finding]:
        self.check_exists()
        return file_findings.all_findings(self.database)

    def place_of(self, queue_name: str) -> str:
        """Return the random number and the inode of the file."""
        with self.database.reading():
            number, inode = self.database.identity
        return f"sqlite {number} {inode}"

    def position(self, queue_name: str) -> Position:
        """Return the last ticket that was given out in this very file."""
        with self.database.reading() as connection:
            return queue.position(connection, self.database.identity)

    def lost_nothing_since(self, queue_name: str, position: Any) -> bool | None:
        """Whether it is the same file, and the queue was not emptied since."""
        if not isinstance(position, Position):
            return None
        with self.database.reading() as connection:
            now = queue.position(connection, self.database.identity)
            emptied = queue.emptied(connection, queue_name)
        return now.file == position.file and emptied <= position.ticket <= now.ticket

    def list_tasks(
        self, queue_name: str, state: int, limit: int = 100, after: str | None = None
    ) -> tuple[list[Listed], str | None]:
        with self.database.reading() as connection:
            return listing.list_tasks(connection, queue_name, state, limit, after)

    def queue_names(self) -> list[str]:
        """Return the names of the queues that were ever counted, but for those dropped."""
        with self.database.reading() as connection:
            return queue.queue_names(connection)

    def stats(self, queue_name: str) -> QueueStats:
        with self.database.reading() as connection:
            counts = queue.counts(connection, queue_name)
            pushed = queue.oldest(connection, queue_name)
        return QueueStats(
            waiting=counts[WAITING],
            delayed=counts[DELAYED],
            running=counts[RUNNING],
            dead=counts[FAILED],
            oldest=None if pushed is None else max(0.0, self.clock.time() - pushed),
            held=counts[HELD],
        )
