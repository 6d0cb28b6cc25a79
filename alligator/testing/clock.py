"""Provide a clock that moves only when a test moves it."""

from alligator.runtime.timeouts import TimeIsUp, pass_time


class FakeClock:
    """Both clocks at once, standing still between calls of :meth:`advance`.

    A task that moves it may do so for as long as its ``timeout`` says: then the clock stops,
    and the task gets its :exc:`~alligator.exceptions.TaskTimeout` there.

    :param now: the wall-clock time to start at, a Unix timestamp in seconds.
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._wall = now
        self._monotonic = 0.0

    def time(self) -> float:
        """Return the wall-clock time as a Unix timestamp in seconds."""
        return self._wall

    def monotonic(self) -> float:
        """Return the seconds advanced so far; :meth:`step` does not count."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass on both clocks."""
        passes = pass_time(seconds)
        self._wall += passes
        self._monotonic += passes
        if passes < seconds:
            raise TimeIsUp

    def sleep(self, seconds: float) -> None:
        """Stand in for ``time.sleep``: the same as :meth:`advance`."""
        self.advance(seconds)

    def advance_to(self, moment: float) -> None:
        """Let time pass on both clocks until the wall clock shows exactly ``moment``.

        :param moment: a Unix timestamp in seconds; one that is over changes nothing.
        """
        if moment > self._wall:
            self.advance(moment - self._wall)
            self._wall = moment  # exactly

    def step(self, seconds: float) -> None:
        """Set the wall clock forward (or back, when negative), as an administrator or NTP would."""
        self._wall += seconds
