"""One schedule, and what a worker does about its ticks.

All workers reckon the same ticks (:mod:`alligator.scheduling.rules`) under the same ids, and
``Store.push_once`` lets one of them queue each: nobody leads, so nobody is missed.

The store keeps a record of each schedule (``schedule:<queue>/<name>``), by which a worker that
has just started knows what was missed: ``pushed`` is the last tick that was dealt with,
``attempt`` is 1 where it was queued and 0 where it was let go by, ``result`` is the last tick
that was queued.
"""

import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alligator.backends.base import GET, OWN_ID
from alligator.backends.dsn import mask_password
from alligator.backends.store import UNCONFIRMED, Record, Store
from alligator.common.text import describe_error, shorten
from alligator.constants import FAILED, SUCCESS
from alligator.exceptions import InvalidTask, LeaveNow, UnsupportedOption
from alligator.runtime.timeouts import TimeIsUp
from alligator.scheduling.rules import LIMIT, Rule, due_ticks, tick_id

if TYPE_CHECKING:
    from alligator.gator import Gator
    from alligator.tasks.task import Task

#: A last tick that lies further ahead than so many seconds is that of a clock gone wrong.
AHEAD = 60.0

#: For so many ticks it is known which were queued; in seconds, at least and at most.
_TICKS_KNOWN, _LEAST_KNOWN, _LONGEST_KNOWN = 3600, 600.0, 7 * 86_400.0

#: Seconds that the last tick stays on record, at least.
_KEEP = 400 * 86_400.0


@dataclass(eq=False)
class Schedule:
    """What ``every`` and ``cron`` return: one schedule of a Gator.

    ``name`` is the same in every process, and the ids of its tasks are made of it and the time:
    ``myapp.reports.weekly-5f2c61ab@2026-11-24T05:00:00Z``.
    """

    name: str
    rule: Rule
    queue_name: str
    func: Callable[..., Any] | str
    args: list[Any]
    kwargs: dict[str, Any]
    task_options: dict[str, Any] = field(default_factory=dict)
    catch_up: bool = False
    overlap: bool = True

    # How far this process is with it.
    due: float = -math.inf  # when it has to be looked at
    last: float | None = None  # ticks up to here are dealt with; None: not looked up yet
    unsure: list[tuple[float, float]] = field(default_factory=list)  # (when to look, tick)
    failing: bool = False

    def __repr__(self) -> str:
        return f"<Schedule {shorten(self.name)} on {self.queue_name!r}>"

    @property
    def key(self) -> str:
        """Its record in the store."""
        return f"schedule:{self.queue_name}/{self.name}"

    def is_as(self, other: "Schedule") -> bool:
        """Whether another of this name has the same options, too."""
        options = (self.task_options, self.catch_up, self.overlap)
        return options == (other.task_options, other.catch_up, other.overlap)

    def coming_up(self, now: float) -> float:
        """Return when there is something to do about it next, a Unix timestamp."""
        return self.rule.next_after(now) if self.due == -math.inf else self.due


class Ticker:
    """Queues the ticks of one Gator's schedules.

    :param gator: what makes their tasks, and has their queues and the store.
    """

    def __init__(self, gator: "Gator") -> None:
        self.gator = gator

    @property
    def store(self) -> Store:
        """Where it is noted which ticks were queued.

        :raises UnsupportedOption: there is none.
        """
        store = self.gator.store
        if store is None:
            raise UnsupportedOption(
                f"{mask_password(self.gator.conn_string)} has no place to note which ticks were "
                "queued; name one: Gator(…, store='redis://localhost:6379/0')."
            )
        return store

    def check(self, schedule: Schedule) -> None:
        """Refuse a schedule that could not be kept here; connects to nothing.

        :raises UnsupportedOption, InvalidTask, NotAllowed: see ``Schedules.add``.
        """
        _ = self.store
        client = self.gator.client
        if not schedule.overlap and not {GET, OWN_ID} <= client.supports:
            raise UnsupportedOption(
                f"{mask_password(client.conn_string)} cannot tell whether the last run still goes "
                "on; leave overlap=False out, or use a redis:// or sqlite:// queue."
            )
        self.gator.intake.check_supported(self._task(schedule, 0.0))

    def fire(self, schedule: Schedule, now: float, since: float, log: logging.Logger) -> None:
        """Queue what is due of a schedule, and set when it is ``due`` again.

        :param since: when this process began to look.
        :raises AlligatorException: the store, or the queue, did not take it; call it again.
        """
        rule, last = schedule.rule, self._last(schedule, now)
        self._look_again(schedule, now)
        ticks = due_ticks(rule, last, now, catch_up=schedule.catch_up, since=since)
        more = len(ticks) >= LIMIT
        if ticks and schedule.overlap:
            self._queue(schedule, ticks, now)
        elif ticks:
            more = False  # one is enough: the others would overlap with it
            self._queue_unless_running(schedule, rule.previous_or_at(now), now, log)
        elif (missed := rule.previous_or_at(now)) > last:
            log.info("%s was missed, and is skipped.", tick_id(schedule.name, missed))
        schedule.last = ticks[-1] if more else now
        schedule.due = min([rule.next_after(schedule.last), *(at for at, _ in schedule.unsure)])

    def _last(self, schedule: Schedule, now: float) -> float:
        """Return up to when ticks are dealt with, as far as this process knows."""
        if schedule.last is not None and schedule.last <= now + AHEAD:
            return schedule.last
        record = self.store.record(schedule.key)
        if record is not None and record.pushed > now + AHEAD:
            self.store.forget([schedule.key])  # else nothing would be noted until then
            record = None
        if record is None:
            self._note(schedule, now, 0, None, now)  # from now on it can miss something
        schedule.last = now if record is None else record.pushed
        return schedule.last

    def _queue(self, schedule: Schedule, ticks: Sequence[float], now: float) -> None:
        """Queue these ticks, unless others have, and note it for whoever starts later."""
        for tick in ticks:
            if not self._push(schedule, tick) and self.store is not self.gator.client.store:
                # Claimed by somebody who may have died before the push; by then that shows.
                schedule.unsure.append((now + UNCONFIRMED + 1.0, tick))
        self._note(schedule, ticks[-1], 1, ticks[-1], now)

    def _look_again(self, schedule: Schedule, now: float) -> None:
        while schedule.unsure and schedule.unsure[0][0] <= now:
            self._push(schedule, schedule.unsure[0][1])
            del schedule.unsure[0]

    def _queue_unless_running(
        self, schedule: Schedule, tick: float, now: float, log: logging.Logger
    ) -> None:
        record = self.store.record(schedule.key)
        before = json.loads(record.result) if record and record.result else None
        if before == tick:
            return
        running = self._running(schedule, tick, before)
        if running is None:
            self._queue(schedule, [tick], now)
        else:
            log.info("%s is skipped: %s still goes on.", tick_id(schedule.name, tick), running)
            self._note(schedule, tick, 0, before, now)

    def _running(self, schedule: Schedule, tick: float, before: float | None) -> str | None:
        """Return the id of a run that has not ended; None: all have."""
        # Also the tick right before this: whoever queued it may have died before noting it.
        runs = {schedule.rule.previous_or_at(math.nextafter(tick, -math.inf)), before}
        for each in runs:
            if each is None:
                continue
            task_id = tick_id(schedule.name, each)
            place = self.gator.client.find(schedule.queue_name, task_id)
            if place is not None and place.state != FAILED:
                return task_id
        return None

    def _push(self, schedule: Schedule, tick: float) -> bool:
        gap = schedule.rule.next_after(tick) - tick
        known = min(max(_TICKS_KNOWN * gap, _LEAST_KNOWN), _LONGEST_KNOWN)
        try:
            message = self.gator.intake.message(self._task(schedule, tick), schedule.queue_name)
        except (Exception, KeyboardInterrupt, LeaveNow, TimeIsUp):
            raise
        except BaseException as err:  # of a class of its own kind: it is to end no worker
            raise InvalidTask(f"It cannot be written: {describe_error(err)}.") from err
        return self.store.push_once(
            self.gator.client, message.task_id, known, schedule.queue_name, message
        )

    def _task(self, schedule: Schedule, tick: float) -> "Task":
        task_id = tick_id(schedule.name, tick)
        task = self.gator.mold({**schedule.task_options, "task_id": task_id}).cast()
        self.gator.prepare(task, schedule.func, schedule.args, schedule.kwargs)
        return task

    def _note(
        self, schedule: Schedule, tick: float, attempt: int, run: float | None, now: float
    ) -> None:
        keep = max(_KEEP, 3 * (schedule.rule.next_after(now) - now))
        result = None if run is None else json.dumps(run)
        record = Record(SUCCESS, result, at=now, attempt=attempt, pushed=tick)
        self.store.note(schedule.key, record, keep)
