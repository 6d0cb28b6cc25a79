"""Run tasks that may have killed a worker while nothing else runs, in a worker that runs several.

Such a suspect has a death on its record. While other tasks run here, it must not make them wait:

1. It goes to a process of its own (:class:`~alligator.workers.isolation.Isolation`),
   where the worker can have some, and the backend finds a task by its id.
2. Else the worker puts it aside for a moment, again and again. Another worker may take it then, or
   this one once nothing else runs here. Meanwhile it fetches others.
3. If that did not help within :data:`PATIENCE`, the worker fetches nothing else until all tasks
   have ended. Then it runs the suspect. It keeps it from other workers meanwhile, or all of them
   would wait.

The worker never holds a suspect on a lease while others run: these may kill the worker, and that
would count against the suspect.
"""

import time

from alligator.backends.base import GET, Client, Delivery, time_on
from alligator.common.clock import Clock
from alligator.execution.backend_trouble import Outage
from alligator.execution.leases import Leases
from alligator.workers.isolation import Isolation, Key

#: Seconds that others are fetched although a suspect waits.
PATIENCE = 5.0

#: Seconds for which a suspect is put aside: until the next try; until its worker is free, which
#: puts it aside again after half of that; and until a process of its own has taken it.
_ASIDE = 1.0
_KEPT = 10.0
_GIVEN = 5.0

#: Seconds after which a suspect that did not come again is forgotten: others have run it.
_FORGOTTEN = 4 * _KEPT


class _Met:
    """When a suspect was reserved first, and last (monotonic)."""

    def __init__(self, now: float) -> None:
        self.first = self.last = now


class Suspects:
    """Handles the suspects of one run of a worker.

    :param lease: seconds, as the worker's.
    :param isolation: None: the worker has no processes for them.
    """

    def __init__(
        self,
        client: Client,
        clock: Clock,
        leases: Leases,
        outage: Outage,
        *,
        lease: float,
        isolation: Isolation | None,
    ) -> None:
        self.client, self.clock, self.leases, self.outage = client, clock, leases, outage
        self.lease = lease
        self._by_id = GET in client.supports
        self._isolation = isolation if self._by_id else None
        self._met: dict[Key, _Met] = {}
        self._makes_room_for: Key | None = None
        self._kept_until = 0.0  # monotonic: when to put it aside again
        #: Whether a suspect was just taken, to run while nothing else does.
        self.alone = False

    @property
    def are_near(self) -> bool:
        """Whether a suspect was put aside here, and may come back."""
        if self._isolation is not None and self._isolation.is_busy:
            return True
        lately = time.monotonic() - 3 * _ASIDE
        return any(met.last > lately for met in self._met.values())

    def see_to(self, found: Delivery) -> None:
        """Have a suspect that was just reserved run, here or elsewhere, now or later."""
        if found.deaths >= self.client.max_deaths:
            self.leases.take([found])  # it is only buried
            return
        key, now = (found.queue_name, found.task_id), time.monotonic()
        again = self._met.get(key)
        isolation = self._isolation
        if isolation is not None and isolation.can_take():
            self._met.pop(key, None)
            if self._put_aside(found, _GIVEN):
                isolation.give(key)
        elif not self.leases.counts()[1]:
            self._met.pop(key, None)
            self.alone = True
            self.leases.take([found])
        else:
            met = self._met.setdefault(key, _Met(now))
            if now - met.first < PATIENCE:
                self._put_aside(found, _ASIDE)
            else:
                self._makes_room_for = key
                self._keep(found, now)
            if again is not None and now - again.last < _ASIDE / 4:
                self.leases.wait_for_turn(0.1)  # the server's clock is another: do not spin
            met.last = now

    def hold_up(self) -> bool:
        """Return whether nothing is to be fetched now; call it before each fetch.

        A suspect that can run now is taken.
        """
        self.alone = False
        if self._isolation is not None:
            for key in self._isolation.give_back():
                self._met.setdefault(key, _Met(time.monotonic()))
        if not self._met:
            return False
        now = time.monotonic()
        running = sum(self.leases.counts())
        if not running:
            self._makes_room_for = None
            return self._by_id and self._take_one()
        for key, met in list(self._met.items()):
            if now - met.last > _FORGOTTEN and key != self._makes_room_for:
                del self._met[key]
        if self._makes_room_for is None:
            return False
        if now >= self._kept_until and self._by_id:
            found = self._reserve(self._makes_room_for)
            if found is None:  # another worker has run it, or has it
                self._met.pop(self._makes_room_for, None)
                self._makes_room_for = None
                return False
            self._keep(found, now)
        return True

    def _keep(self, found: Delivery, now: float) -> None:
        self._kept_until = now + _KEPT / 2
        # If it cannot be reserved by its id again, any worker that is free may take it.
        self._put_aside(found, _KEPT if self._by_id else 0.0)

    def _take_one(self) -> bool:
        """Take the first suspect put aside that is still there, to run it alone."""
        while self._met:
            key = next(iter(self._met))
            found = self._reserve(key)
            del self._met[key]
            if found is not None:
                self.see_to(found)
                return True
        return False

    def _reserve(self, key: Key) -> Delivery | None:
        queue_name, task_id = key
        reserved = self.outage.call(
            lambda: self.client.reserve([queue_name], 1, self.lease, task_id=task_id)
        )
        found = self.leases.without_known(reserved.deliveries) if reserved else ()
        return found[0] if found else None

    def _put_aside(self, found: Delivery, seconds: float) -> bool:
        def release() -> bool:
            due = None
            if seconds:
                due = time_on(self.client, found.queue_name, self.clock) + seconds
            return self.client.release(found, None, due)

        return bool(self.outage.call(release))
