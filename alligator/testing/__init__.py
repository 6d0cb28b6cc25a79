"""For tests: a clock to move by hand, a client that fails when told to, and the suites that
every backend, and every store, has to pass.
"""

from typing import TYPE_CHECKING, Any

from alligator.testing.clock import FakeClock
from alligator.testing.flaky import FlakyClient

if TYPE_CHECKING:
    from alligator.testing.conformance.backend import BackendContract
    from alligator.testing.conformance.store import StoreContract

__all__ = ["BackendContract", "FakeClock", "FlakyClient", "StoreContract"]


def __getattr__(name: str) -> Any:
    # Imported late, since only these need pytest.
    if name == "BackendContract":
        from alligator.testing.conformance.backend import BackendContract

        return BackendContract
    if name == "StoreContract":
        from alligator.testing.conformance.store import StoreContract

        return StoreContract
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
