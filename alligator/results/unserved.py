"""Queues that nobody serves, though tasks gather on them.

A schedule may fire onto such a queue, and ``--queue`` may be misspelt. Who is alive is known from
the signs of life in the store: without one, nothing is said here.
"""

import logging
from collections.abc import Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING

from alligator.common.text import shorten
from alligator.producer.bridge import HELD

if TYPE_CHECKING:
    from alligator.gator import Gator

#: Looks, one at each sign of life, until it is said: whoever is to serve a queue may just be
#: starting. So two signs have passed between the first and the last.
GRACE = 3

#: Queues of a backend that are looked at, those with names most alike first.
_MOST = 100

#: How alike two names are of which one may be the other, misspelt; from 0 to 1.
_ALIKE = 0.8


class Unserved:
    """What one worker says about it, each once.

    :param queue_names: those that it serves.
    """

    def __init__(self, gator: "Gator", queue_names: Sequence[str], log: logging.Logger) -> None:
        self.gator, self.queue_names, self.log = gator, list(queue_names), log
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
        for name in sorted({each.queue_name for each in self.gator.schedules}):
            if name in self.queue_names or live_workers(self.gator, name):
                self._alone[name] = 0
                continue
            self._alone[name] = self._alone.get(name, 0) + 1
            if self._alone[name] == GRACE:
                for line in of_schedules(self.gator, [name]):
                    self.log.warning("%s", line)

    def _look_at_names(self) -> None:
        for name in list(self._suspects):
            line = misspelt(self.gator, name, sure=self._looks < GRACE)
            if line:
                self._suspects.remove(name)
                self.log.warning("%s", line)


def live_workers(gator: "Gator", queue_name: str) -> int | None:
    """Return how many workers of a queue are alive; None: there is no store to know it."""
    return None if gator.store is None else len(gator.store.workers(queue_name))


def remarks(gator: "Gator", queue_names: Sequence[str]) -> list[str]:
    """Return a line for each of these queues that nobody serves, and for each such schedule."""
    lines = [
        misspelt(gator, name) or f"Queue {name!r} has {nobody(gator, name)}."
        for name in queue_names
        if live_workers(gator, name) == 0
    ]
    return lines + of_schedules(gator, sorted({each.queue_name for each in gator.schedules}))


def of_schedules(gator: "Gator", queue_names: Sequence[str]) -> list[str]:
    """Return a line for each schedule that fires onto one of these queues, if nobody serves it."""
    return [
        f"Schedule {shorten(each.name)} fires onto queue {name!r}, which has {nobody(gator, name)}."
        for name in queue_names
        if live_workers(gator, name) == 0
        for each in gator.schedules
        if each.queue_name == name
    ]


def nobody(gator: "Gator", queue_name: str) -> str:
    """Return in words that no worker of a queue lives, and since when."""
    seen = gator.store.last_seen(queue_name) if gator.store is not None else None
    if seen is None:
        return "no live worker, and had none in the last day"
    return f"no live worker since {datetime.fromtimestamp(seen).isoformat(' ', 'minutes')}"


def misspelt(gator: "Gator", queue_name: str, *, sure: bool = True) -> str | None:
    """Return a line if a queue was never used, while tasks wait that nobody serves; None: no.

    :param sure: only if one of those has a name much like it.
    """
    if gator.store is None or _holds_something(gator, queue_name):
        return None
    used = gator.client.queue_names()
    if not used or queue_name in used:
        return None
    alone = []
    used = [each for each in used if each != HELD]  # which is to be served by nobody
    for each in get_close_matches(queue_name, used, _MOST, _ALIKE if sure else 0.0):
        waiting = gator.client.stats(each).waiting
        if waiting and live_workers(gator, each) == 0:
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


def _holds_something(gator: "Gator", queue_name: str) -> bool:
    stats = gator.client.stats(queue_name)
    return any((stats.waiting, stats.delayed, stats.running, stats.dead))
