"""What becomes of a job that was reserved on beanstalkd: done, handed back, kept, given up.

A lease is *sure* while its connection is unbroken and its time not over: nobody else can have
the job, and no restart can have given its id to another. Such leases are acked and extended
many in one write. Any other is looked at first: see ``Connection.not_overtaken``.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from alligator.backends.base import MAX_LEASE, Data, DeadTask, Delivery, Reason
from alligator.backends.beanstalk import dead_letters
from alligator.backends.beanstalk.connection import Connection, Lease
from alligator.backends.beanstalk.encoding import Body, Letter, encode, encode_letter, whole_seconds
from alligator.backends.beanstalk.tubes import NewJob
from alligator.backends.beanstalk.views import Overview

#: Seconds that a job which takes the place of another is delayed: nobody else is to reserve it.
_OUT_OF_SIGHT = 60


class Settling(Overview):
    """The part of the client that ends leases, or extends them."""

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Remove tasks that are done; return those overtaken."""
        self._ack([each.receipt for each in deliveries])
        return not_acked(deliveries)

    def _ack(self, leases: Sequence[Lease]) -> None:
        # What may have run out goes first: whatever else is said reminds the server of that.
        sure = [each for each in leases if each.is_sure()]
        for lease in leases:
            if not lease.is_sure():
                self._ack_in_doubt(lease)
        for connection, group in _by_connection(sure):
            with connection.lock:
                if connection.alive():
                    connection.ack_many(group)
        for lease in sure:
            self._ack_in_doubt(lease)

    def _ack_in_doubt(self, lease: Lease) -> None:
        if lease.settled:
            return
        with self._pool.connection_of(lease) as connection:
            if connection.holds_still(lease) or connection.not_overtaken(lease) is not None:
                connection.ack(lease)

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
        body = None if data is None else Body(data, delivery.attempt)
        return self._release(delivery, body, delay_until)

    def postpone(self, delivery: Delivery, data: Data, delay_until: float) -> bool:
        """Hand a task back that was not run, with other data: as a new job."""
        return self._release(delivery, Body(data, delivery.attempt, delivery.deaths), delay_until)

    def _release(self, delivery: Delivery, changed: Body | None, until: float | None) -> bool:
        lease: Lease = delivery.receipt
        delay = whole_seconds(until, self.clock.time())
        body = None if changed is None else encode(changed)
        with self._holding(delivery) as connection:
            if connection is None:
                return False
            if body is None:
                return connection.release(lease, delay)
            urgent, ttr = lease.record["pri"], max(2, lease.record["ttr"])
            # Put before delete: a crash in between repeats the task and never loses it.
            if lease.successor is None:
                queue_name = delivery.queue_name
                lease.successor = connection.put(queue_name, NewJob(body, urgent, delay, ttr))
            return connection.ack(lease) or not connection.delete(lease.successor)

    def extend(self, deliveries: Sequence[Delivery], lease: float) -> list[Delivery]:
        """Let leases begin anew, for their ttr; return the lost ones."""
        leases = [each.receipt for each in deliveries]
        sure = [each for each in leases if each.is_sure()]
        kept = {each for each in leases if not each.is_sure() and self._regain(each)}
        for connection, group in _by_connection(sure):
            with connection.lock:
                if connection.alive():
                    kept.update(connection.touch_many(group))
        kept.update(each for each in sure if each not in kept and self._regain(each))
        return [each for each in deliveries if each.receipt not in kept]

    def stretch(self, delivery: Delivery, lease: float) -> bool:
        """Put a job with that ttr in the place of this one, if it has a shorter one."""
        held: Lease = delivery.receipt
        ttr = math.ceil(min(lease, MAX_LEASE))
        if ttr <= held.record["ttr"]:
            return super().stretch(delivery, lease)
        # It is of another reserve, by whoever has it next, than the one that is on record here.
        body = encode(Body(delivery.data, delivery.attempt - 1, delivery.deaths))
        with self._holding(delivery) as connection:
            job = NewJob(body, held.record["pri"], _OUT_OF_SIGHT, ttr)
            return connection is not None and connection.replace(held, job)

    def _regain(self, lease: Lease) -> bool:
        with self._pool.connection_of(lease) as connection:
            return connection.regain(lease)

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
            letter = Letter(task, lease.record["pri"], ttr=lease.record["ttr"])
            body = encode_letter(letter, connection.largest_job())
            if body is None:
                return connection.bury(lease)
            if lease.successor is None:
                queue_name, died_at = delivery.queue_name, task.died_at
                lease.successor = dead_letters.put(connection, queue_name, died_at, body)
            connection.ack(lease)  # refused: a dead letter more is better than one less
            return True


def not_acked(deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Return the deliveries that were not acked, for whatever reason."""
    return [each for each in deliveries if each.receipt.settled != "acked"]


def _by_connection(leases: Sequence[Lease]) -> Iterable[tuple[Connection, list[Lease]]]:
    groups = defaultdict[Connection, list[Lease]](list)
    for each in leases:
        groups[each.connection].append(each)
    return groups.items()
