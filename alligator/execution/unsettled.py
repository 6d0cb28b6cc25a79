"""Outcomes of tasks that the backend could not be told of, kept to be told again.

To repeat one is sound, since a client takes it for the lease that it is about and no other:
where the first telling got through and only its reply was lost, or where somebody else has
the task by now, the repeat changes nothing.

What the backend *refused* for want of room is known not to have taken effect. It is told again for
as long as it takes, and its lease is kept meanwhile.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from alligator.backends.base import Data, Delivery
from alligator.exceptions import NodeLost, QueueFull
from alligator.execution.outage import Outage

#: How often one is told again, with the backend in reach, before its lease is left to run out.
MOST_TRIES = 3

#: With so many outcomes that the backend has no room for, a worker takes no further task.
MOST_HELD = 100

#: Seconds that an outcome is kept whose lease is gone: the task may just come back to this worker.
_LOST_FOR = 5.0

#: Seconds after which one is told again whose node was out of reach.
_AWAY_PAUSE = 0.5

#: So many refusals in a row, and the rest is left for later.
_MOST_REFUSALS = 3


@dataclass(slots=True, eq=False)
class _Entry:
    delivery: Delivery
    tell: Callable[[], object]
    due: float | None  # when the task may run next, if that is what became of it
    leased: Callable[[Delivery], object] | None  # told of another lease of the same task
    refused: bool  # for want of room, so it has not taken effect
    away: bool = False  # its node was lost, and others were not
    failures: int = 0
    busy: bool = False  # being told
    lost_at: float | None = None  # monotonic: when its lease was found gone


class Unsettled:
    """What one worker has yet to tell; empty as a rule. It is safe to use from threads.

    :param outage: told of what there is no room for, and of its end.
    :param overtaken: told of what was overtaken, or (False) may have counted the first time.
    """

    def __init__(self, outage: Outage, overtaken: Callable[[Delivery, bool], None]) -> None:
        self.outage, self._overtaken = outage, overtaken
        self._lock = threading.Lock()
        self._entries: list[_Entry] = []
        self._away_until = 0.0  # monotonic: when those are told again whose node was lost

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(
        self,
        delivery: Delivery,
        tell: Callable[[], object],
        err: Exception,
        due: float | None = None,
        leased: Callable[[Delivery], object] | None = None,
    ) -> None:
        """Keep what could not be told, because of ``err``; see ``Leases.tell_later``."""
        full = isinstance(err, QueueFull)
        if isinstance(err, QueueFull):
            self.outage.holds_back(err)
        else:
            self.outage.begins(err)
        with self._lock:
            away = isinstance(err, NodeLost)
            self._entries.append(_Entry(delivery, tell, due, leased, full, away))

    def deliveries(self) -> list[Delivery]:
        """Return what it is about; their leases should be kept."""
        with self._lock:
            return [each.delivery for each in self._entries if each.lost_at is None]

    def count_refused(self) -> int:
        """Return how many wait for room, or for a node that was lost."""
        return sum(each.refused or each.away for each in self._entries) if self._entries else 0

    def is_due(self) -> bool:
        """Whether anything should be told again now."""
        if not self._entries:
            return False
        room, back = self.outage.room_is_due(), time.monotonic() >= self._away_until
        return any((room or not each.refused) and (back or not each.away) for each in self._entries)

    def take_back(self, found: Sequence[Delivery]) -> list[Delivery]:
        """Return what is to be run of that which was just reserved.

        The rest are tasks that came back, unchanged, while their outcome waits for room here: a
        server that is started again forgets leases. It is told by the new lease.
        """
        rest = list(found)
        with self._lock:
            waiting = {_identity(each.delivery): each for each in self._entries if each.refused}
            for delivery in found:
                entry = waiting.get(_identity(delivery))
                if entry is not None and entry.leased is not None:
                    entry.delivery, entry.lost_at = delivery, None
                    entry.leased(delivery)  # also while it is told, by the lease that is gone
                    rest.remove(delivery)
        return rest

    def drop(self, gone: set[int]) -> None:
        """Forget deliveries, by their ``id()``: they were overtaken, or told after all."""
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

    def tell_all(self, *, at_once: bool = False) -> None:
        """Tell it all; call it when another call has just gone through.

        What is refused for want of room stays, and waits for its time; so does what is about a
        node that is out of reach, while others are not.

        :param at_once: tell also what has failed just now.
        :raises Exception: what the first that failed again raised; it and the rest are kept.
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
                told = entry.tell()
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
            else:  # while it is busy: a heartbeat may just find its lease gone
                if told is False:
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
                self._entries.remove(entry)  # others come first the next time: they may need
                self._entries.append(entry)  # less room
        self.outage.holds_back(err, again=not is_new)

    def take_refused(self) -> list[tuple[Delivery, float | None]]:
        """Give up what waits for room; return it, and when each may run next."""
        with self._lock:
            given_up = [each for each in self._entries if each.refused]
            self._entries = [each for each in self._entries if not each.refused]
        if given_up:
            self.outage.lets_go(len(given_up))
        for each in given_up:
            if each.lost_at is not None:
                self._overtaken(each.delivery, True)
        return [(each.delivery, each.due) for each in given_up if each.lost_at is None]


def _identity(delivery: Delivery) -> tuple[str, str, Data]:
    return delivery.queue_name, delivery.task_id, delivery.data
