"""Fetch tasks for a worker: how many, with which acks, and what follows if that fails.

1. See to what is due by time: schedules, and children between queue and store.
2. Reserve; acks ride along. If there is nothing, block until something comes.
3. Let tasks wait for their turn (:class:`alligator.execution.leases.Leases`). A task that may have
   killed a worker goes to :class:`alligator.workers.suspects.Suspects`.
   While outcomes wait for a backend that is full, fewer tasks are fetched, and in the end none.
4. While short tasks run, send for the next batch, so that worker and server work at the same time.
   Step 2 fetches the tasks that came back by a lease, and the ones that run alone.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from alligator.backends.base import Client, Delivery
from alligator.backends.store import Store
from alligator.common.text import describe_error
from alligator.execution.backend_trouble import Outage
from alligator.execution.leases import Leases
from alligator.execution.unsettled_outcomes import MOST_HELD
from alligator.scheduling.scheduler import Schedules
from alligator.workers.paused_queues import EVERY, PausedQueues
from alligator.workers.prefetch_size import AHEAD, Prefetch
from alligator.workers.suspects import Suspects

#: Seconds between two looks of a worker whose queues are all paused at what else is to do.
_ALL_PAUSED = 0.2

#: Seconds between two looks at leases that ran out, while batches are sent for in advance.
_LOOK_EVERY = 0.2


class FetchOptions(Protocol):
    """The options of a worker that say how it fetches."""

    max_tasks: int
    to_consume: str | Sequence[str]
    nap_time: float
    lease: float
    grace: float
    burst: bool


def queue_names(options: FetchOptions) -> list[str]:
    """Return the queues that a worker consumes, in their order."""
    names = options.to_consume
    return [names] if isinstance(names, str) else list(names)


class Fetcher:
    """Fetches for one run of a worker.

    :param options: read again for each fetch, as they may be assigned meanwhile.
    :param store: is maintained, if it needs that; None: there is none.
    :param stop: returns whether the worker is to stop.
    :param ended: returns how many tasks have ended, to be compared with ``max_tasks``.
    """

    def __init__(
        self,
        options: FetchOptions,
        client: Client,
        leases: Leases,
        prefetch: Prefetch,
        suspects: Suspects,
        *,
        schedules: Schedules,
        store: Store | None,
        outage: Outage,
        log: logging.Logger,
        stop: Callable[[], bool],
        ended: Callable[[], int],
        paused: PausedQueues | None = None,
    ) -> None:
        self.options, self.client, self.leases = options, client, leases
        self.prefetch, self.suspects = prefetch, suspects
        self.schedules = schedules
        self.store = store if store is not None and store.bridged else None
        self.outage, self.log, self.stop, self.ended = outage, log, stop, ended
        self.paused = paused if paused is not None and paused.in_store else None
        self._looked_at = 0.0  # monotonic: when the last plain reserve was made
        self._idle_since: float | None = None  # monotonic: in a burst, with outcomes held
        self._children_stay = False
        self._fetching = threading.Lock()
        self._lost: Mapping[str, str] = {}  # queues on lost nodes, before the last reserve

    def fetch(self, limit: int) -> bool:
        """Reserve up to that many; return whether any came (or may have)."""
        options, leases = self.options, self.leases
        if options.burst:
            leases.wait_for_hand_back()  # else the queue may look empty, and is not
        waiting, running = leases.counts()
        if options.max_tasks:
            limit = min(limit, options.max_tasks - self.ended() - waiting - running)
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
        """Fetch nothing any more; wait so many seconds for a request that is under way."""
        self._fetching.acquire(timeout=timeout)

    def _fetch(self, limit: int, running: int) -> bool:
        self._see_to_what_is_due()
        if self._collect(limit):
            return True
        names, burst = queue_names(self.options), self.options.burst
        if self.paused is not None and not (names := list(self.paused.open_queues())):
            self.leases.wait_for_turn(_ALL_PAUSED)
            return False
        before, self._lost = self._lost, self.client.out_of_reach(names)
        # In a burst: if not, more may be queued right after a look.
        may_end = burst and not (
            self._waits_for_room(running) or self._lost or self.suspects.are_near
        )
        try:
            found, ends = self.leases.reserve(
                names,
                limit,
                self._wait(running),
                self.stop,
                at_once=bool(before) and not before.keys() <= self._lost.keys(),
                may_end=may_end,
            )
        except Exception as err:  # of any kind: the worker stays, and nothing was leased
            self._lose_touch(err)
            return True
        self.outage.looks(self.client.out_of_reach(names))
        if self.paused is not None and found:
            found = self._without_paused(self.paused, found)
        if found and found[0].deaths:
            self.suspects.see_to(found[0])
        else:
            self.leases.take(found)
            self._looked_at = time.monotonic()
            self._send_ahead(limit, len(found))
        if found:
            self._idle_since = None
            return True
        if ends or not burst:
            return False
        self.leases.wait_for_turn(0.02)
        return True

    def _without_paused(
        self, paused: PausedQueues, found: Sequence[Delivery]
    ) -> Sequence[Delivery]:
        """Hand back what came from a queue that was paused during the wait; return the others."""
        found, back = paused.split(found)
        for each in reversed(back):
            self.outage.call(partial(self.client.release, each))  # else it comes back by its lease
        return found

    def _waits_for_room(self, running: int) -> bool:
        """Return whether a burst goes on for outcomes that are held: such tasks may run again.

        Once nothing runs, it goes on for as long as a worker that is told to stop would wait.
        """
        if not self.leases.outcomes_held():
            self._idle_since = None
            return False
        if running:
            return True
        now = time.monotonic()
        if self._idle_since is None:
            self._idle_since = now
        return now - self._idle_since < self.options.grace

    def _collect(self, limit: int) -> bool:
        """Take the batch that was sent for; return whether anything came (or may have)."""
        try:
            found = self.leases.collect()
        except Exception as err:
            # The acks are sent again; what was leased, if anything, comes back by its lease.
            self._lose_touch(err)
            return True
        if not found:
            return False
        self._send_ahead(limit, found)
        return True

    def _send_ahead(self, limit: int, found: int) -> None:
        if found < limit:  # the queue has run dry, or others take from it
            return
        if self.options.max_tasks or self.stop() or self.outage.lasts or self.outage.is_full:
            return
        if limit < 2:  # a worker that takes one at a time should hold no second one
            return
        if self.prefetch.expected(limit) > AHEAD:
            return
        if time.monotonic() - self._looked_at > _LOOK_EVERY:
            return
        try:
            self.leases.send_ahead(queue_names(self.options), limit)
        except Exception as err:
            self.outage.begins(err)  # as in _collect; the next fetch waits until it ends

    def _lose_touch(self, err: Exception) -> None:
        self.outage.begins(err)
        self.outage.pause(self.stop)

    def _wait(self, running: int) -> float:
        """Return the seconds to block where there is nothing."""
        options, idle = self.options, self.client.idle_wait
        if options.burst:
            return 0.2 if self._lost else 0.02 if running else 0.0
        longest = options.nap_time if idle is None else min(idle, options.lease / 2)
        longest = min(longest, self.schedules.seconds_left())
        if self.paused is not None and self.paused.any_paused():
            longest = min(longest, EVERY)  # so that a resume is noticed
        if self.store is not None:
            longest = min(longest, self.store.next_maintenance())
        return min(longest, 0.2) if running else longest

    def _see_to_what_is_due(self) -> None:
        if self.store is not None:
            try:
                looked = self.store.maintain()
            except Exception as err:
                # They wait. Whether the backend works is found out by the reserve that follows.
                if not self._children_stay:
                    self._children_stay = True
                    why = describe_error(err)
                    self.log.warning("Tasks that depend on others stay (%s); retrying.", why)
            else:
                if looked and self._children_stay:
                    self._children_stay = False
                    self.log.info("Tasks that depend on others go on.")
        self.schedules.fire(self.log)
