"""Ask a Gator for what its workers recorded, and record how full the queues are that are shown."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

from alligator.exceptions import AlligatorException, ConnectionLost, UnsupportedOption
from alligator.gator import Gator
from alligator.monitoring.rows import ActivityRow, DepthRow, QueueRow
from alligator.web import series

#: Minutes that are always asked for again, one by one.
FRESH = 65

#: Seconds of a slot, into which older minutes are merged.
SLOT = 300

#: Minutes that are kept.
_MOST = 2880


class Recorded(NamedTuple):
    """What workers recorded in the last minutes."""

    activity: Sequence[ActivityRow] = ()
    depths: Sequence[DepthRow] = ()
    trouble: str = ""  # why there is nothing


class History:
    """Remembers what was recorded more than an hour ago, merged into slots of five minutes.

    That changes no more, and reading two days of it takes long. Threads may share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._activity: list[ActivityRow] = []
        self._depths: list[DepthRow] = []
        self._since = self._until = 0  # Unix seconds between which all is known

    def recorded(self, gator: Gator, minutes: int, now: float) -> Recorded:
        """Return what was recorded; where that cannot be told, why.

        :param now: a Unix timestamp.
        """
        try:
            if minutes <= FRESH:
                return Recorded(gator.activity(minutes), gator.depths(minutes))
            with self._lock:
                return self._recorded(gator, minutes, now)
        except (ConnectionLost, UnsupportedOption) as err:
            return Recorded(trouble=str(err))

    def _recorded(self, gator: Gator, minutes: int, now: float) -> Recorded:
        wanted = int(now // 60 - minutes + 1) * 60
        since = wanted
        if self._since <= wanted < self._until:
            since = self._until
        else:
            self._activity, self._depths = [], []
            self._since = self._until = wanted // SLOT * SLOT
        ask = min(_MOST, int((now - since) // 60) + 1)
        activity, depths = gator.activity(ask), gator.depths(ask)
        settled = int((now - 60 * FRESH) // SLOT) * SLOT
        oldest = now - 60 * _MOST
        if settled > self._until:
            self._activity = [row for row in self._activity if row.minute > oldest]
            self._activity += merged_activity([row for row in activity if row.minute < settled])
            self._depths = [row for row in self._depths if row.minute > oldest]
            self._depths += merged_depths([row for row in depths if row.minute < settled])
            self._until = settled
        return Recorded(
            [row for row in self._activity if row.minute >= wanted // SLOT * SLOT]
            + [row for row in activity if row.minute >= self._until],
            [row for row in self._depths if row.minute >= wanted // SLOT * SLOT]
            + [row for row in depths if row.minute >= self._until],
        )


def merged_activity(rows: Sequence[ActivityRow]) -> list[ActivityRow]:
    """Return rows with those of one slot, queue and function as one."""
    slots = _grouped(rows, lambda row: (row.minute // SLOT * SLOT, row.queue_name, row.function))
    return [series.merged(some, minute) for (minute, *_), some in slots.items()]


def merged_depths(rows: Sequence[DepthRow]) -> list[DepthRow]:
    """Return of each slot and queue the fullest row, and the last one."""
    slots = _grouped(rows, lambda row: (row.minute // SLOT * SLOT, row.queue_name))
    found = list[DepthRow]()
    for some in slots.values():
        fullest, last = max(some, key=lambda row: row.waiting), some[-1]
        found += [fullest] if fullest is last else [fullest, last]
    return found


_Row = TypeVar("_Row", ActivityRow, DepthRow)
_Key = TypeVar("_Key")


def _grouped(rows: Sequence[_Row], key: Callable[[_Row], _Key]) -> dict[_Key, list[_Row]]:
    found = dict[_Key, list[_Row]]()
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


class Sampler:
    """Records the depths of the queues that are shown, once a minute; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._minute: int | None = None

    def sample(self, gator: Gator, queues: Sequence[QueueRow], now: float) -> None:
        """Record how full queues are, if that was not done in this minute; raise nothing.

        :param now: a Unix timestamp.
        """
        minute = int(now // 60)
        with self._lock:
            if minute == self._minute:
                return
            self._minute = minute
        with suppress(AlligatorException):  # a page is shown all the same
            gator.record_depths(queues)
