"""Simulate everything that would happen up to a moment, at once: ``gator.run_until``.

A worker runs what is due. Then the clock moves to the next event: the end of a delay, the end of a
lease, or the tick of a schedule. This repeats. The clock stops at each event, so a task sees the
time at which it would have run.
"""

import logging
import math
import re
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Self

from alligator.common.clock import Moment
from alligator.common.log import SafeTracebacks
from alligator.common.text import shorten
from alligator.exceptions import AlligatorException, InvalidTask, UnsupportedOption
from alligator.tasks.validation import timestamp
from alligator.testing.clock import FakeClock
from alligator.workers.fetcher import queue_names
from alligator.workers.worker import Worker

if TYPE_CHECKING:
    from alligator.execution.attempt import Outcome
    from alligator.gator import Gator

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

#: A number below this is so many seconds from now (31 years at most), others are timestamps.
FIRST_TIMESTAMP = 1e9

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SPAN = re.compile(r"\+?(?:[0-9]{1,12}(?:\.[0-9]{1,6})?[smhdw])+")
_PART = re.compile(r"([0-9.]+)([smhdw])")

#: How often in a row a client may hand out nothing though a task is due.
_TRIES = 100


def play(gator: "Gator", when: Moment, to_consume: str | Sequence[str] | None = None) -> int:
    """Move the clock to a moment, and run what is due on the way; see
    :meth:`alligator.Gator.run_until`.

    :raises UnsupportedOption: the clock of the Gator, or of its backend, cannot be moved.
    :raises InvalidTask: ``when`` is no moment, or lies in the past.
    """
    clock = gator.clock
    if not isinstance(clock, FakeClock):
        raise UnsupportedOption(
            "run_until moves the clock, and this Gator has the machine's; give it one of its own: "
            "Gator('locmem://', clock=FakeClock())."
        )
    until = moment(when, clock.time())
    with _Player(gator, to_consume=to_consume) as player:
        _play(player, clock, until)
    return player.ran


def _play(player: "_Player", clock: FakeClock, until: float) -> None:
    tries = 0
    while True:
        player.run_due()
        upcoming = min(player.next_change(), next_tick(player.gator))
        tries = tries + 1 if upcoming <= clock.time() else 0
        if tries > _TRIES:
            raise AlligatorException(
                "Something is due, and cannot be run; the log of "
                "alligator.testing.run_until tells why."
            )
        if upcoming > max(until, clock.time()):
            clock.advance_to(until)
            return
        clock.advance_to(upcoming)


def next_tick(gator: "Gator") -> float:
    """Return the timestamp of the next tick of a Gator's schedules; infinity: it has none."""
    return gator.schedules.next_tick()


def moment(when: Moment, now: float) -> float:
    """Return the timestamp that ``when`` means at the time ``now``.

    :raises InvalidTask: it means none, or lies in the past.
    """
    if isinstance(when, str):
        found = now + _span(when)
    elif isinstance(when, timedelta):
        found = now + when.total_seconds()
    elif isinstance(when, date):
        found = timestamp(when)
    else:
        number = isinstance(when, int | float) and not isinstance(when, bool)
        if not number or not math.isfinite(when):
            raise _no_moment(when)
        found = float(when) + (now if when < FIRST_TIMESTAMP else 0)
    if found < now:
        raise InvalidTask(
            f"run_until({shorten(repr(when), 60)}) lies in the past: the clock shows {now}."
        )
    return found


def _span(text: str) -> float:
    if not _SPAN.fullmatch(text.replace(" ", "")):
        raise _no_moment(text)
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def _no_moment(when: Any) -> InvalidTask:
    return InvalidTask(
        f"run_until({shorten(repr(when), 60)}) is no moment; give '+1d', '+1h30m' (s, m, h, d, w), "
        "a timedelta, a number of seconds, a datetime or a timestamp."
    )


class _Player(Worker):
    """A worker that runs what is due, one task at a time, and counts the tasks."""

    def __init__(self, gator: "Gator", **options: Any) -> None:
        super().__init__(gator, **options)
        self.ran = 0
        self._last: Outcome | None = None
        self._held = super()._leases()

    def __enter__(self) -> Self:
        self._held.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._held.__exit__(*exc)

    def _leases(self, process: object = None) -> Any:
        return nullcontext(
            self._held
        )  # one for all tasks: a thread for each takes longer than the task

    def get_log(self, log_level: int | str = logging.INFO) -> logging.Logger:
        return log  # not standard output: pytest shows logs when a test fails

    def _count(self, outcome: "Outcome") -> None:
        super()._count(outcome)
        self.ran += 1
        self._last = outcome

    def run_due(self) -> None:
        """Run what is due, until nothing is."""
        before = -1
        while before < self.ran:
            before, self._last = self.ran, None
            self.check_and_run_task()
            if self._last is not None and isinstance(self._last.error, KeyboardInterrupt):
                raise self._last.error  # probably raised at the keyboard

    def next_change(self) -> float:
        """Return when a task of its queues becomes due by itself."""
        return self.gator.client.next_change(queue_names(self))
