# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""Test an application with what Alligator has for that."""

from datetime import UTC, datetime, timedelta
from typing import assert_type

import pytest

from alligator import Gator
from alligator.backends.base import Client
from alligator.backends.locmem_backend import Client as Locmem
from alligator.exceptions import QueueFull
from alligator.testing import (
    BackendContract,
    FakeClock,
    FakeClockGator,
    FlakyClient,
    StoreContract,
)


def remind(number: int) -> str:
    """Return a text."""
    return str(number)


def test_with_the_fixture(gator: FakeClockGator) -> None:
    """Have a clock that moves."""
    task = gator.options(save_results=60, delay_by=3600).task(remind, 7)
    gator.clock.advance(3600)
    assert_type(gator.run_all(), int)
    assert_type(gator.run_until("+1d", ["high", "low"]), int)
    gator.run_until(timedelta(days=1))
    gator.run_until(3600)
    gator.run_until(datetime.now(UTC))
    assert_type(gator.result(task), str)
    assert_type(gator.clock.time(), float)
    gator.clock.advance("3600")  # type: ignore[arg-type]
    gator.run_until(None)  # type: ignore[arg-type]
    gator.task(remind, "7")  # type: ignore[call-overload]


def test_with_a_plain_type(gator: Gator) -> None:
    """Know nothing of its clock."""
    assert_type(gator.clock.time(), float)
    gator.clock.advance(3600)  # type: ignore[attr-defined]


@pytest.fixture
def flaky() -> FlakyClient:
    """Wrap a client."""
    return FlakyClient(Locmem("locmem://flaky"))


def test_a_lost_connection(flaky: FlakyClient) -> None:
    """Let calls fail."""
    gator = Gator("locmem://flaky", backend_class=lambda dsn: flaky, clock=FakeClock())
    flaky.fail("push", times=2, error=QueueFull)
    flaky.lose_reply("push", probability=0.5)
    with flaky.down():
        gator.task(remind, 7)
    flaky.heal()
    assert_type(flaky.calls["push"], int)
    flaky.fail(5)  # type: ignore[arg-type]
    flaky.fail("push", error=ValueError("no class"))  # type: ignore[arg-type]
    FlakyClient("locmem://")  # type: ignore[arg-type]


class TestMine(BackendContract):
    """Hold a client against the contract."""

    def make_client(self) -> Client:
        """Return a new client."""
        return Locmem("locmem://mine")


class TestMyStore(StoreContract):
    """Hold a store against its contract."""

    def make_client(self) -> str:  # type: ignore[override]
        """Return something else."""
        return "locmem://mine"
