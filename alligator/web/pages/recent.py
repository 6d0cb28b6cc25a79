"""Runs that ended lately, and the failures of the last hour at a glance."""

from collections import Counter
from typing import Any

from alligator.common.text import shorten
from alligator.constants import FAILED, RETRYING
from alligator.exceptions import InvalidTask
from alligator.monitoring.monitor import ENDED_STATES
from alligator.monitoring.rows import STATE_WORDS, RecentRow
from alligator.web.error_groups import group, pattern_of
from alligator.web.rendering import whole_number
from alligator.web.task_filter import PAGE, RANGES, TaskFilter
from alligator.web.view import Page, View

#: Runs that a filter looks through, and those it looks through when asked for more.
_LOOKED, _LOOKED_THROUGH = 2_000, 10_000

#: What a visitor may choose: its name in the query, what it says, and the states of the runs.
_CHOICES: dict[str, tuple[str, frozenset[int]]] = {
    "success": ("success", frozenset({ENDED_STATES["success"]})),
    "failed": ("failed: became a dead letter", frozenset({FAILED})),
    "retrying": ("retrying: failed, is tried again", frozenset({RETRYING})),
    "failing": ("failed or retried", frozenset({FAILED, RETRYING})),
    "canceled": ("canceled", frozenset({ENDED_STATES["canceled"]})),
}

#: Errors that are shown with their counts.
_MOST_GROUPS = 10

#: Functions whose failures are named.
_MOST_FUNCTIONS = 5


def page(view: View) -> Page:
    """Show the runs that match, newest first."""
    state = view.request.first("state")
    if state and state not in _CHOICES:
        known = ", ".join(_CHOICES)
        raise InvalidTask(f"state={shorten(state, 60)!r} is none of {known}.")
    queue_name = view.request.first("queue")
    if queue_name:
        view.gator.client.check_queue_name(queue_name)
    wanted = TaskFilter.of(view.request.query)
    start = whole_number(view.request.first("start"), "start", 0, 0, _LOOKED_THROUGH)
    error = view.request.first("error")
    error = error if error.isprintable() else ""
    is_filtered = bool(wanted.is_on or state or queue_name or error)
    is_deep = bool(view.request.first("all"))
    limit = (_LOOKED_THROUGH if is_deep else _LOOKED) if is_filtered else start + PAGE + 1
    limit = min(limit, _LOOKED_THROUGH)
    rows = view.gator.recent(limit)
    chosen = [
        row
        for row in rows
        if (not state or row.state in _CHOICES[state][1])
        and queue_name in ("", row.queue_name)
        and _matches(wanted, row, view.now)
        and (not error or (_has_failed(row) and pattern_of(row.error) == error))
    ]
    groups = group(row for row in chosen if _has_failed(row))
    is_past = bool(rows and wanted.since and view.now - rows[-1].ended > wanted.since)
    values = {
        "rows": chosen[start : start + PAGE],
        "more": start + PAGE if len(chosen) > start + PAGE else None,
        "start": start,
        "state": state,
        "choices": {name: title for name, (title, _) in _CHOICES.items()},
        "queue": queue_name,
        "queues": sorted({each.name for each in view.gator.queues()} | {queue_name} - {""}),
        "error": error,
        "ranges": RANGES,
        "groups": groups[:_MOST_GROUPS],
        "more_groups": len(groups) - _MOST_GROUPS,
        "is_partial": len(rows) >= limit and not is_past,
        "wanted": wanted,
        "is_filtered": is_filtered,
        "looked": len(rows),
        "may_look_further": is_filtered and not is_deep and not is_past and len(rows) >= _LOOKED,
        "words": STATE_WORDS,
        "hour": _last_hour(view),
        "query": {
            "state": state,
            "queue": queue_name,
            "error": error,
            "all": "1" if is_deep else "",
            **wanted.fields,
        },
    }
    return Page("recent.html", "Recent", values, nav="recent", is_live=not is_deep)


def _has_failed(row: RecentRow) -> bool:
    return row.state in (FAILED, RETRYING)


def _matches(wanted: TaskFilter, row: RecentRow, now: float) -> bool:
    if wanted.function and wanted.function.lower() not in row.function.lower():
        return False
    if not wanted.has_age(row.ended, now):
        return False
    text = wanted.text.lower()
    return not text or any(
        text in each.lower() for each in (row.task_id, row.args, row.error, row.worker)
    )


def _last_hour(view: View) -> dict[str, Any] | None:
    """Return the counts of the last hour; None: they are not recorded."""
    found = view.source.history.recorded(view.gator, 60, view.now)
    if found.trouble:
        return None
    rows = found.activity
    failed = Counter[tuple[str, str]]()
    for row in rows:
        if row.failed:
            failed[row.function, row.queue_name] += row.failed
    return {
        "succeeded": sum(each.succeeded for each in rows),
        "failed": sum(each.failed for each in rows),
        "retried": sum(each.retried for each in rows),
        "dead": sum(each.dead for each in rows),
        "lost": sum(each.lost for each in rows),
        "functions": failed.most_common(_MOST_FUNCTIONS),
        "more": len(failed) - _MOST_FUNCTIONS,
    }
