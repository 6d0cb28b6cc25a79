"""Add up what happens to tasks, by queue and function, and read what was added up.

A row is a vector of numbers, so that a store can add it to another: the counts of :data:`COUNTS`,
sum and maximum of waits and of durations, a histogram of each, :data:`MORE_COUNTS`, and
:data:`DEPTHS`. A row of :data:`QUEUE` has only the last ones, and no other row has them.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, NamedTuple

from alligator.backends.activity_sums import MAX_AT
from alligator.common.ids import is_generated
from alligator.monitoring.rows import ActivityRow, DepthRow

#: The upper bounds of the histograms, in seconds: two for each power of ten, up to an hour.
BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0)

#: The counts of a row, in their order.
COUNTS = ("succeeded", "failed", "retried", "dead", "expired", "lost")

#: The counts at the end of a row: a place that is taken keeps its meaning.
MORE_COUNTS = ("canceled",)

#: How full a queue was: most tasks in each state, and the age of the oldest in seconds. All are
#: maxima, so that many workers that look at one queue do not add up.
DEPTHS = ("waiting", "delayed", "running", "oldest")

#: Stands for the function in a row that tells how full a queue was. No function has this name: one
#: in a message has a dot.
QUEUE = "(queue)"

#: The sums and maxima after the counts.
SUMS = ("wait_sum", "wait_max", "duration_sum", "duration_max")

#: About so many short runs a second are measured; see :class:`Sampling`.
MEASURED = 100

#: Seconds from which a run is always measured.
LONG = 0.01

_WAIT_SUM, _DURATION_SUM = len(COUNTS), len(COUNTS) + 2
_WAITS = len(COUNTS) + len(SUMS)
_DURATIONS = _WAITS + len(BUCKETS) + 1

_MORE = _DURATIONS + len(BUCKETS) + 1

#: How many numbers a row of a function has.
SIZE = _MORE + len(MORE_COUNTS)

_DEPTHS = 41  # a later count comes after them

_PLACES = {name: index for index, name in enumerate(COUNTS)}
_PLACES |= {name: index for index, name in enumerate(MORE_COUNTS, _MORE)}

#: A row as a store keeps it.
Numbers = tuple[float, ...]

if {_WAIT_SUM + 1, _DURATION_SUM + 1, *range(_DEPTHS, _DEPTHS + len(DEPTHS))} != MAX_AT:
    raise AssertionError("The stores take other numbers for maxima.")


class Measured(NamedTuple):
    """How long one run took, and how long its task waited before."""

    took: float  # seconds
    waited: float | None  # seconds; None: not known
    is_single: bool = False  # it stands for itself alone


class Tally:
    """Adds up the runs of one function on one queue.

    Every run is counted. Some are measured: those stand for the others, in equal parts. A run that
    takes :data:`LONG` seconds or more should always be measured, and stands for itself.
    """

    __slots__ = ("_last", "_numbers", "_unmeasured")

    def __init__(self) -> None:
        self._unmeasured = 0  # runs for which none has stood yet
        self._last: Measured | None = None
        self._numbers = [0.0] * SIZE

    def add(self, name: str, count: int = 1) -> None:
        """Add to one of :data:`COUNTS` or :data:`MORE_COUNTS`."""
        self._numbers[_PLACES[name]] += count

    def add_runs(self, count: int, measured: Sequence[Measured]) -> None:
        """Add runs that have ended, whichever way.

        :param count: how many there were.
        :param measured: those of them that were measured.
        """
        single = [each for each in measured if each.is_single]
        others = [each for each in measured if not each.is_single]
        self._unmeasured += count - len(single)
        for each in single:
            self._measure(each, 1)
        if others:
            self._last = others[-1]
        elif self._last is not None:
            others = [self._last]
        if others and self._unmeasured > 0:
            share, rest = divmod(self._unmeasured, len(others))
            self._unmeasured = 0
            for index, each in enumerate(others):
                self._measure(each, share + (index < rest))

    def _measure(self, measured: Measured, weight: int) -> None:
        if weight:
            self._add(measured.took, weight, _DURATION_SUM, _DURATIONS)
            if measured.waited is not None:
                self._add(measured.waited, weight, _WAIT_SUM, _WAITS)

    def _add(self, seconds: float, weight: int, sums: int, buckets: int) -> None:
        numbers = self._numbers
        numbers[sums] += seconds * weight
        numbers[sums + 1] = max(numbers[sums + 1], seconds)
        numbers[buckets + bisect_left(BUCKETS, seconds)] += weight

    def take(self) -> Numbers | None:
        """Return what was added up since the last call; None: nothing."""
        numbers, self._numbers = self._numbers, [0.0] * SIZE
        return _trimmed(numbers)


class Sampling:
    """Decides which of many short runs are measured: about :data:`MEASURED` a second.

    At first each is. When there were a quarter of so many, one in four, and so on. From one second
    to the next the rate decides; then the stride grows only after so many.
    """

    __slots__ = ("_measured", "_most", "stride")

    def __init__(self) -> None:
        self.stride = 1  # one in so many is measured
        self._measured = 0  # with this stride
        self._most = MEASURED // 4  # with this stride

    def measured(self) -> int:
        """Note that one was measured; return after how many the next one is to be."""
        self._measured += 1
        if self._measured >= self._most:
            self._measured, self.stride = 0, 4 * self.stride
        return self.stride

    def next_second(self, runs: int, seconds: float) -> int:
        """Take the number of runs in the last seconds; return after how many to measure one."""
        self.stride = max(1, int(runs / (MEASURED * max(seconds, 1.0))))
        if seconds >= 0.5:  # else the rate is not known yet
            self._most = MEASURED
        self._measured = 0
        return self.stride


def _trimmed(numbers: list[float]) -> Numbers | None:
    """Return the numbers without zeros at the end; None: all are 0."""
    end = len(numbers)
    while end and not numbers[end - 1]:
        end -= 1
    return tuple(numbers[:end]) or None


def to_row(minute: int, queue_name: str, function: str, numbers: Sequence[float]) -> ActivityRow:
    """Return a row as users see it; numbers that are missing at the end count as 0."""
    known = _all_sound(numbers[:SIZE])
    known += [0.0] * (SIZE - len(known))
    counts: dict[str, Any] = {name: int(known[index]) for name, index in _PLACES.items()}
    counts |= zip(SUMS, known[_WAIT_SUM:_WAITS], strict=True)
    waits, durations = known[_WAITS:_DURATIONS], known[_DURATIONS:_MORE]
    counts["wait_buckets"] = tuple(map(int, waits))
    counts["duration_buckets"] = tuple(map(int, durations))
    return ActivityRow(minute, queue_name, function, **counts)


def depth_numbers(waiting: int, delayed: int, running: int, oldest: float | None) -> Numbers:
    """Return the numbers of a row that tells how full a queue is.

    :param oldest: seconds; None: not known.
    """
    return (*[0.0] * _DEPTHS, waiting, delayed, running, oldest or 0.0)


def to_depth(minute: int, queue_name: str, numbers: Sequence[float]) -> DepthRow:
    """Return how full a queue was, as users see it."""
    known = _all_sound(numbers[_DEPTHS : _DEPTHS + len(DEPTHS)])
    known += [0.0] * (len(DEPTHS) - len(known))
    waiting, delayed, running, oldest = known
    return DepthRow(minute, queue_name, int(waiting), int(delayed), int(running), oldest)


def _all_sound(numbers: Sequence[float]) -> list[float]:
    if numbers and min(numbers) >= 0 and sum(numbers) < math.inf:  # nearly always
        return list(map(float, numbers))
    return [_sound(each) for each in numbers]


def _sound(number: Any) -> float:
    # A run that turned out to be lost is taken back from the counts, maybe a minute later.
    return float(number) if math.isfinite(number) and number > 0 else 0.0


def pushed_at(task: Any) -> float:
    """Return when a task was pushed, a Unix timestamp; 0: not known.

    A task without options does not carry it, but the id that Alligator made tells it.
    """
    known: float = getattr(task, "pushed_at", 0.0) or 0.0
    own: bool = getattr(task, "lookalike_id", False)
    return when_pushed(known, getattr(task, "task_id", ""), own=own)


def when_pushed(known: float, task_id: Any, *, own: bool) -> float:
    """Return the same by what is known of a task.

    :param own: the user chose its id, whatever it looks like.
    """
    if known or own or not isinstance(task_id, str) or not is_generated(task_id):
        return known
    try:
        return int(task_id[:8] + task_id[9:13], 16) / 1000
    except ValueError:
        return 0.0


def waited(task: Any, started: float) -> float | None:
    """Return the seconds from when a task was to run until it started; None: not known.

    That is not known of a repeated run, nor of a task that waited for its parents.

    :param started: a Unix timestamp.
    """
    if getattr(task, "retried", 0) or getattr(task, "kept_parents", None) is not None:
        return None
    if getattr(task, "_depends_on", None) or not (pushed := pushed_at(task)):
        return None
    return max(0.0, started - max(pushed, getattr(task, "delay_until", None) or 0.0))
