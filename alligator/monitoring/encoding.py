"""Write rows as JSON text for the store, and read them.

What is read may come from another version, or another program: a text that does not fit is passed
over, and longer texts in it are cut. The fields of a row are in a list, in order; a later version
may append others.
"""

import math
from collections.abc import Sequence
from typing import Any

from alligator.backends.types import LiveWorker
from alligator.common import strict_json
from alligator.exceptions import BadPayload
from alligator.monitoring.rows import NowRow, RecentRow, WorkerRow

#: Characters of a text that is read, such as an error; and of a name, such as that of a function.
LONGEST_TEXT = 2_000
LONGEST_NAME = 500

#: The most tasks that a worker reports as running; the ones that run longest.
MOST_RUNNING = 200

#: The most queues of a worker that are listed.
_MOST_QUEUES = 1_000

#: Fields of a task that has ended; and the types of the times among them.
_RECENT_FIELDS, _NUMBERS = 11, frozenset({int, float})

#: Parents of a task that has ended.
MOST_PARENTS = 20

#: Characters of a text that is read at all.
_LONGEST = 1 << 20


class Unreadable(Exception):
    """A text in the store is not what it should be."""


def loaded(text: str) -> Any:
    """Return the value of a text from a store.

    :raises Unreadable: it is no JSON, or far too long.
    """
    if len(text) > _LONGEST:
        raise Unreadable
    try:
        return strict_json.loads(text)
    except BadPayload as err:
        raise Unreadable from err


class Values:
    """The values of a list or object from a store, read one by one."""

    def __init__(self, found: Any, kind: type) -> None:
        if type(found) is not kind:
            raise Unreadable
        self.found: Any = found

    def _at(self, key: Any) -> Any:
        try:
            return self.found[key]
        except (KeyError, IndexError):
            raise Unreadable from None

    def text(self, key: Any, longest: int = LONGEST_NAME) -> str:
        """Return a text, cut to a length."""
        if not isinstance(value := self._at(key), str):
            raise Unreadable
        return value[:longest]

    def number(self, key: Any) -> float:
        """Return a finite number."""
        value = self._at(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Unreadable
        try:
            number = float(value)
        except OverflowError:
            raise Unreadable from None
        if not math.isfinite(number):
            raise Unreadable
        return number

    def whole(self, key: Any) -> int:
        """Return a whole number from 0 up."""
        value = self._at(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
            raise Unreadable
        return value

    def items(self, key: Any, most: int) -> Sequence[Any]:
        """Return the first items of a list."""
        value = self._at(key)
        if not isinstance(value, list):
            raise Unreadable
        return value[:most]


def rounded(moment: float) -> float:
    """Return a Unix timestamp as it is written: with milliseconds."""
    return round(moment, 3)


# -- The live view of a worker. ---------------------------------------------------------------


def live_text(row: WorkerRow) -> str:
    """Return what a worker is and does now; ``name``, ``last_seen`` and ``is_lost`` are not in."""
    return strict_json.dumps(
        {
            "host": row.host,
            "pid": row.pid,
            "queues": row.queues[:_MOST_QUEUES],
            "concurrency": row.concurrency,
            "version": row.version,
            "started": rounded(row.started),
            "done": row.done,
            "failed": row.failed,
            "running": [
                [each.task_id, each.function, each.queue_name, each.attempt, rounded(each.started)]
                for each in row.running[:MOST_RUNNING]
            ],
        }
    )


def read_live(found: LiveWorker, now: float) -> WorkerRow | None:
    """Return a worker as the store lists it; None: it cannot be read.

    :param now: the time by the clock of the store; what is overdue then is lost.
    """
    try:
        values = Values(loaded(found.text), dict)
        queues = values.items("queues", _MOST_QUEUES)
        return WorkerRow(
            host=values.text("host"),
            pid=values.whole("pid"),
            queues=tuple(str(each)[:LONGEST_NAME] for each in queues),
            concurrency=values.whole("concurrency"),
            version=values.text("version"),
            started=values.number("started"),
            last_seen=found.seen,
            done=values.whole("done"),
            failed=values.whole("failed"),
            running=tuple(_read_now(each) for each in values.items("running", MOST_RUNNING)),
            is_lost=found.until < now,
            name=found.name,
        )
    except Unreadable:
        return None


def read_queues(found: LiveWorker) -> Sequence[str]:
    """Return only the queues of a worker; none, if it cannot be read."""
    try:
        queues = Values(loaded(found.text), dict).items("queues", _MOST_QUEUES)
    except Unreadable:
        return ()
    return tuple(str(each)[:LONGEST_NAME] for each in queues)


def _read_now(found: Any) -> NowRow:
    it = Values(found, list)
    return NowRow(it.text(0), it.text(1), it.text(2), it.whole(3), it.number(4))


# -- Tasks that have ended. -------------------------------------------------------------------


def recent_text(row: RecentRow) -> str:
    """Return a task that has ended as text."""
    return strict_json.dumps(
        [
            row.task_id[:LONGEST_NAME],
            row.function[:LONGEST_NAME],
            row.queue_name,
            row.state,
            row.attempt,
            rounded(row.pushed),
            rounded(row.started),
            rounded(row.ended),
            row.worker,
            row.args,
            row.error[:LONGEST_TEXT],
            *(
                [[each[:LONGEST_NAME] for each in row.parents[:MOST_PARENTS]]]
                if row.parents
                else ()
            ),
        ]
    )


def written(text: str) -> str:
    """Return how a text, such as an id, stands in the texts of this module."""
    return strict_json.dumps(text[:LONGEST_NAME])


def read_recent(text: str) -> RecentRow | None:
    """Return a task that has ended; None: the text cannot be read.

    A page reads ten thousand: it is checked as :class:`Values` does, all at once.
    """
    try:
        found = loaded(text)
    except Unreadable:
        return None
    if type(found) is not list or len(found) < _RECENT_FIELDS:
        return None
    task_id, function, queue_name, state, attempt, pushed, started, ended, worker, args, error = (
        found[:_RECENT_FIELDS]
    )
    texts = task_id, function, queue_name, worker, args, error
    whole, moments = (state, attempt), (pushed, started, ended)
    if {*map(type, texts)} != {str} or {*map(type, whole)} != {int}:
        return None
    if not {*map(type, moments)} <= _NUMBERS or not 0 <= min(whole) <= max(whole) < 1 << 63:
        return None
    try:
        if not all(map(math.isfinite, moments)):
            return None
    except OverflowError:
        return None
    more = found[_RECENT_FIELDS] if len(found) > _RECENT_FIELDS else ()
    parents = more[:MOST_PARENTS] if type(more) is list else ()
    return RecentRow(
        task_id[:LONGEST_NAME],
        function[:LONGEST_NAME],
        queue_name[:LONGEST_NAME],
        state,
        attempt,
        float(pushed),
        float(started),
        float(ended),
        worker[:LONGEST_NAME],
        args[:LONGEST_NAME],
        error[:LONGEST_TEXT],
        tuple(each[:LONGEST_NAME] for each in parents if isinstance(each, str)),
    )
