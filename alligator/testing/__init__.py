"""Test applications and backends: a clock that you move, a client that fails on demand, and the
suites that every backend and every store must pass.

Imports: everything but ``alligator.cli`` and ``alligator.contrib``. Exports the five classes below.
"""

from typing import TYPE_CHECKING, Any

from alligator.testing.clock import FakeClock
from alligator.testing.fake_clock_gator import FakeClockGator
from alligator.testing.flaky import FlakyClient

if TYPE_CHECKING:
    from alligator.testing.conformance.backend import BackendContract
    from alligator.testing.conformance.store import StoreContract

__all__ = ["BackendContract", "FakeClock", "FakeClockGator", "FlakyClient", "StoreContract"]


def __getattr__(name: str) -> Any:
    # Imported late, since only these need pytest.
    if name == "BackendContract":
        from alligator.testing.conformance.backend import BackendContract

        return BackendContract
    if name == "StoreContract":
        from alligator.testing.conformance.store import StoreContract

        return StoreContract
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
