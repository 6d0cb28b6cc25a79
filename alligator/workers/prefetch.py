"""How many tasks a worker reserves at once."""

from alligator.exceptions import InvalidTask

#: Seconds of work to have at hand.
AHEAD = 0.05

#: A task that took longer is acked at once.
SLOW = 0.005

#: The most tasks reserved at once, per running one.
MOST = 100

#: The most slow ones, where several run at a time and no more hands are free: while a large
#: batch is read, what could be started has to wait.
FEW = 30


class Prefetch:
    """Learns how long tasks take: many short ones are fetched together, slow ones singly.

    :param prefetch: a fixed number of tasks to reserve at once, or ``'auto'``.
    :raises InvalidTask: neither.
    """

    def __init__(self, prefetch: int | str, concurrency: int) -> None:
        if prefetch != "auto" and (not isinstance(prefetch, int) or prefetch < 1):
            raise InvalidTask(f"prefetch={prefetch!r} is neither 'auto' nor a number from 1 up.")
        self._fixed = prefetch if isinstance(prefetch, int) else None
        self._average: float | None = None  # seconds
        self._concurrency = concurrency

    def add(self, seconds: float) -> float:
        """Take the duration of a task into account and return the one to expect."""
        before = seconds if self._average is None else self._average
        # A slow task counts at once, short ones must prove themselves.
        weight = 0.5 if seconds > before else 0.1
        self._average = before + weight * (seconds - before)
        return self._average

    def expected(self, count: int) -> float:
        """Return the seconds that so many tasks are expected to take; at first, for ever."""
        if self._average is None:
            return float("inf")
        return self._average * count / self._concurrency

    def limit(self, free: int = 1) -> int:
        """Return how many to reserve for so many free hands, or the fixed number."""
        if self._fixed is not None:
            return max(self._fixed, 1)
        if self._average is None:
            return free
        each = AHEAD / max(self._average, 1e-6)
        if each >= 1:
            return max(free, min(MOST, int(each)) * self._concurrency)
        return max(1, free, min(FEW, int(each * self._concurrency)))
