"""Waiting for a token on the wake lists, on connections that lease nothing."""

import math
import select
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any

from redis.exceptions import MovedError

from alligator.backends.redis.connection import Link
from alligator.backends.redis.errors import DRIVER_ERRORS

_SLICE = 0.2  # seconds between two looks at `stop`
_GRACE = 2.0  # seconds that the server may be late in telling that nothing came


class WaitBroken(Exception):
    """The wait was given up; a token may have been swallowed with it."""


def wait_for_token(
    link: Link, keys: Sequence[bytes], timeout: float, stop: Callable[[], bool]
) -> bool:
    """Block until a token is there (True), or nothing came (False).

    Where a node of a cluster is lost meanwhile, that is as good as a token: there is news.

    :raises WaitBroken: ``stop`` said so; the connections are closed.
    """
    groups = [list(keys)] if link.one_server else [[key] for key in keys]
    with ExitStack() as stack:
        pending: dict[Any, bytes] = {}  # connections, and a key of each
        for group in groups:
            try:
                connection = stack.enter_context(link.held(group))
                connection.send_command("BLPOP", *group, _seconds(timeout))
            except DRIVER_ERRORS as err:
                link.note_lost(group[0], err)
                _give_up(pending)
                return True
            pending[connection] = group[0]
        deadline = time.monotonic() + timeout + _GRACE
        while pending:
            if stop() or time.monotonic() > deadline:
                raise WaitBroken
            _poll(pending)
            for connection, key in list(pending.items()):
                try:
                    if not connection.can_read(0):
                        continue
                    answer = connection.read_response()
                except MovedError:
                    answer = b"elsewhere"  # the next script finds out where
                except DRIVER_ERRORS as err:
                    connection.disconnect()
                    link.note_lost(key, err)
                    answer = b"lost"
                del pending[connection]
                if answer is not None:
                    _give_up(pending)
                    return True
    return False


def _seconds(timeout: float) -> str:
    """Return a time to wait as the server takes it, never 0: that is for ever."""
    return f"{max(1, math.ceil(timeout * 1000)) / 1000:.3f}"


def _give_up(connections: Iterable[Any]) -> None:
    for each in connections:  # what may have come there is found by the script
        each.disconnect()


def _poll(connections: Iterable[Any]) -> None:
    """Wait for any of these for a slice of time."""
    poll = select.poll()  # unlike select, it takes any descriptor
    for each in connections:
        poll.register(each._sock, select.POLLIN)
    poll.poll(_SLICE * 1000)
