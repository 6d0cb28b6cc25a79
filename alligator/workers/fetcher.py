"""What a worker fetches: how much, with which acks, and what it does where that fails.

1. See to what is due by time: schedules, and children between queue and store.
2. Reserve; acks of what is done ride along. With nothing there, block until something comes.
3. Hold what came, for its turn (:class:`alligator.execution.leases.Leases`). A task that may have
   killed a worker is the business of :class:`alligator.workers.suspects.Suspects`.
   While outcomes wait for a backend that is full, fewer tasks are fetched, and in the end none.
4. While short tasks run, send for the next batch already, so that worker and server work at the
   same time. Not always: what came back by a lease, and what goes alone, is left to step 2.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from alligator.backends.base import Delivery
from alligator.common.text import describe_error
from alligator.execution.outage import Outage
from alligator.execution.unsettled import MOST_HELD
from alligator.workers.prefetch import AHEAD
from alligator.workers.processor import Processor
from alligator.workers.suspects import Suspects

if TYPE_CHECKING:
    from alligator.workers.worker import Worker


#: Seconds between two looks at leases that ran out, while batches are sent for ahead.
_LOOK_EVERY = 0.2


class Fetcher:
    """Fetches for one run of a worker.

    :param suspects: that of the same run.
    :param outage: that of the worker.
    :param stop: whether it is to stop.
    :param ended: how many tasks have ended, to be held to ``max_tasks``.
    """

    def __init__(
        self,
        worker: "Worker",
        processor: Processor,
        suspects: Suspects,
        *,
        outage: Outage,
        stop: Callable[[], bool],
        ended: Callable[[], int],
    ) -> None:
        self.worker, self.processor, self.leases = worker, processor, processor.leases
        self.suspects = suspects
        self.outage, self.stop, self.ended = outage, stop, ended
        self._looked_at = 0.0  # monotonic: when it was reserved in the plain way
        self._idle_since: float | None = None  # monotonic: in a burst, with outcomes held
        self._children_stay = False
        self._fetching = threading.Lock()
        self._lost = frozenset[str]()  # queues on lost nodes, before the last reserve

    def fetch(self, limit: int) -> bool:
        """Reserve up to that many and hold them; return whether something came (or may have)."""
        worker, leases = self.worker, self.leases
        if worker.burst:
            leases.wait_for_hand_back()  # else the queue may look empty, and is not
        waiting, running = leases.counts()
        if worker.max_tasks:
            limit = min(limit, worker.max_tasks - self.ended() - waiting - running)
        if held := leases.outcomes_held():
            limit = min(limit, MOST_HELD - held - waiting - running)
        if limit < 1:
            if held:
                self._see_to_what_is_due()
            leases.wait_for_turn(0.1)
            return True
        with self._fetching:
            if not self.suspects.hold_up():
                return self._fetch(limit, running)
        if not self.suspects.alone:
            self._see_to_what_is_due()
            leases.wait_for_turn(0.1)
        return True

    def halt(self, timeout: float) -> None:
        """Let nothing be fetched any more; wait so many seconds for what is on its way."""
        self._fetching.acquire(timeout=timeout)

    def _fetch(self, limit: int, running: int) -> bool:
        leases = self.leases
        self._see_to_what_is_due()
        if self._collect(limit):
            return True
        acks = leases.acks.take()
        # If not quiet, more may be queued right after a look.
        quiet = not self.worker.burst or (
            leases.is_quiet()
            and not self._waits_for_room()
            and not self._lost_queues()
            and not self.suspects.are_near
        )
        found = self._reserve(limit, running, acks)
        if found is None:
            return True
        if found and found[0].deaths:
            self.suspects.see_to(found[0])
        else:
            leases.take(found)
            self._looked_at = time.monotonic()
            self._send_ahead(limit, len(found))
        if found:
            self._idle_since = None
        elif not quiet:
            leases.wait_for_turn(0.02)
        return bool(found) or not quiet

    def _waits_for_room(self) -> bool:
        """Whether a burst goes on for outcomes that are held: they may be tasks to be run again.

        For as long as a worker that is told to stop would wait for them.
        """
        if not self.leases.outcomes_held():
            self._idle_since = None
            return False
        now = time.monotonic()
        if self._idle_since is None:
            self._idle_since = now
        return now - self._idle_since < self.worker.grace

    def _collect(self, limit: int) -> bool:
        """Hold what was sent for; return whether something came (or may have)."""
        try:
            found = self.leases.collect()
        except Exception as err:
            # The acks are sent again; what was leased, if anything, comes back by its lease.
            self._out_of_touch(err)
            return True
        if found:  # which tells nothing of an outage: nothing is sent ahead while one lasts
            self._send_ahead(limit, found)
        return bool(found)

    def _send_ahead(self, limit: int, found: int) -> None:
        worker = self.worker
        in_sight = found >= limit  # else the queue has run dry, or others take from it
        if not in_sight or worker.max_tasks or self.stop():
            return
        if self.outage.lasts or self.outage.is_full:
            return
        if limit < 2:  # whoever wants one at a time wants no second one held, and dead with it
            return
        if self.processor.prefetch.expected(limit) > AHEAD or _is_over(
            self._looked_at, _LOOK_EVERY
        ):
            return
        try:
            self.leases.send_ahead(queue_names(worker), limit)
        except Exception as err:
            self.outage.begins(err)  # as above; the next fetch waits until it ends

    def _out_of_touch(self, err: Exception) -> None:
        self.outage.begins(err)
        self.outage.pause(self.stop)

    def _reserve(self, limit: int, running: int, acks: list[Delivery]) -> Sequence[Delivery] | None:
        worker, leases = self.worker, self.leases
        before, self._lost = self._lost, frozenset(self._lost_queues())
        try:
            leases.catch_up(at_once=not self._lost >= before)
            found, refused = worker.gator.client.reserve(
                queue_names(worker),
                limit,
                worker.lease,
                self._wait(running),
                acks=acks,
                stop=self.stop,
            )
        except Exception as err:
            # Whatever it is, a worker stays: nothing was leased, so nothing is held up.
            leases.acks.give_back(acks, err)
            self._out_of_touch(err)
            return None
        except BaseException:
            leases.acks.give_back(acks)
            raise
        self.outage.ends()
        self.outage.looks(self._lost_queues())
        leases.acks.were_sent(acks, refused)
        return leases.take_back(found)

    def _lost_queues(self) -> dict[str, str]:
        """Return which queues are out of reach though others are not, and why."""
        return self.worker.gator.client.out_of_reach(queue_names(self.worker))

    def _wait(self, running: int) -> float:
        """Return the seconds to block where there is nothing."""
        worker = self.worker
        if worker.burst:
            return 0.2 if self._lost else 0.02 if running else 0.0
        idle = worker.gator.client.idle_wait
        longest = worker.nap_time if idle is None else min(idle, worker.lease / 2)
        longest = min(longest, worker.gator.schedules.seconds_left())
        if worker.gator.elsewhere is not None:
            longest = min(longest, worker.gator.elsewhere.seconds_left())
        return min(longest, 0.2) if running else longest

    def _see_to_what_is_due(self) -> None:
        gator, log = self.worker.gator, self.worker.log
        if gator.elsewhere is not None:  # where queue and store are two
            try:
                looked = gator.elsewhere.look_after()
            except Exception as err:
                # It waits; whether the backend works is found out by the reserve that follows.
                if not self._children_stay:
                    self._children_stay = True
                    why = describe_error(err)
                    log.warning("Tasks that waited for others stay (%s); trying on.", why)
            else:
                if looked and self._children_stay:
                    self._children_stay = False
                    log.info("Tasks that waited for others go on.")
        gator.schedules.fire(log)


def _is_over(since: float, seconds: float) -> bool:
    return time.monotonic() - since > seconds


def queue_names(worker: "Worker") -> list[str]:
    """Return the queues that a worker consumes, in their order."""
    names = worker.to_consume
    return [names] if isinstance(names, str) else list(names)
