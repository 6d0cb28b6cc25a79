"""Queues of Amazon SQS, and of what speaks its protocol: ``sqs://us-west-2/``.

What SQS does differently, and what that means here:

*Queues are made by hand*, to save requests: ``aws sqs create-queue --queue-name all``. So is
the queue for dead letters, ``<queue>-dead``; without it they are logged whole, and then left
to the queue's own redrive policy, or deleted where it has none.

*Ids.* A push returns the MessageId, which stays the task's id through retries, hops and the
dead letters. The id given at the push travels along. Nothing can be looked up by id.

*Deaths.* SQS counts receives, not deaths: the first seven are free, so a task whose workers die
is a dead letter at the tenth. A ``maxReceiveCount`` in a redrive policy should be no lower.

*Leases* are visibility timeouts: whole seconds, rounded up, for at most 12 hours from the
receive, with all extensions. SQS may honour a receipt whose lease ran out, so such a receipt is
refused here, by our own clock; the task then runs again. A message that the service sent to
a process that ended while it waited comes back after the lease.

*Order* is not kept, but on a FIFO queue (``….fifo``). All of that is one message group, so it
is handed to one worker at a time, and a retry that waits holds up those behind it.

*Delays* above 15 minutes go in hops: when one is over, whichever worker receives the message
sends it again with the rest, then deletes it. A crash between the two doubles the task.

*Waiting* is a long poll of up to 20 seconds (at most half a lease) on each queue, so an idle
worker sends three or four requests a minute and queue, and with several queues twice that.
"""

import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from alligator.backends.base import Delivery, Message, Reserved, never
from alligator.backends.sqs import dead_letters
from alligator.backends.sqs.admin import GROUP, NO_IDS
from alligator.backends.sqs.connection import Connection
from alligator.backends.sqs.encoding import BATCH, Note, Outgoing, decode_delivery, encode
from alligator.backends.sqs.parallel import MOST, run_all
from alligator.backends.sqs.polling import LONGEST, Key, Polls
from alligator.backends.sqs.settle import LONGEST_LEASE, Settling, whole_seconds
from alligator.common.clock import Clock
from alligator.exceptions import AlligatorException, UnsupportedOption

_SLICE = 0.2  # seconds between two looks at `stop`

# A shorter wait, in seconds, looks again at its end: a poll would be left behind before its
# request has arrived, and a burst that ended then would leave tasks to it.
_WORTH_A_POLL = 0.1


class _Session:
    """What one process has."""

    def __init__(self, client: "Client") -> None:
        self.connection = Connection(client._address)
        self.polls = Polls(
            partial(client._receive, self.connection), partial(client._hand_back, self.connection)
        )

    def close(self) -> None:
        """Let go of it all."""
        self.polls.close()
        self.connection.close()


class Client(Settling):
    """The contract, on SQS."""

    idle_wait = 20.0

    def __init__(self, conn_string: str, *, clock: Clock | None = None) -> None:
        super().__init__(conn_string, clock=clock)
        self._sessions: dict[int, _Session] = {}

    def _here(self) -> _Session:
        """What this process has: after a fork, nothing of its parent's."""
        session = self._sessions.get(os.getpid())
        if session is None:
            session = self._sessions.setdefault(os.getpid(), _Session(self))
        return session

    @property
    def conn(self) -> Any:
        """The boto3 client of this process."""
        return self._here().connection.conn

    @property
    def _connection(self) -> Connection:
        return self._here().connection

    def close(self) -> None:
        """Let go of the connections; what a long poll still brings is handed back."""
        session = self._sessions.pop(os.getpid(), None)
        if session is not None:
            session.close()

    # -- Pushing. -------------------------------------------------------------------------

    def push_many(self, queue_name: str, messages: Sequence[Message]) -> list[str]:
        """Put tasks on a queue in batches of ten and return their MessageIds.

        Of a batch that SQS took in part, those after the first that failed may be queued.
        """
        self.check_queue_name(queue_name)
        now, outgoing, delays = self.clock.time(), list[Outgoing](), list[int]()
        for message in messages:
            due = message.delay_until or 0.0
            if message.priority:
                raise UnsupportedOption("SQS has no priorities; use several queues, in order.")
            if due > now and queue_name.endswith(".fifo"):
                raise UnsupportedOption("SQS cannot delay one message of a FIFO queue.")
            note = Note(message.task_id, due=due if due > now else 0.0)
            outgoing.append(encode(message.data, note))
            delays.append(self._hop(note.due, now))
        return _ids(self._connection.send(queue_name, outgoing, delays, GROUP))

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
        """Ack, then lease what SQS hands out; see the contract."""
        if task_id is not None:
            raise NotImplementedError(NO_IDS)
        refused = self.ack(acks) if acks else []
        keys = [Key(name, whole_seconds(lease)) for name in queue_names]
        until = time.monotonic() + wait
        found = list[Delivery]()
        if wait < 1 or len(keys) > 1:  # else a long poll finds what is there as well
            found = self._look(keys, limit, waits=wait >= _WORTH_A_POLL)
        while not found and (rest := until - time.monotonic()) > 0 and not stop():
            if wait >= _WORTH_A_POLL:
                found = self._watch(keys, limit, rest, stop)
            else:
                time.sleep(rest)
                found = self._look(keys, limit)
        return Reserved(self._alone(found), refused)

    def _look(self, keys: Sequence[Key], limit: int, *, waits: bool = False) -> list[Delivery]:
        """Take what is there, the queues in their order."""
        session, found = self._here(), list[Delivery]()
        for key in keys:
            found += session.polls.take_left(key, limit - len(found))
            if waits and session.polls.left_behind(key):
                continue  # a request is waiting for just that
            try:
                found += self._gather(key, limit - len(found))
            except AlligatorException:
                if found:  # they are on lease, so they must reach somebody
                    return found
                raise
        return found

    def _gather(self, key: Key, limit: int) -> list[Delivery]:
        """Receive until a request brings less than it could: one request, then 2, then up to 4
        at a time. So an empty queue costs one, and the end of a long one three in vain at most.
        """
        connection, found, at_once = self._connection, list[Delivery](), 1
        full = True
        while full and (room := limit - len(found)) > 0:
            asked = [min(BATCH, room - at) for at in range(0, room, BATCH)][:at_once]
            replies = run_all(lambda size: self._receive(connection, *key, size, 0), asked)
            came = [each for each in replies if not isinstance(each, AlligatorException)]
            for deliveries, _ in came:
                found += deliveries
            failed = [each for each in replies if isinstance(each, AlligatorException)]
            if failed and not found:
                raise failed[0]
            full = [count for _, count in came] == asked
            if not key.queue_name.endswith(".fifo"):
                at_once = min(2 * at_once, MOST)
        return found

    def _watch(
        self, keys: Sequence[Key], limit: int, rest: float, stop: Callable[[], bool]
    ) -> list[Delivery]:
        """Wait on a long poll for each queue until one ends, or it is time to go."""
        polls = self._here().polls
        began = time.monotonic()
        until = began + rest
        seconds = min(LONGEST, max(1, math.ceil(rest)))
        own = [polls.own(key, min(BATCH, limit), seconds) for key in keys]
        try:
            ended = False
            while not ended and (rest := until - time.monotonic()) > 0 and not stop():
                ended = polls.wait(own, min(rest, _SLICE))
            found = polls.take(own, limit)
        finally:
            polls.leave(own)
        errors = [poll.error for poll in own if poll.error]
        if not found and errors:
            raise errors[0]
        if not found and time.monotonic() - began < _SLICE / 2:
            time.sleep(_SLICE / 4)  # whatever ended the wait so soon, do not spin
        if found and len(found) % BATCH == 0 and len(found) < limit:
            found += self._look_on(keys, limit - len(found))
        return found

    def _look_on(self, keys: Sequence[Key], limit: int) -> list[Delivery]:
        try:
            return self._look(keys, limit)
        except AlligatorException:
            return []  # the next reserve says so

    def _receive(
        self, connection: Connection, queue_name: str, visibility: int, limit: int, wait: int
    ) -> tuple[list[Delivery], int]:
        """Receive once; return what may run now, and how many messages there were."""
        since = self.clock.monotonic()
        messages = connection.receive(queue_name, limit, visibility, wait)
        if wait:  # the lease began when the message came, which may be just now
            since = self.clock.monotonic()
        now = self.clock.time()
        taken = [decode_delivery(queue_name, each, since, visibility) for each in messages]
        early = [each for each in taken if each.receipt.note.due > now]
        if early:
            self._put_off(connection, queue_name, early, now)
        return [each for each in taken if each.receipt.note.due <= now], len(messages)

    def _put_off(
        self, connection: Connection, queue_name: str, early: Sequence[Delivery], now: float
    ) -> None:
        """Let messages that are not due hop on: send again, then delete."""
        try:
            if queue_name.endswith(".fifo"):
                for each in early:
                    rest = min(math.ceil(each.receipt.note.due - now), LONGEST_LEASE)
                    connection.change(queue_name, [each.receipt.handle], rest)
                return
            # Nobody had it in hand, so the receive for the hop counts as none.
            notes = [_hopping(each) for each in early]
            outgoing = [encode(each.data, note) for each, note in zip(early, notes, strict=True)]
            delays = [self._hop(note.due, now) for note in notes]
            sent = connection.send(queue_name, outgoing, delays, GROUP)
            gone = [each for each, one in zip(early, sent, strict=True) if isinstance(one, str)]
            connection.delete(queue_name, [each.receipt.handle for each in gone])
            _ids(sent)
        except AlligatorException as err:
            dead_letters.log.warning("Delayed tasks of %r stay for a lease: %s", queue_name, err)

    def _alone(self, found: list[Delivery]) -> list[Delivery]:
        """Keep one with deaths apart from the others, which go back."""
        died = next((each for each in found if each.deaths), None)
        if died is None:
            return found
        self._hand_back(self._connection, [each for each in found if each is not died])
        return [died]

    def _hand_back(self, connection: Connection, deliveries: Sequence[Delivery]) -> None:
        """Give up leases that nobody has heard of, many at once where that adds no death."""
        groups = defaultdict[str, list[Delivery]](list)
        try:
            for each in deliveries:
                if self._is_used_up(each):
                    self.release(each)
                else:
                    groups[each.queue_name].append(each)
            for name, group in groups.items():
                connection.change(name, [each.receipt.handle for each in group], 0)
        except AlligatorException as err:
            dead_letters.log.warning("Tasks come back only after their leases: %s", err)


def _hopping(early: Delivery) -> Note:
    """Return the note for the next hop; this receive was nobody's attempt."""
    note: Note = early.receipt.note
    return replace(note, first_id=early.task_id)


def _ids(sent: Sequence[str | AlligatorException]) -> list[str]:
    for each in sent:
        if not isinstance(each, str):
            raise each
    return [each for each in sent if isinstance(each, str)]
