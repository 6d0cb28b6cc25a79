"""What only looks at beanstalkd's queues, and keeps house among the dead letters."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from greenstalk import StatsJob

from alligator.backends.base import (
    DELAY,
    GET,
    LEASES,
    PRIORITY,
    Data,
    DeadTask,
    Delivery,
    Place,
    QueueStats,
    Renew,
)
from alligator.backends.base import Client as BaseClient
from alligator.backends.beanstalk import dead_letters
from alligator.backends.beanstalk.connection import Connection, Job, Lease
from alligator.backends.beanstalk.encoding import HEADROOM, decode
from alligator.backends.beanstalk.pool import Pool
from alligator.backends.beanstalk.socket import Server
from alligator.constants import DELAYED, FAILED, RUNNING, WAITING
from alligator.exceptions import InvalidTask

_STATES = {"ready": WAITING, "delayed": DELAYED, "reserved": RUNNING, "buried": FAILED}


class Overview(BaseClient):
    """The half of the client that reserves no task."""

    supports = frozenset({LEASES, DELAY, PRIORITY, GET})
    queue_name_rule = (
        "1 to 80 letters, digits, '_', '.' or '-', not beginning with '-' nor ending in '.dead'"
    )

    _pool: Pool
    _ttr: int

    def check_queue_name(self, queue_name: str) -> None:
        """Raise :exc:`InvalidTask` unless beanstalkd can have a queue of that name."""
        super().check_queue_name(queue_name)
        if queue_name.startswith("-") or queue_name.endswith(dead_letters.SUFFIX):
            raise InvalidTask(f"Queue name {queue_name!r} is not {self.queue_name_rule}.")

    def max_size(self) -> int:
        """Return the largest task, in bytes: what the server takes but for some headroom."""
        largest = self._pool.largest
        if largest is None:
            largest = self._pool.largest = self._pool.ask(Connection.largest_job)
        return largest - HEADROOM

    def len(self, queue_name: str) -> int:
        """Return how many tasks wait or are delayed."""
        self.check_queue_name(queue_name)
        counts = self._pool.ask(lambda connection: dead_letters.counts(connection, queue_name))
        return counts["current-jobs-ready"] + counts["current-jobs-delayed"]

    @contextmanager
    def _listing(self) -> Iterator[Connection]:
        with self._pool.listing, self._pool.connection(holding_none=True) as connection:
            yield connection

    def dead(self, queue_name: str, limit: int = 100) -> list[DeadTask]:
        """Return the dead letters, newest first."""
        self.check_queue_name(queue_name)

        def look(connection: Connection) -> list[DeadTask]:
            with dead_letters.held(connection, queue_name, limit) as letters:
                tasks = dead_letters.newest(letters, limit)
            if len(tasks) < limit and (job := connection.next_buried(queue_name)):
                tasks.append(dead_letters.as_dead(queue_name, job))
            return tasks

        with self._pool.listing:
            return self._pool.ask(look, holding_none=True)

    def revive(
        self, queue_name: str, task_id: str | None = None, renew: Renew | None = None
    ) -> int:
        """Put dead letters back at the tail of their queue, under new ids.

        Jobs that were buried on the server itself keep their data.
        """
        self.check_queue_name(queue_name)
        with self._listing() as connection:
            revived = dead_letters.revive(connection, queue_name, task_id, self._ttr, renew)
            return revived + dead_letters.kick(connection, queue_name, task_id)

    def purge_dead(self, queue_name: str, older_than: float = 0.0) -> int:
        """Delete dead letters older than so many seconds."""
        self.check_queue_name(queue_name)
        until = self.clock.time() - older_than
        with self._listing() as connection:
            purged = dead_letters.purge(connection, queue_name, until)
            return purged + dead_letters.purge_buried(connection, queue_name, older_than)

    # -- Looking. -------------------------------------------------------------------------

    def find(self, queue_name: str, task_id: str) -> Place | None:
        """Return where a task stands, without how many go first."""
        self.check_queue_name(queue_name)
        record = self._pool.ask(lambda connection: _record(connection, task_id))
        if record and record["tube"] == queue_name:
            state = _STATES[record["state"]]
            then = self.clock.time() + record["time-left"]
            return Place(
                state,
                due=then if state == DELAYED else None,
                until=then if state == RUNNING else None,
            )
        return Place(FAILED) if self._letter(queue_name, task_id) else None

    def age(self, delivery: Delivery) -> tuple[float, float] | None:
        """Return how long ago the job was put, which the server said as it was reserved."""
        lease: Lease = delivery.receipt
        if decode(lease.job.body).attempts:  # it is the job of a retry
            return None
        passed = time.monotonic() - lease.since
        return lease.record["age"] + passed, lease.record["age"] + passed + 1  # in whole seconds

    def peek(self, queue_name: str, task_id: str) -> Data | None:
        """Return the data of a task and leave it where it is."""
        self.check_queue_name(queue_name)

        def look(connection: Connection) -> tuple[StatsJob | None, Job | None]:
            record = _record(connection, task_id)
            return record, connection.peek(record["id"]) if record else None

        record, job = self._pool.ask(look)
        if job and record and record["tube"] == queue_name:
            return decode(job.body).data
        found = self._letter(queue_name, task_id)
        return found.data if found else None

    def _letter(self, queue_name: str, task_id: str) -> DeadTask | None:
        with self._pool.listing:
            return self._pool.ask(
                lambda connection: dead_letters.search(connection, queue_name, task_id),
                holding_none=True,
            )

    def stats(self, queue_name: str) -> QueueStats:
        """Return how many tasks are in which state, as the server counts them."""
        self.check_queue_name(queue_name)

        def look(connection: Connection) -> QueueStats:
            own = dead_letters.counts(connection, queue_name)
            letters = dead_letters.counts(connection, queue_name + dead_letters.SUFFIX)
            first = connection.next_ready(queue_name)
            record = connection.stats_job(first.id) if first else None
            return QueueStats(
                waiting=own["current-jobs-ready"],
                delayed=own["current-jobs-delayed"],
                running=own["current-jobs-reserved"],
                dead=own["current-jobs-buried"]
                + letters["current-jobs-ready"]
                + letters["current-jobs-reserved"],
                oldest=float(record["age"]) if record else None,
            )

        return self._pool.ask(look)

    def queue_names(self) -> list[str]:
        """Return the names of the tubes that exist, since jobs are or were in them."""
        with self._pool.connection() as connection:
            tubes = connection.call(lambda server: server.tubes())
            return [
                tube
                for tube in tubes
                if not tube.endswith(dead_letters.SUFFIX) and dead_letters.ever(connection, tube)
            ]

    def durability_warning(self) -> str | None:
        """Return a line when the server keeps no binlog."""
        stats = self._pool.ask(lambda connection: connection.call(Server.stats))
        if stats["binlog-current-index"]:
            return None
        return "beanstalkd runs without a binlog (option -b): when it stops, its tasks are lost."


def _record(connection: Connection, task_id: str) -> StatsJob | None:
    """Return the server's record of a task on a queue; None: gone, or no id of a job."""
    return connection.stats_job(int(task_id)) if is_job_id(task_id) else None


def is_job_id(task_id: str) -> bool:
    """Whether this can be the id of a job."""
    return task_id.isascii() and task_id.isdecimal() and len(task_id) < 20
