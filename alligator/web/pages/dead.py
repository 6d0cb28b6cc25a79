"""Dead letters of all queues, grouped by error; and the letters of one group."""

import time
from collections.abc import Iterator

from alligator.common.text import shorten
from alligator.exceptions import AlligatorException, UnsupportedOption
from alligator.monitoring.rows import TaskRow
from alligator.web.error_groups import group, pattern_of
from alligator.web.task_filter import BRIEFLY, PAGE, RANGES, TaskFilter
from alligator.web.tracebacks import folded
from alligator.web.view import Page, View

#: Letters that are read in one step.
_STEP = 100

#: Seconds that a visitor waits who asked to look at more.
_THOROUGHLY = 3.0

#: Groups that are shown.
_MOST_GROUPS = 200


def page(view: View) -> Page:
    """Show the groups, or with ``?error=`` the letters of one."""
    queue_name = view.request.first("queue")
    if queue_name:
        view.gator.client.check_queue_name(queue_name)
    dead = {each.name: each.dead for each in view.gator.queues() if each.dead}
    names = [each for each in dead if queue_name in ("", each)]
    is_thorough = bool(view.request.first("thorough"))
    seconds = _THOROUGHLY if is_thorough else BRIEFLY
    error = view.request.first("error")
    error = error if error.isprintable() else ""
    wanted = TaskFilter.of(view.request.query)
    look = _Look(view, names, seconds)
    values = {
        "queue": queue_name,
        "queues": list(dead),
        "total": sum(dead[each] for each in names),
        "look": look,
        "wanted": wanted,
        "ranges": RANGES,
        "error": error,
        "is_thorough": is_thorough,
    }
    if error:
        return _letters(view, look, error, wanted, values)
    groups = group(row for row in look if wanted.matches(row, view.now))
    values |= {"groups": groups[:_MOST_GROUPS], "more_groups": len(groups) - _MOST_GROUPS}
    return Page("dead.html", "Dead letters", values, nav="dead", is_live=not is_thorough)


def _letters(
    view: View, look: "_Look", error: str, wanted: TaskFilter, values: dict[str, object]
) -> Page:
    """Show the letters of one group, with the traceback of the newest."""
    rows, looked_all = list[TaskRow](), True
    for row in look:
        if pattern_of(row.error) == error and wanted.matches(row, view.now):
            rows.append(row)
            if len(rows) == PAGE:
                looked_all = False
                break
    traceback = ""
    if rows:
        try:
            info = view.gator.on_queue(rows[0].queue_name).task_info(rows[0].task_id)
            traceback = info.traceback
        except AlligatorException:
            pass
    values |= {
        "rows": rows,
        "is_full": len(rows) == PAGE,
        "looked_all": looked_all and look.is_all,
        "traceback": folded(traceback),
        "query": {"error": error, "queue": values["queue"], "state": "dead", **wanted.fields},
    }
    title = f"Dead letters: {shorten(error, 60)}"
    return Page("dead_group.html", title, values, nav="dead", is_live=not values["is_thorough"])


class _Look:
    """Dead letters of some queues, the newest of each first, for so many seconds."""

    def __init__(self, view: View, queue_names: list[str], seconds: float) -> None:
        self._view, self._queue_names, self._seconds = view, queue_names, seconds
        self.looked = 0
        self.is_all = True

    def __iter__(self) -> Iterator[TaskRow]:
        until = time.monotonic() + self._seconds
        cursors = dict[str, str | None].fromkeys(self._queue_names)
        while cursors:
            for name, after in list(cursors.items()):  # by turns, so that each is looked at
                if self.looked and time.monotonic() > until:
                    self.is_all = False
                    return
                try:
                    found = self._view.gator.tasks("dead", _STEP, after, queue_name=name)
                except UnsupportedOption:
                    del cursors[name]
                    continue
                self.looked += len(found)
                yield from found
                if found.next is None:
                    del cursors[name]
                else:
                    cursors[name] = found.next
