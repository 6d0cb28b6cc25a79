"""Keep the history of a task as a document: each attempt, and how it ended.

A worker writes an attempt when it has started, and when it has ended. The writers of two attempts
may overlap, as one of them stood still: so each reads the document first, and merges its own
attempt into it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from alligator.backends.types import Record
from alligator.common import strict_json
from alligator.constants import CANCELED as STATE_CANCELED
from alligator.constants import FAILED, SUCCESS
from alligator.monitoring.encoding import (
    LONGEST_NAME,
    LONGEST_TEXT,
    Unreadable,
    Values,
    loaded,
    rounded,
)
from alligator.monitoring.rows import AttemptRow, History

RUNNING, SUCCEEDED, RETRIED, BURIED = "running", "succeeded", "retried", "failed"
CANCELED, EXPIRED, LOST = "canceled", "expired", "lost"

_RECORDED = {SUCCESS: SUCCEEDED, FAILED: BURIED, STATE_CANCELED: CANCELED}

#: The attempts that are kept of one task, the last ones; and how many of them with a traceback.
MOST_ATTEMPTS = 100
_MOST_TRACEBACKS = 5

#: Times at which it was revived that are kept, the last ones.
_MOST_REVIVALS = 20

#: Characters of a traceback that are kept, from its end.
LONGEST_TRACEBACK = 4_000

#: Seconds by which the start of one attempt may differ between its two texts.
_SAME_START = 2.0

#: The start of an attempt whose worker was lost before it could tell.
UNKNOWN = 0.0

#: What becomes "lost" when there is a later attempt.
_OVERTAKEN = (RUNNING, SUCCEEDED)

_NEVER_TOLD = "The worker was lost, and had not told yet that it runs the task."


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt, as the document has it."""

    number: int  # Delivery.attempt; 0: not known
    started: float
    ended: float | None
    worker: str
    outcome: str
    error: str = ""
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What a worker tells of one attempt of a task, and of the task itself."""

    task_id: str
    function: str
    queue_name: str
    args: str
    kwargs: str
    pushed: float
    attempt: Attempt
    deaths: int = 0  # leases that ran out right before
    result: str | None = None


def merged(text: str | None, told: Told) -> str:
    """Return the document with an attempt in it.

    :param text: the document so far; None: there is none.
    """
    found = _read(text) if text else None
    head = {
        "id": told.task_id[:LONGEST_NAME],
        "function": told.function[:LONGEST_NAME],
        "queue": told.queue_name,
        "args": told.args,
        "kwargs": told.kwargs,
        "pushed": rounded(told.pushed),
        "result": told.result,
    }
    attempts = list[Attempt]()
    if found is not None:
        before, attempts = found
        if before.pushed > rounded(told.pushed):
            return text or ""  # an attempt of an earlier push of the same id
        if before.pushed < rounded(told.pushed):
            attempts = []
        else:
            if told.result is None:
                head["result"] = before.result
            if before.revived:
                head["revived"] = before.revived
    kept = _merged(attempts, told)[-MOST_ATTEMPTS:]
    head["attempts"] = [
        [
            each.number,
            rounded(each.started),
            each.ended if each.ended is None else rounded(each.ended),
            each.worker,
            each.outcome,
            each.error[:LONGEST_TEXT],
            each.traceback[-LONGEST_TRACEBACK:] if index >= len(kept) - _MOST_TRACEBACKS else "",
        ]
        for index, each in enumerate(kept)
    ]
    return strict_json.dumps(head)


def with_revival(text: str, moment: float) -> str | None:
    """Return the document of a dead letter that was revived; None: the text cannot be read.

    :param moment: when it was, a Unix timestamp.
    """
    found = _read(text)
    if found is None:
        return None
    revived = [*found[0].revived, rounded(moment)][-_MOST_REVIVALS:]
    return strict_json.dumps({**loaded(text), "revived": revived})


def _merged(attempts: Sequence[Attempt], told: Told) -> list[Attempt]:
    new, found = told.attempt, list(attempts)
    for index, each in enumerate(found):
        if _is_same(each, new):
            if each.outcome == LOST:
                new = replace(new, outcome=LOST)
            if each.ended is None or new.ended is not None:
                found[index] = new
            return found
    # It has a later lease: so none of those before runs any more, and no ack of them counted.
    found = [_lost(each) if each.outcome in _OVERTAKEN else each for each in found]
    known = 0
    for each in reversed(found):
        if each.outcome != LOST:
            break
        known += 1
    never_told = Attempt(0, UNKNOWN, None, "", LOST, _NEVER_TOLD)
    return found + [never_told] * max(0, told.deaths - known) + [new]


def _lost(attempt: Attempt) -> Attempt:
    return replace(attempt, outcome=LOST)


def _is_same(known: Attempt, told: Attempt) -> bool:
    if (known.number, known.worker) != (told.number, told.worker):
        return False
    if known.ended is not None:  # a dead letter that was revived has the first number again
        if told.ended is not None:
            return known.ended == told.ended
        if told.started > known.ended:
            return False
    return abs(known.started - told.started) <= _SAME_START


def read_history(text: str) -> History | None:
    """Return the history of a task; None: the text cannot be read."""
    found = _read(text)
    if found is None:
        return None
    history, attempts = found
    rows = tuple(
        AttemptRow(each.started, each.ended, each.worker, each.outcome, each.error, each.traceback)
        for each in attempts
    )
    return replace(history, attempts=rows)


def ended_as_recorded(history: History, record: Record | None) -> History:
    """Return a history with the end that a record tells of, where the worker told of none.

    It was killed right after the task had ended, or reports that within a second.
    """
    last = history.attempts[-1] if history.attempts else None
    outcome = _RECORDED.get(record.state) if record is not None and record.ended else None
    if record is None or outcome is None or last is None or last.outcome != RUNNING:
        return history
    if record.at < last.started:
        return history  # of an earlier push
    last = replace(
        last, ended=record.at, outcome=outcome, error=record.error, traceback=record.traceback
    )
    return replace(history, attempts=(*history.attempts[:-1], last))


def _read(text: str) -> tuple[History, list[Attempt]] | None:
    try:
        it = Values(loaded(text), dict)
        attempts = [_attempt(each) for each in it.items("attempts", MOST_ATTEMPTS)]
        result = it.found.get("result")
        revived = Values(it.found.get("revived", []), list)
        history = History(
            task_id=it.text("id"),
            function=it.text("function"),
            queue_name=it.text("queue"),
            args=it.text("args", LONGEST_TEXT),
            kwargs=it.text("kwargs", LONGEST_TEXT),
            pushed=it.number("pushed"),
            attempts=(),
            result=None if result is None else it.text("result", LONGEST_TEXT),
            revived=tuple(map(revived.number, range(min(len(revived.found), _MOST_REVIVALS)))),
        )
    except Unreadable:
        return None
    return history, attempts


def _attempt(found: Any) -> Attempt:
    it = Values(found, list)
    has_ended = len(found) > 2 and found[2] is not None
    return Attempt(
        number=it.whole(0),
        started=it.number(1),
        ended=it.number(2) if has_ended else None,
        worker=it.text(3),
        outcome=it.text(4),
        error=it.text(5, LONGEST_TEXT),
        traceback=it.text(6, LONGEST_TRACEBACK),
    )
