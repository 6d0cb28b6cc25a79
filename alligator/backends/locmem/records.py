"""Keep outcomes, marks and heartbeats in memory. Callers hold the lock of the queues."""

import heapq
from collections import deque
from threading import Event
from typing import Generic, TypeVar

from alligator.backends.activity_sums import (
    KEEP_ACTIVITY,
    KEEP_LOST,
    MAX_RECENT,
    added,
    row_for,
)
from alligator.backends.store import BAD, queue_in_key, record_key
from alligator.backends.types import Activity, LiveWorker, Record, Report, Worker
from alligator.common.ids import is_generated
from alligator.constants import FAILED

V = TypeVar("V")


class Expiring(Generic[V]):
    """A dictionary whose entries end."""

    def __init__(self) -> None:
        self._items: dict[str, tuple[V, float]] = {}
        self._ends: list[tuple[float, str]] = []

    def __bool__(self) -> bool:
        return bool(self._items)

    def get(self, key: str, now: float) -> V | None:
        """Return a value that has not ended."""
        found = self._items.get(key)
        return found[0] if found and found[1] > now else None

    def put(self, key: str, value: V, now: float, seconds: float) -> None:
        """Set a value for so many seconds, and drop what has ended."""
        if seconds <= 0:
            self.pop(key)
            return
        self._items[key] = value, now + seconds
        heapq.heappush(self._ends, (now + seconds, key))
        while self._ends and self._ends[0][0] <= now:
            _, ended = heapq.heappop(self._ends)
            if ended in self._items and self._items[ended][1] <= now:
                del self._items[ended]
        if len(self._ends) > 2 * len(self._items) + 64:  # mostly of entries that were replaced
            self._ends = [(end, each) for each, (_, end) in self._items.items()]
            heapq.heapify(self._ends)

    def pop(self, key: str) -> None:
        """Remove a value; none there is fine."""
        self._items.pop(key, None)

    def live(self, now: float) -> list[V]:
        """Return the values that have not ended."""
        return [value for value, end in self._items.values() if end > now]


class Watch:
    """What ``LocmemStore.watch`` gives."""

    def __init__(self) -> None:
        self.told = Event()

    def wait(self, timeout: float) -> bool:
        """Block until told of a change."""
        if not self.told.wait(timeout):
            return False
        self.told.clear()
        return True


class Reports:
    """What workers reported, and documents about tasks."""

    def __init__(self) -> None:
        self.live = Expiring[LiveWorker]()
        self.documents = Expiring[str]()
        self._minutes: dict[int, dict[tuple[str, str], tuple[float, ...]]] = {}
        self._recent = deque[tuple[float, str]](maxlen=MAX_RECENT)

    def add(self, report: Report, now: float) -> list[str | None]:
        """Take a report, and return the documents that it asks for."""
        self._list(report, now)
        for minute, queue_name, function, numbers in report.activity:
            rows = self._minutes.setdefault(minute, {})
            row = row_for(queue_name, function, lambda *key, rows=rows: key in rows, rows.__len__)
            rows[row] = added(rows.get(row, ()), numbers)
        for minute in [each for each in self._minutes if each + KEEP_ACTIVITY <= now]:
            del self._minutes[minute]
        self._recent.extend((now, each) for each in report.recent)
        for key, (text, seconds) in report.documents.items():
            self.documents.put(key, text, now, seconds if text else 0)
        return [self.documents.get(key, now) for key in report.ask]

    def _list(self, report: Report, now: float) -> None:
        if not report.seconds > 0:
            self.live.pop(report.worker)
            return
        known = self.live.get(report.worker, now)
        text = report.live if report.live is not None else known and known.text
        if text is not None:
            until = now + report.seconds
            sign = LiveWorker(report.worker, text, now, until)
            self.live.put(report.worker, sign, now, report.seconds + KEEP_LOST)

    def activity(self, since: int, before: int | None, now: float) -> list[Activity]:
        """Return what was reported of these minutes, by minute."""
        return [
            (minute, *row, numbers)
            for minute, rows in sorted(self._minutes.items())
            if minute >= since and minute + KEEP_ACTIVITY > now
            if before is None or minute < before
            for row, numbers in rows.items()
        ]

    def recent(self, limit: int, now: float) -> list[str]:
        """Return the tasks that ended last, the newest first."""
        while self._recent and self._recent[0][0] + KEEP_ACTIVITY <= now:
            self._recent.popleft()
        newest_first = reversed(self._recent)
        return [text for (_, text), _ in zip(newest_first, range(limit), strict=False)]


class Records:
    """What the stores of one memory share."""

    def __init__(self) -> None:
        self.outcomes = Expiring[Record]()
        self.marks = Expiring[bool]()
        self.workers = Expiring[Worker]()
        self.reports = Reports()
        self.seen: dict[str, float] = {}  # by queue: when a worker of it was last alive
        self.watches: dict[str, list[Watch]] = {}

    def renew(self) -> None:
        """Wait for no thread of the parent process, after a fork."""
        for watches in self.watches.values():
            for each in watches:
                each.told = Event()

    def put(self, key: str, record: Record, now: float, seconds: float) -> None:
        """Keep the record of a task, and wake the callers that watch it."""
        self.outcomes.put(key, record, now, seconds)
        self.tell(key)

    def overrule(self, queue_name: str, task_id: str, now: float) -> None:
        """Forget failures and cancellations of an id of the user's own, which is pushed again."""
        if is_generated(task_id) or queue_in_key(task_id):
            return
        for key in (record_key(queue_name, task_id), task_id):
            if (record := self.outcomes.get(key, now)) and record.state in BAD:
                self.outcomes.pop(key)

    def has_succeeded(self, queue_name: str, task_id: str, now: float) -> None:
        """Forget the failure of an id of the user's own, which is acked: a push before had it."""
        if not (is_generated(task_id) or queue_in_key(task_id)):
            key = record_key(queue_name, task_id)
            if (record := self.outcomes.get(key, now)) and record.state == FAILED:
                self.outcomes.pop(key)

    def tell(self, key: str) -> None:
        """Wake the callers that watch a task."""
        for watch in self.watches.get(key, ()):
            watch.told.set()
