"""Group dead letters and failed runs by error: class and message, without what always differs."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from alligator.common.text import shorten
from alligator.constants import FAILED
from alligator.monitoring.rows import RecentRow, TaskRow

#: What differs from one error of a kind to the next, and what stands for it; in this order.
_DIFFERS = (
    (
        re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"),
        "…",
    ),
    (re.compile(r"\b0x[0-9a-fA-F]+\b"), "…"),
    (re.compile(r"\b(?=[a-fA-F]*[0-9])[0-9a-fA-F]{12,}\b"), "…"),
    (re.compile(r"(?<![A-Za-z0-9_])[0-9]+(?:[.,:][0-9]+)*"), "…"),
)

_LONGEST = 200


def pattern_of(error: str) -> str:
    """Return an error with ``…`` for numbers and ids.

    ::

        pattern_of('ValueError: There is no month 13.')  # 'ValueError: There is no month ….'
    """
    text = error[:_LONGEST]
    for found, stand_in in _DIFFERS:
        text = found.sub(stand_in, text)
    return shorten(text, _LONGEST) or "(no error)"


@dataclass
class ErrorGroup:
    """Dead letters, or runs, that failed in one way.

    :param pattern: their error; see :func:`pattern_of`.
    :param example: the newest of them.
    """

    pattern: str
    example: TaskRow | RecentRow
    count: int = 0
    dead: int = 0  # of these, how many became dead letters
    first: float | None = None
    last: float | None = None
    functions: dict[str, int] = field(default_factory=dict)
    queue_names: dict[str, int] = field(default_factory=dict)

    def add(self, row: TaskRow | RecentRow) -> None:
        """Count one more."""
        self.count += 1
        self.dead += row.state == FAILED
        self.functions[row.function] = self.functions.get(row.function, 0) + 1
        self.queue_names[row.queue_name] = self.queue_names.get(row.queue_name, 0) + 1
        when = row.died if isinstance(row, TaskRow) else row.ended
        if when is None:
            return
        self.first = when if self.first is None else min(self.first, when)
        if self.last is None or when >= self.last:
            self.last, self.example = when, row


def group(rows: Iterable[TaskRow | RecentRow]) -> list[ErrorGroup]:
    """Return the groups, the largest first."""
    found = dict[str, ErrorGroup]()
    for row in rows:
        pattern = pattern_of(row.error)
        found.setdefault(pattern, ErrorGroup(pattern, row)).add(row)
    return sorted(found.values(), key=lambda each: (-each.count, -(each.last or 0.0)))
