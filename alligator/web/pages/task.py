"""One task: why it stands as it does, its life, its call, its family, and how to repeat its end."""

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product, zip_longest
from math import inf
from typing import NamedTuple

from alligator.backends.base import GET, DeadTask, Listed
from alligator.common.text import shorten
from alligator.constants import (
    CANCELED,
    DELAYED,
    FAILED,
    HELD,
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

#: Runs that ended lately and are looked through for children: all that are kept.
MOST_RECENT = 10_000

#: Characters of a test that are shown.
_LONGEST_TEST = 20_000

#: Options that are shown in a place of their own, or say nothing to people.
_SHOWN_ELSEWHERE = frozenset({"depends_on", "result_of", "pushed_at", "last_error", "own_id"})


#: How the last run of a life ended: what ran after it was revived.
_ENDS = frozenset({"failed", "expired", "canceled"})


#: The states in which runs leave a task, by their outcomes.
_STATES = {"succeeded": SUCCESS, "failed": FAILED, "expired": FAILED, "canceled": CANCELED}

#: What is said of a task that is known by its last run alone.
_LEFT = "Its last run ended in {}. It has left its queue, and no record of it is kept."


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
    status = info.status if info.status is not None else _known_end(info, recent)
    if status is None and info.history is None and not trouble:
        values = {"info": info, "is_unknown": True}
        return Page("task.html", title, values, is_live=True)
    if info.status is None and status is not None and not trouble:
        info = replace(info, explanation=_LEFT.format(STATE_WORDS[status]))
    is_held = status == WAITING and bool(info.options.get("depends_on")) and not _is_free(info)
    has_ended = status in (SUCCESS, FAILED, CANCELED)
    children, are_all = _children(view, info, has_ended=has_ended)
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


def _known_end(info: TaskInfo, recent: RecentRow | None) -> int | None:
    """Return how a task without a record ended, by its last run; None: that is not known."""
    if recent is not None:
        return recent.state
    attempts = info.history.attempts if info.history is not None else ()
    return _STATES.get(attempts[-1].outcome) if attempts else None


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


def _children(view: View, info: TaskInfo, *, has_ended: bool) -> tuple[list[Relative], bool]:
    """Return the children of a task, as far as a short search finds them.

    Until it ends, all of them are held. After that, they are anywhere on their queues, or ended
    lately. One that was canceled before it ran is not found: no message of it is left.

    :returns: also whether that are all that there are to find.
    """
    if view.gator.store is None:
        return [], True
    found = dict[tuple[str, str], Relative]()
    are_all = True
    for name, state, listed in _listed(view, info.queue_name, has_ended=has_ended):
        if listed is None:
            are_all = False
            break
        fields = fields_of(listed.data)
        waits_for = fields_in(fields, "options").get("depends_on")
        if isinstance(waits_for, list) and info.task_id in waits_for:
            function = f"{fields.get('module')}.{fields.get('callable')}"
            found[name, listed.task_id] = Relative(listed.task_id, name, state, function)
    for row in _ended_children(view, info) if has_ended else ():
        key, word = (row.queue_name, row.task_id), STATE_WORDS.get(row.state, "")
        found.setdefault(key, Relative(row.task_id, row.queue_name, word, row.function))
    children = list(found.values())
    return children[:MOST_RELATIVES], are_all and len(children) <= MOST_RELATIVES


def _ended_children(view: View, info: TaskInfo) -> list[RecentRow]:
    try:
        return view.gator.recent(MOST_RECENT, parent=info.task_id)
    except UnsupportedOption:
        return []


def _listed(view: View, first: str, *, has_ended: bool) -> Iterator[tuple[str, str, Listed | None]]:
    """Yield tasks that may be children, each with its queue and state; None: the time is over."""
    client, store, until = view.gator.client, view.gator.store, time.monotonic() + _SEARCH
    states = (HELD, WAITING, DELAYED, RUNNING, FAILED) if has_ended else (HELD,)
    names = dict.fromkeys([first, *(client.queue_names() or ())])
    for state, name in product(states, names):
        after: str | None = None
        while True:
            if time.monotonic() > until:
                yield name, "", None
                return
            try:
                if state == HELD and store is not None:
                    tasks, after = store.list_held(client, name, 100, after)
                else:
                    tasks, after = client.list_tasks(name, state, 100, after)
            except AlligatorException:
                break
            for each in tasks:
                yield name, STATE_WORDS[state], each
            if after is None:
                break


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
