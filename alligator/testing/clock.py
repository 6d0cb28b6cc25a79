"""A clock that moves only when a test moves it."""


class FakeClock:
    """Both clocks at once, standing still between calls of :meth:`advance`.

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
        self._wall += seconds
        self._monotonic += seconds

    def advance_to(self, moment: float) -> None:
        """Let time pass on both clocks until the wall clock shows exactly ``moment``.

        :param moment: a Unix timestamp in seconds; one that is over changes nothing.
        """
        if moment > self._wall:
            self._monotonic += moment - self._wall
            self._wall = moment

    def step(self, seconds: float) -> None:
        """Set the wall clock forward (or back, when negative), as an administrator or NTP would."""
        self._wall += seconds
