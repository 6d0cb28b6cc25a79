"""Track a worker's trouble with its backend; log each kind once when it begins, once at its end.

There are three kinds:

* The backend cannot be reached. The worker waits.
* One node of several cannot be reached (:exc:`~alligator.exceptions.NodeLost`). The worker serves
  the queues on the other nodes.
* The backend takes no more for now: it is full, draining, or asked too often
  (:exc:`~alligator.exceptions.QueueFull`). The worker goes on with all that the backend does take.
"""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from alligator.common.text import shorten
from alligator.exceptions import AlligatorException, NodeLost, QueueFull

#: Seconds between two tries: at first, and at most.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0

#: Seconds after the end of an outage in which a failed call counts as one that began before that
#: end, in another thread or over an old connection. It is logged only if calls go on failing.
ECHO = 1.0

_RECORDS = "a node with records of results"

#: Seconds without a refusal after which a backend that was full takes everything again.
QUIET = 1.0

T = TypeVar("T")


class _Backoff:
    """When to try again: later each time, and with jitter, so that workers do not try at once."""

    def __init__(self) -> None:
        self._tries = 0
        self._next_try = 0.0

    def failed(self, *, first: bool) -> None:
        now = time.monotonic()
        if first:
            self._tries = 0
        if first or now >= self._next_try:  # else several threads failed in one try
            longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._tries, 16))
            self._tries += 1
            self._next_try = now + longest * random.uniform(0.5, 1)  # noqa: S311 - only spread

    def seconds_left(self) -> float:
        return self._next_try - time.monotonic()


class Outage:
    """Whether the backend can be reached and has room; for one worker and all of its threads.

    :param queue_names: the queues of the worker.
    """

    def __init__(self, log: logging.Logger, queue_names: Sequence[str] = ()) -> None:
        self.log, self._queue_names = log, frozenset(queue_names)
        #: Whether the backend cannot be reached.
        self.lasts = False
        #: Whether the backend takes no more for now.
        self.is_full = False
        self._is_logged = False
        self._ended_at = -math.inf  # monotonic
        self._lock = threading.Lock()  # also around log lines, which keeps them in order
        self._away, self._refusing = _Backoff(), _Backoff()
        self._refused_at = -math.inf  # monotonic: the last call that was no outcome
        self._outcomes = 0  # that wait until the backend takes them
        self._waited = 0  # how many have waited since it is full
        self._lost: set[str] = set()  # queues, and records, on lost nodes that were logged

    def call(self, what: Callable[[], T]) -> T | None:
        """Return what a call to the backend returns; None: it failed, which :meth:`begins` notes.

        The caller loses nothing by that: the call is repeated later, or a lease runs out.
        """
        try:
            return what()
        except Exception as err:
            self.begins(err)
            return None

    def begins(self, err: Exception) -> None:
        """Note that a call failed; the first of a row is logged."""
        with self._lock:
            if isinstance(err, QueueFull):
                self._refused_at = time.monotonic()
                self._refuses(err)
                return
            first = not self.lasts
            if first and isinstance(err, NodeLost) and not self._is_all(err):
                self._say_lost(dict.fromkeys(err.queue_names or [_RECORDS], str(err)))
                return
            self.lasts = True
            self._away.failed(first=first)
            if not self._is_logged and time.monotonic() - self._ended_at >= ECHO:
                self._is_logged = True
                unknown = None if isinstance(err, AlligatorException) else err
                self.log.warning(
                    "The queue cannot be reached (%s); retrying.",
                    shorten(str(err), 500),
                    exc_info=unknown,
                )

    def _is_all(self, err: NodeLost) -> bool:
        names = self._queue_names
        return bool(names) and names <= self._lost.union(err.queue_names)

    def looks(self, lost: Mapping[str, str]) -> None:
        """Note which queues cannot be reached though others can, and why."""
        if lost or self._lost:
            with self._lock:
                self._say_lost(lost)
                back = self._lost.difference(lost, [_RECORDS])
                if back:
                    self._lost -= back
                    self.log.info("Can be reached again: %s.", _listed(back))

    def records_again(self) -> None:
        """Note that records can be written again."""
        with self._lock:
            if _RECORDS in self._lost:
                self._lost.discard(_RECORDS)
                self.log.info("Can be reached again: %s.", _RECORDS)

    def _say_lost(self, lost: Mapping[str, str]) -> None:
        new = [name for name in lost if name not in self._lost]
        if new:
            self._lost.update(new)
            self.log.warning(
                "Cannot be reached: %s (%s); retrying, and serving the others.",
                _listed(new),
                shorten(lost[new[0]], 500),
            )

    def holds_back(self, err: QueueFull, *, again: bool = False) -> None:
        """Note that the outcome of a task was refused and waits.

        :param again: whether it waited before.
        """
        with self._lock:
            self._outcomes += not again
            self._waited += not again
            self._refuses(err)

    def _refuses(self, err: QueueFull) -> None:
        first = not self.is_full
        self.is_full = True
        self._refusing.failed(first=first)
        if first:
            self.log.warning(
                "The queue takes no more for now (%s); %s.",
                shorten(str(err).removesuffix("."), 500),
                f"the outcome of {tasks(self._outcomes)} waits until it does"
                if self._outcomes
                else "retrying",
            )

    def lets_go(self, count: int = 1) -> None:
        """Note that outcomes wait no more: they were settled, or dropped."""
        with self._lock:
            self._outcomes -= count
            self._look_for_end()

    def ends(self) -> None:
        """Note that a call got through."""
        if self.lasts or self.is_full:
            with self._lock:
                if self.lasts:
                    self.lasts = False
                if self._is_logged:
                    self._is_logged = False
                    self._ended_at = time.monotonic()
                    self.log.info("The queue can be reached again.")
                self._look_for_end()

    def _look_for_end(self) -> None:
        # One call that succeeds does not mean that others will: a full disk has room for some.
        calm = time.monotonic() - self._refused_at >= QUIET
        if self.is_full and calm and not self._outcomes:
            self.is_full = False
            waited, self._waited = self._waited, 0
            also = f"; the outcome of {tasks(waited)} had to wait" if waited else ""
            self.log.info("The queue takes everything again%s.", also)

    def try_is_due(self) -> bool:
        """Return whether to call now: there is no outage, or the next try is due."""
        return not self.lasts or self._away.seconds_left() <= 0

    def room_is_due(self) -> bool:
        """Return the same for a call that needs room."""
        return not self.is_full or self._refusing.seconds_left() <= 0

    def pause(self, stop: Callable[[], bool]) -> None:
        """Wait until the next try is due."""
        while not stop() and not (self.try_is_due() and self.room_is_due()):
            left = self._away.seconds_left() if self.lasts else self._refusing.seconds_left()
            time.sleep(max(0.0, min(left, 0.1)))


def _listed(names: Iterable[str]) -> str:
    said = (name if name == _RECORDS else f"queue {name!r}" for name in sorted(names))
    return shorten(", ".join(said), 500)


def tasks(count: int) -> str:
    """Return "1 task", "2 tasks" and so on."""
    return "1 task" if count == 1 else f"{count} tasks"
