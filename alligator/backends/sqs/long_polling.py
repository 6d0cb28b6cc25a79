"""Send long polls from threads of their own, so that a caller can stop waiting at any moment.

A request that waits up to 20 seconds cannot be called off. So a thread sends it, and
``reserve`` waits for the thread. If ``reserve`` leaves first (its time is up, the worker stops),
the next ``reserve`` of the same queue and lease claims the poll. Messages that no call takes
within :data:`GRACE` seconds are handed back.
"""

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from alligator.backends.base import Delivery

#: Seconds that a message is held for the next ``reserve``; at most a quarter of its lease.
GRACE = 1.0

#: Seconds of one long poll (SQS service limit).
LONGEST = 20


class Key(NamedTuple):
    """The properties that a poll must share with a ``reserve`` that claims it."""

    queue_name: str
    visibility: int


class Poll:
    """One long poll under way."""

    def __init__(self, key: Key) -> None:
        self.key = key
        self.claimed = True
        self.arrived = False
        self.deliveries: list[Delivery] = []
        self.error: Exception | None = None


class Polls:
    """All the long polls of one client in one process.

    :param receive: called with queue, visibility, limit and seconds to wait; returns the tasks
        that may run, and how many messages there were.
    :param hand_back: called with the tasks that no call took.
    """

    def __init__(
        self,
        receive: Callable[[str, int, int, int], tuple[list[Delivery], int]],
        hand_back: Callable[[Sequence[Delivery]], None],
    ) -> None:
        self._receive, self._hand_back = receive, hand_back
        self._changed = threading.Condition()
        self._polls: list[Poll] = []
        self._closed = False

    def claim(self, key: Key, limit: int, seconds: int) -> Poll:
        """Claim a poll that is under way, or start one."""
        with self._changed:
            for poll in self._polls:
                if poll.key == key and not poll.claimed:
                    poll.claimed = True
                    return poll
            poll = Poll(key)
            self._polls.append(poll)
        name = f"alligator-sqs-{key.queue_name}"
        threading.Thread(
            target=self._run, args=(poll, limit, seconds), name=name, daemon=True
        ).start()
        return poll

    def has_unclaimed(self, key: Key) -> bool:
        """Whether a poll is under way that no call waits for."""
        with self._changed:
            return bool(self._unclaimed(key))

    def _unclaimed(self, key: Key) -> list[Poll]:
        return [poll for poll in self._polls if poll.key == key and not poll.claimed]

    def take(self, polls: Sequence[Poll], limit: int) -> list[Delivery]:
        """Take up to ``limit`` tasks that have arrived, in the order of the polls."""
        taken = list[Delivery]()
        with self._changed:
            for poll in polls:
                room = limit - len(taken)
                taken += poll.deliveries[:room]
                poll.deliveries = poll.deliveries[room:]
            self._changed.notify_all()
        return taken

    def take_unclaimed(self, key: Key, limit: int) -> list[Delivery]:
        """Take up to ``limit`` tasks of the polls that no call waits for."""
        with self._changed:
            return self.take(self._unclaimed(key), limit)

    def wait(self, polls: Sequence[Poll], seconds: float) -> bool:
        """Wait for one of the polls to end; return whether one did."""
        with self._changed:
            return self._changed.wait_for(lambda: any(poll.arrived for poll in polls), seconds)

    def unclaim(self, polls: Sequence[Poll]) -> None:
        """Let later calls claim the polls."""
        with self._changed:
            for poll in polls:
                poll.claimed = False
            self._changed.notify_all()

    def close(self) -> None:
        """Hand back at once all tasks that still arrive."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self, poll: Poll, limit: int, seconds: int) -> None:
        found, error = list[Delivery](), None
        try:
            found, _ = self._receive(*poll.key, limit, seconds)
        except Exception as err:
            error = err
        grace = min(GRACE, poll.key.visibility / 4)
        with self._changed:
            poll.deliveries, poll.error, poll.arrived = found, error, True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not poll.deliveries or self._closed, grace)
            rest, poll.deliveries = poll.deliveries, []
            self._polls.remove(poll)
        self._hand_back(rest)
