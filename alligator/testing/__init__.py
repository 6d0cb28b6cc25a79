"""For tests: a clock to move by hand, a client that fails when told to, and the suite that
every backend has to pass.
"""

from typing import TYPE_CHECKING, Any

from alligator.testing.clock import FakeClock
from alligator.testing.flaky import FlakyClient

if TYPE_CHECKING:
    from alligator.testing.contract import BackendContract

__all__ = ["BackendContract", "FakeClock", "FlakyClient"]


def __getattr__(name: str) -> Any:
    if name == "BackendContract":  # the only one that needs pytest
        from alligator.testing.contract import BackendContract

        return BackendContract
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
