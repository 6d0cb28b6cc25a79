"""Provide pytest fixtures ``gator`` and ``agator``; pytest finds them if Alligator is installed.

It adds nothing else. It imports the rest of Alligator only when a test asks for the fixture, so
that coverage measurement misses nothing. A fixture ``gator`` of your own, in a test module or a
``conftest.py``, replaces it, also in ``agator``; ``-p no:alligator`` switches it off.
"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from alligator.testing import FakeClockGator


@pytest.fixture
def gator() -> Iterator["FakeClockGator"]:
    """A Gator on a queue of this test's own, in memory, with a FakeClock as ``gator.clock``.

    ``gator.run_all()`` runs what is due, and ``gator.run_until('+1d')`` a whole day.
    """
    from alligator.testing import FakeClock, FakeClockGator

    fresh = FakeClockGator(f"locmem://pytest-{os.urandom(8).hex()}", clock=FakeClock())
    yield fresh
    fresh.client.drop_all(fresh.queue_name)
    fresh.close()


@pytest.fixture
def agator(gator: "FakeClockGator") -> "FakeClockGator":
    """The Gator of this test, for a test that is a coroutine, or that runs one.

    ``await agator.arun_all()`` runs what is due, ``await agator.arun_until('+1d')`` a whole day.
    It belongs to no event loop: asyncio.run, pytest-asyncio and anyio's plugin can run the test.
    """
    return gator
