"""Warn of queues on which tasks gather while no worker serves them.

A schedule may fire onto such a queue, and ``--queue`` may be misspelt. The heartbeats in the store
show which workers live; without a store, there are no warnings.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from alligator.backends.base import Client
from alligator.backends.store import HELD, Store
from alligator.backends.types import QueueStats
from alligator.common.text import shorten, show_time

#: Looks, one at each heartbeat, before the warning: the worker of a queue may just be starting.
#: So two heartbeats have passed between the first look and the last.
GRACE = 3

#: How many queues of a backend are looked at, the most similar names first.
_MOST = 100

#: Similarity from which one name may be the other, misspelt; from 0 to 1.
_ALIKE = 0.8


class Served(NamedTuple):
    """The client, the store and the schedules of one Gator.

    :param schedules: each with a ``name`` and a ``queue_name``.
    """

    client: Client
    store: Store | None
    schedules: Iterable[Any]


class Unserved:
    """Warn of unserved queues from one worker, once of each.

    :param queue_names: the queues that the worker serves.
    :param note_depth: is told how full each unserved queue is, at each look; None: nothing is told.
    """

    def __init__(
        self,
        served: Served,
        queue_names: Sequence[str],
        log: logging.Logger,
        note_depth: Callable[[str, QueueStats], None] | None = None,
    ) -> None:
        self._note_depth = note_depth
        self.served, self.queue_names, self.log = served, list(queue_names), log
        self._looks = 0
        self._unserved: dict[str, int] = {}  # of queues of schedules: looks that found no worker
        self._suspects = list(queue_names)  # of its own queues: may be misspelt
        self._gathering: dict[str, int] = {}  # of queues with tasks: looks that found no worker
        self._told: list[str] = []

    def look(self) -> None:
        """Look at the queues and log a warning of each unserved one.

        The heartbeat thread of the worker calls this.

        :raises AlligatorException: queue or store is unreachable; the next look may succeed.
        """
        self._looks += 1
        self._look_at_schedules()
        if self._suspects and self._looks in (1, GRACE):
            self._look_at_names()
        self._look_at_waiting()

    def _look_at_schedules(self) -> None:
        for name in sorted({each.queue_name for each in self.served.schedules}):
            if name in self.queue_names or live_workers(self.served, name):
                self._unserved[name] = 0
                continue
            self._unserved[name] = self._unserved.get(name, 0) + 1
            if self._unserved[name] == GRACE:
                for line in of_schedules(self.served, [name]):
                    self.log.warning("%s", line)

    def _look_at_names(self) -> None:
        for name in list(self._suspects):
            line = misspelt(self.served, name, sure=self._looks < GRACE)
            if line:
                self._suspects.remove(name)
                self._tell(line)
            elif self._looks == GRACE and is_never_used(self.served, name):
                self.log.info("Queue %r was never used so far; this worker waits for it.", name)

    def _look_at_waiting(self) -> None:
        found = dict[str, int]()
        for name, stats in unserved_queues(self.served, self.queue_names):
            if self._note_depth is not None:
                self._note_depth(name, stats)
            found[name] = self._gathering.get(name, 0) + 1
            if found[name] == GRACE and not any(repr(name) in line for line in self._told):
                count = f"{stats.waiting:,} waiting task{'s' if stats.waiting > 1 else ''}"
                self._tell(f"Queue {name!r} has {count} and {no_worker(self.served, name)}.")
        self._gathering = found

    def _tell(self, line: str) -> None:
        self._told.append(line)
        self.log.warning("%s", line)


def live_workers(served: Served, queue_name: str) -> int | None:
    """Return how many live workers serve a queue; None: there is no store to know it."""
    return None if served.store is None else len(served.store.workers(queue_name))


def unserved_queues(served: Served, but: Sequence[str]) -> list[tuple[str, QueueStats]]:
    """Return the queues on which tasks wait without a live worker, and how full they are.

    :param but: queues to leave out.
    """
    if served.store is None:
        return []
    found = []
    names = {*(served.client.queue_names() or ())}.difference(but, [HELD])
    for name in sorted(names)[:_MOST]:
        stats = served.client.stats(name)
        if stats.waiting and live_workers(served, name) == 0:
            found.append((name, stats))
    return found


def is_never_used(served: Served, queue_name: str) -> bool:
    """Return whether a queue holds nothing, and the backend does not know its name."""
    names = served.client.queue_names()
    known = names is None or queue_name in names
    return not known and not _holds_something(served, queue_name)


def remarks(served: Served, queue_names: Sequence[str]) -> list[str]:
    """Return a line for each of these queues that has no live worker, and each such schedule."""
    lines = [
        misspelt(served, name) or _unserved(served, name)
        for name in queue_names
        if live_workers(served, name) == 0
    ]
    return lines + of_schedules(served, sorted({each.queue_name for each in served.schedules}))


def _unserved(served: Served, name: str) -> str:
    if is_never_used(served, name):
        return f"Queue {name!r} was never used, and has {no_worker(served, name)}."
    return f"Queue {name!r} has {no_worker(served, name)}."


def of_schedules(served: Served, queue_names: Sequence[str]) -> list[str]:
    """Return a line for each schedule that fires onto one of these queues without a worker."""
    return [
        f"Schedule {shorten(each.name)} fires onto queue {name!r}, which has "
        f"{no_worker(served, name)}."
        for name in queue_names
        if live_workers(served, name) == 0
        for each in served.schedules
        if each.queue_name == name
    ]


def no_worker(served: Served, queue_name: str) -> str:
    """Return in words that a queue has no live worker, and since when."""
    seen = served.store.last_seen(queue_name) if served.store is not None else None
    if seen is None:
        return "no live worker, and had none in the last day"
    return f"no live worker since {show_time(seen, 'minutes')}"


def misspelt(served: Served, queue_name: str, *, sure: bool = True) -> str | None:
    """Return a warning if a queue was never used, while tasks wait elsewhere without a worker.

    :param sure: warn only if the name of such a queue is similar.
    """
    if served.store is None or _holds_something(served, queue_name):
        return None
    used = served.client.queue_names()
    if not used or queue_name in used:
        return None
    unserved = []
    used = [each for each in used if each != HELD]  # no worker is to serve that queue
    for each in get_close_matches(queue_name, used, _MOST, _ALIKE if sure else 0.0):
        waiting = served.client.stats(each).waiting
        if waiting and live_workers(served, each) == 0:
            unserved.append(f"{shorten(each)!r} ({waiting:,} waiting)")
    if not unserved:
        return None
    if sure:
        return (
            f"Queue {queue_name!r} was never used, and {unserved[0]} has no live worker: did you "
            "mean that one?"
        )
    return (
        f"Queue {queue_name!r} was never used, and tasks wait on queues without a live worker: "
        f"{', '.join(unserved[:3])}."
    )


def _holds_something(served: Served, queue_name: str) -> bool:
    stats = served.client.stats(queue_name)
    return any((stats.waiting, stats.delayed, stats.running, stats.dead))
