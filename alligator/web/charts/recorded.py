"""Ask a Gator for what its workers recorded, and record how full the queues are that are shown."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from heapq import nlargest
from typing import NamedTuple, TypeVar

from alligator.common.text import describe_error
from alligator.exceptions import AlligatorException, ConnectionLost, UnsupportedOption
from alligator.gator import Gator
from alligator.monitoring.rows import ActivityRow, DepthRow, QueueRow
from alligator.web.charts import series
from alligator.workers.queue_depths import MOST_QUEUES

log = logging.getLogger(__name__)

#: Minutes that are kept one by one, and asked for again from time to time: workers that lost
#: their store for a while report late.
FRESH = 65

#: Seconds after which they are, and the last minutes that are asked for each time.
AGAIN, LAST = 15, 3

#: Seconds of a slot, into which older minutes are merged.
SLOT = 300

#: Seconds after the begin of a minute at which a look is taken, if no page has taken one.
_SHIFT = 5.0

#: Minutes that are kept.
_MOST = 2880

#: Seconds that a page waits at most for what is read for the first time.
PATIENCE = 0.05

#: Seconds that one step of the reader takes, about; the fewest minutes that it reads in one; and
#: seconds that it waits at most for pages.
_STEP, _FEWEST, _LONGEST_REST = 0.01, 5, 0.5

#: Seconds after which what is remembered is read from the beginning again.
_STALE = 2 * 3600


class Recorded(NamedTuple):
    """What workers recorded in the last minutes."""

    activity: Sequence[ActivityRow] = ()
    depths: Sequence[DepthRow] = ()
    trouble: str = ""  # why there is nothing
    is_partial: bool = False  # what is older than an hour is being read


class History:
    """Remembers what was recorded; more than an hour ago, merged into slots of five minutes.

    That changes no more, and reading two days of it takes seconds. So a thread reads it when it is
    first asked for, and pages show the last hour meanwhile. Threads may share this.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._activity: list[ActivityRow] = []  # merged
        self._depths: list[DepthRow] = []
        self._until = 0  # Unix seconds: these are of before
        self._fresh: tuple[Sequence[ActivityRow], Sequence[DepthRow]] = ((), ())  # and since then
        self._fresh_at: float | None = None  # when all of that was read
        self._reader: threading.Thread | None = None
        self._told = threading.Event()  # the reader has ended, or a page need not wait for it
        self._begun = 0  # what is of before this is read by the reader
        self._is_read = False  # and it has
        self._pages = 0  # that are being made, and do not wait for the reader

    @contextmanager
    def page(self) -> Iterator[None]:
        """Let the reader rest while a page is made: each would wait for the other all the time."""
        self._count_page(1)
        try:
            yield
        finally:
            self._count_page(-1)

    def _count_page(self, by: int) -> None:
        with self._lock:
            self._pages += by

    def begin(self, gator: Gator) -> None:
        """Begin to read what was recorded, before a page asks for it; raise nothing."""
        self._begin(gator, gator.clock.time())

    def recorded(self, gator: Gator, minutes: int, now: float) -> Recorded:
        """Return what was recorded; where that cannot be told, why.

        :param now: a Unix timestamp.
        """
        is_read, is_long = self._begin(gator, now), minutes > FRESH
        if is_long and not is_read:
            self._count_page(-1)
            self._told.wait(PATIENCE)
            self._count_page(1)
        try:
            with self._lock:
                self._refresh(gator, now)
                return self._recorded(minutes, now, is_partial=is_long and not self._is_read)
        except (ConnectionLost, UnsupportedOption) as err:
            return Recorded(trouble=str(err))

    def _begin(self, gator: Gator, now: float) -> bool:
        """Let a thread read the past; return whether that is done."""
        with self._lock:
            if not 0 <= now - self._until < _STALE:
                self._until = self._begun = _settled(now)
                self._activity, self._depths = [], []
                self._fresh_at, self._is_read = None, False
            if self._is_read:
                return True
            reader = self._reader
            if reader is None or not reader.is_alive():
                what = gator, self._begun
                reader = threading.Thread(
                    target=self._read, args=what, name="alligator-history", daemon=True
                )
                self._reader = reader
                self._told.clear()
                reader.start()
        return False

    def _read(self, gator: Gator, settled: int) -> None:
        """Read all that is of before a time; let pages wait only if that is soon done."""
        try:
            self._read_all(gator, settled)
        finally:
            self._told.set()

    def _read_all(self, gator: Gator, settled: int) -> None:
        """Read it, the newest first, in steps of a few milliseconds."""
        activity, depths = list[ActivityRow](), list[DepthRow]()
        begin, oldest, minutes = settled, settled - 60 * _MOST, FRESH
        while begin > oldest:
            self._rest()
            end, began = begin, time.monotonic()
            begin = max(oldest, end - 60 * minutes // SLOT * SLOT)
            # One minute more on both sides: another one may begin meanwhile.
            ask = min(_MOST, (end - begin) // 60 + 2)
            ago = min(_MOST, max(0, int(gator.clock.time() // 60) - end // 60))
            try:
                found = gator.activity_and_depths(ask, ago, SLOT // 60)
            except Exception as err:  # the page asks as well, and says what is wrong
                log.debug("What was recorded could not be read: %s", describe_error(err))
                return
            activity[:0] = [r for r in found[0] if begin <= r.minute < end]
            depths[:0] = merged_depths([r for r in found[1] if begin <= r.minute < end])
            took = time.monotonic() - began
            if took * (begin - oldest) > PATIENCE * (end - begin):
                self._told.set()  # what is left takes longer than a page waits
            minutes = max(_FEWEST, int(minutes * min(4.0, _STEP / max(took, 0.0001))))
        with self._lock:
            if settled == self._begun:
                self._activity = activity + self._activity
                self._depths = depths + self._depths
                self._is_read = True

    def _rest(self) -> None:
        """Wait until no page is being made, though not for ever."""
        until = time.monotonic() + _LONGEST_REST
        while self._pages > 0 and time.monotonic() < until:
            time.sleep(0.005)

    def _refresh(self, gator: Gator, now: float) -> None:
        """Read what may have changed; the caller has the lock."""
        if self._fresh_at is not None and 0 <= now - self._fresh_at < AGAIN:
            first = int(now // 60 - LAST + 1) * 60
            known = self._fresh
            news = gator.activity_and_depths(LAST + 1)  # another minute may begin meanwhile
            self._fresh = _replaced(known[0], news[0], first), _replaced(known[1], news[1], first)
            return
        ask = min(_MOST, max(1, int((now - self._until) // 60) + 1))
        activity, depths = gator.activity_and_depths(ask)
        self._merge(activity, depths, now)
        self._fresh = (
            [row for row in activity if row.minute >= self._until],
            [row for row in depths if row.minute >= self._until],
        )
        self._fresh_at = now

    def _merge(
        self, activity: Sequence[ActivityRow], depths: Sequence[DepthRow], now: float
    ) -> None:
        """Keep what changes no more; the caller has the lock."""
        settled, oldest = _settled(now), now - 60 * _MOST
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

    def _recorded(self, minutes: int, now: float, *, is_partial: bool) -> Recorded:
        since = int(now // 60 - minutes + 1) * 60
        if minutes > FRESH:
            since = since // SLOT * SLOT
        activity, depths = self._fresh
        return Recorded(
            [row for rows in (self._activity, activity) for row in rows if row.minute >= since],
            [row for rows in (self._depths, depths) for row in rows if row.minute >= since],
            is_partial=is_partial,
        )


def _settled(now: float) -> int:
    """Return when the slots end that change no more: Unix seconds."""
    return int((now - 60 * FRESH) // SLOT) * SLOT


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


def _replaced(known: Sequence[_Row], news: Sequence[_Row], first: int) -> list[_Row]:
    """Return rows with those from a minute on replaced by newer ones."""
    return [row for row in known if row.minute < first] + [
        row for row in news if row.minute >= first
    ]


def _grouped(rows: Sequence[_Row], key: Callable[[_Row], _Key]) -> dict[_Key, list[_Row]]:
    found = dict[_Key, list[_Row]]()
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found


class Sampler:
    """Records how full the queues of a Gator are, once a minute; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._minute: int | None = None

    def sample(self, gator: Gator, queues: Sequence[QueueRow], now: float) -> None:
        """Record how full queues are, if that was not done in this minute; raise nothing.

        :param queues: of many, the fullest ones count.
        :param now: a Unix timestamp.
        """
        if self._is_due(now):
            self._record(gator, queues)

    def run(self, gator: Gator, wait: Callable[[float], bool]) -> None:
        """Look at the queues in each minute without another look, until told to stop.

        :param wait: waits so many seconds, and returns whether to stop.
        """
        while True:
            now = gator.clock.time()
            if gator.store is not None and gator.store.monitors and self._is_due(now):
                try:
                    self._record(gator, gator.queues())
                except Exception as err:  # it is tried again in the next minute
                    log.debug("It is unknown how full the queues are: %s", describe_error(err))
            if wait(60.0 - gator.clock.time() % 60.0 + _SHIFT):
                return

    def _is_due(self, now: float) -> bool:
        minute = int(now // 60)
        with self._lock:
            if minute == self._minute:
                return False
            self._minute = minute
        return True

    def _record(self, gator: Gator, queues: Sequence[QueueRow]) -> None:
        fullest = nlargest(MOST_QUEUES, queues, key=series.held)
        with suppress(AlligatorException):  # a page is shown all the same
            gator.record_depths(fullest)
