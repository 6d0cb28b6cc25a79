"""What becomes of a task that was received from SQS: done, handed back, kept, given up."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from alligator.backends.base import Data, Delivery, Reason
from alligator.backends.sqs import dead_letters
from alligator.backends.sqs.admin import GROUP, Overview
from alligator.backends.sqs.encoding import FREE_RECEIVES, Receipt, encode, successor

LONGEST_LEASE = 43_200  # seconds from the receive, with all extensions (SQS service limit)


def whole_seconds(lease: float) -> int:
    """Return a lease as SQS keeps it: rounded up, 1 second to 12 hours."""
    return max(1, math.ceil(min(lease, LONGEST_LEASE)))


class Settling(Overview):
    """The part of the client that ends leases, or extends them.

    Nothing here relies on SQS to refuse a receipt whose lease ran out: see :meth:`_held`.
    """

    #: Seconds of one hop of a delay (SQS service limit: 900).
    MAX_DELAY = 900

    def _held(self, delivery: Delivery) -> Receipt | None:
        """Return the receipt of a delivery whose lease, by our own clock, still runs."""
        receipt: Receipt = delivery.receipt
        return receipt if self.clock.monotonic() < receipt.ends else None

    def _hop(self, due: float, now: float) -> int:
        """Return the seconds to delay a message by: the whole delay, or one hop of it."""
        return max(0, math.ceil(min(due - now, self.MAX_DELAY)))

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Delete tasks that are done; return those overtaken, or whose lease ran out."""
        refused = [each for each in deliveries if not (each.receipt.acked or self._held(each))]
        for name, group in _by_queue(deliveries).items():
            live = {
                each.receipt.handle: each
                for each in group
                if not each.receipt.acked and self._held(each)
            }
            stale = self._connection.delete(name, list(live))
            for handle, each in live.items():
                each.receipt.acked = handle not in stale
                each.receipt.close()
            refused += [live[handle] for handle in stale]
        return refused

    def release(
        self, delivery: Delivery, data: Data | None = None, delay_until: float | None = None
    ) -> bool:
        """Hand a task back: unrun, its message is made visible; a retry is a new message.

        So is an unrun one that would come back with a death it did not die, or only after
        the 12 hours that SQS keeps a message out of sight.
        """
        receipt = self._held(delivery)
        if receipt is None:
            return False
        if data is not None:
            return self.postpone(delivery._replace(deaths=0), data, delay_until or 0.0)
        due = delay_until or 0.0
        delay = max(0, math.ceil(due - self.clock.time()))
        if self._is_used_up(delivery) or delay > self._rest(receipt):
            return self._replace(delivery, None, due)
        stale = self._connection.change(delivery.queue_name, [receipt.handle], delay)
        receipt.close()
        return not stale

    def postpone(self, delivery: Delivery, data: Data, delay_until: float) -> bool:
        """Hand a task back that was not run, with other data: as a new message."""
        return self._held(delivery) is not None and self._replace(delivery, data, delay_until)

    def _is_used_up(self, delivery: Delivery) -> bool:
        """Whether the next receive of this very message would count as a death.

        On a FIFO queue it may: a new message would lose its place.
        """
        is_fifo = delivery.queue_name.endswith(".fifo")
        return delivery.receipt.count >= FREE_RECEIVES and not is_fifo

    def _rest(self, receipt: Receipt) -> int:
        """Return for how many more seconds SQS would keep the message out of sight."""
        return math.floor(receipt.received + LONGEST_LEASE - self.clock.monotonic())

    def _replace(self, delivery: Delivery, data: Data | None, due: float) -> bool:
        receipt, now = delivery.receipt, self.clock.time()
        note = successor(delivery, due if due > now else 0.0)
        if data is None:  # not run: this receive counts as none, and those before it still do
            data, note = delivery.data, replace(note, used=min(receipt.count, FREE_RECEIVES) - 1)
        if not receipt.succeeded:  # else the reply to the deletion was lost
            message = encode(data, note)
            delay = self._hop(note.due, now)
            (sent,) = self._connection.send(delivery.queue_name, [message], [delay], GROUP)
            if not isinstance(sent, str):
                raise sent
            receipt.succeeded = True
        return self._remove(delivery)

    def _remove(self, delivery: Delivery) -> bool:
        # Its successor counts, even if the receipt should have gone stale this very moment.
        self._connection.delete(delivery.queue_name, [delivery.receipt.handle])
        delivery.receipt.close()
        return True

    def extend(self, deliveries: Sequence[Delivery], lease: float) -> list[Delivery]:
        """Let leases run ``lease`` seconds from now; return the lost ones.

        Lost is one that ran out, by our own clock, and what SQS has handed out for 12 hours.
        """
        lost = [each for each in deliveries if not self._held(each)]
        for (name, seconds), group in self._by_seconds(deliveries, lease).items():
            now = self.clock.monotonic()
            by_handle = {each.receipt.handle: each for each in group}
            stale = self._connection.change(name, list(by_handle), seconds)
            for handle, each in by_handle.items():
                if handle in stale or each.receipt.ends == -math.inf:  # settled meanwhile
                    each.receipt.close()
                    lost.append(each)
                else:
                    each.receipt.ends = now + seconds
        return lost

    def lapses(self, delivery: Delivery) -> int:
        """Return every second receive but the first: any may have been one that was handed back."""
        receipt: Receipt = delivery.receipt
        return max(delivery.deaths, (receipt.count - 1) // 2)

    def _by_seconds(
        self, deliveries: Sequence[Delivery], lease: float
    ) -> dict[tuple[str, int], list[Delivery]]:
        groups = defaultdict[tuple[str, int], list[Delivery]](list)
        for each in deliveries:
            if receipt := self._held(each):
                seconds = min(whole_seconds(lease), self._rest(receipt))
                if seconds > 0:  # else it has reached the 12 hours, and just runs out
                    groups[each.queue_name, seconds].append(each)
        return groups

    def bury(self, delivery: Delivery, data: Data | None, reason: Reason) -> bool:
        """Make a reserved task a dead letter: sent to ``<queue>-dead``, then deleted.

        Without that queue, it is logged whole. Then the queue's redrive policy gets it, or it
        is deleted where there is none.
        """
        receipt = self._held(delivery)
        if receipt is None:
            return False
        kept = delivery.data if data is None else data
        if not receipt.succeeded:
            receipt.succeeded = dead_letters.send(
                self._connection, delivery, kept, reason, self.clock.time()
            )
        if receipt.succeeded:
            return self._remove(delivery)
        left = self._has_redrive(delivery.queue_name)
        dead_letters.put_in_log(delivery, kept, reason, left=left)
        if not left:
            return self._remove(delivery)
        self._connection.change(delivery.queue_name, [receipt.handle], 0)
        receipt.close()
        return True


def _by_queue(deliveries: Sequence[Delivery]) -> dict[str, list[Delivery]]:
    groups = defaultdict[str, list[Delivery]](list)
    for each in deliveries:
        groups[each.queue_name].append(each)
    return groups
