"""Help tests with small functions."""

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from alligator.backends.base import time_on

Found = TypeVar("Found")


def eventually(check: Callable[[], Found], what: str = "", within: float = 30.0) -> Found:
    """Ask until the answer is true, and return it.

    :param what: what is waited for, for the message of the failure.
    :param within: seconds.
    """
    deadline = time.monotonic() + within
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.01)
    return found


def let_pass(gator, seconds: float) -> None:
    """Wait until the clock by which tasks of this queue expire has gone on for so long."""

    def now() -> float:
        return time_on(gator.client, gator.queue_name, gator.clock)

    until = now() + seconds
    eventually(lambda: now() > until, f"{seconds} s pass")


def skip_without_children(gator) -> None:
    """Skip a test of ``depends_on`` where that is refused: on a cluster with no other store."""
    if gator.conn_string.startswith("redis+cluster") and gator.store is gator.client.store:
        pytest.skip("a redis cluster keeps no children")
