"""Keep queues on Amazon SQS, or on a service that speaks its protocol: ``sqs://us-west-2/``.

SQS does these things differently:

*Queues are made by hand*, to save requests: ``aws sqs create-queue --queue-name all``. So is
the queue for dead letters, ``<queue>-dead``. Without it, dead letters are logged whole. They are
then left to the queue's own redrive policy, or deleted if it has none.

*Ids.* A push returns the MessageId, which stays the task's id through retries, hops and the
dead letters. The id given at the push travels along. SQS can look up nothing by id.

*Deaths.* SQS counts receives, not deaths. The first seven are free, so a task whose workers die
is a dead letter at the tenth. A ``maxReceiveCount`` in a redrive policy should be no lower.

*Leases* are visibility timeouts: whole seconds, rounded up, for at most 12 hours from the
receive, with all extensions. SQS may honour a receipt whose lease ran out. So the client refuses
such a receipt, by its own clock, and the task runs again. A message that the service sent to
a process that ended while it waited comes back after the lease.

*Order* is not kept, except on a FIFO queue (``….fifo``). All of a FIFO queue is one message group:
one worker at a time gets messages, and a retry that waits holds up all later ones.

*Delays* above 15 minutes go in hops. When one is over, the worker that receives the message
sends it again with the rest, then deletes it. A crash between the two doubles the task.

*Waiting* is a long poll of up to 20 seconds (at most half a lease) on each queue, so an idle
worker sends three or four requests a minute and queue, and with several queues twice that.
"""

import logging
import math
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from alligator.backends.base import (
    DELAY,
    LEASES,
    Data,
    DeadTask,
    Delivery,
    Finding,
    Message,
    Place,
    QueueStats,
    Reason,
    Renew,
    Reserved,
)
from alligator.backends.base import Client as BaseClient
from alligator.backends.sqs import dead_letters
from alligator.backends.sqs.config import parse_address
from alligator.backends.sqs.connection import MOST, Connection, run_all
from alligator.backends.sqs.encoding import (
    BATCH,
    FREE_RECEIVES,
    LARGEST_TEXT,
    Metadata,
    Outgoing,
    Receipt,
    decode_delivery,
    encode,
    successor,
)
from alligator.backends.sqs.long_polling import LONGEST, Key, Polls
from alligator.backends.sqs.queue_admin import Admin
from alligator.backends.types import clock_finding
from alligator.common.clock import Clock
from alligator.common.group_by import group_by
from alligator.exceptions import AlligatorException, UnsupportedOption

log = logging.getLogger("alligator.backends.sqs")

_NO_IDS = "SQS cannot look a message up by id; keep a record of your own, or use another backend."
_LONGEST_LEASE = 43_200  # seconds from the receive, with all extensions (SQS service limit)
_MOST_NAMES = 100  # queues that durability_warning is about
_STOP_EVERY = 0.2  # seconds between two calls of `stop`

# After a shorter wait, in seconds, the client receives once more instead of polling. Its poll would
# be left before the request has arrived. A burst that ended then would leave tasks to it.
_SHORTEST_POLL = 0.1


class _Session(NamedTuple):
    """The objects of one process."""

    connection: Connection
    polls: Polls
    admin: Admin


class Client(BaseClient):
    """The contract, on SQS."""

    supports = frozenset({LEASES, DELAY})
    queue_name_pattern = re.compile(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo")
    queue_name_rule = "1 to 80 letters, digits, '_' or '-', with or without '.fifo' at the end"
    idle_wait = 20.0

    #: Seconds of one hop of a delay (SQS service limit: 900).
    MAX_DELAY = 900

    def __init__(self, conn_string: str, *, clock: Clock | None = None) -> None:
        super().__init__(conn_string, clock=clock)
        self._address = parse_address(conn_string)
        self._sessions: dict[int, _Session] = {}
        self._names: dict[str, None] = {}  # the queues that durability_warning is about

    @property
    def _session(self) -> _Session:
        """The session of this process; a forked child uses nothing of its parent's."""
        session = self._sessions.get(os.getpid())
        if session is None:
            connection = Connection(self._address)
            receive = partial(self._receive, connection)
            polls = Polls(receive, partial(self._hand_back, connection))
            new = _Session(connection, polls, Admin(connection))
            session = self._sessions.setdefault(os.getpid(), new)
        return session

    @property
    def conn(self) -> Any:
        """The boto3 client of this process."""
        return self._connection.conn

    @property
    def _connection(self) -> Connection:
        return self._session.connection

    def close(self) -> None:
        """Close the connections; tasks that a long poll still receives are handed back."""
        session = self._sessions.pop(os.getpid(), None)
        if session is not None:
            session.polls.close()
            session.connection.close()

    def check_queue_name(self, queue_name: str) -> None:
        super().check_queue_name(queue_name)
        if len(self._names) < _MOST_NAMES:
            self._names[queue_name] = None

    def max_size(self) -> int:
        """Return the largest task, in bytes of plain text; bytes have to be a quarter less."""
        return LARGEST_TEXT

    # -- Pushing. -------------------------------------------------------------------------

    def push_many(self, queue_name: str, messages: Sequence[Message]) -> list[str]:
        """Put tasks on a queue in batches of ten and return their MessageIds.

        If SQS takes only a part of a batch, messages after the first that failed may be queued.
        """
        self.check_queue_name(queue_name)
        now = self.clock.time()
        outgoing = [self._outgoing(queue_name, each, now) for each in messages]
        delays = [self._hop(each.delay_until or 0.0, now) for each in messages]
        return _ids(self._connection.send(queue_name, outgoing, delays))

    def _outgoing(self, queue_name: str, message: Message, now: float) -> Outgoing:
        due = message.delay_until or 0.0
        if message.priority:
            raise UnsupportedOption("SQS has no priorities; use several queues, in order.")
        if due > now and queue_name.endswith(".fifo"):
            raise UnsupportedOption("SQS cannot delay one message of a FIFO queue.")
        return encode(message.data, Metadata(message.task_id, due=self._kept(queue_name, due, now)))

    def push_each(
        self, queue_name: str, messages: Sequence[Message]
    ) -> list[str | AlligatorException]:
        self.check_queue_name(queue_name)
        now, found = self.clock.time(), list[str | AlligatorException]()
        outgoing, delays = list[Outgoing](), list[int]()
        for each in messages:
            try:
                outgoing.append(self._outgoing(queue_name, each, now))
            except AlligatorException as err:
                found.append(err)
            else:
                found.append("")
                delays.append(self._hop(each.delay_until or 0.0, now))
        sent = iter(self._connection.send(queue_name, outgoing, delays))
        return [next(sent) if each == "" else each for each in found]

    def _hop(self, due: float, now: float) -> int:
        """Return the seconds to delay a message by: the whole delay, or one hop of it."""
        return max(0, math.ceil(min(due - now, self.MAX_DELAY)))

    def _kept(self, queue_name: str, due: float, now: float) -> float:
        """Return the due time that goes with a message; 0: the service counts the whole delay.

        A worker would compare it with its own clock, which may differ.
        """
        if due <= now or (due - now <= self.MAX_DELAY and not queue_name.endswith(".fifo")):
            return 0.0
        return due

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
        if task_id is not None:
            raise NotImplementedError(_NO_IDS)
        refused = self.ack(acks) if acks else []
        if wait >= 1 and len(queue_names) == 1:  # the long poll finds waiting tasks as well
            return Reserved([], refused)
        keys = _keys(queue_names, lease)
        found = self._receive_all(keys, limit, polls_next=wait >= _SHORTEST_POLL)
        return Reserved(self._isolated(found), refused)

    def _wait(
        self,
        queue_names: Sequence[str],
        limit: int,
        lease: float,
        seconds: float,
        stop: Callable[[], bool],
    ) -> list[Delivery] | None:
        if seconds < _SHORTEST_POLL:
            time.sleep(seconds)
            return None
        return self._isolated(self._poll(_keys(queue_names, lease), limit, seconds, stop))

    def _receive_all(
        self, keys: Sequence[Key], limit: int, *, polls_next: bool = False
    ) -> list[Delivery]:
        """Receive without waiting, from the queues in their order."""
        polls, found = self._session.polls, list[Delivery]()
        for key in keys:
            found += polls.take_unclaimed(key, limit - len(found))
            if polls_next and polls.has_unclaimed(key):
                continue  # its request already waits for these messages
            try:
                found += self._receive_many(key, limit - len(found))
            except AlligatorException:
                if found:  # they are on lease, so the caller must get them
                    return found
                raise
        return found

    def _receive_many(self, key: Key, limit: int) -> list[Delivery]:
        """Receive until a request brings fewer than it could: one request, then 2, then up to 4
        at a time. So an empty queue costs one, and the end of a long one at most three too many.
        """
        connection, found, at_once = self._connection, list[Delivery](), 1
        full = True
        while full and (room := limit - len(found)) > 0:
            asked = [min(BATCH, room - at) for at in range(0, room, BATCH)][:at_once]
            replies = run_all(lambda size: self._receive(connection, *key, size, 0), asked)
            received = [each for each in replies if not isinstance(each, AlligatorException)]
            for deliveries, _ in received:
                found += deliveries
            failed = [each for each in replies if isinstance(each, AlligatorException)]
            if failed and not found:
                raise failed[0]
            full = [count for _, count in received] == asked
            if not key.queue_name.endswith(".fifo"):
                at_once = min(2 * at_once, MOST)
        return found

    def _poll(
        self, keys: Sequence[Key], limit: int, wait: float, stop: Callable[[], bool]
    ) -> list[Delivery]:
        """Wait on a long poll of each queue until one ends, the time is up, or ``stop``."""
        polls = self._session.polls
        began = time.monotonic()
        until = began + wait
        seconds = min(LONGEST, max(1, math.ceil(wait)))
        claimed = [polls.claim(key, min(BATCH, limit), seconds) for key in keys]
        try:
            ended = False
            while not ended and (rest := until - time.monotonic()) > 0 and not stop():
                ended = polls.wait(claimed, min(rest, _STOP_EVERY))
            found = polls.take(claimed, limit)
        finally:
            polls.unclaim(claimed)
        errors = [poll.error for poll in claimed if poll.error]
        if not found and errors:
            raise errors[0]
        if not found and time.monotonic() - began < _STOP_EVERY / 2:
            time.sleep(_STOP_EVERY / 4)  # do not spin, whatever ended the wait so soon
        if found and len(found) % BATCH == 0 and len(found) < limit:
            try:
                found += self._receive_all(keys, limit - len(found))
            except AlligatorException:
                return found  # the next reserve raises it
        return found

    def _receive(
        self, connection: Connection, queue_name: str, visibility: int, limit: int, wait: int
    ) -> tuple[list[Delivery], int]:
        """Receive once; return the tasks that may run now, and how many messages there were."""
        since = self.clock.monotonic()
        messages = connection.receive(queue_name, limit, visibility, wait)
        if wait:  # the lease began when the message arrived, which may be just now
            since = self.clock.monotonic()
        now = self.clock.time()
        taken = [decode_delivery(queue_name, each, since, visibility) for each in messages]
        early = [each for each in taken if each.receipt.metadata.due > now]
        if early:
            self._put_off(connection, queue_name, early, now)
        return [each for each in taken if each.receipt.metadata.due <= now], len(messages)

    def _put_off(
        self, connection: Connection, queue_name: str, early: Sequence[Delivery], now: float
    ) -> None:
        """Let messages that are not due take the next hop: send them again, then delete them."""
        try:
            if queue_name.endswith(".fifo"):
                for each in early:
                    rest = min(math.ceil(each.receipt.metadata.due - now), _LONGEST_LEASE)
                    connection.change(queue_name, [each.receipt.handle], rest)
                return
            # No worker ran it, so this receive is left out of the counts.
            dues = [each.receipt.metadata.due for each in early]
            hops = [
                replace(
                    each.receipt.metadata,
                    first_id=each.task_id,
                    due=self._kept(queue_name, due, now),
                )
                for each, due in zip(early, dues, strict=True)
            ]
            outgoing = [encode(each.data, hop) for each, hop in zip(early, hops, strict=True)]
            delays = [self._hop(due, now) for due in dues]
            sent = connection.send(queue_name, outgoing, delays)
            gone = [each for each, one in zip(early, sent, strict=True) if isinstance(one, str)]
            connection.delete(queue_name, [each.receipt.handle for each in gone])
            _ids(sent)
        except AlligatorException as err:
            log.warning("Cannot put off delayed tasks of %r for now: %s", queue_name, err)

    def _isolated(self, found: list[Delivery]) -> list[Delivery]:
        """Return a task with deaths alone, and hand the others back."""
        died = next((each for each in found if each.deaths), None)
        if died is None:
            return found
        self._hand_back(self._connection, [each for each in found if each is not died])
        return [died]

    def _hand_back(self, connection: Connection, deliveries: Sequence[Delivery]) -> None:
        """End leases that no caller knows of, many at once where that adds no death."""
        try:
            for each in deliveries:
                if self._is_used_up(each):
                    self.release(each)
            rest = [each for each in deliveries if not self._is_used_up(each)]
            for name, group in group_by(rest, attrgetter("queue_name")).items():
                connection.change(name, [each.receipt.handle for each in group], 0)
        except AlligatorException as err:
            log.warning("Cannot hand back tasks, which return after their leases: %s", err)

    # -- Settling and extending: nothing here relies on SQS to refuse an expired receipt. -----

    def _live(self, delivery: Delivery) -> Receipt | None:
        """Return the receipt of a delivery whose lease, by our own clock, still runs."""
        receipt: Receipt = delivery.receipt
        return receipt if self.clock.monotonic() < receipt.ends else None

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        refused = [each for each in deliveries if not (each.receipt.acked or self._live(each))]
        for name, group in group_by(deliveries, attrgetter("queue_name")).items():
            live = {
                each.receipt.handle: each
                for each in group
                if not each.receipt.acked and self._live(each)
            }
            stale = self._connection.delete(name, list(live))
            for handle, each in live.items():
                each.receipt.acked = handle not in stale
                each.receipt.expire()
            refused += [live[handle] for handle in stale]
        return refused

    def release(
        self, delivery: Delivery, data: Data | None = None, delay_until: float | None = None
    ) -> bool:
        """Make the message of an unrun task visible; send a new message for a retry.

        An unrun task also gets a new message in two cases: if the next receive would count as a
        death, and if the delay is longer than the 12 hours for which SQS hides a message.
        """
        receipt = self._live(delivery)
        if receipt is None:
            return False
        if data is not None:
            return self.postpone(delivery._replace(deaths=0), data, delay_until or 0.0)
        due = delay_until or 0.0
        delay = max(0, math.ceil(due - self.clock.time()))
        if self._is_used_up(delivery) or delay > self._rest(receipt):
            return self._replace(delivery, None, due)
        stale = self._connection.change(delivery.queue_name, [receipt.handle], delay)
        receipt.expire()
        return not stale

    def postpone(self, delivery: Delivery, data: Data, delay_until: float) -> bool:
        return self._live(delivery) is not None and self._replace(delivery, data, delay_until)

    def _is_used_up(self, delivery: Delivery) -> bool:
        """Whether the next receive of this very message would count as a death.

        Not on a FIFO queue, where a new message would lose its place.
        """
        is_fifo = delivery.queue_name.endswith(".fifo")
        return delivery.receipt.count >= FREE_RECEIVES and not is_fifo

    def _rest(self, receipt: Receipt) -> int:
        """Return for how many more seconds SQS would hide the message."""
        return math.floor(receipt.received + _LONGEST_LEASE - self.clock.monotonic())

    def _replace(self, delivery: Delivery, data: Data | None, due: float) -> bool:
        receipt, now = delivery.receipt, self.clock.time()
        metadata = successor(delivery, self._kept(delivery.queue_name, due, now))
        if data is None:  # it was not run: this receive does not count, the earlier ones still do
            used = min(receipt.count, FREE_RECEIVES) - 1
            data, metadata = delivery.data, replace(metadata, used=used)
        if not receipt.succeeded:  # else the reply to the deletion was lost
            message, delay = encode(data, metadata), self._hop(due, now)
            (sent,) = self._connection.send(delivery.queue_name, [message], [delay])
            if not isinstance(sent, str):
                raise sent
            receipt.succeeded = True
        return self._remove(delivery)

    def _remove(self, delivery: Delivery) -> bool:
        # Its successor counts, even if the receipt expires at this very moment.
        self._connection.delete(delivery.queue_name, [delivery.receipt.handle])
        delivery.receipt.expire()
        return True

    def extend(self, deliveries: Sequence[Delivery], lease: float) -> list[Delivery]:
        """Extend leases; one is also lost 12 hours after SQS delivered the message."""
        lost = [each for each in deliveries if not self._live(each)]
        for (name, seconds), group in self._by_seconds(deliveries, lease).items():
            if seconds <= 0:  # it has reached the 12 hours, and just runs out
                continue
            now = self.clock.monotonic()
            by_handle = {each.receipt.handle: each for each in group}
            stale = self._connection.change(name, list(by_handle), seconds)
            for handle, each in by_handle.items():
                if handle in stale or each.receipt.ends == -math.inf:  # settled meanwhile
                    each.receipt.expire()
                    lost.append(each)
                else:
                    each.receipt.ends = now + seconds
        return lost

    def _by_seconds(
        self, deliveries: Sequence[Delivery], lease: float
    ) -> dict[tuple[str, int], list[Delivery]]:
        def key(each: Delivery) -> tuple[str, int]:
            return each.queue_name, min(_whole_seconds(lease), self._rest(each.receipt))

        return group_by(filter(self._live, deliveries), key)

    def lapses(self, delivery: Delivery) -> int:
        """Count every second receive except the first: any may have been handed back."""
        receipt: Receipt = delivery.receipt
        return max(delivery.deaths, (receipt.count - 1) // 2)

    # -- Dead letters. --------------------------------------------------------------------

    def bury(self, delivery: Delivery, data: Data | None, reason: Reason) -> bool:
        """Send a dead letter to ``<queue>-dead``, then delete the message.

        If there is no such queue, log the dead letter whole. Then leave the message to the queue's
        redrive policy, or delete it if there is none.
        """
        receipt = self._live(delivery)
        if receipt is None:
            return False
        kept = delivery.data if data is None else data
        if not receipt.succeeded:
            receipt.succeeded = dead_letters.send(
                self._connection, delivery, kept, reason, self.clock.time()
            )
        if receipt.succeeded:
            return self._remove(delivery)
        left = self._session.admin.has_redrive(delivery.queue_name)
        dead_letters.put_in_log(delivery, kept, reason, left=left)
        if not left:
            return self._remove(delivery)
        self._connection.change(delivery.queue_name, [receipt.handle], 0)
        receipt.expire()
        return True

    def dead(self, queue_name: str, limit: int = 100) -> list[DeadTask]:
        """Return dead letters, the newest first of the thousand or so that are read."""
        return dead_letters.read(self._connection, queue_name, limit)

    def revive(
        self, queue_name: str, task_id: str | None = None, renew: Renew | None = None
    ) -> int:
        """Revive dead letters; ``task_id`` may also be the id given at the push.

        One whose id is on the queue is revived nevertheless: SQS cannot look it up.
        """
        return dead_letters.revive(self._connection, queue_name, task_id, renew)

    def purge_dead(self, queue_name: str, older_than: float = 0.0) -> int:
        return dead_letters.purge(self._connection, queue_name, self.clock.time() - older_than)

    # -- Looking. -------------------------------------------------------------------------

    def len(self, queue_name: str) -> int:
        return self._session.admin.len(queue_name)

    def stats(self, queue_name: str) -> QueueStats:
        return self._session.admin.stats(queue_name)

    def drop_all(self, queue_name: str) -> None:
        self._session.admin.purge(queue_name)

    def get(self, queue_name: str, task_id: str) -> Data | None:
        """Raise :exc:`NotImplementedError`, as documented since 0.x."""
        raise NotImplementedError(_NO_IDS)

    def find(self, queue_name: str, task_id: str) -> Place | None:
        """Raise :exc:`NotImplementedError`."""
        raise NotImplementedError(_NO_IDS)

    def peek(self, queue_name: str, task_id: str) -> Data | None:
        """Raise :exc:`NotImplementedError`."""
        raise NotImplementedError(_NO_IDS)

    def durability_warning(self) -> str | None:
        """Return what may lose tasks on the queues whose names this client has checked."""
        return self._session.admin.warning(list(self._names), FREE_RECEIVES + self.max_deaths)

    def examine(self) -> list[Finding]:
        """Examine the queues whose names this client has checked."""
        region, endpoint = self._address
        found = [Finding("connection", f"SQS of {endpoint or region}")]
        most = FREE_RECEIVES + self.max_deaths
        for name in self._names:
            risks = self._session.admin.risks(name, most)
            subjects = {each.subject for each in risks}
            if "persistence" not in subjects:
                text = f"queue {name!r} keeps a task for 14 days"
                found.append(Finding("persistence", text))
            if "dead letters" not in subjects:
                found.append(Finding("dead letters", f"those of queue {name!r} are kept"))
            found += risks
        for name in list(self._names)[:1]:
            before = time.time()
            server = self._connection.server_time(name)  # of whole seconds
            if server is not None:
                found.append(clock_finding(server + 0.5, before - 1.0, time.time() + 1.0))
        return found

    def place_of(self, queue_name: str) -> str | None:
        return f"SQS {self._connection.url(queue_name)}"


def _whole_seconds(lease: float) -> int:
    """Return a lease as SQS keeps it: rounded up, 1 second to 12 hours."""
    return max(1, math.ceil(min(lease, _LONGEST_LEASE)))


def _keys(queue_names: Sequence[str], lease: float) -> list[Key]:
    return [Key(name, _whole_seconds(lease)) for name in queue_names]


def _ids(sent: Sequence[str | AlligatorException]) -> list[str]:
    for each in sent:
        if not isinstance(each, str):
            raise each
    return [each for each in sent if isinstance(each, str)]
