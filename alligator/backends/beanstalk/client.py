"""Queues on beanstalkd: ``beanstalk://host[:11300]/[?ttr=30]``.

What differs from the contract, since the server wants it so: the id of a task on the queue
is the server's job id; delays are whole seconds, rounded up; ``drop_all`` cannot reach jobs
that other processes are running; an expired lease comes back to its place by age within its
priority, not ahead of a higher one.

*Leases.* The server gives a job its lease (``ttr``) when it is pushed. So ``reserve`` and
``extend`` cannot choose one: ``?ttr=`` does, for what this client pushes. A worker has to
extend every ``min(lease, client.lease_seconds) / 3``. The jobs of a killed worker come back
at once, with its connection. Those of one that is stopped, or whose host is gone, should come
back when the lease runs out, but version 1.12 misses that time more often than not; then they
come back once TCP's keepalive has closed the connection, or stay the worker's own if it wakes.
"""

import math
import time
from collections.abc import Callable, Sequence
from functools import partial

from alligator.backends.base import (
    MAX_LEASE,
    MAX_PRIORITY,
    MIN_PRIORITY,
    Delivery,
    LastingMessage,
    Message,
    Reserved,
    never,
)
from alligator.backends.beanstalk import dead_letters
from alligator.backends.beanstalk.connection import Connection, Lease
from alligator.backends.beanstalk.encoding import (
    HEADROOM,
    Body,
    decode,
    encode,
    to_bytes,
    urgency,
    whole_seconds,
)
from alligator.backends.beanstalk.pool import Pool
from alligator.backends.beanstalk.settle import Settling, not_acked
from alligator.backends.beanstalk.tubes import NewJob
from alligator.backends.beanstalk.views import is_job_id
from alligator.backends.dsn import mask_password, parse_dsn, seconds
from alligator.common.clock import Clock
from alligator.exceptions import InvalidDSN, InvalidTask

#: What other libraries take as a parameter → what to write here.
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

_NAP = 0.05  # seconds between two looks where the server's whole seconds are too coarse


class Client(Settling):
    """The contract, on beanstalkd 1.12 or later."""

    def __init__(self, conn_string: str, *, clock: Clock | None = None) -> None:
        super().__init__(conn_string, clock=clock)
        dsn = parse_dsn(conn_string, default_port=11300, allowed=("ttr",), hints=_HINTS)
        if len(dsn.hosts) != 1 or dsn.path or dsn.username or dsn.password:
            raise InvalidDSN(f"{mask_password(conn_string)!r} is not beanstalk://host:port/.")
        #: The length of every lease that this client's pushes get, in seconds.
        self.lease_seconds = float(min(max(2, math.ceil(seconds(dsn, "ttr", 30.0))), MAX_LEASE))
        self._ttr = int(self.lease_seconds)
        self._pool = Pool((dsn.host, dsn.port))

    def drop_all(self, queue_name: str) -> None:
        """Remove the tasks one by one; those that other processes are running stay."""
        self.check_queue_name(queue_name)
        for each in self._pool.all():
            if not each.held:  # it may be blocked in a wait
                continue
            with each.lock:
                for lease in list(each.held.values()):
                    if lease.record["tube"] == queue_name:
                        each.ack(lease)
        for tube in (queue_name, queue_name + dead_letters.SUFFIX):
            self._pool.ask(partial(Connection.delete_all, tube=tube))

    def push_many(self, queue_name: str, messages: Sequence[Message]) -> list[str]:
        """Put tasks on a queue, in order, and return the ids that the server gave them.

        They go in a few writes. Where the server refuses one, those after it are taken back
        unless somebody is running them already.
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

    def _job(self, message: Message, now: float) -> NewJob:
        if not MIN_PRIORITY <= message.priority <= MAX_PRIORITY:
            raise InvalidTask(f"Priority {message.priority!r} is not within -100 to 100.")
        delay = whole_seconds(message.delay_until, now)
        ttr = self._ttr
        if isinstance(message, LastingMessage):
            ttr = max(ttr, math.ceil(min(message.lease, MAX_LEASE)))
        return NewJob(encode(Body(message.data)), urgency(message.priority), delay, ttr)

    # -- Reserving. -----------------------------------------------------------------------

    def reserve(
        self,
        queue_names: Sequence[str],
        limit: int = 1,
        lease: float = 30.0,
        wait: float = 0.0,
        *,
        acks: Sequence[Delivery] = (),
        task_id: str | None = None,
        stop: Callable[[], bool] = never,
    ) -> Reserved:
        """Ack, then lease what is next, for its ttr; see the contract and the module."""
        for name in queue_names:
            self.check_queue_name(name)
        deadline = time.monotonic() + wait
        if task_id is not None:
            refused = self.ack(acks)
            return Reserved(self._reserve_one(queue_names, task_id), refused)
        deliveries = self._ack_and_poll(queue_names, limit, [each.receipt for each in acks])
        while not deliveries and (remaining := deadline - time.monotonic()) > 0 and not stop():
            deliveries = self._wait_for_job(queue_names, remaining)
            if not deliveries:
                deliveries = self._poll(queue_names, limit)
        return Reserved(deliveries, not_acked(acks))

    def _ack_and_poll(
        self, queue_names: Sequence[str], limit: int, leases: Sequence[Lease]
    ) -> list[Delivery]:
        """Ack and look in one go what one connection holds; the rest before that."""
        sure = [each for each in leases if each.is_sure()]
        riding = [each for each in sure if each.connection is sure[0].connection]
        if len(riding) < len(leases):
            with_it = set(riding)
            self._ack([each for each in leases if each not in with_it])
        if riding:
            connection = riding[0].connection
            with connection.lock:
                if connection.alive() and all(each.is_sure() for each in riding):
                    return self._next(connection, queue_names, limit, riding)
            self._ack(riding)
        return self._poll(queue_names, limit)

    def _wait_for_job(self, queue_names: Sequence[str], remaining: float) -> list[Delivery]:
        if remaining < 1 - 2 * _NAP:  # a wait cannot be broken off without risk for a job
            time.sleep(min(_NAP, remaining))
            return []
        with self._pool.connection(holding_none=True) as connection:
            connection.watch(queue_names)
            lease = connection.reserve(1)
            return [_delivery(lease)] if lease else []

    def _poll(self, queue_names: Sequence[str], limit: int) -> list[Delivery]:
        with self._pool.connection() as connection:
            return self._next(connection, queue_names, limit)

    def _next(
        self,
        connection: Connection,
        queue_names: Sequence[str],
        limit: int,
        done: Sequence[Lease] = (),
    ) -> list[Delivery]:
        taken: list[Delivery] = []
        for name in queue_names:
            taken += map(_delivery, connection.reserve_many(name, limit - len(taken), done))
            done = ()
            died = next((at for at, each in enumerate(taken) if each.deaths), None)
            if died is not None:  # it goes alone, now or the next time
                keep = max(1, died)
                connection.release_many([each.receipt for each in taken[keep:]])
                return taken[:keep]
            if len(taken) >= limit:
                break
        return taken

    def _reserve_one(self, queue_names: Sequence[str], task_id: str) -> list[Delivery]:
        with self._pool.connection() as connection:
            record = connection.stats_job(int(task_id)) if is_job_id(task_id) else None
            if not record or record["tube"] not in queue_names or record["state"] == "buried":
                return []
            lease = connection.reserve_job(record["id"])
            return [_delivery(lease)] if lease else []

    def close(self) -> None:
        """Close the connections; what they had reserved goes back at once."""
        self._pool.close()


def _check_size(message: Message, largest: int) -> None:
    if (size := len(to_bytes(message.data)[0])) > largest:
        raise InvalidTask(
            f"The task has {size} bytes, but this beanstalkd takes {largest}"
            " (its option -z sets it)."
        )


def _delivery(lease: Lease) -> Delivery:
    record, body = lease.record, decode(lease.job.body)
    # Timeouts and lost connections leave a reservation without a release. Only the latter
    # are not counted by the server, hence the difference.
    handed_back = record["releases"] + record["buries"]
    return Delivery(
        queue_name=record["tube"],
        task_id=str(lease.job.id),
        data=body.data,
        receipt=lease,
        attempt=body.attempts + lease.reserves,
        deaths=body.deaths + max(0, lease.reserves - 1 - handed_back),
    )
