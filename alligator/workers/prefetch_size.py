"""Choose how many tasks a worker reserves at once."""

from alligator.exceptions import InvalidTask

#: Seconds of work to reserve in advance.
AHEAD = 0.05

#: Seconds: a task that took longer is acked at once.
SLOW = 0.005

#: The most tasks reserved at once, per running one.
MOST = 100

#: The most slow tasks, where several run at a time and no thread is free: while the worker reads
#: a large batch, tasks that could start have to wait.
FEW = 30


class Prefetch:
    """Learn how long tasks take: reserve many short ones together, and slow ones singly.

    :param prefetch: a fixed number of tasks to reserve at once, or ``'auto'``.
    :raises InvalidTask: neither.
    """

    def __init__(self, prefetch: int | str, concurrency: int) -> None:
        if prefetch != "auto" and (not isinstance(prefetch, int) or prefetch < 1):
            raise InvalidTask(f"prefetch={prefetch!r} is neither 'auto' nor a number from 1 up.")
        self._fixed = prefetch if isinstance(prefetch, int) else None
        self._average: float | None = None  # seconds
        self._concurrency = concurrency

    def add(self, seconds: float) -> None:
        """Take the duration of a task into account."""
        before = seconds if self._average is None else self._average
        # A slow task counts at once, short ones must prove themselves.
        weight = 0.5 if seconds > before else 0.1
        self._average = before + weight * (seconds - before)

    @property
    def average(self) -> float:
        """The seconds that a task is expected to take; 0 until one has ended."""
        return self._average or 0.0

    def expected(self, count: int) -> float:
        """Return the seconds that so many tasks are expected to take; infinity at first."""
        if self._average is None:
            return float("inf")
        return self._average * count / self._concurrency

    def limit(self, free: int = 1) -> int:
        """Return how many tasks to reserve while so many more could start."""
        if self._fixed is not None:
            return self._fixed
        if self._average is None:
            return free
        each = AHEAD / max(self._average, 1e-6)
        if each >= 1:
            return max(free, min(MOST, int(each)) * self._concurrency)
        return max(1, free, min(FEW, int(each * self._concurrency)))
