"""Tell how many tasks come into a queue and go out of it per minute."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from alligator.monitoring.rows import ActivityRow, QueueRow

#: Seconds over which a rate is taken.
_SPAN = 60.0

#: Seconds after which a minute does not change any more.
_SETTLED = 300


class Rate(NamedTuple):
    """Tasks per minute; None: not known."""

    came: float | None
    went: float | None


NO_RATE = Rate(None, None)


def ended(row: ActivityRow) -> int:
    """Return how many tasks left their queue: all ends but a retry, after which it comes back."""
    return row.succeeded + row.dead + row.expired + row.canceled


def rate(went: float, grew: float | None, minutes: float) -> Rate:
    """Return what came in and went out per minute.

    What came in is what went out, and by how much the queue grew. So a queue that was dropped, or
    whose workers record nothing, shows too little.

    :param went: tasks that ended in so many minutes.
    :param grew: by how many more tasks the queue held at the end; None: not known.
    """
    came = None if grew is None else max(0.0, went + grew) / minutes
    return Rate(came, went / minutes)


class _Look(NamedTuple):
    at: float
    ended: dict[str, int]  # by queue: since the first look, or a little before
    left: dict[str, int]  # waiting, delayed and running


class Rates:
    """Compares each look at the queues with those before.

    What went out is what workers recorded; see :func:`rate`.
    """

    def __init__(self) -> None:
        self._looks = deque[_Look]()
        self._ended: dict[tuple[int, str, str], int] = {}
        self._before: dict[str, int] = {}  # of minutes that do not change any more

    def look(
        self, rows: Sequence[QueueRow], activity: Sequence[ActivityRow] | None, now: float
    ) -> dict[str, Rate]:
        """Return the rate of each queue.

        :param activity: of this minute and the one before; None: it is not recorded.
        :param now: a Unix timestamp in seconds.
        """
        if activity is None:
            return {}
        self._count(activity, now)
        total = dict(self._before)
        for (_, queue_name, _), count in self._ended.items():
            total[queue_name] = total.get(queue_name, 0) + count
        left = {row.name: row.waiting + row.delayed + row.running for row in rows}
        look = _Look(now, total, left)
        while len(self._looks) > 1 and now - self._looks[0].at > _SPAN:
            self._looks.popleft()
        self._looks.append(look)
        first = self._looks[0]
        if now <= first.at:
            return self._of_last_minute(rows, activity, now)
        return {row.name: _between(first, look, row.name) for row in rows}

    def _count(self, activity: Sequence[ActivityRow], now: float) -> None:
        for row in activity:
            if row.minute < now - _SETTLED:
                continue
            self._ended[row.minute, row.queue_name, row.function] = ended(row)
        for key in [key for key in self._ended if key[0] < now - _SETTLED]:
            count = self._ended.pop(key)
            self._before[key[1]] = self._before.get(key[1], 0) + count

    @staticmethod
    def _of_last_minute(
        rows: Sequence[QueueRow], activity: Sequence[ActivityRow], now: float
    ) -> dict[str, Rate]:
        """Return what went out in the last whole minute: there was no look before."""
        last = (int(now // 60) - 1) * 60
        went = dict.fromkeys((row.name for row in rows), 0)
        for row in activity:
            if row.minute == last:
                went[row.queue_name] = went.get(row.queue_name, 0) + ended(row)
        return {name: Rate(None, float(count)) for name, count in went.items()}


def _between(first: _Look, last: _Look, name: str) -> Rate:
    went = last.ended.get(name, 0) - first.ended.get(name, 0)
    grew = last.left.get(name, 0) - first.left.get(name, 0)
    return rate(went, grew, (last.at - first.at) / 60)
