"""One task: why it stands as it does, its life, its call, its family, and how to repeat its end."""

import time
from itertools import zip_longest
from math import inf
from typing import NamedTuple

from alligator.backends.base import GET, DeadTask
from alligator.common.text import shorten
from alligator.constants import (
    CANCELED,
    DELAYED,
    FAILED,
    RETRYING,
    RUNNING,
    SUCCESS,
    WAITING,
)
from alligator.exceptions import AlligatorException, InvalidTask, UnsupportedOption
from alligator.gator import Gator
from alligator.monitoring.arguments import as_json
from alligator.monitoring.rows import STATE_WORDS, RecentRow, TaskInfo
from alligator.tasks.message import fields_in, fields_of
from alligator.testing.reproduce import as_test
from alligator.web.tracebacks import folded
from alligator.web.view import Page, View

#: Parents, and children, that are shown.
MOST_RELATIVES = 20

#: Seconds that are spent on the search for children.
_SEARCH = 0.04

#: Runs that ended lately and are looked through for a task without a history.
_RECENT = 500

#: Characters of a test that are shown.
_LONGEST_TEST = 20_000

#: Options that are shown in a place of their own, or say nothing to people.
_SHOWN_ELSEWHERE = frozenset({"depends_on", "result_of", "pushed_at", "last_error", "own_id"})


#: How the last run of a life ended: what ran after it was revived.
_ENDS = frozenset({"failed", "expired", "canceled"})


class Run(NamedTuple):
    """An attempt, as the timeline shows it; or that the task was revived.

    :param outcome: as in its history; ``'revived'``: no attempt, and ``started`` is when, or 0 if
        that is not known.
    """

    outcome: str
    started: float
    ended: float | None
    worker: str
    error: str = ""
    traceback: str = ""


class Relative(NamedTuple):
    """A parent or a child."""

    task_id: str
    queue_name: str
    state: str  # '': not known
    function: str = ""


def page(view: View) -> Page:
    """Show a task."""
    queue_name = view.request.first("queue") or view.gator.queue_name
    task_id = view.request.first("id")
    if not task_id:
        raise InvalidTask("No task is named; search for its id.")
    gator = view.gator.on_queue(queue_name)
    title = f"Task {shorten(task_id, 60)}"
    try:
        info, trouble = gator.task_info(task_id), ""
    except UnsupportedOption as err:  # there may still be runs of it
        info, trouble = TaskInfo(task_id, queue_name, None, ""), str(err)
    runs, recent = _runs(gator, info)
    life = _life(runs, info)
    if info.status is None and recent is None and not trouble:
        values = {"info": info, "is_unknown": True}
        return Page("task.html", title, values, is_live=True)
    status = info.status if recent is None or info.status is not None else recent.state
    is_held = status == WAITING and bool(info.options.get("depends_on")) and not _is_free(info)
    has_ended = status in (SUCCESS, FAILED, CANCELED)
    children, are_all = ([], True) if has_ended else _children(view, info)
    values = {
        "info": info,
        "is_unknown": False,
        "trouble": trouble,
        "state": STATE_WORDS.get(status, "unknown") if status is not None else "unknown",
        "is_held": is_held,
        "function": _function(info, recent),
        "call": _call(info, recent),
        "pushed": _pushed(info, recent),
        "runs": life,
        "was_revived": any(each.outcome == "revived" for each in life),
        "traceback": folded(info.traceback),
        "tracebacks": [folded(each.traceback) for each in life],
        "result": _result(gator, info, status),
        "options": [
            (name, as_json(value, 200))
            for name, value in info.options.items()
            if name not in _SHOWN_ELSEWHERE
        ],
        "parents": _parents(view, gator, info),
        "children": children,
        "are_all": are_all,
        "has_ended": has_ended,
        "test": _test(gator, info, runs) if status == FAILED and view.can_act else "",
        "actions": _actions(info),
    }
    return Page("task.html", title, values, is_live=True)


def _runs(gator: Gator, info: TaskInfo) -> tuple[list[Run], RecentRow | None]:
    """Return the attempts, oldest first, and the last run among the runs that ended lately."""
    if info.history is not None:
        return [
            Run(each.outcome, each.started, each.ended, each.worker, each.error, each.traceback)
            for each in info.history.attempts
        ], None
    try:
        rows = [
            each
            for each in gator.recent(_RECENT)
            if (each.task_id, each.queue_name) == (info.task_id, info.queue_name)
        ]
    except UnsupportedOption:
        return [], None
    outcomes = {SUCCESS: "succeeded", RETRYING: "retried", FAILED: "failed", CANCELED: "canceled"}
    runs = [
        Run(outcomes.get(each.state, "?"), each.started, each.ended, each.worker, each.error)
        for each in reversed(rows)
    ]
    return runs, rows[0] if rows else None


def _life(runs: list[Run], info: TaskInfo) -> list[Run]:
    """Return the attempts, and between them when the task was revived."""
    times = list(info.history.revived) if info.history is not None else []
    lives = bool(info.row) and info.status in (WAITING, DELAYED, RUNNING, RETRYING)
    found = list[Run]()
    for run, then in zip_longest(runs, runs[1:]):
        found.append(run)
        if run.outcome not in _ENDS or (then is None and not lives):
            continue
        until = inf if then is None or not then.started else then.started
        since = run.ended or run.started
        moments = [each for each in times if since <= each <= until]
        found += [Run("revived", moment, None, "") for moment in moments or [0.0]]
    return found


def _is_free(info: TaskInfo) -> bool:
    return not info.explanation.startswith("waits for") or "parent" not in info.explanation


def _function(info: TaskInfo, recent: RecentRow | None) -> str:
    known = info.row or info.history or recent
    return known.function if known is not None else ""


def _call(info: TaskInfo, recent: RecentRow | None) -> tuple[str, str]:
    known = info.row if info.row is not None and info.row.function else info.history
    if known is not None:
        return known.args, known.kwargs
    return (recent.args, "") if recent is not None else ("", "")


def _pushed(info: TaskInfo, recent: RecentRow | None) -> float | None:
    known = info.row or info.history or recent
    return (known.pushed or None) if known is not None else None


def _result(gator: Gator, info: TaskInfo, status: int | None) -> str | None:
    """Return a result that was saved, as JSON; None: there is none."""
    if info.history is not None and info.history.result is not None:
        return info.history.result
    if status != SUCCESS:
        return None
    try:
        return as_json(gator.result(info.task_id))
    except AlligatorException:
        return None


def _parents(view: View, gator: Gator, info: TaskInfo) -> list[Relative]:
    ids = info.options.get("depends_on")
    if not isinstance(ids, list):
        return []
    named = info.options.get("result_of")
    queues = {
        each[1]: each[2]
        for each in (named if isinstance(named, list) else ())
        if isinstance(each, list) and len(each) > 2 and isinstance(each[2], str)
        if isinstance(each[1], str)
    }
    found = []
    for task_id in ids[:MOST_RELATIVES]:
        if not isinstance(task_id, str) or not task_id:
            continue
        queue_name = queues.get(task_id, info.queue_name)
        try:
            state = view.gator.on_queue(queue_name).status(task_id)
        except AlligatorException:
            state = None
        # What it waits for no longer has ended: a success may leave no record.
        word = STATE_WORDS.get(state, "") if state is not None else ""
        found.append(Relative(task_id, queue_name, word))
    return found


def _children(view: View, info: TaskInfo) -> tuple[list[Relative], bool]:
    """Return tasks that wait for this one, as far as a short search finds them.

    One that waits no longer is not found: nothing keeps which parents it had.

    :returns: also whether that are all.
    """
    store, client = view.gator.store, view.gator.client
    if store is None:
        return [], True
    names = dict.fromkeys([info.queue_name, *(client.queue_names() or ())])
    found, until = list[Relative](), time.monotonic() + _SEARCH
    for name in names:
        after = None
        while True:
            if time.monotonic() > until:
                return found[:MOST_RELATIVES], False
            try:
                tasks, after = store.list_held(client, name, 100, after)
            except AlligatorException:
                break
            for each in tasks:
                fields = fields_of(each.data)
                waits_for = fields_in(fields, "options").get("depends_on")
                if isinstance(waits_for, list) and info.task_id in waits_for:
                    function = f"{fields.get('module')}.{fields.get('callable')}"
                    found.append(Relative(each.task_id, name, "held", function))
            if len(found) > MOST_RELATIVES:
                return found[:MOST_RELATIVES], False
            if after is None:
                break
    return found, True


def _test(gator: Gator, info: TaskInfo, runs: list[Run]) -> str:
    """Return a test that fails as the task did; '': it cannot be written."""
    client = gator.client
    if GET not in client.supports:
        return ""
    data = client.peek(info.queue_name, info.task_id)
    if data is None:
        return ""
    attempts = info.row.attempts if info.row is not None else 0
    record = gator.results.record(info.task_id)
    died = next((each.ended for each in reversed(runs) if each.ended), None)
    died = died or (record.at if record is not None else 0.0)
    letter = DeadTask(info.task_id, info.queue_name, data, info.error, "", died, attempts)
    try:
        text = as_test(gator, letter, masked=True)
    except AlligatorException:
        return ""
    return text if len(text) <= _LONGEST_TEST else ""


def _actions(info: TaskInfo) -> list[tuple[str, str]]:
    """Return the names of the actions that a task in this state allows, with their titles."""
    if info.status == FAILED and info.row is not None:
        return [("revive", "Revive"), ("purge", "Purge")]
    if info.status in (DELAYED, RETRYING) and info.row is not None:
        return [("run", "Run now"), ("cancel", "Cancel")]
    if info.status in (WAITING, RUNNING):
        return [("cancel", "Cancel")]
    return []
