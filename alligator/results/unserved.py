"""Queues that nobody serves, though tasks gather on them.

A schedule may fire onto such a queue, and ``--queue`` may be misspelt. Who is alive is known from
the signs of life in the store: without one, nothing is said here.
"""

import logging
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from alligator.backends.base import Client
from alligator.backends.store import HELD, Store
from alligator.common.text import shorten, show_time

#: Looks, one at each sign of life, until it is said: whoever is to serve a queue may just be
#: starting. So two signs have passed between the first and the last.
GRACE = 3

#: Queues of a backend that are looked at, those with names most alike first.
_MOST = 100

#: How alike two names are of which one may be the other, misspelt; from 0 to 1.
_ALIKE = 0.8


class Served(NamedTuple):
    """The queues of one Gator, and what is known of the workers that serve them.

    :param schedules: each with a ``name`` and a ``queue_name``.
    """

    client: Client
    store: Store | None
    schedules: Iterable[Any]


class Unserved:
    """What one worker says about it, each once.

    :param queue_names: those that it serves.
    """

    def __init__(self, served: Served, queue_names: Sequence[str], log: logging.Logger) -> None:
        self.served, self.queue_names, self.log = served, list(queue_names), log
        self._looks = 0
        self._alone: dict[str, int] = {}  # of queues of schedules: looks that found nobody
        self._suspects = list(queue_names)  # of its own: those that may be misspelt

    def look(self) -> None:
        """Look, and say what was found; called at each sign of life, in a thread of its own.

        :raises AlligatorException: queue or store is out of reach; the next look may do better.
        """
        self._looks += 1
        self._look_at_schedules()
        if self._suspects and self._looks in (1, GRACE):
            self._look_at_names()

    def _look_at_schedules(self) -> None:
        for name in sorted({each.queue_name for each in self.served.schedules}):
            if name in self.queue_names or live_workers(self.served, name):
                self._alone[name] = 0
                continue
            self._alone[name] = self._alone.get(name, 0) + 1
            if self._alone[name] == GRACE:
                for line in of_schedules(self.served, [name]):
                    self.log.warning("%s", line)

    def _look_at_names(self) -> None:
        for name in list(self._suspects):
            line = misspelt(self.served, name, sure=self._looks < GRACE)
            if line:
                self._suspects.remove(name)
                self.log.warning("%s", line)


def live_workers(served: Served, queue_name: str) -> int | None:
    """Return how many workers of a queue are alive; None: there is no store to know it."""
    return None if served.store is None else len(served.store.workers(queue_name))


def remarks(served: Served, queue_names: Sequence[str]) -> list[str]:
    """Return a line for each of these queues that nobody serves, and for each such schedule."""
    lines = [
        misspelt(served, name) or f"Queue {name!r} has {nobody(served, name)}."
        for name in queue_names
        if live_workers(served, name) == 0
    ]
    return lines + of_schedules(served, sorted({each.queue_name for each in served.schedules}))


def of_schedules(served: Served, queue_names: Sequence[str]) -> list[str]:
    """Return a line for each schedule that fires onto one of these queues, if nobody serves it."""
    return [
        f"Schedule {shorten(each.name)} fires onto queue {name!r}, which has "
        f"{nobody(served, name)}."
        for name in queue_names
        if live_workers(served, name) == 0
        for each in served.schedules
        if each.queue_name == name
    ]


def nobody(served: Served, queue_name: str) -> str:
    """Return in words that no worker of a queue lives, and since when."""
    seen = served.store.last_seen(queue_name) if served.store is not None else None
    if seen is None:
        return "no live worker, and had none in the last day"
    return f"no live worker since {show_time(seen, 'minutes')}"


def misspelt(served: Served, queue_name: str, *, sure: bool = True) -> str | None:
    """Return a line if a queue was never used, while tasks wait that nobody serves; None: no.

    :param sure: only if one of those has a name much like it.
    """
    if served.store is None or _holds_something(served, queue_name):
        return None
    used = served.client.queue_names()
    if not used or queue_name in used:
        return None
    alone = []
    used = [each for each in used if each != HELD]  # which is to be served by nobody
    for each in get_close_matches(queue_name, used, _MOST, _ALIKE if sure else 0.0):
        waiting = served.client.stats(each).waiting
        if waiting and live_workers(served, each) == 0:
            alone.append(f"{shorten(each)!r} ({waiting:,} waiting)")
    if not alone:
        return None
    if sure:
        return (
            f"Queue {queue_name!r} was never used, and {alone[0]} has no live worker: is that the "
            "one that is meant?"
        )
    return (
        f"Queue {queue_name!r} was never used, and tasks wait where no live worker serves them: "
        f"{', '.join(alone[:3])}."
    )


def _holds_something(served: Served, queue_name: str) -> bool:
    stats = served.client.stats(queue_name)
    return any((stats.waiting, stats.delayed, stats.running, stats.dead))
