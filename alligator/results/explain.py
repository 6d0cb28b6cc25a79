"""Explain in one sentence why a task has not run: ``gator.explain(id)``.

:func:`gather` asks the queue and the store for the facts, in a few round trips, whatever the length
of the queue. :func:`sentence` puts them into words, without the facts that a backend cannot tell.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from alligator.backends.base import GET, LIMIT, RATE, Data, Place, time_on
from alligator.backends.queue_pauses import Pauses
from alligator.backends.store import CANCELED_BY, id_in_key
from alligator.common.text import shorten, show_time
from alligator.constants import CANCELED, DELAYED, FAILED, RETRYING, RUNNING, SUCCESS, WAITING
from alligator.exceptions import InvalidTask
from alligator.results.query import Results
from alligator.tasks.attempt_numbers import attempts_before
from alligator.tasks.limits import rate_of
from alligator.tasks.message import fields_in, fields_of, id_of
from alligator.tasks.parent_ids_in_store import read as read_kept
from alligator.tasks.task import Task

#: How many parents of a waiting task the sentence names.
_NAMED = 3

_TO_COME = frozenset({WAITING, DELAYED, RETRYING, RUNNING})

#: Spans shorter than this many seconds are shown in seconds.
_SOON = 120

_STATES = {
    WAITING: "waiting",
    DELAYED: "delayed",
    RUNNING: "running",
    RETRYING: "to be retried",
    SUCCESS: "done",
    FAILED: "failed",
    CANCELED: "canceled",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """Hold what is known of a task; times are Unix timestamps in seconds, None is not known."""

    now: float
    queue_name: str
    state: int | None  # as ``gator.status`` says; None: unknown, or forgotten
    lost: bool = False  # it should be on its queue, and is not
    by_record: bool = False  # only the store knows: the queue cannot look a task up
    at: float | None = None  # when the state was recorded
    error: str = ""  # why it failed, or was canceled; RETRYING: how the last attempt ended
    ahead: int | None = None  # WAITING: how many tasks go first
    is_least: bool = False  # and more, which were not counted
    waiting: int | None = None  # how many tasks wait on the queue
    due: float | None = None  # DELAYED, RETRYING
    until: float | None = None  # RUNNING: when its lease ends
    tries: int = 0  # RETRYING: the attempts so far
    expires_at: float | None = None
    kept_by: str = ""  # WAITING: the control that keeps it back, LIMIT or RATE
    limit: str = ""  # the limit or the rate that does, and its key, in words
    parents: int | None = None  # how many parents it has
    pending: int = 0  # how many parents have not ended
    first: list[tuple[str, int | None]] = field(default_factory=list)  # some, with their states
    workers: int | None = None  # how many live workers serve the queue; None: there is no store
    last_seen: float | None = None  # the last heartbeat of any of them
    is_known_queue: bool = True  # the backend knows a queue of that name, or cannot tell
    paused: float | None = None  # until when the queue is paused; infinity: until it is resumed
    place: Place | None = None  # on its queue
    data: Data | None = None  # its message, where it is on its queue, or held in the store
    traceback: str = ""  # of ``error``


def of_schedule(results: Results, queue_name: str, next_after: Callable[[float], float]) -> str:
    """Return when a schedule is due next, and how many workers would run it.

    :param next_after: returns the first tick after a given timestamp.
    """
    now = results.recorder.clock.time()
    facts = _with_workers(results, Facts(now, queue_name, None))
    left = span(next_after(now) - now)
    return f"due in {left} on {queue_name!r}{_paused(facts)}{_live_workers(facts)}"


# -- Facts to words. --------------------------------------------------------------------------


def sentence(facts: Facts) -> str:
    """Return the facts in words."""
    say = {
        WAITING: _on_queue,
        DELAYED: _delayed,
        RETRYING: _retrying,
        RUNNING: _running,
        SUCCESS: _success,
        FAILED: _failed,
        CANCELED: _canceled,
    }
    if facts.state is None:
        unknown = "" if facts.is_known_queue else ", a queue that is not known here"
        return (
            f"unknown on {facts.queue_name!r}{unknown}: it was not pushed there, or it is done and "
            "saved no result, or its record has expired, or it was dropped or lost"
        )
    if facts.pending:
        return _waiting_for_parents(facts)
    if facts.kept_by:
        return _kept_back(facts)
    if facts.lost and facts.state in (WAITING, DELAYED):
        return _not_on_queue(facts)
    return say[facts.state](facts)


def _not_on_queue(facts: Facts) -> str:
    since = f" since {_time(facts, facts.at)}" if facts.at else ""
    return (
        f"{_STATES[facts.state or WAITING]}{since} according to its record, but not on "
        f"{facts.queue_name!r}: it was removed and nothing recorded, or it is about to arrive"
    )


def _on_queue(facts: Facts) -> str:
    where, about = f" on {facts.queue_name!r}", "about " if facts.by_record else ""
    if facts.ahead is not None:
        least = "at least " if facts.is_least else ""
        behind = f" behind {least}{_count(facts.ahead, 'task')}"
        ahead = behind if facts.ahead else " as the next task"
    elif facts.waiting is not None and facts.waiting > 1:
        ahead = f" as one of {about}{_count(facts.waiting, 'task')}"
    else:
        ahead = ""
    return f"{_expired(facts)}waiting{ahead}{where}{_paused(facts)}{_live_workers(facts)}"


def _paused(facts: Facts, what: str = "which") -> str:
    if facts.paused is None or facts.paused <= facts.now:
        return ""
    until = "it is resumed" if math.isinf(facts.paused) else _time(facts, facts.paused, "seconds")
    return f", {what} is paused until {until}"


def _kept_back(facts: Facts) -> str:
    if facts.kept_by == LIMIT:
        why = (
            f"waits for a place: at most {facts.limit or 'so many of its key'} run at the same time"
        )
    else:
        why = f"waits for its rate: at most {facts.limit or 'so many of its key'} start"
        if facts.due is not None and facts.due > facts.now:
            why += f"; the next of them may start in {span(facts.due - facts.now)}"
    paused = _paused(facts, repr(facts.queue_name))
    return f"{_expired(facts)}{why}{paused}{_no_worker(facts)}"


def _expired(facts: Facts) -> str:
    if facts.expires_at is None or facts.expires_at > facts.now:
        return ""
    when = _time(facts, facts.expires_at)
    return f"expired at {when}, so a worker will bury it and not run it: "


def _live_workers(facts: Facts, where: str = "there") -> str:
    if facts.workers is None:
        return ""
    if facts.workers:
        return f", {_count(facts.workers, 'live worker')} {where}"
    if facts.last_seen is None:
        return f", no live worker {where} in the last day"
    return f", no live worker {where} since {_time(facts, facts.last_seen)}"


def _no_worker(facts: Facts) -> str:
    """Return a warning for a task that is not due yet, if nothing would run it now."""
    paused = _paused(facts, repr(facts.queue_name))
    workers = _live_workers(facts, f"on {facts.queue_name!r}") if facts.workers == 0 else ""
    return paused + workers


def _waiting_for_parents(facts: Facts) -> str:
    named = [
        shorten(task_id) + (f" ({_STATES[state]})" if state in _STATES else "")
        for task_id, state in facts.first
    ]
    if (more := facts.pending - len(named)) > 0 and named:
        named.append(f"and {more:,} more")
    if facts.pending == 1 and facts.parents in (1, None):
        return f"waits for its parent {named[0]}"
    of = f" of {facts.parents:,}" if facts.parents and facts.parents > facts.pending else ""
    parents = "parent" if facts.pending == 1 and not of else "parents"
    return f"waits for {facts.pending:,}{of} {parents}: {', '.join(named)}"


def _delayed(facts: Facts) -> str:
    if facts.due is None:
        return f"delayed when it was pushed{_at(facts)}; for how long is not recorded"
    if facts.due <= facts.now:
        where = f"{facts.queue_name!r}{_paused(facts)}"
        return f"its delay has just ended on {where}{_live_workers(facts)}"
    left = span(facts.due - facts.now)
    return f"delayed for {left} more{_then(facts, 'until')}{_no_worker(facts)}"


def _retrying(facts: Facts) -> str:
    tried = f"tried {_count(facts.tries, 'time')}" if facts.tries else "tried before"
    last = f" ({shorten(facts.error, 500)})" if facts.error else ""
    if facts.due is not None and facts.due > facts.now:
        return (
            f"{tried}{last}, to be retried in {span(facts.due - facts.now)}"
            f"{_then(facts, 'at')}{_no_worker(facts)}"
        )
    return f"{tried}{last}, to be retried: {_on_queue(facts)}"


def _then(facts: Facts, word: str) -> str:
    if facts.due is None or facts.due - facts.now < _SOON:
        return ""
    return f" ({word} {_time(facts, facts.due)})"


def _running(facts: Facts) -> str:
    workers = _live_workers(facts, f"on {facts.queue_name!r}")
    if facts.by_record:
        return f"started{_at(facts)}, no end is recorded: it runs, or will run again{workers}"
    lease = ""
    if facts.until is not None:
        lease = f", on a lease until {_time(facts, facts.until, 'seconds')}"
        if facts.until <= facts.now:
            lease = f", on a lease that ended {span(facts.now - facts.until)} ago"
    back = "; if its worker is dead, it runs again when its lease ends"
    return f"running with a worker{lease}{workers}{back if facts.workers == 0 else ''}"


def _success(facts: Facts) -> str:
    return f"succeeded{_at(facts)}"


def _failed(facts: Facts) -> str:
    error = shorten(facts.error, 500)
    if error.startswith("Expired: "):
        why = error.removeprefix("Expired: ").rstrip(".")
        return f"became a dead letter{_at(facts)}, expired: {why}"
    return f"became a dead letter{_at(facts)}: {error or 'no error is recorded'}"


def _canceled(facts: Facts) -> str:
    why = shorten(facts.error, 700).removeprefix(CANCELED_BY.format("")).rstrip(".")
    return f"canceled{_at(facts)}: {why}" if why else f"canceled{_at(facts)}, before it ran"


def _at(facts: Facts) -> str:
    return f" at {_time(facts, facts.at)}" if facts.at else ""


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _time(facts: Facts, moment: float, unit: str = "minutes") -> str:
    return show_time(moment, unit, today=facts.now)


def span(seconds: float) -> str:
    """Return a number of seconds as people say it: ``'43 s'``, ``'2 h 5 min'``."""
    left = math.ceil(min(max(seconds, 0.0), 1e12))
    if left < _SOON:
        return f"{left} s"
    units = [("days", 86_400), ("h", 3600), ("min", 60)]
    index = next(index for index, (_, size) in enumerate(units) if left >= 2 * size or size == 60)
    name, size = units[index]
    text = f"{left // size:,} {name}"
    if index + 1 < len(units):
        smaller, its_size = units[index + 1]
        rest = left % size // its_size
        text += f" {rest} {smaller}" if rest else ""
    return text


# -- Facts from queue and store. --------------------------------------------------------------


def gather(results: Results, task: Task | str) -> Facts:
    """Return what is known of a task.

    :raises UnsupportedOption: the backend cannot look up a task, and there is no store.
    """
    found = results.look_closely(task)
    if found.place is None and found.status in _TO_COME:  # it may just have ended, or have come
        found = results.look_closely(task)
    state, record, queue_name = found.status, found.record, results.queue_of(task)
    now = time_on(results.client, queue_name, results.recorder.clock)
    facts = Facts(now, queue_name, state, place=found.place, data=found.data)
    if record is not None:
        at, error, traceback = record.at, record.error, record.traceback
        facts = replace(facts, at=at, error=error, traceback=traceback)
    elif state == FAILED and (letter := results.letter(task)):
        at, error, traceback = letter.died_at, letter.error, letter.traceback
        facts = replace(facts, at=at or None, error=error, traceback=traceback)
    if state is None:
        names = results.client.queue_names()
        return replace(facts, is_known_queue=names is None or queue_name in names)
    if state not in _TO_COME:
        return facts
    return _with_workers(results, _on_the_way(results, task, facts))


def _on_the_way(results: Results, task: Task | str, facts: Facts) -> Facts:
    """Return the facts with those of a task that has not ended."""
    client, store = results.client, results.store
    queue_name, task_id = results.where(task)
    place, data = facts.place, facts.data
    if place is not None:
        if facts.state != RETRYING or place.state not in (WAITING, DELAYED):  # it has moved on
            facts = replace(facts, state=place.state)
        facts = replace(facts, ahead=place.ahead, due=place.due, until=place.until)
        facts = replace(facts, kept_by=place.kept_by, is_least=place.is_least)
        data = client.peek(queue_name, task_id) if data is None else data
    elif store is not None and store.bridged:
        data = store.peek_held(client, queue_name, id_of(task))
    by_record = GET not in client.supports
    lost = place is None and data is None and not by_record
    facts = replace(_with_options(facts, data), data=data, lost=lost, by_record=by_record)
    waits = facts.ahead is None and facts.due is None and not facts.kept_by
    if waits and facts.state != RUNNING:
        facts = _with_parents(results, task, facts)
        if not (facts.pending or lost):
            facts = replace(facts, waiting=client.stats(queue_name).waiting)
    return facts


def _with_options(facts: Facts, data: Data | None) -> Facts:
    """Return the facts with those of its message, which any writer of the queue may have sent."""
    fields = fields_of(data) if data is not None else {}
    options = fields_in(fields, "options")
    expires_at, retried = options.get("expires_at"), options.get("retried")
    parents, error = options.get("depends_on"), options.get("last_error")
    tries = 0
    if isinstance(retried, int) and data is not None:
        tries = attempts_before(data, retried, facts.place.deaths if facts.place else 0)
    return replace(
        facts,
        expires_at=expires_at if isinstance(expires_at, int | float) else None,
        tries=tries,
        limit=_limit(facts.kept_by, fields, options),
        parents=_count_parents(parents) if isinstance(parents, list) else None,
        error=error if isinstance(error, str) and facts.state == RETRYING else facts.error,
    )


def _limit(kept_by: str, fields: dict[str, Any], options: dict[str, Any]) -> str:
    """Return how many of which key the message lets run, or start; '': it does not say."""
    name = f"{fields.get('module')}.{fields.get('callable')}"
    key = repr(shorten(str(options.get(f"{kept_by}_key") or name)))
    if kept_by == LIMIT and isinstance(limit := options.get("limit"), int):
        return f"{limit:,} of {key}"
    if kept_by == RATE:
        try:
            count, seconds = rate_of(options.get("rate"))
        except InvalidTask:
            return ""
        return f"{count:,} of {key} in {span(seconds) if seconds >= 1 else f'{seconds:g} s'}"
    return ""


def _count_parents(parents: list[Any]) -> int:
    kept = read_kept(parents)
    return len(parents) if kept is None else kept.count


def _with_parents(results: Results, task: Task | str, facts: Facts) -> Facts:
    """Return the facts with the parents that the task waits for, if it does."""
    store = results.store
    if store is None:
        return facts
    if store.bridged:
        queue_name, task_id = results.queue_of(task), id_of(task)
        waits = store.waits_for(results.client, queue_name, task_id, _NAMED)
        records = store.records([parent for _, parent in waits.first])
        states = [record.state if record else None for record in records]
    else:
        waits = store.waits_for(results.client, *results.where(task), _NAMED)
        places = [results.client.find(*parent) for parent in waits.first]
        states = [place.state if place else None for place in places]
    names = [id_in_key(parent) for _, parent in waits.first]
    first = list(zip(names, states, strict=True))
    return replace(facts, pending=waits.total, first=first)


def _with_workers(results: Results, facts: Facts) -> Facts:
    pauses = Pauses(results.client, results.store, results.recorder.clock)
    if facts.state != RUNNING:
        facts = replace(facts, paused=pauses.until(facts.queue_name))
    if results.store is None:
        return facts
    workers = len(results.store.workers(facts.queue_name))
    seen = None if workers else results.store.last_seen(facts.queue_name)
    return replace(facts, workers=workers, last_seen=seen)
