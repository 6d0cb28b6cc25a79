"""For tests: a clock to move by hand, and the suite that every backend has to pass."""

from alligator.testing.clock import FakeClock
from alligator.testing.contract import BackendContract

__all__ = ["BackendContract", "FakeClock"]
