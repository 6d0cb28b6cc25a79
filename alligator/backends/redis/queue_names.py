"""Find the names of the queues on a redis server.

The first push to a queue, which begins its history, adds its name to a set, and a drop removes it:
so the names cost nothing later, however many keys the server has. Alligator 1.1 adds none. So the
keys are searched as well, a few in each step, as the server does nothing else meanwhile. The search
adds what it finds to the set. It goes on where the last one ended, in whichever process, and begins
again an hour after its end.

A script cannot write to a set on another node, so on a cluster there is no set, and each call
searches the keys of all nodes.
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from redis.exceptions import ResponseError

from alligator.backends.redis.connection import Connections

_NAMES = b"alligator:queues"  # as states.lua has it
_SEARCHED = b"alligator:queues:searched"  # where to go on; DONE: the search is complete
_DONE = b"done"
_PATTERN = "alligator:{*}:*"
_SEARCH_AGAIN = 3600  # seconds
_LONGEST = 0.5  # seconds that one call searches at most; on a cluster, four times that
_LASTING = frozenset({"data", "seq", "dead", "held"})  # keys that stand for tasks, now or before


def queue_names(connections: Connections) -> list[str] | None:
    """Return the names; see ``Client.queue_names``. None: a cluster has too many keys."""
    if not connections.one_server:
        return _on_all_nodes(connections.conn)
    found = _queues_of(_search(connections))
    named = connections.command([], "SMEMBERS", _NAMES, idempotent=True)
    return sorted({each.decode(errors="replace") for each in named} | found)


def _search(connections: Connections) -> list[bytes]:
    """Search for a while; return the keys that were found."""
    run = connections.command
    began = run([], "GET", _SEARCHED, idempotent=True)
    if began == _DONE:
        return []
    cursor, keys, until = began or b"0", list[bytes](), time.monotonic() + _LONGEST
    while time.monotonic() < until:
        cursor, some = run([], "SCAN", cursor, "MATCH", _PATTERN, "COUNT", 1000, idempotent=True)
        keys += some
        if cursor == b"0":
            break
    with suppress(ResponseError):  # this user may only read, or the memory is full
        if names := _queues_of(keys):
            run([], "SADD", _NAMES, *(each.encode() for each in names), idempotent=True)
        value = _DONE if cursor == b"0" else cursor
        run([], "SET", _SEARCHED, value, "EX", _SEARCH_AGAIN, idempotent=True)
    return keys


def _on_all_nodes(conn: Any) -> list[str] | None:
    keys, until = list[bytes](), time.monotonic() + 4 * _LONGEST
    for index, key in enumerate(conn.scan_iter(match=_PATTERN, count=1000)):
        keys.append(key)
        if index % 1000 == 999 and time.monotonic() > until:
            return None
    return sorted(_queues_of(keys))


def _queues_of(keys: Iterable[bytes]) -> set[str]:
    found = set()
    for key in keys:
        queue_name, _, part = key.decode(errors="replace")[11:].rpartition("}:")
        if part in _LASTING:
            found.add(queue_name)
    return found
