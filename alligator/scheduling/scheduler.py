"""Queue the tasks of schedules when they are due, in any worker.

Schedules are declared in code, beside their Gator. Each of its workers fires them before it
reserves. All workers compute the same ticks (:mod:`alligator.scheduling.rules`) under the same
ids, and ``Store.push_once`` lets one worker queue each tick. So there is no leader to lose.

A schedule *is* its function, arguments, times and queue, hashed into its name. If one of these
changes, it is another schedule, with no past. Declared twice on one Gator, it is one.

The store keeps a record of each schedule (``schedule:<queue>/<name>``). It tells a worker that has
just started what was missed: ``pushed`` is the last tick that was handled, ``attempt`` is 1 if that
tick was queued and 0 if it was skipped, ``result`` is the last tick that was queued.
"""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, timezone, tzinfo
from heapq import merge
from itertools import islice
from threading import Lock
from typing import Any, NamedTuple

from alligator.backends.base import GET, OWN_ID, Client, Message
from alligator.backends.dsn import mask_password
from alligator.backends.store import UNCONFIRMED, Record, Store
from alligator.common import strict_json
from alligator.common.after_fork import renew_in_children
from alligator.common.clock import Clock
from alligator.common.text import describe_error, shorten
from alligator.constants import FAILED, SUCCESS
from alligator.exceptions import BadPayload, InvalidTask, LeaveNow, UnsupportedOption
from alligator.runtime.timeouts import TimeIsUp
from alligator.scheduling.rules import LIMIT, Cron, Every, Rule, due_ticks, tick_id, ticks_after
from alligator.tasks.functions import check_callable, explain_json, split_name, wire_name

log = logging.getLogger(__name__)

#: A last tick that lies further in the future than so many seconds came from a wrong clock.
AHEAD = 60.0

#: Seconds between two tries while the store, or a queue, cannot be reached.
_PAUSE = 2.0

#: The store knows of so many ticks whether they were queued; in seconds, at least and at most.
_TICKS_KNOWN, _LEAST_KNOWN, _LONGEST_KNOWN = 3600, 600.0, 7 * 86_400.0

#: Seconds that the record of the last tick is kept, at least.
_KEEP = 400 * 86_400.0

#: Options that make no sense for a task made by a tick, and what to do instead.
_NOT_FOR_TICKS = {
    "task_id": "each tick has an id made of its time",
    "delay_until": "use delay_by=seconds, which count from the tick",
    "debounce": "each tick is pushed once; use unique= to skip it while another one is pending",
    "depends_on": "let the scheduled function push what depends on it",
}


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
    last: float | None = None  # ticks up to here are handled; None: not looked up yet
    unsure: list[tuple[float, float]] = field(default_factory=list)  # (when to look, tick)
    failing: bool = False

    def __repr__(self) -> str:
        return f"<Schedule {shorten(self.name)} on {self.queue_name!r}>"

    @property
    def key(self) -> str:
        """The key of its record in the store."""
        return f"schedule:{self.queue_name}/{self.name}"

    def is_as(self, other: "Schedule") -> bool:
        """Whether another schedule of this name has the same options, too."""
        options = (self.task_options, self.catch_up, self.overlap)
        return options == (other.task_options, other.catch_up, other.overlap)

    def next_look(self, now: float) -> float:
        """Return when it has to be looked at next, a Unix timestamp."""
        return self.rule.next_after(now) if self.due == -math.inf else self.due


class LastTick(NamedTuple):
    """What workers have noted of a schedule."""

    handled: float  # up to here they looked
    queued: float | None  # the last tick that was queued; None: none yet
    skipped: float | None  # the last tick, if it was skipped since the run before went on


#: See :class:`Ticker`.
PushTick = Callable[[Schedule, str, Callable[[Message], bool]], bool]


class Schedules:
    """All schedules of one Gator; safe to use from threads.

    :param store: where it is noted which ticks were queued; None: nowhere, so none can be declared.
    :param push_tick: see :class:`Ticker`.
    :param check_task: refuses a schedule whose task, with that id, cannot be pushed.
    """

    def __init__(
        self,
        client: Client,
        store: Store | None,
        clock: Clock,
        push_tick: PushTick,
        check_task: Callable[[Schedule, str], None],
    ) -> None:
        self._client, self._clock, self._check_task = client, clock, check_task
        self._ticker = None if store is None else Ticker(client, store, push_tick)
        self._all: dict[str, Schedule] = {}
        self._next = math.inf  # when the first of them is due
        self._looked = -math.inf  # when that was computed
        self._since: float | None = None  # when a worker of this process began to look
        self._lock = Lock()
        renew_in_children(self)

    def renew(self) -> None:
        """Make a new lock in the child of a fork; a thread of the parent may hold the old one."""
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Schedule]:
        return iter(list(self._all.values()))

    def add(
        self,
        rule: Rule,
        func: Callable[..., Any] | str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        task_options: Mapping[str, Any],
        *,
        queue_name: str,
        catch_up: bool = False,
        overlap: bool = True,
    ) -> Schedule:
        """Declare a schedule; connects to nothing.

        :param queue_name: where its tasks go, unless ``task_options`` names a queue.
        :raises UnsupportedOption: there is no store; or ``overlap=False``, and the backend cannot
            look up a run.
        :raises InvalidTask, NotAllowed: see :meth:`alligator.Gator.task`; or it is declared
            already, with other options.
        """
        options = {name: value for name, value in task_options.items() if name != "is_async"}
        for name, instead in _NOT_FOR_TICKS.items():
            if name in options:
                raise InvalidTask(f"{name}= is not for a schedule: {instead}.")
        queue_name = options.get("queue_name") or queue_name
        if not isinstance(func, str):
            check_callable(func, self._client.in_process)
        args, kwargs = _through_json(func, args, kwargs)
        name = _name(func, rule, args, kwargs)
        schedule = Schedule(
            name, rule, queue_name, func, args, kwargs, options, catch_up=catch_up, overlap=overlap
        )
        self._check(schedule)
        with self._lock:
            known = self._all.get(schedule.key)
            if known is not None and not schedule.is_as(known):
                raise InvalidTask(
                    f"{name} is scheduled already, with other options; a function with the same "
                    "arguments, times and queue is one schedule. Declare it once."
                )
            self._all = {**self._all, schedule.key: schedule}
            self._next = -math.inf
        return schedule

    def _check(self, schedule: Schedule) -> None:
        dsn = mask_password(self._client.conn_string)
        if self._ticker is None:
            raise UnsupportedOption(
                f"{dsn} has no place to note which ticks were queued; name one: "
                "Gator(…, store='redis://localhost:6379/0')."
            )
        if not schedule.overlap and not {GET, OWN_ID} <= self._client.supports:
            raise UnsupportedOption(
                f"{dsn} cannot tell whether the last run still goes on; leave overlap=False out, "
                "or use a redis:// or sqlite:// queue."
            )
        self._check_task(schedule, tick_id(schedule.name, 0.0))

    def fire(self, log: logging.Logger = log) -> None:
        """Queue what is due; a worker calls it before it reserves.

        A failure is logged when it begins and when it ends, and tried again meanwhile. No
        ``Exception`` is raised.
        """
        if not self._all or self._looked - AHEAD <= self._clock.time() < self._next:
            return
        with self._lock:
            now = self._clock.time()
            set_back = now < self._looked - AHEAD
            self._since = now if self._since is None or set_back else self._since
            for schedule in self._all.values():
                if schedule.due <= now or set_back:
                    self._try(schedule, now, self._since, log)
            self._next = min(each.due for each in self._all.values())
            self._looked = now

    def _try(self, schedule: Schedule, now: float, since: float, log: logging.Logger) -> None:
        assert self._ticker is not None  # else nothing was declared
        try:
            self._ticker.fire(schedule, now, since, log)
        except Exception as err:
            # Whatever it is: the worker has other work, and there are other schedules.
            schedule.due = now + _PAUSE
            if not schedule.failing:
                why = describe_error(err)
                log.warning("Schedule %s cannot be queued (%s); retrying.", schedule.name, why)
            schedule.failing = True
        else:
            if schedule.failing:
                log.info("Schedule %s is queued again.", schedule.name)
            schedule.failing = False

    # -- Looking ahead. -----------------------------------------------------------------------

    def next_tick(self) -> float:
        """Return when the next schedule is due, a Unix timestamp; infinity: there is none."""
        now = self._clock.time()
        return min((each.next_look(now) for each in self), default=math.inf)

    def seconds_left(self) -> float:
        """Return how long a worker may wait for other work; infinity: there is no schedule."""
        if not self._all:
            return math.inf
        left = self._next - self._clock.time()
        return left if left > 0 else 0.05  # another thread queues what is due now

    def coming(self, limit: int, queue_names: Sequence[str] = ()) -> list[tuple[float, Schedule]]:
        """Return the next ticks of all schedules, soonest first: at least one of each.

        :param limit: how many in all, but for that.
        :param queue_names: those on these queues only; empty: all.
        """
        now = self._clock.time()
        wanted = [each for each in self if not queue_names or each.queue_name in queue_names]
        lines = [_upcoming(each, now) for each in wanted]
        first = [next(line) for line in lines]
        others = islice(merge(*lines, key=_when), max(0, limit - len(first)))
        return sorted([*first, *others], key=_when)

    def last_tick(self, schedule: Schedule) -> LastTick | None:
        """Return what workers have noted of a schedule; None: none has looked at it yet.

        :raises ConnectionLost: the store cannot be reached.
        """
        assert self._ticker is not None  # else nothing was declared
        record = self._ticker.store.record(schedule.key)
        if record is None:
            return None
        queued = _noted_run(record)
        at = record.pushed
        is_tick = not record.attempt and at != queued and schedule.rule.previous_or_at(at) == at
        return LastTick(at, queued, at if is_tick and queued is not None else None)


class Ticker:
    """Queues the ticks of schedules.

    :param push_tick: makes a schedule's task with that id, and gives its message to the last
        argument, which queues it unless another worker has; returns what that returns.
    """

    def __init__(self, client: Client, store: Store, push_tick: PushTick) -> None:
        self.client, self.store, self.push_tick = client, store, push_tick

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
        """Return up to when ticks are handled, as far as this process knows."""
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
        """Queue these ticks, unless others have, and note it for workers that start later."""
        for tick in ticks:
            if not self._push(schedule, tick) and self.store is not self.client.store:
                # Another worker claimed it, and may have died before the push; by then that shows.
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
        before = _noted_run(record) if record else None
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
        # Also the tick right before this: its worker may have died between push and note.
        runs = {schedule.rule.previous_or_at(math.nextafter(tick, -math.inf)), before}
        for each in runs:
            if each is None:
                continue
            task_id = tick_id(schedule.name, each)
            place = self.client.find(schedule.queue_name, task_id)
            if place is not None and place.state != FAILED:
                return task_id
        return None

    def _push(self, schedule: Schedule, tick: float) -> bool:
        gap = schedule.rule.next_after(tick) - tick
        known = min(max(_TICKS_KNOWN * gap, _LEAST_KNOWN), _LONGEST_KNOWN)

        raised: list[BaseException] = []  # by the store: no error of the task

        def push(message: Message) -> bool:
            try:
                return self.store.push_once(
                    self.client, message.task_id, known, schedule.queue_name, message
                )
            except BaseException as err:
                raised.append(err)
                raise

        try:
            return self.push_tick(schedule, tick_id(schedule.name, tick), push)
        except (Exception, KeyboardInterrupt, LeaveNow, TimeIsUp):
            raise
        except BaseException as err:
            if err in raised:
                raise
            # Raised by a Task class, or a middleware, of the user: it must end no worker.
            raise InvalidTask(f"It cannot be written: {describe_error(err)}.") from err

    def _note(
        self, schedule: Schedule, tick: float, attempt: int, run: float | None, now: float
    ) -> None:
        keep = max(_KEEP, 3 * (schedule.rule.next_after(now) - now))
        result = None if run is None else json.dumps(run)
        record = Record(SUCCESS, result, at=now, attempt=attempt, pushed=tick)
        self.store.note(schedule.key, record, keep)


def _noted_run(record: Record) -> float | None:
    """Return the last tick that was queued, as the record of a schedule has it."""
    found: float | None = json.loads(record.result) if record.result else None
    return found


def _when(found: tuple[float, Schedule]) -> float:
    return found[0]


def _upcoming(schedule: Schedule, now: float) -> Iterator[tuple[float, Schedule]]:
    for tick in ticks_after(schedule.rule, now):
        yield tick, schedule


def _through_json(
    func: Callable[..., Any] | str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    try:
        # A copy, too: what happens to a list later does not happen to the schedule.
        args, kwargs = strict_json.loads(strict_json.dumps([list(args), dict(kwargs)]))
    except (TypeError, ValueError, RecursionError, BadPayload) as err:
        raise InvalidTask(f"{function_name(func)}: {explain_json(err)}.") from err
    return list(args), dict(kwargs)


def _name(
    func: Callable[..., Any] | str, rule: Rule, args: list[Any], kwargs: dict[str, Any]
) -> str:
    """Return the name of a schedule, the same in every process."""
    what = json.dumps([*describe_rule(rule), args, kwargs], sort_keys=True)
    return f"{function_name(func)}-{hashlib.sha256(what.encode()).hexdigest()[:8]}"


def function_name(func: Callable[..., Any] | str) -> str:
    """Return the module and name of a function, or of one that was given by its name.

    :raises InvalidTask: it cannot be a task.
    """
    return ".".join(split_name(func) if isinstance(func, str) else wire_name(func))


def describe_rule(rule: Rule) -> tuple[str, str]:
    """Return the times of a schedule as they were given, and the time zone ('': none)."""
    if isinstance(rule, Every):
        return f"every {float(rule.seconds)!r}".removesuffix(".0") + " s", ""
    assert isinstance(rule, Cron)
    return " ".join(rule.expression.split()), zone_name(rule.tz)


def zone_name(tz: str | tzinfo | None) -> str:
    """Return the name of a time zone.

    :raises InvalidTask: it has none that would be the same in every process.
    """
    if tz is None or tz is UTC:
        return "UTC"
    found = tz if isinstance(tz, str) else getattr(tz, "key", None)  # that of a ZoneInfo
    if found is None and isinstance(tz, timezone):
        found = str(tz)
    if not isinstance(found, str):
        raise InvalidTask(f"tz={tz!r} has no name; give one as 'Europe/Berlin'.")
    return found
