"""Keep queues on beanstalkd: ``beanstalk://host[:11300]/[?ttr=30]``.

The server makes these differences from the contract. The id of a task on the queue is the server's
job id. Delays are whole seconds, rounded up. ``drop_all`` cannot reach jobs that other processes
are running. A job whose lease ran out returns to its place by age within its priority, not ahead of
a higher one.

*Leases.* The server gives a job its lease (``ttr``) when it is pushed. So ``reserve`` and
``extend`` cannot choose one: ``?ttr=`` does, for the pushes of this client. A worker has to
extend every ``min(lease, client.lease_seconds) / 3``. The jobs of a killed worker come back
at once, with its connection. Those of a worker that is stopped, or whose host is gone, should come
back when the lease runs out, but version 1.12 misses that time more often than not. Then they
come back once TCP's keepalive has closed the connection, or stay the worker's own if it wakes.

*Sure leases.* A lease is *sure* while its connection is unbroken and its time not over. No other
client can have the job, and no restart can have given its id to another one. Such leases are acked
and extended many in one write. For any other lease the client first asks the server: see
``Connection.not_overtaken``.
"""

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from typing import Any

from alligator.backends.base import (
    DELAY,
    GET,
    LEASES,
    MAX_LEASE,
    MAX_PRIORITY,
    MIN_PRIORITY,
    PRIORITY,
    Data,
    DeadTask,
    Delivery,
    Finding,
    LastingMessage,
    Listed,
    Message,
    Place,
    QueueStats,
    Reason,
    Renew,
    Reserved,
)
from alligator.backends.base import Client as BaseClient
from alligator.backends.beanstalk import dead_letters
from alligator.backends.beanstalk.connection import Connection, Job, Lease
from alligator.backends.beanstalk.encoding import (
    HEADROOM,
    Body,
    Letter,
    decode,
    encode,
    encode_letter,
    pri_of,
    priority_of,
    to_bytes,
    whole_seconds,
)
from alligator.backends.beanstalk.pool import Pool
from alligator.backends.beanstalk.protocol import NewJob
from alligator.backends.cursors import no_cursor
from alligator.backends.dsn import mask_password, parse_dsn, seconds
from alligator.common.clock import Clock
from alligator.common.group_by import group_by
from alligator.constants import DELAYED, FAILED, RUNNING, WAITING
from alligator.exceptions import AlligatorException, InvalidDSN, InvalidTask

#: Parameters of other libraries, and what to write here instead.
_HINTS = {
    **dict.fromkeys(
        ("timeout", "connect_timeout", "socket_timeout"),
        "leave it out: it is 5 seconds to connect, and 10 for a reply.",
    ),
    **dict.fromkeys(("lease", "visibility_timeout", "time_to_run"), "write ttr=30 (seconds)."),
    **dict.fromkeys(
        ("tube", "tubes", "queue", "queue_name"),
        "name the queue beside the DSN: Gator('beanstalk://host:11300/', queue_name='mail').",
    ),
}
_STATES = {"ready": WAITING, "delayed": DELAYED, "reserved": RUNNING, "buried": FAILED}

#: The oldest version that has all commands which are sent.
_OLDEST = (1, 12)

_POLL_EVERY = 0.05  # seconds, for waits that are shorter than the server's whole seconds

#: Seconds that a job which replaces another is delayed, so that no other client reserves it.
_REPLACEMENT_DELAY = 60


class Client(BaseClient):
    """The contract, on beanstalkd 1.12 or later."""

    supports = frozenset({LEASES, DELAY, PRIORITY, GET})
    queue_name_rule = (
        "1 to 80 letters, digits, '_', '.' or '-', not beginning with '-' nor ending in '.dead'"
    )

    def __init__(self, conn_string: str, *, clock: Clock | None = None) -> None:
        super().__init__(conn_string, clock=clock)
        dsn = parse_dsn(conn_string, default_port=11300, allowed=("ttr",), hints=_HINTS)
        if len(dsn.hosts) != 1 or dsn.path or dsn.username or dsn.password:
            raise InvalidDSN(
                f"DSN {mask_password(conn_string)!r} is not 'beanstalk://host:11300/', with or "
                "without ?ttr=…"
            )
        #: The length of every lease that this client's pushes get, in seconds.
        self.lease_seconds = float(min(max(2, math.ceil(seconds(dsn, "ttr", 30.0))), MAX_LEASE))
        self._ttr = int(self.lease_seconds)
        self._pool = Pool((dsn.host, dsn.port))

    def check_queue_name(self, queue_name: str) -> None:
        super().check_queue_name(queue_name)
        if queue_name.startswith("-") or queue_name.endswith(dead_letters.SUFFIX):
            raise InvalidTask(f"Queue name {queue_name!r} is not {self.queue_name_rule}.")

    def max_size(self) -> int:
        largest = self._pool.largest
        if largest is None:
            largest = self._pool.largest = self._pool.run(Connection.largest_job)
        return largest - HEADROOM

    def close(self) -> None:
        """Close the connections; the server releases the jobs that they had reserved at once."""
        self._pool.close()

    # -- Pushing. -------------------------------------------------------------------------

    def push_many(self, queue_name: str, messages: Sequence[Message]) -> list[str]:
        """Put tasks in a few writes; the returned ids are the server's.

        If the server refuses one, the tasks after it are deleted unless a worker runs them already.
        """
        self.check_queue_name(queue_name)
        now = self.clock.time()
        jobs = [self._job(message, now) for message in messages]
        with self._pool.connection() as connection:
            largest = connection.largest_job() - HEADROOM
            for message, job in zip(messages, jobs, strict=True):
                if len(job.body) > largest:
                    _check_size(message, largest)
            return [str(job_id) for job_id in connection.put_many(queue_name, jobs)]

    def push_each(
        self, queue_name: str, messages: Sequence[Message]
    ) -> list[str | AlligatorException]:
        self.check_queue_name(queue_name)
        now, found, jobs = self.clock.time(), list[str | AlligatorException](), list[NewJob]()
        with self._pool.connection() as connection:
            largest = connection.largest_job() - HEADROOM
            for message in messages:
                try:
                    job = self._job(message, now)
                    if len(job.body) > largest:
                        _check_size(message, largest)
                except AlligatorException as err:
                    found.append(err)
                else:
                    found.append("")
                    jobs.append(job)
            put = iter(connection.put_each(queue_name, jobs))
        told = (next(put) if each == "" else each for each in found)
        return [each if isinstance(each, AlligatorException) else str(each) for each in told]

    def _job(self, message: Message, now: float) -> NewJob:
        if not MIN_PRIORITY <= message.priority <= MAX_PRIORITY:
            raise InvalidTask(f"Priority {message.priority!r} is not within -100 to 100.")
        delay = whole_seconds(message.delay_until, now)
        ttr = self._ttr
        if isinstance(message, LastingMessage):
            ttr = max(ttr, math.ceil(min(message.lease, MAX_LEASE)))
        return NewJob(encode(Body(message.data)), pri_of(message.priority), delay, ttr)

    def drop_all(self, queue_name: str) -> None:
        """Remove the tasks one by one; the tasks that other processes are running stay."""
        self.check_queue_name(queue_name)
        for each in self._pool.all():
            if not each.leases:  # it may be blocked in a wait
                continue
            with each.lock:
                for lease in list(each.leases.values()):
                    if lease.record["tube"] == queue_name:
                        each.ack(lease)
        for tube in (queue_name, queue_name + dead_letters.SUFFIX):
            self._pool.run(partial(Connection.delete_all, tube=tube))

    # -- Reserving. -----------------------------------------------------------------------

    def _lease(
        self,
        queue_names: Sequence[str],
        limit: int,
        lease: float,
        wait: float,
        acks: Sequence[Delivery],
        task_id: str | None,
    ) -> Reserved:
        for name in queue_names:
            self.check_queue_name(name)
        if task_id is not None:
            refused = self.ack(acks)
            return Reserved(self._reserve_one(queue_names, task_id), refused)
        found = self._ack_and_reserve(queue_names, limit, [each.receipt for each in acks])
        return Reserved(found, _not_acked(acks))

    def _wait(
        self,
        queue_names: Sequence[str],
        limit: int,
        lease: float,
        seconds: float,
        stop: Callable[[], bool],
    ) -> list[Delivery] | None:
        if seconds < 1 - 2 * _POLL_EVERY:  # to break off a wait might lose a job
            time.sleep(min(_POLL_EVERY, seconds))
            return None
        with self._pool.connection(may_block=True) as connection:
            connection.watch(queue_names)
            found = connection.reserve(1)
            return [_delivery(found)] if found else None

    def _reserve_one(self, queue_names: Sequence[str], task_id: str) -> list[Delivery]:
        with self._pool.connection() as connection:
            record = connection.find(task_id)
            if not record or record["tube"] not in queue_names or record["state"] == "buried":
                return []
            lease = connection.reserve_job(record["id"])
            return [_delivery(lease)] if lease else []

    def _ack_and_reserve(
        self, queue_names: Sequence[str], limit: int, leases: Sequence[Lease]
    ) -> list[Delivery]:
        """Ack the sure leases of one connection and reserve in one go; ack the others before."""
        sure = [each for each in leases if each.is_sure()]
        together = [each for each in sure if each.connection is sure[0].connection]
        if len(together) < len(leases):
            first = set(leases) - set(together)
            self._ack([each for each in leases if each in first])
        if together:
            connection = together[0].connection
            with connection.lock:
                if connection.is_alive() and all(each.is_sure() for each in together):
                    return self._reserve_on(connection, queue_names, limit, together)
            self._ack(together)
        with self._pool.connection() as connection:
            return self._reserve_on(connection, queue_names, limit)

    def _reserve_on(
        self,
        connection: Connection,
        queue_names: Sequence[str],
        limit: int,
        acks: Sequence[Lease] = (),
    ) -> list[Delivery]:
        taken: list[Delivery] = []
        for name in queue_names:
            taken += map(_delivery, connection.reserve_many(name, limit - len(taken), acks))
            acks = ()
            died = next((at for at, each in enumerate(taken) if each.deaths), None)
            if died is not None:  # it goes alone, now or the next time
                keep = max(1, died)
                connection.release_many([each.receipt for each in taken[keep:]])
                return taken[:keep]
            if len(taken) >= limit:
                break
        return taken

    # -- Settling and extending. ----------------------------------------------------------

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        self._ack([each.receipt for each in deliveries])
        return _not_acked(deliveries)

    def _ack(self, leases: Sequence[Lease]) -> None:
        # Leases that may have run out go first: any other command reminds the server of their end.
        sure = [each for each in leases if each.is_sure()]
        for lease in leases:
            if not lease.is_sure():
                self._ack_in_doubt(lease)
        for connection, group in group_by(sure, attrgetter("connection")).items():
            with connection.lock:
                if connection.is_alive():
                    connection.ack_many(group)
        for lease in sure:
            self._ack_in_doubt(lease)

    def _ack_in_doubt(self, lease: Lease) -> None:
        if lease.settled:
            return
        with self._pool.connection_of(lease) as connection:
            if connection.holds(lease) or connection.not_overtaken(lease) is not None:
                connection.ack(lease)

    @contextmanager
    def _regained(self, delivery: Delivery) -> Iterator[Connection | None]:
        """Lend the connection that has the lease of a delivery; None: it was overtaken.

        If the lease ran out and no other client has reserved the job since, reserve it again.
        """
        lease: Lease = delivery.receipt
        with self._pool.connection_of(lease) as connection:
            yield connection if connection.regain(lease) else None

    def release(
        self, delivery: Delivery, data: Data | None = None, delay_until: float | None = None
    ) -> bool:
        """Release the job; with new data, put a new job at the tail instead."""
        body = None if data is None else Body(data, delivery.attempt)
        return self._release(delivery, body, delay_until)

    def postpone(self, delivery: Delivery, data: Data, delay_until: float) -> bool:
        return self._release(delivery, Body(data, delivery.attempt, delivery.deaths), delay_until)

    def _release(self, delivery: Delivery, changed: Body | None, until: float | None) -> bool:
        lease: Lease = delivery.receipt
        delay = whole_seconds(until, self.clock.time())
        body = None if changed is None else encode(changed)
        with self._regained(delivery) as connection:
            if connection is None:
                return False
            if body is None:
                return connection.release(lease, delay)
            pri, ttr = lease.record["pri"], max(2, lease.record["ttr"])
            # Put before delete: a crash in between repeats the task and never loses it.
            if lease.successor is None:
                job = NewJob(body, pri, delay, ttr)
                lease.successor = connection.put(delivery.queue_name, job)
            return connection.ack(lease) or not connection.delete(lease.successor)

    def extend(self, deliveries: Sequence[Delivery], lease: float) -> list[Delivery]:
        """Restart leases for their ttr, whatever the length asked for."""
        leases = [each.receipt for each in deliveries]
        sure = [each for each in leases if each.is_sure()]
        kept = {each for each in leases if not each.is_sure() and self._regain(each)}
        for connection, group in group_by(sure, attrgetter("connection")).items():
            with connection.lock:
                if connection.is_alive():
                    kept.update(connection.touch_many(group))
        kept.update(each for each in sure if each not in kept and self._regain(each))
        return [each for each in deliveries if each.receipt not in kept]

    def _regain(self, lease: Lease) -> bool:
        with self._pool.connection_of(lease) as connection:
            return connection.regain(lease)

    def stretch(self, delivery: Delivery, lease: float) -> bool:
        """Replace the job by one with that ttr, if its own is shorter."""
        old: Lease = delivery.receipt
        ttr = math.ceil(min(lease, MAX_LEASE))
        if ttr <= old.record["ttr"]:
            return super().stretch(delivery, lease)
        # The next delivery adds its own reserve, so this one is left out of the count.
        body = encode(Body(delivery.data, delivery.attempt - 1, delivery.deaths))
        with self._regained(delivery) as connection:
            job = NewJob(body, old.record["pri"], _REPLACEMENT_DELAY, ttr)
            return connection is not None and connection.replace(old, job)

    # -- Dead letters. --------------------------------------------------------------------

    def bury(self, delivery: Delivery, data: Data | None, reason: Reason) -> bool:
        """Put a dead letter on the tube ``<queue>.dead``, then delete the job."""
        lease: Lease = delivery.receipt
        task = DeadTask(
            task_id=delivery.task_id,
            queue_name=delivery.queue_name,
            data=delivery.data if data is None else data,
            error=reason.error,
            traceback=reason.traceback,
            died_at=self.clock.time(),
            attempts=delivery.attempt,
        )
        with self._regained(delivery) as connection:
            if connection is None:
                return False
            letter = Letter(task, lease.record["pri"], ttr=lease.record["ttr"])
            body = encode_letter(letter, connection.largest_job())
            if body is None:
                return connection.bury(lease)
            if lease.successor is None:
                queue_name, died_at = delivery.queue_name, task.died_at
                lease.successor = dead_letters.put(connection, queue_name, died_at, body)
            connection.ack(lease)  # refused: a dead letter more is better than one less
            return True

    def dead(self, queue_name: str, limit: int = 100) -> list[DeadTask]:
        self.check_queue_name(queue_name)

        def look(connection: Connection) -> list[DeadTask]:
            with dead_letters.reserved(connection, queue_name, limit) as letters:
                tasks = dead_letters.newest(letters, limit)
            if len(tasks) < limit and (job := connection.next_buried(queue_name)):
                tasks.append(dead_letters.as_dead(queue_name, job))
            return tasks

        with self._pool.listing:
            return self._pool.run(look, may_block=True)

    def revive(
        self, queue_name: str, task_id: str | None = None, renew: Renew | None = None
    ) -> int:
        """Revive dead letters under new ids.

        Jobs that were buried on the server itself keep their data.
        """
        self.check_queue_name(queue_name)
        with self._pool.listing, self._pool.connection(may_block=True) as connection:
            revived = dead_letters.revive(connection, queue_name, task_id, self._ttr, renew)
            return revived + dead_letters.kick(connection, queue_name, task_id)

    def purge_dead(self, queue_name: str, older_than: float = 0.0) -> int:
        self.check_queue_name(queue_name)
        until = self.clock.time() - older_than
        with self._pool.listing, self._pool.connection(may_block=True) as connection:
            purged = dead_letters.purge(connection, queue_name, until)
            return purged + dead_letters.purge_buried(connection, queue_name, older_than)

    def _letter(self, queue_name: str, task_id: str) -> DeadTask | None:
        with self._pool.listing:
            return self._pool.run(
                lambda connection: dead_letters.search(connection, queue_name, task_id),
                may_block=True,
            )

    # -- Looking. -------------------------------------------------------------------------

    def len(self, queue_name: str) -> int:
        self.check_queue_name(queue_name)
        counts = self._pool.run(lambda connection: dead_letters.counts(connection, queue_name))
        return counts["current-jobs-ready"] + counts["current-jobs-delayed"]

    def find(self, queue_name: str, task_id: str) -> Place | None:
        self.check_queue_name(queue_name)

        def look(connection: Connection) -> tuple[Mapping[str, Any], Job | None]:
            record: Mapping[str, Any] = connection.find(task_id) or {}
            is_here = record.get("tube") == queue_name
            return (record, connection.peek(record["id"])) if is_here else ({}, None)

        record, job = self._pool.run(look)
        if record:
            state = _STATES[record["state"]]
            then = self.clock.time() + record["time-left"]
            body = decode(job.body) if job else None
            return Place(
                state,
                due=then if state == DELAYED else None,
                until=then if state == RUNNING else None,
                attempts=body.attempts + record["reserves"] if body else None,
                deaths=_deaths(body, record, record["reserves"] - (state == RUNNING))
                if body
                else 0,
            )
        letter = self._letter(queue_name, task_id)
        return Place(FAILED, attempts=letter.attempts) if letter else None

    def age(self, delivery: Delivery) -> tuple[float, float] | None:
        lease: Lease = delivery.receipt
        if decode(lease.job.body).attempts:  # it is the job of a retry
            return None
        passed = time.monotonic() - lease.since
        return lease.record["age"] + passed, lease.record["age"] + passed + 1  # in whole seconds

    def peek(self, queue_name: str, task_id: str) -> Data | None:
        self.check_queue_name(queue_name)

        def look(connection: Connection) -> Job | None:
            record = connection.find(task_id)
            if record is None or record["tube"] != queue_name:
                return None
            return connection.peek(record["id"])

        if job := self._pool.run(look):
            return decode(job.body).data
        found = self._letter(queue_name, task_id)
        return found.data if found else None

    def list_tasks(
        self, queue_name: str, state: int, limit: int = 100, after: str | None = None
    ) -> tuple[list[Listed], str | None]:
        """List dead letters, and of the waiting and the delayed tasks only the first.

        The server shows no others, and none that runs.
        """
        if state not in (WAITING, DELAYED):
            return super().list_tasks(queue_name, state, limit, after)
        self.check_queue_name(queue_name)
        if after is not None:
            raise no_cursor(after)
        return self._pool.run(lambda connection: self._first(connection, queue_name, state)), None

    def _first(self, connection: Connection, queue_name: str, state: int) -> list[Listed]:
        look = connection.next_ready if state == WAITING else connection.next_delayed
        job = look(queue_name)
        record = connection.stats_job(job.id) if job else None
        if job is None or record is None:  # it is gone
            return []
        body = decode(job.body)
        due = self.clock.time() + record["time-left"] if state == DELAYED else None
        attempts = body.attempts + record["reserves"]
        deaths = _deaths(body, record, record["reserves"])
        task = Listed(
            str(job.id),
            body.data,
            state,
            priority_of(record["pri"]),
            due,
            attempts,
            deaths=deaths,
        )
        return [task]

    def stats(self, queue_name: str) -> QueueStats:
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

        return self._pool.run(look)

    def queue_names(self) -> list[str]:
        """Return the names of the tubes that exist and have had a job."""
        with self._pool.connection() as connection:
            return [
                tube
                for tube in connection.tubes()
                if not tube.endswith(dead_letters.SUFFIX)
                and connection.stats_tube(tube).get("total-jobs")
            ]

    def durability_warning(self) -> str | None:
        finding = _persistence(self._pool.run(Connection.stats))
        return finding.warning if finding.must_change else None

    def examine(self) -> list[Finding]:
        about = self._pool.run(Connection.stats)
        size = int(about["max-job-size"])
        found = [
            _version(str(about["version"])),
            _persistence(about),
            Finding("limits", f"a task may have up to {size - 2 - HEADROOM:,} bytes (option -z)"),
            Finding("clock", "beanstalkd counts seconds and shows no clock"),
            Finding("permissions", "beanstalkd has no passwords: all who reach it may do anything"),
        ]
        if about.get("draining") in (True, "true"):
            text = "beanstalkd is draining (it received SIGUSR1), and takes no further tasks"
            found.append(Finding("state", text, "restart it", must_change=True))
        return found

    def place_of(self, queue_name: str) -> str | None:
        """Return the id that a beanstalkd makes at its start."""
        found = self._pool.run(Connection.stats).get("id")
        return None if found is None else f"beanstalkd {found}"


def _persistence(about: Mapping[str, Any]) -> Finding:
    if about["binlog-current-index"]:
        return Finding("persistence", "beanstalkd keeps a binlog")
    return Finding(
        "persistence",
        "beanstalkd runs without a binlog (option -b): when it stops, its tasks are lost",
        "start it with -b FOLDER",
        must_change=True,
    )


def _version(version: str) -> Finding:
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers and numbers < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        advice = f"use version {oldest} or newer"
        return Finding("version", f"beanstalkd {version}", advice, must_change=True)
    return Finding("version", f"beanstalkd {version}")


def _check_size(message: Message, largest: int) -> None:
    if (size := len(to_bytes(message.data)[0])) > largest:
        raise InvalidTask(
            f"The task has {size} bytes, but this beanstalkd takes {largest}"
            " (its option -z sets it)."
        )


def _delivery(lease: Lease) -> Delivery:
    record, body = lease.record, decode(lease.job.body)
    return Delivery(
        queue_name=record["tube"],
        task_id=str(lease.job.id),
        data=body.data,
        receipt=lease,
        attempt=body.attempts + lease.reserves,
        deaths=_deaths(body, record, lease.reserves - 1),
    )


def _deaths(body: Body, record: Mapping[str, Any], ended: int) -> int:
    """Return the deaths of a job.

    :param ended: how many reservations have ended.
    """
    # Leases that ran out and lost connections end a reservation without a release. The server
    # counts no lost connections, so deaths are the difference.
    handed_back: int = record["releases"] + record["buries"]
    return body.deaths + max(0, ended - handed_back)


def _not_acked(deliveries: Sequence[Delivery]) -> list[Delivery]:
    return [each for each in deliveries if each.receipt.settled != "acked"]
