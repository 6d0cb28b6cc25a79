"""Provide a Gator that type checkers know to have a clock that a test moves."""

from alligator.gator import Gator
from alligator.testing.clock import FakeClock


class FakeClockGator(Gator):
    """A Gator with a :class:`FakeClock`; the pytest fixture ``gator`` is one.

    ::

        def test_a_reminder(gator: FakeClockGator) -> None:
            gator.clock.advance(3600)
    """

    @property
    def clock(self) -> FakeClock:
        """Where time comes from."""
        clock = super().clock
        assert isinstance(clock, FakeClock), "Make it with clock=FakeClock()."
        return clock
