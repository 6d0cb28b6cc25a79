"""Ask a Gator for what its workers recorded, and record how full the queues are that are shown."""

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

from alligator.common.text import describe_error
from alligator.exceptions import AlligatorException, ConnectionLost, UnsupportedOption
from alligator.gator import Gator
from alligator.monitoring.rows import ActivityRow, DepthRow, QueueRow
from alligator.web import series

log = logging.getLogger(__name__)

#: Minutes that are always asked for again, one by one.
FRESH = 65

#: Seconds of a slot, into which older minutes are merged.
SLOT = 300

#: Minutes that are kept.
_MOST = 2880

#: Seconds that a page waits at most for what is read for the first time.
PATIENCE = 0.08

#: Seconds after which what is remembered is read from the beginning again.
_STALE = 6 * 3600


class Recorded(NamedTuple):
    """What workers recorded in the last minutes."""

    activity: Sequence[ActivityRow] = ()
    depths: Sequence[DepthRow] = ()
    trouble: str = ""  # why there is nothing
    is_partial: bool = False  # what is older than an hour is being read


class History:
    """Remembers what was recorded more than an hour ago, merged into slots of five minutes.

    That changes no more, and reading two days of it takes seconds. So a thread reads it when it is
    first asked for, and pages show the last hour meanwhile. Threads may share this.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._activity: list[ActivityRow] = []
        self._depths: list[DepthRow] = []
        self._until = 0  # Unix seconds, before which all is known
        self._reader: threading.Thread | None = None

    def recorded(self, gator: Gator, minutes: int, now: float) -> Recorded:
        """Return what was recorded; where that cannot be told, why.

        :param now: a Unix timestamp.
        """
        try:
            if minutes <= FRESH:
                return Recorded(gator.activity(minutes), gator.depths(minutes))
            if not self._is_read(gator, now):
                return Recorded(gator.activity(FRESH), gator.depths(FRESH), is_partial=True)
            with self._lock:
                return self._recorded(gator, minutes, now)
        except (ConnectionLost, UnsupportedOption) as err:
            return Recorded(trouble=str(err))

    def _is_read(self, gator: Gator, now: float) -> bool:
        """Whether the past is known; if not, begin to read it, and wait a moment."""
        with self._lock:
            if now - self._until < _STALE:
                return True
            reader = self._reader
            if reader is None or not reader.is_alive():
                reader = threading.Thread(
                    target=self._read, args=(gator, now), name="alligator-history", daemon=True
                )
                self._reader = reader
                reader.start()
        reader.join(PATIENCE)
        return now - self._until < _STALE

    def _read(self, gator: Gator, now: float) -> None:
        try:
            activity, depths = gator.activity(_MOST), gator.depths(_MOST)
        except Exception as err:  # the page asks as well, and says what is wrong
            log.debug("What was recorded could not be read: %s", describe_error(err))
            return
        with self._lock:
            self._activity, self._depths, self._until = [], [], 0
            self._remember(activity, depths, now)

    def _remember(
        self, activity: Sequence[ActivityRow], depths: Sequence[DepthRow], now: float
    ) -> None:
        """Keep what changes no more; the caller has the lock."""
        settled, oldest = int((now - 60 * FRESH) // SLOT) * SLOT, now - 60 * _MOST
        if settled <= self._until:
            return
        self._activity = [row for row in self._activity if row.minute > oldest]
        self._activity += merged_activity(
            [row for row in activity if self._until <= row.minute < settled]
        )
        self._depths = [row for row in self._depths if row.minute > oldest]
        self._depths += merged_depths(
            [row for row in depths if self._until <= row.minute < settled]
        )
        self._until = settled

    def _recorded(self, gator: Gator, minutes: int, now: float) -> Recorded:
        ask = min(_MOST, int((now - self._until) // 60) + 1)
        activity, depths = gator.activity(ask), gator.depths(ask)
        self._remember(activity, depths, now)
        since = int(now // 60 - minutes + 1) * 60 // SLOT * SLOT
        return Recorded(
            [row for row in self._activity if row.minute >= since]
            + [row for row in activity if row.minute >= self._until],
            [row for row in self._depths if row.minute >= since]
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
