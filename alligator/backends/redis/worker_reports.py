"""Encode what workers report for ``worker_report.lua``, and read it back.

All of it has one hash tag, so that a cluster keeps it on one node and one script takes it.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from alligator.backends.activity_sums import KEEP_LOST, MAX_AT, MAX_RECENT, OTHERS
from alligator.backends.types import Activity, LiveWorker, Report

_PREFIX = b"alligator:monitor:{alligator}:"
_SEPARATOR = b"\x1f"
_MAXIMA = f" {' '.join(str(each + 1) for each in sorted(MAX_AT))} "  # as Lua counts
_LONGEST = 2**52  # milliseconds; the server adds them to its time

LIVE, _ENDS, RECENT, MINUTES = (
    _PREFIX + part for part in (b"live", b"ends", b"recent", b"minutes")
)


def encoded(text: str) -> bytes:
    """Return text as UTF-8, with an escape for what that cannot carry."""
    return text.encode("utf-8", "backslashreplace")


def decoded(raw: bytes | None) -> str | None:
    """Return text as it was encoded; None: there is none."""
    return None if raw is None else raw.decode("utf-8", "replace")


def document_keys(keys: Iterable[str]) -> list[bytes]:
    """Return the keys on the server of documents."""
    return [_PREFIX + b"document:" + encoded(each) for each in keys]


def minute_key(minute: int) -> bytes:
    """Return the key of the activity in a minute."""
    return _PREFIX + b"minute:%d" % minute


def millis(seconds: float) -> int:
    """Return for how long to keep something."""
    return max(1, math.ceil(min(seconds * 1000, _LONGEST)))


def call_of(report: Report) -> tuple[list[bytes], list[Any]]:
    """Return keys and arguments of ``worker_report.lua``."""
    minutes = {each[0]: b"" for each in report.activity}
    numbers = {minute: number for number, minute in enumerate(minutes, 1)}
    recent = report.recent[-MAX_RECENT:]
    keys = [LIVE, _ENDS, RECENT, MINUTES, *map(minute_key, minutes)]
    keys += document_keys(report.documents) + document_keys(report.ask)
    length = math.ceil(report.seconds * 1e6) if report.seconds > 0 else 0
    view = b"" if report.live is None else b"v" + encoded(report.live)
    counts = len(minutes), len(report.activity), len(recent), len(report.documents)
    args = [encoded(report.worker), length, view, *counts, _SEPARATOR, OTHERS, _MAXIMA, *minutes]
    for minute, queue_name, function, values in report.activity:
        row = " ".join(repr(each) for each in values)
        args += [numbers[minute], encoded(queue_name), encoded(function), row]
    args += map(encoded, recent)
    for text, seconds in report.documents.values():
        args += [millis(seconds), encoded(text) if seconds > 0 else b""]
    return keys, args


def read_minute(minute: int, flat: Sequence[bytes]) -> Iterator[Activity]:
    """Yield the rows of a minute."""
    for field, raw in zip(flat[::2], flat[1::2], strict=True):
        queue_name, _, function = field.partition(_SEPARATOR)
        numbers = tuple(map(float, raw.split()))
        yield minute, decoded(queue_name) or "", decoded(function) or "", numbers


def read_live(now: int, flat: Sequence[bytes]) -> Iterator[LiveWorker]:
    """Yield the workers that are listed."""
    for name, raw in zip(flat[::2], flat[1::2], strict=True):
        times, _, view = raw.partition(b"\n")
        seen, until = (int(each) / 1e6 for each in times.split())
        if until + KEEP_LOST > now / 1e6:
            yield LiveWorker(decoded(name) or "", decoded(view) or "", seen, until)
