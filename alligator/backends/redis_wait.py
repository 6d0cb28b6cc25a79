"""Waiting for a token on the wake lists, on connections that lease nothing."""

import math
import select
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from redis.exceptions import MovedError

from alligator.backends.redis_link import Link

_SLICE = 0.2  # seconds between two looks at `stop`
_GRACE = 2.0  # seconds that the server may be late in telling that nothing came


class WaitBroken(Exception):
    """The wait was given up; a token may have been swallowed with it."""


def wait_for_token(
    link: Link, keys: Sequence[bytes], timeout: float, stop: Callable[[], bool]
) -> bool:
    """Block until a token is there (True), or nothing came (False).

    :raises WaitBroken: ``stop`` said so; the connections are closed.
    """
    groups = [list(keys)] if link.one_server else [[key] for key in keys]
    with ExitStack() as stack:
        connections = [stack.enter_context(link.held(group)) for group in groups]
        for group, connection in zip(groups, connections, strict=True):
            connection.send_command("BLPOP", *group, _seconds(timeout))
        pending = list(connections)
        deadline = time.monotonic() + timeout + _GRACE
        while pending:
            if stop() or time.monotonic() > deadline:
                raise WaitBroken
            for connection in _readable(pending):
                try:
                    answer = connection.read_response()
                except MovedError:
                    answer = b"elsewhere"  # the next script finds out where
                pending.remove(connection)
                if answer is not None:
                    for other in pending:  # what may have come there is found by the script
                        other.disconnect()
                    return True
    return False


def _seconds(timeout: float) -> str:
    """Return a time to wait as the server takes it, never 0: that is for ever."""
    return f"{max(1, math.ceil(timeout * 1000)) / 1000:.3f}"


def _readable(connections: Sequence[Any]) -> list[Any]:
    if len(connections) == 1:
        return [each for each in connections if each.can_read(_SLICE)]
    sockets = [each._sock for each in connections]
    select.select(sockets, [], [], _SLICE)
    return [each for each in connections if each.can_read(0)]
