"""One queue: browse what waits, is delayed, runs, is held or is dead, and choose among it."""

from typing import Any

from alligator.backends.base import QueueStats
from alligator.common.text import shorten
from alligator.exceptions import ConnectionLost, InvalidTask, UnsupportedOption
from alligator.monitoring.queues import STATES
from alligator.web.rendering import whole_number
from alligator.web.task_filter import AGES, Look, TaskFilter, look
from alligator.web.view import Page, View

#: What can be done with the checked tasks of a state, or with all that match: the names of actions.
BULK: dict[str, tuple[str, ...]] = {
    "waiting": ("cancel",),
    "delayed": ("run", "cancel"),
    "running": ("cancel",),
    "held": ("cancel",),
    "dead": ("revive", "purge"),
}

#: What each state means, for who has not met it.
_MEANINGS = {
    "waiting": "Pushed, which means put on the queue, and due: a worker takes the first one next.",
    "delayed": "Not due yet: pushed with a delay, or to be tried again after a failure.",
    "running": "Taken by a worker, which works on them now.",
    "held": "Not on the queue yet: they wait until other tasks, their parents, have succeeded.",
    "dead": (
        "Dead letters: they failed and have no retry left, or could not be run. Each stays here, "
        "with its error, until you revive it, which puts it back on the queue, or purge it."
    ),
}

_MOST = 1_000_000_000_000 - 1


def page(view: View) -> Page:
    """Show a page of a queue in one state."""
    name = view.request.first("name")
    if not name:
        raise InvalidTask("No queue is named; choose one on the overview.")
    view.gator.client.check_queue_name(name)
    state = state_in(view.request.first("state"))
    wanted = TaskFilter.of(view.request.query)
    before = whole_number(view.request.first("looked"), "looked", 0, 0, _MOST)
    after = view.request.first("after") or None
    stats = view.gator.client.stats(name)
    found, trouble = Look(), ""
    try:
        found = look(view.gator, name, state, wanted, now=view.now, after=after)
    except UnsupportedOption as err:
        trouble = str(err)
    total = count_of(stats, state, view)
    values = {
        "name": name,
        "state": state,
        "meaning": _MEANINGS[state],
        "tabs": [(each, count_of(stats, each, view)) for each in STATES],
        "found": found,
        "trouble": trouble,
        "wanted": wanted,
        "ages": AGES,
        "is_first": after is None,
        "looked": before + found.looked,
        "total": total,
        "bulk": BULK[state],
        "bulk_query": {"queue": name, "state": state, **wanted.fields},
        "running": _running(view, name) if state == "running" and found.rows else {},
        "is_unknown": _is_unknown(view, name, stats),
        **_service(view, name),
    }
    return Page("queue.html", f"Queue {shorten(name, 60)}", values, is_live=after is None)


def state_in(name: str) -> str:
    """Return the state that a field names; ``'waiting'`` if it names none.

    :raises InvalidTask: there is no such state.
    """
    if name and name not in STATES:
        raise InvalidTask(f"state={shorten(name, 60)!r} is none of {', '.join(STATES)}.")
    return name or "waiting"


def count_of(stats: QueueStats, state: str, view: View) -> int | None:
    """Return how many tasks are in a state; None: the queue cannot tell."""
    if state == "held" and view.gator.store is not view.gator.client.store:
        return None  # they are in a store of another backend
    count: int = getattr(stats, state)
    return count


def _is_unknown(view: View, name: str, stats: QueueStats) -> bool:
    counts = stats.waiting, stats.delayed, stats.running, stats.dead, stats.held
    return not any(counts) and all(each.name != name for each in view.gator.queues())


def _service(view: View, name: str) -> dict[str, Any]:
    """Return who serves a queue, and until when it is paused; None: not known."""
    found: dict[str, Any] = {"workers": None, "paused": None, "can_pause": False}
    store = view.gator.store
    try:
        found["workers"] = None if store is None else len(store.workers(name))
        found["can_pause"] = view.gator.pauses.can_pause
        found["paused"] = view.gator.paused(name)
    except (ConnectionLost, UnsupportedOption):  # the store may be elsewhere
        pass
    return found


def _running(view: View, name: str) -> dict[str, Any]:
    """Return what workers tell of the tasks that they run, by id."""
    try:
        workers = view.gator.workers()
    except (ConnectionLost, UnsupportedOption):
        return {}
    return {
        now.task_id: {"started": now.started, "worker": f"{each.host}:{each.pid}"}
        for each in workers
        for now in each.running
        if now.queue_name == name and not each.is_lost
    }
