"""Encode and decode the bodies of beanstalkd jobs.

Text is plain UTF-8, as Alligator 1.0 and other producers write it. Bytes, and tasks that carry
counts through a retry, begin with a byte that no UTF-8 text begins with::

    0xff  's' or 'b'  attempts ','  deaths  '\\n'  data

A dead letter is a line of JSON and then the data.
"""

import json
import math
import re
from dataclasses import dataclass, replace
from typing import Any

from alligator.backends.base import MAX_LEASE, Data, DeadTask
from alligator.exceptions import InvalidTask

#: Bytes kept free in every job, so that every task that was pushed can also be buried.
HEADROOM = 256

_LONGEST_ERROR = 2_000
_MARKED = re.compile(rb"\xff([sb])(\d{1,9}),(\d{1,9})\n")
_CENTER = 2**31  # priority 0, and the default of beanstalkc
_LONGEST_DELAY = 2**32 - 1
_LARGEST_PRI = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Body:
    """The content of a job, with the counts of the jobs that it is a retry of."""

    data: Data
    attempts: int = 0
    deaths: int = 0


def encode(body: Body) -> bytes:
    """Return the bytes that go to the server.

    :raises InvalidTask: UTF-8 cannot carry the text.
    """
    raw, kind = to_bytes(body.data)
    if kind == "s" and not body.attempts and not body.deaths:
        return raw
    return b"\xff%b%d,%d\n%b" % (kind.encode(), body.attempts, body.deaths, raw)


def decode(raw: bytes) -> Body:
    """Return the content of a job; a foreign body that is not UTF-8 is returned as bytes."""
    if match := _MARKED.match(raw):
        data = from_bytes(raw[match.end() :], match[1].decode())
        return Body(data, int(match[2]), int(match[3]))
    return Body(from_bytes(raw, "s"))


def to_bytes(data: Data) -> tuple[bytes, str]:
    """Return data as bytes, and its kind: ``s`` or ``b``."""
    if isinstance(data, bytes):
        return data, "b"
    try:
        return data.encode(), "s"
    except UnicodeEncodeError as err:
        raise InvalidTask(f"The task's text cannot be written as UTF-8: {err}.") from err


def from_bytes(raw: bytes, kind: str) -> Data:
    """Undo :func:`to_bytes`; bytes that are no UTF-8 stay bytes."""
    if kind == "b":
        return raw
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def pri_of(priority: int) -> int:
    """Return the server's priority, of which the smallest number goes first."""
    return _CENTER - priority


def priority_of(pri: int) -> int:
    """Return the priority of a job with such a priority of the server's."""
    return _CENTER - pri


def whole_seconds(delay_until: float | None, now: float) -> int:
    """Return the delay in the server's whole seconds, rounded up so that no task runs early.

    :raises InvalidTask: it is longer than the server can count.
    """
    if delay_until is None or delay_until <= now:
        return 0
    if not delay_until - now <= _LONGEST_DELAY:
        raise InvalidTask(
            f"A delay of {delay_until - now:.12g} seconds is too long: beanstalkd delays by at "
            f"most {_LONGEST_DELAY} (136 years)."
        )
    return math.ceil(delay_until - now)


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter, with the priority and the ttr to revive it with."""

    task: DeadTask
    pri: int
    job_id: int = 0  # of the letter itself, on the tube of dead letters
    ttr: int = 0  # of the task's job, in seconds


def encode_letter(letter: Letter, room: int) -> bytes | None:
    """Return the bytes of a dead letter, its traceback cut to fit; None: it cannot fit.

    :param room: the most bytes.
    """
    raw, kind = to_bytes(letter.task.data)
    error, traceback = letter.task.error[:_LONGEST_ERROR], letter.task.traceback
    room -= len(raw)
    traceback = traceback[-room:] if room > 0 else ""
    while len(header := _header(letter, kind, error, traceback)) > room:
        over = len(header) - room
        if traceback:  # keep its end, which names the exception; a character takes 1 to 12 bytes
            traceback = traceback[max(1, over // 12) :]
        elif error:
            error = error[: -max(1, over // 12)]
        else:
            return None
    return header + raw


def _header(letter: Letter, kind: str, error: str, traceback: str) -> bytes:
    task = letter.task
    fields = {
        "id": task.task_id,
        "kind": kind,
        "error": error,
        "traceback": traceback,
        "died_at": task.died_at,
        "attempts": task.attempts,
        "urgency": letter.pri,
        "ttr": letter.ttr,
    }
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def decode_letter(raw: bytes, queue_name: str, job_id: int) -> Letter:
    """Return a dead letter; a foreign job on that tube becomes one without a reason."""
    line, _, data = raw.partition(b"\n")
    blank = DeadTask(str(job_id), queue_name, b"", "", "", 0.0, 0)
    try:
        fields: dict[str, Any] = json.loads(line)
        task = DeadTask(
            task_id=str(fields["id"]),
            queue_name=queue_name,
            data=from_bytes(data, fields["kind"]),
            error=str(fields["error"]),
            traceback=str(fields["traceback"]),
            died_at=_finite(fields["died_at"]),
            attempts=int(fields["attempts"]),
        )
        pri = min(max(0, int(fields["urgency"])), _LARGEST_PRI)
        ttr = min(max(0, int(fields.get("ttr", 0))), int(MAX_LEASE))  # Alligator 1.1 wrote none
        return Letter(task, pri, job_id, ttr)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return Letter(replace(blank, data=decode(raw).data), _CENTER, job_id)


def _finite(value: Any) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError(number)
    return number
