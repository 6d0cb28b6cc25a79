"""Keep a worker from the paused queues that its backend does not keep it from.

A backend with ``PAUSE`` in its ``controls`` gives nothing from a paused queue. For any other one,
the worker looks at the documents in the store, at most once a second, and leaves paused queues out.
What a wait brought that began before the pause goes back, unrun. On every backend, so do tasks that
the worker holds in advance, and which would start after the pause began.
"""

import logging
import time
from collections.abc import Callable, Collection, Sequence

from alligator.backends.base import Delivery
from alligator.backends.queue_pauses import Pauses
from alligator.common.text import describe_error

#: Seconds between two looks; and after one that failed, since each may take long.
EVERY, AFTER_FAILURE = 1.0, 15.0

#: Seconds that tasks are held in advance before their queues are looked at.
_HELD_FOR = 0.3


class PausedQueues:
    """What one worker knows of paused queues.

    :param queue_names: returns the queues that it serves.
    :param monotonic: returns seconds; for tests.
    """

    def __init__(
        self,
        pauses: Pauses,
        queue_names: Callable[[], Sequence[str]],
        log: logging.Logger,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pauses, self.log = pauses, log
        self._queue_names, self._monotonic = queue_names, monotonic
        #: Whether the worker has to look by itself before it reserves.
        self.in_store = pauses.documents is not None
        self._next_look = self._next_look_at_held = -float("inf")
        self._paused: Collection[str] = ()
        self._fails = False
        self._last: tuple[Delivery | None, float] = None, 0.0  # and since when

    def any_paused(self) -> bool:
        """Return whether the last look in the store found a paused queue."""
        return bool(self._paused)

    def open_queues(self) -> Sequence[str]:
        """Return the queues from which the worker may reserve now."""
        names = self._queue_names()
        self._look(names)
        return [each for each in names if each not in self._paused] if self._paused else names

    def split(self, found: Sequence[Delivery]) -> tuple[Sequence[Delivery], list[Delivery]]:
        """Return of deliveries that were just reserved those to run, and those to hand back."""
        self._look(self._queue_names())
        back = [each for each in found if each.queue_name in self._paused]
        return ([each for each in found if each not in back] if back else found), back

    def holds_paused(self, last: Delivery | None, queue_names: Callable[[], set[str]]) -> bool:
        """Return whether the worker holds tasks of a paused queue in advance; for calls in a row.

        :param last: the last delivery that has not started; None: there is none.
        :param queue_names: returns the queues of all that have not.
        :raises AlligatorException: it is not known.
        """
        now = self._monotonic()
        known, since = self._last
        if last is None or last is not known:
            self._last = last, now
            return False
        if now - since < _HELD_FOR or now < self._next_look_at_held:
            return False
        self._next_look_at_held = now + EVERY
        names = queue_names()
        if self.in_store:
            self._look(self._queue_names())
            return not names.isdisjoint(self._paused)
        return any(self.pauses.until(each) is not None for each in names)

    def _look(self, queue_names: Sequence[str]) -> None:
        """Look in the store, if it is time; what cannot be asked stays as it was."""
        if self._monotonic() < self._next_look:
            return
        try:
            self._paused = self.pauses.among(queue_names)
        except Exception as err:  # of whatever kind: the queues can be served all the same
            if not self._fails:
                why = describe_error(err)
                self.log.warning("It is unknown which queues are paused (%s); retrying.", why)
            self._fails = True
        else:
            self._fails = False
        self._next_look = self._monotonic() + (AFTER_FAILURE if self._fails else EVERY)
