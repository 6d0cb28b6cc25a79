"""Keep outcomes that the backend could not be told, and settle them later.

To repeat a settlement is idempotent: the client refers to one lease and no other. If the first
attempt got through and only its reply was lost, or another worker has the task by now, the repeat
changes nothing.

A settlement that the backend *refused* for want of room has had no effect. It is repeated until the
backend takes it, and the worker extends its lease meanwhile.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from alligator.backends.base import Data, Delivery
from alligator.exceptions import NodeLost, QueueFull
from alligator.execution.backend_trouble import Outage

#: How often a settlement is repeated, with the backend reachable, before its lease may run out.
MOST_TRIES = 3

#: With so many outcomes that the backend has no room for, a worker takes no further task.
MOST_HELD = 100

#: Seconds that an outcome is kept whose lease is gone: the task may just come back to this worker.
_LOST_FOR = 5.0

#: Seconds between two attempts to reach a node that was lost.
_AWAY_PAUSE = 0.5

#: After so many refusals in a row, the rest waits for the next turn.
_MOST_REFUSALS = 3


@dataclass(slots=True, eq=False)
class _Entry:
    delivery: Delivery
    settle: Callable[[], object]
    due: float | None  # when the task may run next, if the outcome is a retry
    leased: Callable[[Delivery], object] | None  # told of another lease of the same task
    refused: bool  # for want of room, so it has had no effect
    away: bool = False  # its node was lost, and others were not
    failures: int = 0
    busy: bool = False  # being settled
    lost_at: float | None = None  # monotonic: when its lease was found gone


class UnsettledOutcomes:
    """The outcomes that one worker has yet to settle; mostly none. Safe to use from threads.

    :param outage: told of outcomes that the backend has no room for, and of their end.
    :param overtaken: told of a delivery whose settlement was refused, and whether its lease is
        known to be lost; else the first attempt may have got through.
    """

    def __init__(self, outage: Outage, overtaken: Callable[[Delivery, bool], None]) -> None:
        self.outage, self._overtaken = outage, overtaken
        self._lock = threading.Lock()
        self._entries: list[_Entry] = []
        self._away_until = 0.0  # monotonic: when lost nodes are tried again

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(
        self,
        delivery: Delivery,
        settle: Callable[[], object],
        err: Exception,
        due: float | None = None,
        leased: Callable[[Delivery], object] | None = None,
    ) -> None:
        """Keep an outcome whose settlement failed with ``err``; see ``Leases.settle_later``."""
        if isinstance(err, QueueFull):
            self.outage.holds_back(err)
        else:
            self.outage.begins(err)
        full, away = isinstance(err, QueueFull), isinstance(err, NodeLost)
        with self._lock:
            self._entries.append(_Entry(delivery, settle, due, leased, full, away))

    def deliveries(self) -> list[Delivery]:
        """Return the deliveries whose leases the worker should extend."""
        with self._lock:
            return [each.delivery for each in self._entries if each.lost_at is None]

    def count_blocked(self) -> int:
        """Return how many wait for room, or for a node that was lost."""
        return sum(each.refused or each.away for each in self._entries) if self._entries else 0

    def is_due(self) -> bool:
        """Return whether any outcome should be settled again now."""
        if not self._entries:
            return False
        room, back = self.outage.room_is_due(), time.monotonic() >= self._away_until
        return any((room or not each.refused) and (back or not each.away) for each in self._entries)

    def without_known(self, found: Sequence[Delivery]) -> list[Delivery]:
        """Return the reserved deliveries to run: all but the tasks whose outcome waits here.

        A server that is restarted forgets leases, so a task can come back, unchanged, while its
        outcome waits for room. The outcome is then settled by the new lease.
        """
        rest = list(found)
        with self._lock:
            waiting = {_identity(each.delivery): each for each in self._entries if each.refused}
            for delivery in found:
                entry = waiting.get(_identity(delivery))
                if entry is not None and entry.leased is not None:
                    entry.delivery, entry.lost_at = delivery, None
                    entry.leased(delivery)  # also while it is settled by the lease that is gone
                    rest.remove(delivery)
        return rest

    def drop(self, gone: set[int]) -> None:
        """Forget deliveries, by their ``id()``, whose lease is gone: overtaken, or settled."""
        with self._lock:
            dropped = [
                each for each in self._entries if id(each.delivery) in gone and not each.busy
            ]
        for each in dropped:
            self._has_lost(each, each.delivery)

    def _has_lost(self, entry: _Entry, delivery: Delivery) -> None:
        if entry.refused:
            with self._lock:
                if entry.delivery is delivery:  # else it came back meanwhile
                    entry.lost_at = entry.lost_at or time.monotonic()
        else:
            self._remove(entry)
            self._overtaken(delivery, False)

    def _remove(self, entry: _Entry) -> None:
        with self._lock:
            if entry not in self._entries:
                return
            self._entries.remove(entry)
        if entry.refused:
            self.outage.lets_go()

    def settle_all(self, *, at_once: bool = False) -> None:
        """Settle all that are due. Call it when another call has just got through.

        Outcomes that the backend refuses for want of room stay until the next try is due, and so
        do those on a lost node while other nodes answer.

        :param at_once: settle also the outcomes whose last attempt failed just now.
        :raises Exception: the first failure of another kind; that outcome and the rest are kept.
        """
        refusals = 0
        with self._lock:
            entries = list(self._entries)
        still_away = not at_once and time.monotonic() < self._away_until
        patient = not (at_once or self.outage.room_is_due())
        for entry in entries:
            if entry.refused and (patient or (refusals >= _MOST_REFUSALS and not at_once)):
                continue
            if entry.away and still_away:
                continue
            with self._lock:
                if entry.busy or entry not in self._entries:
                    continue
                entry.busy, delivery, lost_at = True, entry.delivery, entry.lost_at
            if lost_at is not None:
                self._let_go_of_lost(entry, lost_at)
                continue
            try:
                settled = entry.settle()
            except QueueFull as err:
                refusals += 1
                self._was_refused(entry, err)
                continue
            except NodeLost as err:
                entry.away, self._away_until = True, time.monotonic() + _AWAY_PAUSE
                self.outage.begins(err)
                continue
            except BaseException:
                entry.failures += 1
                if entry.failures >= MOST_TRIES:
                    self._remove(entry)
                raise
            else:  # while it is busy: the lease thread may just find its lease gone
                if settled is False:
                    self._has_lost(entry, delivery)
                else:
                    self._remove(entry)
                if entry.away and not any(each.away for each in self._entries):
                    self.outage.records_again()
            finally:
                entry.busy = False

    def _let_go_of_lost(self, entry: _Entry, lost_at: float) -> None:
        entry.busy = False
        if time.monotonic() - lost_at > _LOST_FOR:
            self._remove(entry)
            self._overtaken(entry.delivery, True)

    def _was_refused(self, entry: _Entry, err: QueueFull) -> None:
        with self._lock:
            is_new = False
            if entry in self._entries:
                is_new = not entry.refused
                entry.refused, entry.failures = True, 0
                # To the end: the others may need less room.
                self._entries.remove(entry)
                self._entries.append(entry)
        self.outage.holds_back(err, again=not is_new)

    def take_refused(self) -> list[tuple[Delivery, float | None]]:
        """Give up the outcomes that wait for room.

        :returns: each delivery whose lease is not lost, and when its task may run next.
        """
        with self._lock:
            refused = [each for each in self._entries if each.refused]
            self._entries = [each for each in self._entries if not each.refused]
        if refused:
            self.outage.lets_go(len(refused))
        for each in refused:
            if each.lost_at is not None:
                self._overtaken(each.delivery, True)
        return [(each.delivery, each.due) for each in refused if each.lost_at is None]


def _identity(delivery: Delivery) -> tuple[str, str, Data]:
    return delivery.queue_name, delivery.task_id, delivery.data
