"""List the tasks of a queue on redis, in order, a page at a time, and change nothing.

A list has parts, one after the other: sorted sets and hashes of the queue. A cursor names the part,
and the score and the id of the last task in it, from where the server finds the next in some steps
of a search, however many come first.
"""

import math
import re
from collections.abc import Callable, Iterator
from heapq import nsmallest
from typing import Any, NamedTuple

from alligator.backends.cursors import no_cursor, read_cursor, write_cursor
from alligator.backends.redis.encoding import decode, decode_id
from alligator.backends.types import Data, Listed
from alligator.constants import DELAYED, FAILED, HELD, RUNNING, WAITING

#: The parts of the list of a state.
_PARTS = {
    WAITING: ("ready", "kept", "following"),
    DELAYED: ("delayed",),
    RUNNING: ("running",),
    HELD: ("held",),
    FAILED: ("dead",),
}

_AT_ONCE = 500  # tasks of one script; it blocks the server meanwhile
_DATA_AT_ONCE = 50
_MOST_DATA = 4 << 20  # bytes of data after which a page ends early; see list_tasks.lua
_STEP = 1 << 45  # see scores.lua
_NUMBER = re.compile(r"-?(inf|[0-9.]{1,30}(e[+-]?[0-9]{1,3})?)")


class _Row(NamedTuple):
    score: str  # with the id, what orders it, as the server has both
    raw_id: bytes
    task: Listed


def list_tasks(
    run: Callable[..., Any], state: int, limit: int, after: str | None
) -> tuple[list[Listed], str | None]:
    """Return a page; see ``Client.list_tasks``.

    :param run: runs a script on the queue, by its name, with arguments.
    """
    parts = _PARTS[state]
    part, score, raw_id = parts[0], "", b""
    if after is not None:
        part, score, raw_id = _read(after)
        if part not in parts:
            raise no_cursor(after)
    page: list[Listed] = []
    size = 0
    last = "", "", b""
    for name in parts[parts.index(part) :]:
        for row in _rows(run, name, state, score, raw_id, limit + 1 - len(page)):
            if len(page) == limit or size > _MOST_DATA:
                return page, write_cursor(last[0], last[1], last[2].hex())
            page.append(row.task)
            size += len(row.task.data)
            last = name, row.score, row.raw_id
        score, raw_id = "", b""
    return page, None


def _read(cursor: str) -> tuple[str, str, bytes]:
    part, score, digits = read_cursor(cursor, str, str, str)
    try:
        if _NUMBER.fullmatch(score) and not math.isnan(float(score)):
            return part, score, bytes.fromhex(digits)
    except ValueError:
        pass
    raise no_cursor(cursor)


def _rows(
    run: Callable[..., Any], part: str, state: int, score: str, raw_id: bytes, limit: int
) -> Iterator[_Row]:
    """Yield up to ``limit`` rows of a part, after a score and an id."""
    if part == "running":
        yield from _running(run, raw_id, limit)
        return
    more = True
    while more and limit > 0:
        more, rows = run("list_tasks", part, min(limit, _AT_ONCE), score, raw_id)
        for raw_id, raw_score, raw, priority, attempts, error, deaths in rows:
            score = raw_score.decode()
            task_id, at = decode_id(raw_id), float(score) / 1e6
            task = Listed(
                task_id,
                decode(raw, task_id),
                state if state in (DELAYED, FAILED) else WAITING,
                priority,
                due=at if state == DELAYED else None,
                attempts=attempts,
                error=error.decode("utf-8", "replace"),
                died_at=at if state == FAILED else None,
                deaths=deaths,
            )
            yield _Row(score, raw_id, task)
        limit -= len(rows)


def _running(run: Callable[..., Any], last: bytes, limit: int) -> Iterator[_Row]:
    """Yield tasks on lease, the longest first: in the order of receipts, which begin with the time.

    The server orders leases by their ends, which move. There are as many as workers hold, so all
    are read, in steps, and sorted here.
    """
    ends: dict[bytes, bytes] = {}
    cursor = b"0"
    while True:
        cursor, flat = run("list_leases", cursor)
        ends.update(zip(flat[::2], flat[1::2], strict=True))
        if cursor == b"0":
            break
    receipts = nsmallest(limit, (each for each in ends if each > last))
    for first in range(0, len(receipts), _DATA_AT_ONCE):
        some = receipts[first : first + _DATA_AT_ONCE]
        ids = [receipt.split(b":", 4)[-1] for receipt in some]
        for receipt, raw_id, raw in zip(some, ids, run("data_of_tasks", *ids), strict=True):
            task_id = decode_id(raw_id)
            data: Data = "" if raw is None else decode(raw, task_id)
            attempt, deaths, priority = _described(receipt)
            until = float(ends[receipt]) / 1e6
            task = Listed(
                task_id, data, RUNNING, priority, attempts=attempt, until=until, deaths=deaths
            )
            yield _Row("0", receipt, task)


def _described(receipt: bytes) -> tuple[int, int, int]:
    """Return the attempt, the deaths and the priority of a task on lease; see leases.lua."""
    try:
        _, attempt, deaths, score, _ = receipt.split(b":", 4)
        return int(attempt), int(deaths), 100 - int(score) // _STEP
    except ValueError:  # another program's
        return 0, 0, 0
