"""Dead letters of all queues, grouped by error; and the letters of one group."""

import time
from collections.abc import Iterator, Mapping

from alligator.common.text import shorten
from alligator.exceptions import AlligatorException, UnsupportedOption
from alligator.monitoring.rows import Page as Listing
from alligator.monitoring.rows import TaskRow
from alligator.web.error_groups import group, pattern_of
from alligator.web.rendering import queue_ref, read_ref, whole_number
from alligator.web.task_filter import BRIEFLY, PAGE, RANGES, TaskFilter
from alligator.web.tracebacks import folded
from alligator.web.view import Page, View

#: Letters that are read in one step.
_STEP = 100

#: Seconds that a visitor waits who asked to look at more.
_THOROUGHLY = 3.0

#: Groups that are shown.
_MOST_GROUPS = 200

_MOST = 10**12 - 1

#: What stands before a cursor in a query, as it may be empty.
_BEFORE = "."


def page(view: View) -> Page:
    """Show the groups, or with ``?error=`` the letters of one.

    A look takes a bounded time. ``after`` in the query says where to go on, once for each queue,
    and ``looked`` how many letters were looked at before.
    """
    queue_name = view.request.first("queue")
    if queue_name:
        view.gator.client.check_queue_name(queue_name)
    dead = {each.name: each.dead for each in view.gator.queues() if each.dead}
    names = [each for each in dead if queue_name in ("", each)]
    after = dict(map(_read_cursor, view.request.query.get("after", ())))
    looked = whole_number(view.request.first("looked"), "looked", 0, 0, _MOST)
    is_thorough = bool(view.request.first("thorough") or after)
    error = view.request.first("error")
    error = error if error.isprintable() else ""
    wanted = TaskFilter.of(view.request.query)
    cursors = {name: after.get(name) for name in names if name in after or not after}
    look = _Look(view, cursors, _THOROUGHLY if is_thorough else BRIEFLY)
    before = looked if after else 0
    total = sum(dead[each] for each in names)
    values = {
        "queue": queue_name,
        "queues": list(dead),
        "wanted": wanted,
        "ranges": RANGES,
        "error": error,
    }
    is_live = not is_thorough
    if error:
        rows = _rows(look, error, wanted, view.now)
        values |= {"rows": rows, "traceback": folded(_traceback_of(view, rows))}
        template, title = "dead_group.html", f"Dead letters: {shorten(error, 60)}"
    else:
        groups = group(row for row in look if wanted.matches(row, view.now))
        values |= {"groups": groups[:_MOST_GROUPS], "more_groups": len(groups) - _MOST_GROUPS}
        template, title = "dead.html", "Dead letters"
    passed = before + look.looked
    query = {"error": error, "queue": queue_name, **wanted.fields}
    values |= {
        "query": {**query, "state": "dead"},
        "here": query,
        "before": before,
        "passed": passed,
        "total": max(total, passed),
        "is_all": look.is_all and not before and not look.left_out,
        "is_end": look.is_all,
        "is_full": look.is_full,
        "further": _further(view, look, query, passed, is_thorough=is_thorough),
    }
    return Page(template, title, values, nav="dead", is_live=is_live)


def _further(
    view: View, look: "_Look", query: Mapping[str, str], passed: int, *, is_thorough: bool
) -> str:
    """Return the URL at which more letters are looked at; '': there are no more.

    A short look is repeated as a longer one; after that, each goes on where the last one ended.
    """
    if look.is_all:
        return ""
    if not is_thorough and not look.is_full:
        return view.url("dead", thorough=1, **query)
    after = [queue_ref(name, f"{_BEFORE}{at or ''}") for name, at in look.cursors.items()]
    return view.url("dead", after=after, looked=passed, **query)


def _read_cursor(text: str) -> tuple[str, str | None]:
    """Return a queue, and where to go on there; None: at the newest letter."""
    queue_name, cursor = read_ref(text)
    return queue_name, cursor.removeprefix(_BEFORE) or None


def _rows(look: "_Look", error: str, wanted: TaskFilter, now: float) -> list[TaskRow]:
    """Return the first letters of one error."""
    rows = list[TaskRow]()
    for row in look:
        if pattern_of(row.error) == error and wanted.matches(row, now):
            rows.append(row)
            if len(rows) == PAGE:
                look.stop()
                break
    return rows


def _traceback_of(view: View, rows: list[TaskRow]) -> str:
    if not rows:
        return ""
    try:
        return view.gator.on_queue(rows[0].queue_name).task_info(rows[0].task_id).traceback
    except AlligatorException:
        return ""


class _Look:
    """Dead letters of some queues, the newest of each first, for so many seconds.

    :param cursors: the queues, and where to begin on each; None: with the newest.
    """

    def __init__(self, view: View, cursors: dict[str, str | None], seconds: float) -> None:
        self._view, self._seconds = view, seconds
        #: The queues that have more, and where to go on.
        self.cursors = cursors
        self.looked = 0
        self.is_full = False  # as many were found as are shown
        self.left_out = 0  # letters that the backend does not show
        self._at = "", 0  # of the step that is being read: its queue, and the letters read

    @property
    def is_all(self) -> bool:
        """Whether no queue has more that can be looked at."""
        return not self.cursors

    def __iter__(self) -> Iterator[TaskRow]:
        until = time.monotonic() + self._seconds
        while self.cursors:
            for name in list(self.cursors):  # by turns, so that each is looked at
                if self.looked and time.monotonic() > until:
                    return
                found = self._step(name, _STEP)
                for count, row in enumerate(found, 1):
                    self._at = name, count
                    self.looked += 1
                    yield row
                self.left_out += found.left_out
                self._go_on(name, found.next)

    def stop(self) -> None:
        """Go on right after the letter that was read last."""
        name, count = self._at
        self.is_full = True
        self._go_on(name, self._step(name, count).next)

    def _step(self, name: str, limit: int) -> Listing[TaskRow]:
        try:
            return self._view.gator.tasks("dead", limit, self.cursors[name], queue_name=name)
        except UnsupportedOption:
            return Listing()

    def _go_on(self, name: str, cursor: str | None) -> None:
        if cursor is None:
            del self.cursors[name]
        else:
            self.cursors[name] = cursor
