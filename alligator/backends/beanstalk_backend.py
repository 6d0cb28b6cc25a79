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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from alligator.backends import beanstalk_dead as dead_letters
from alligator.backends.base import (
    MAX_LEASE,
    MAX_PRIORITY,
    MIN_PRIORITY,
    Data,
    DeadTask,
    Delivery,
    Message,
    Reason,
    Reserved,
    never,
)
from alligator.backends.beanstalk_body import (
    HEADROOM,
    Body,
    Letter,
    decode,
    encode,
    encode_letter,
    to_bytes,
    urgency,
    whole_seconds,
)
from alligator.backends.beanstalk_connection import Connection, Lease
from alligator.backends.beanstalk_pool import Pool
from alligator.backends.beanstalk_views import Overview, is_job_id
from alligator.backends.dsn import mask_password, parse_dsn, seconds
from alligator.clock import Clock
from alligator.exceptions import InvalidDSN, InvalidTask

_NAP = 0.05  # seconds between two looks where the server's whole seconds are too coarse


class Client(Overview):
    """The contract, on beanstalkd 1.12 or later."""

    def __init__(self, conn_string: str, *, clock: Clock | None = None) -> None:
        super().__init__(conn_string, clock=clock)
        dsn = parse_dsn(conn_string, default_port=11300, allowed=("ttr",))
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
        with self._pool.connection() as connection:
            for tube in (queue_name, queue_name + dead_letters.SUFFIX):
                connection.delete_all(tube)

    def push_many(self, queue_name: str, messages: Sequence[Message]) -> list[str]:
        """Put tasks on a queue, in order, and return the ids that the server gave them."""
        self.check_queue_name(queue_name)
        now = self.clock.time()
        jobs = [self._job(message, now) for message in messages]
        ids = []
        with self._pool.connection() as connection:
            largest = connection.largest_job() - HEADROOM
            for message in messages:
                if (size := len(to_bytes(message.data)[0])) > largest:
                    raise InvalidTask(
                        f"The task has {size} bytes, but this beanstalkd takes {largest}"
                        " (its option -z sets it)."
                    )
            for body, urgent, delay in jobs:
                ids.append(str(connection.put(queue_name, body, urgent, delay, self._ttr)))
        return ids

    def _job(self, message: Message, now: float) -> tuple[bytes, int, int]:
        if not MIN_PRIORITY <= message.priority <= MAX_PRIORITY:
            raise InvalidTask(f"Priority {message.priority!r} is not within -100 to 100.")
        delay = whole_seconds(message.delay_until, now)
        return encode(Body(message.data)), urgency(message.priority), delay

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
        refused = self.ack(acks) if acks else []
        if task_id is not None:
            return Reserved(self._reserve_one(queue_names, task_id), refused)
        while True:
            deliveries = self._poll(queue_names, limit)
            remaining = deadline - time.monotonic()
            if not deliveries and remaining > 0 and not stop():
                deliveries = self._wait(queue_names, remaining)
                if not deliveries:
                    continue
            return Reserved(deliveries, refused)

    def _wait(self, queue_names: Sequence[str], remaining: float) -> list[Delivery]:
        if remaining < 1 - 2 * _NAP:  # a wait cannot be broken off without risk for a job
            time.sleep(min(_NAP, remaining))
            return []
        with self._pool.connection(holding_none=True) as connection:
            connection.watch(queue_names)
            lease = connection.reserve(1)
            return [_delivery(lease)] if lease else []

    def _poll(self, queue_names: Sequence[str], limit: int) -> list[Delivery]:
        taken: list[Delivery] = []
        with self._pool.connection() as connection:
            for name in queue_names:
                connection.watch([name])
                while len(taken) < limit and (lease := connection.reserve(0)):
                    delivery = _delivery(lease)
                    if delivery.deaths and taken:  # it goes alone, next time
                        connection.release(lease)
                        return taken
                    taken.append(delivery)
                    if delivery.deaths:
                        return taken
        return taken

    def _reserve_one(self, queue_names: Sequence[str], task_id: str) -> list[Delivery]:
        with self._pool.connection() as connection:
            record = connection.stats_job(int(task_id)) if is_job_id(task_id) else None
            if not record or record["tube"] not in queue_names or record["state"] == "buried":
                return []
            lease = connection.reserve_job(record["id"])
            return [_delivery(lease)] if lease else []

    # -- Settling. ------------------------------------------------------------------------

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Remove tasks that are done; return those overtaken."""
        return [each for each in deliveries if not self._ack(each.receipt)]

    def _ack(self, lease: Lease) -> bool:
        if lease.settled:
            return lease.settled == "acked"
        with self._pool.connection_of(lease) as connection:
            good = connection.holds_still(lease) or connection.not_overtaken(lease) is not None
            return good and connection.ack(lease)

    @contextmanager
    def _holding(self, delivery: Delivery) -> Iterator[Connection | None]:
        """Lend the connection that holds a delivery; None: it was overtaken.

        A job that came back and was reserved by nobody since is taken again.
        """
        lease: Lease = delivery.receipt
        with self._pool.connection_of(lease) as connection:
            yield connection if connection.regain(lease) else None

    def release(
        self, delivery: Delivery, data: Data | None = None, delay_until: float | None = None
    ) -> bool:
        """Hand a task back, to its place or (with new data, as a new job) to the tail."""
        lease: Lease = delivery.receipt
        delay = whole_seconds(delay_until, self.clock.time())
        body = None
        if data is not None:
            body = encode(Body(data, delivery.attempt, delivery.deaths))
        with self._holding(delivery) as connection:
            if connection is None:
                return False
            if body is None:
                return connection.release(lease, delay)
            urgent, ttr = lease.record["pri"], max(2, lease.record["ttr"])
            # Put before delete: a crash in between repeats the task and never loses it.
            if lease.successor is None:
                queue_name = delivery.queue_name
                lease.successor = connection.put(queue_name, body, urgent, delay, ttr)
            return connection.ack(lease) or not connection.delete(lease.successor)

    def extend(self, deliveries: Sequence[Delivery], lease: float) -> list[Delivery]:
        """Let leases begin anew, for their ttr; return the lost ones."""
        lost = []
        for delivery in deliveries:
            with self._holding(delivery) as connection:
                if connection is None:
                    lost.append(delivery)
        return lost

    # -- Dead letters. --------------------------------------------------------------------

    def bury(self, delivery: Delivery, data: Data | None, reason: Reason) -> bool:
        """Make a reserved task a dead letter on the tube ``<queue>.dead``."""
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
        with self._holding(delivery) as connection:
            if connection is None:
                return False
            letter = Letter(task, lease.record["pri"])
            body = encode_letter(letter, connection.largest_job())
            if body is None:
                return connection.bury(lease)
            if lease.successor is None:
                queue_name, died_at = delivery.queue_name, task.died_at
                lease.successor = dead_letters.put(connection, queue_name, died_at, body)
            connection.ack(lease)  # refused: a dead letter more is better than one less
            return True

    def close(self) -> None:
        """Close the connections; what they had reserved goes back at once."""
        self._pool.close()


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
