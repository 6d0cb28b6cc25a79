"""Look through a queue for the tasks that match a filter, for a bounded time.

A queue may have a million tasks, and a backend knows them by their order alone. So a filter reads
page after page until it has found enough or its time is over, and says how far it has come.
"""

import time
from dataclasses import dataclass, field

from alligator.gator import Gator
from alligator.monitoring.rows import TaskRow
from alligator.web.rendering import whole_number

#: Tasks that are read in one step.
_STEP = 100

#: Tasks of one page.
PAGE = 50

#: Seconds that one look of a page takes.
BRIEFLY = 0.08

_OLDEST = 10 * 365 * 86_400

#: What a page offers for the age: seconds, and their name.
AGES = (
    (60, "1 minute"),
    (600, "10 minutes"),
    (3600, "1 hour"),
    (86_400, "1 day"),
    (7 * 86_400, "7 days"),
)

#: What a page offers for the time that it looks back: seconds, and their name.
RANGES = ((3600, "last hour"), (6 * 3600, "last 6 hours"), (86_400, "last 24 hours"))


@dataclass(frozen=True)
class TaskFilter:
    """Which tasks of a state are meant.

    :param function: a part of its name; ``''``: any.
    :param text: a part of its id, its arguments as they are shown, or its error; ``''``: any.
    :param older: seconds since it was pushed, or died, at least.
    :param since: seconds since it was pushed, or died, at most; 0: any.
    """

    function: str = ""
    text: str = ""
    older: int = 0
    since: int = 0

    @classmethod
    def of(cls, fields: dict[str, list[str]]) -> "TaskFilter":
        """Return the filter that a query or a form has.

        :raises InvalidTask: an age is no whole number of seconds.
        """
        first = {name: found[0] for name, found in fields.items() if found}
        older = whole_number(first.get("older", ""), "older", 0, 0, _OLDEST)
        since = whole_number(first.get("since", ""), "since", 0, 0, _OLDEST)
        return cls(_plain(first.get("function", "")), _plain(first.get("text", "")), older, since)

    @property
    def is_on(self) -> bool:
        """Whether it leaves out anything."""
        return bool(self.function or self.text or self.older or self.since)

    @property
    def fields(self) -> dict[str, str]:
        """The fields of a query that say the same."""
        given = {
            "function": self.function,
            "text": self.text,
            "older": str(self.older or ""),
            "since": str(self.since or ""),
        }
        return {name: value for name, value in given.items() if value}

    def has_age(self, moment: float | None, now: float) -> bool:
        """Whether what happened at a moment is of an age that is meant."""
        if not (self.older or self.since):
            return True
        if moment is None or now - moment < self.older:
            return False
        return not self.since or now - moment <= self.since

    def matches(self, row: TaskRow, now: float) -> bool:
        """Whether a task is meant."""
        if self.function and self.function.lower() not in row.function.lower():
            return False
        if not self.has_age(row.died or row.pushed, now):
            return False
        if not self.text:
            return True
        text = self.text.lower()
        return any(text in each.lower() for each in (row.task_id, row.args, row.kwargs, row.error))


@dataclass
class Look:
    """What a look found."""

    rows: list[TaskRow] = field(default_factory=list)
    looked: int = 0  # tasks that were read
    next: str | None = None  # where to go on; None: that was all
    left_out: int = 0  # tasks that the backend does not show


def look(
    gator: Gator,
    queue_name: str,
    state: str,
    wanted: TaskFilter,
    *,
    now: float,
    after: str | None = None,
    limit: int = PAGE,
    seconds: float | None = None,
) -> Look:
    """Return the tasks that match, at most so many, from a cursor on.

    :param state: as ``gator.tasks`` has it.
    :param seconds: after which it reads no further step; None: as long as a page may take.
    """
    if not wanted.is_on:
        page = gator.tasks(state, limit, after, queue_name=queue_name)
        return Look(list(page), len(page), page.next, page.left_out)
    found, until = Look(next=after), time.monotonic() + (BRIEFLY if seconds is None else seconds)
    while True:
        begin = found.next
        page = gator.tasks(state, _STEP, begin, queue_name=queue_name)
        for index, row in enumerate(page):
            if not wanted.matches(row, now):
                continue
            found.rows.append(row)
            if len(found.rows) == limit and index + 1 < len(page):  # the next page begins here
                page = gator.tasks(state, index + 1, begin, queue_name=queue_name)
                break
        found.looked += len(page)
        found.next, found.left_out = page.next, page.left_out
        if found.next is None or len(found.rows) >= limit or time.monotonic() > until:
            return found


def _plain(text: str) -> str:
    """Return what a visitor may have typed: nothing shown has other characters."""
    return "".join(each for each in text if each.isprintable()).strip()
