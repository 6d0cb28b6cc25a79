"""Make series over time, totals and estimates of what workers recorded.

All of it is pure: rows of ``gator.activity()`` and ``gator.depths()`` come in. Percentiles are
estimates: a histogram only tells between which two bounds a value was.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from operator import add
from typing import Any, NamedTuple

from alligator.monitoring.activity_counts import BUCKETS
from alligator.monitoring.rates import NO_RATE, Rate, ended, rate
from alligator.monitoring.rows import ActivityRow, DepthRow, QueueRow

#: Seconds of the last minute that must have passed before a rate is made of it.
_ENOUGH = 20

#: Minutes over which the rates of now are taken.
NOW_MINUTES = 5

#: Runs that are needed on both sides before one side is called slower.
ENOUGH_RUNS = 5


class Range(NamedTuple):
    """How far back to look."""

    name: str
    minutes: int
    step: int  # minutes of one point
    before: int  # minutes before that it is compared with; 0: none are kept
    before_text: str

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.minutes // 60} h"


#: The ranges that can be chosen.
RANGES = (
    Range("1h", 60, 1, 5 * 60, "the 5 hours before"),
    Range("6h", 6 * 60, 5, 18 * 60, "the 18 hours before"),
    Range("24h", 24 * 60, 15, 24 * 60, "the day before"),
    Range("48h", 48 * 60, 30, 0, ""),
)


class Bins:
    """Equal parts of a time, the last of which goes on now.

    :param now: a Unix timestamp.
    :param step: minutes of each.
    """

    def __init__(self, now: float, minutes: int, step: int) -> None:
        self.now, self.step, self.seconds = now, step, 60 * step
        self.count = max(1, minutes // step)
        self.start = (int(now // self.seconds) - self.count + 1) * self.seconds

    @property
    def starts(self) -> list[int]:
        """When each begins: Unix seconds."""
        return [self.start + index * self.seconds for index in range(self.count)]

    def index(self, moment: float) -> int | None:
        """Return in which one a moment is; None: in none."""
        found = int((moment - self.start) // self.seconds)
        return found if 0 <= found < self.count else None

    def minutes(self, index: int) -> float | None:
        """Return how many minutes of one have passed; None: too few to make a rate of them."""
        passed = min(self.now - (self.start + index * self.seconds), self.seconds)
        return passed / 60 if passed >= min(_ENOUGH, self.seconds) else None


class Total:
    """What happened to tasks, added up over minutes, functions or queues."""

    def __init__(self) -> None:
        self.succeeded = self.failed = self.retried = self.dead = 0
        self.expired = self.lost = self.canceled = self.ended = 0
        self.duration_sum = self.wait_sum = self.duration_max = self.wait_max = 0.0
        self.wait_buckets = [0] * (len(BUCKETS) + 1)
        self.duration_buckets = [0] * (len(BUCKETS) + 1)

    def add(self, row: "ActivityRow | Total") -> None:
        """Add a row, or what several add up to."""
        self.succeeded += row.succeeded
        self.failed += row.failed
        self.retried += row.retried
        self.dead += row.dead
        self.expired += row.expired
        self.lost += row.lost
        self.canceled += row.canceled
        self.ended += ended(row) if isinstance(row, ActivityRow) else row.ended
        self.duration_sum += row.duration_sum
        self.wait_sum += row.wait_sum
        self.duration_max = max(self.duration_max, row.duration_max)
        self.wait_max = max(self.wait_max, row.wait_max)
        self.wait_buckets = _summed(self.wait_buckets, row.wait_buckets)
        self.duration_buckets = _summed(self.duration_buckets, row.duration_buckets)

    @property
    def runs(self) -> int:
        """Runs that ended, well or with an error."""
        return self.succeeded + self.failed

    @property
    def failure_rate(self) -> float | None:
        """The share of runs that failed; None: there was none."""
        return self.failed / self.runs if self.runs else None

    @property
    def mean(self) -> float | None:
        """Seconds that a run took on average; None: there was none."""
        measured = sum(self.duration_buckets)
        return self.duration_sum / measured if measured else None

    @property
    def measured(self) -> int:
        """Runs whose duration is known."""
        return sum(self.duration_buckets)

    def wait(self, share: float) -> float | None:
        """Return within how many seconds so large a share of tasks was started, about."""
        return percentile(self.wait_buckets, share, self.wait_max)

    def duration(self, share: float) -> float | None:
        """Return within how many seconds so large a share of runs ended, about."""
        return percentile(self.duration_buckets, share, self.duration_max)


def _summed(counts: list[int], more: Sequence[int]) -> list[int]:
    if len(more) < len(counts):
        more = (*more, *[0] * (len(counts) - len(more)))
    return list(map(add, counts, more))


def merged(rows: Sequence[ActivityRow], minute: int) -> ActivityRow:
    """Return rows of one function on one queue as one row.

    :param minute: when it begins: Unix seconds.
    """
    found = total(rows)
    names = ("succeeded", "failed", "retried", "dead", "expired", "lost", "canceled")
    sums = ("wait_sum", "wait_max", "duration_sum", "duration_max")
    return ActivityRow(
        minute,
        rows[0].queue_name,
        rows[0].function,
        **{name: getattr(found, name) for name in (*names, *sums)},
        wait_buckets=tuple(found.wait_buckets),
        duration_buckets=tuple(found.duration_buckets),
    )


def percentile(counts: Sequence[int], share: float, most: float) -> float | None:
    """Return an estimate of a percentile from a histogram with the bounds ``BUCKETS``.

    Inside a bucket, values are taken to be evenly spread.

    :param share: from 0 to 1.
    :param most: the greatest value, which no estimate exceeds.
    :returns: seconds; None: nothing was counted.
    """
    total = sum(counts)
    if not total:
        return None
    wanted, passed = share * total, 0
    for index, count in enumerate(counts):
        if not count:
            continue
        if passed + count >= wanted:
            low = BUCKETS[index - 1] if index else 0.0
            high = BUCKETS[index] if index < len(BUCKETS) else max(most, low)
            found = low + (high - low) * max(0.0, wanted - passed) / count
            return min(found, most) if most > 0 else found
        passed += count
    return most or None


def totals(rows: Iterable[ActivityRow], key: Callable[[ActivityRow], Hashable]) -> dict[Any, Total]:
    """Return what rows of the same key add up to."""
    found: dict[Any, Total] = {}
    for row in rows:
        its = key(row)
        if its not in found:
            found[its] = Total()
        found[its].add(row)
    return found


def total(rows: Iterable[ActivityRow | Total]) -> Total:
    """Return what all rows, or totals, add up to."""
    found = Total()
    for row in rows:
        found.add(row)
    return found


def by_bin(rows: Iterable[ActivityRow], bins: Bins) -> list[Total]:
    """Return what happened in each part of the time."""
    found = [Total() for _ in range(bins.count)]
    for row in rows:
        index = bins.index(row.minute)
        if index is not None:
            found[index].add(row)
    return found


def by_queue(rows: Iterable[ActivityRow], bins: Bins) -> dict[str, list[Total]]:
    """Return what happened on each queue in each part of the time."""
    of_name = dict[str, list[ActivityRow]]()
    for row in rows:
        of_name.setdefault(row.queue_name, []).append(row)
    return {name: by_bin(some, bins) for name, some in of_name.items()}


def per_minute(
    of_bins: Sequence[Total], bins: Bins, count: Callable[[Total], float]
) -> list[float | None]:
    """Return a count of each part of the time as a rate per minute."""
    found = list[float | None]()
    for index, each in enumerate(of_bins):
        minutes = bins.minutes(index)
        found.append(None if minutes is None else count(each) / minutes)
    return found


def held(row: DepthRow | QueueRow) -> int:
    """Return how many tasks a queue held that are yet to end."""
    return row.waiting + row.delayed + row.running


def depth(
    rows: Iterable[DepthRow], bins: Bins, count: Callable[[DepthRow], float]
) -> list[float | None]:
    """Return the most that a queue held in each part of the time; None: nothing was recorded."""
    found = list[float | None]([None]) * bins.count
    for row in rows:
        index = bins.index(row.minute)
        if index is not None:
            found[index] = max(found[index] or 0.0, count(row))
    return found


def came_in(rows: Iterable[DepthRow], of_bins: Sequence[Total], bins: Bins) -> list[float | None]:
    """Return how many tasks a minute came into one queue in each part of the time.

    :param rows: of that queue.
    :param of_bins: what happened on it.
    """
    last = list[int | None]([None]) * bins.count
    for row in sorted(rows, key=lambda row: row.minute):
        index = bins.index(row.minute)
        if index is not None:
            last[index] = held(row)
    found = list[float | None]()
    for index, each in enumerate(of_bins):
        before, after, minutes = (
            last[index - 1] if index else None,
            last[index],
            bins.minutes(index),
        )
        if before is None or after is None or minutes is None:
            found.append(None)
        else:
            found.append(rate(each.ended, after - before, minutes).came)
    return found


def summed(series: Iterable[Sequence[float | None]]) -> list[float | None]:
    """Return the sums of several series; None where none has a value."""
    found = list[float | None]()
    for values in zip(*series, strict=False):
        known = [each for each in values if each is not None]
        found.append(sum(known) if known else None)
    return found


def rates_now(
    queues: Iterable[QueueRow],
    activity: Iterable[ActivityRow],
    depths: Iterable[DepthRow],
    now: float,
) -> dict[str, Rate]:
    """Return the rates of each queue over the last five minutes.

    What came in is known if the depth of the queue was recorded a minute ago or before.

    :param activity: at least of these minutes, and so are the depths.
    :param now: a Unix timestamp.
    """
    since = (int(now // 60) - NOW_MINUTES) * 60
    went = dict[str, int]()
    for row in activity:
        if row.minute >= since:
            went[row.queue_name] = went.get(row.queue_name, 0) + ended(row)
    first = dict[str, DepthRow]()
    for each in depths:
        if since <= each.minute <= now - 60:
            known = first.setdefault(each.queue_name, each)
            if each.minute < known.minute:
                first[each.queue_name] = each
    minutes, found = (now - since) / 60, dict[str, Rate]()
    for queue in queues:
        out = went.get(queue.name, 0)
        grew, then = None, first.get(queue.name)
        if then is not None:  # it was seen at some time in that minute
            grew = (held(queue) - held(then)) * minutes / max(0.5, (now - then.minute) / 60 - 0.5)
        found[queue.name] = rate(out, grew, minutes)
    return found


class Trend(NamedTuple):
    """How a function compares with the time before."""

    times: float  # as slow as before, by the average

    @property
    def is_slower(self) -> bool:
        """Whether it is so much slower that the visitor should look."""
        return self.times >= 1.5

    @property
    def longer(self) -> str:
        """How much longer a run takes, for people."""
        return f"{_times(self.times)}× longer than before"  # noqa: RUF001 - so much times

    @property
    def text(self) -> str:
        """For people."""
        if self.times >= 1.2:
            return f"{_times(self.times)}× slower"  # noqa: RUF001 - so much times
        if self.times <= 1 / 1.2:
            return f"{_times(1 / self.times)}× faster"  # noqa: RUF001
        return "as before"


def _times(number: float) -> str:
    return f"{number:.1f}" if number < 10 else f"{number:,.0f}"


def trend(now: Total, before: Total | None) -> Trend | None:
    """Compare how long runs take with the time before; None: there are too few to tell."""
    if before is None or min(now.measured, before.measured) < ENOUGH_RUNS:
        return None
    if not now.mean or not before.mean:
        return None
    return Trend(now.mean / before.mean)


#: Minutes that count as lately, and those before with which they are compared.
LATELY, COMPARED = 60, 24 * 60


class Change(NamedTuple):
    """How long the runs of a function take lately, and took before."""

    now: float  # seconds, on average
    before: float
    trend: Trend
    runs: int  # lately

    @property
    def lost(self) -> float:
        """Seconds that its runs took more than they did before, all together."""
        return (self.now - self.before) * self.runs


def changes(rows: Iterable[ActivityRow], now: float) -> dict[str, Change]:
    """Compare the last hour of each function with what is known of the day before it.

    :param rows: of that time.
    :param now: a Unix timestamp.
    """
    since = Bins(now, LATELY, 1).start
    oldest = since - 60 * COMPARED
    sides: tuple[dict[str, list[float]], dict[str, list[float]]] = ({}, {})
    for row in rows:
        if row.minute >= oldest:
            side = sides[row.minute >= since].setdefault(row.function, [0, 0.0])
            side[0] += sum(row.duration_buckets)
            side[1] += row.duration_sum
    found = dict[str, Change]()
    for name, (runs, seconds) in sides[True].items():
        old_runs, old_seconds = sides[False].get(name, (0, 0.0))
        if min(runs, old_runs) >= ENOUGH_RUNS and seconds and old_seconds:
            mean, old = seconds / runs, old_seconds / old_runs
            found[name] = Change(mean, old, Trend(mean / old), int(runs))
    return found


def split(rows: Iterable[ActivityRow], since: float) -> tuple[list[ActivityRow], list[ActivityRow]]:
    """Return the rows from a time on, and those before it."""
    after, before = list[ActivityRow](), list[ActivityRow]()
    for row in rows:
        (after if row.minute >= since else before).append(row)
    return after, before


def of_queue(rows: Iterable[DepthRow], name: str) -> Iterator[DepthRow]:
    """Yield the rows of one queue."""
    return (each for each in rows if each.queue_name == name)


def rate_of(rates: dict[str, Rate], name: str) -> Rate:
    """Return the rates of a queue; if there are none, such that say so."""
    return rates.get(name, NO_RATE)
