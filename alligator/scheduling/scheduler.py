"""``gator.every`` and ``gator.cron``: tasks that any worker queues when their time has come.

Schedules are declared in code, beside their Gator, and fired by each of its workers whenever
it is about to reserve.

A schedule *is* its function, arguments, times and queue, hashed into its name: with one of
these changed it is another one, and begins anew. Declared twice on one Gator, it is one.
"""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timezone, tzinfo
from heapq import merge
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, Any, ParamSpec, overload

from alligator.common import strict_json
from alligator.common.after_fork import renew_in_children
from alligator.common.clock import Seconds
from alligator.common.text import describe_error, shorten
from alligator.exceptions import BadPayload, InvalidTask
from alligator.producer.options import Options
from alligator.scheduling.rules import Cron, Every, Rule, ticks_after, time_zone
from alligator.scheduling.ticking import AHEAD, Schedule, Ticker
from alligator.tasks.functions import check_callable, explain_json, split_name, wire_name

if TYPE_CHECKING:
    from alligator.gator import Gator

P = ParamSpec("P")

log = logging.getLogger(__name__)

#: Seconds between two tries where the store, or a queue, cannot be reached.
_PAUSE = 2.0

#: Options of a task that make no sense for one that is made by a tick, and what does.
_NOT_FOR_TICKS = {
    "task_id": "each tick has an id made of its time",
    "delay_until": "use delay_by=seconds, which count from the tick",
    "depends_on": "let the scheduled function push what depends on it",
}


class Schedules:
    """All schedules of one Gator; safe to use from threads."""

    def __init__(self, gator: "Gator") -> None:
        self._gator = gator
        self._ticker = Ticker(gator)
        self._all: dict[str, Schedule] = {}
        self._next = math.inf  # when the first of them is due
        self._looked = -math.inf  # when that was reckoned
        self._since: float | None = None  # when a worker of this process began to look
        self._lock = Lock()
        renew_in_children(self)

    def renew(self) -> None:
        """In the child of a fork: have a lock that no thread of the parent holds."""
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
        catch_up: bool = False,
        overlap: bool = True,
    ) -> Schedule:
        """Declare a schedule; connects to nothing.

        :raises UnsupportedOption: there is no store; or with ``overlap=False`` no way to look
            up a run.
        :raises InvalidTask, NotAllowed: see :meth:`alligator.Gator.task`; or it is declared
            already, with other options.
        """
        options = {name: value for name, value in task_options.items() if name != "is_async"}
        for name, instead in _NOT_FOR_TICKS.items():
            if name in options:
                raise InvalidTask(f"{name}= is not for a schedule: {instead}.")
        # That of now: a worker may be told to use another one.
        queue_name = options.get("queue_name") or self._gator.queue_name
        if not isinstance(func, str):
            check_callable(func, self._gator.client.in_process)
        args, kwargs = _through_json(func, args, kwargs)
        name = _name(func, rule, args, kwargs)
        schedule = Schedule(
            name, rule, queue_name, func, args, kwargs, options, catch_up=catch_up, overlap=overlap
        )
        self._ticker.check(schedule)
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

    def fire(self, log: logging.Logger = log) -> None:
        """Queue what is due; a worker calls it before it reserves.

        What fails is logged when that begins and when it ends, and tried again meanwhile; no
        ``Exception`` is raised.
        """
        if not self._all or self._looked - AHEAD <= self._gator.clock.time() < self._next:
            return
        with self._lock:
            now = self._gator.clock.time()
            set_back = now < self._looked - AHEAD
            self._since = now if self._since is None or set_back else self._since
            for schedule in self._all.values():
                if schedule.due <= now or set_back:
                    self._try(schedule, now, self._since, log)
            self._next = min(each.due for each in self._all.values())
            self._looked = now

    def _try(self, schedule: Schedule, now: float, since: float, log: logging.Logger) -> None:
        try:
            self._ticker.fire(schedule, now, since, log)
        except Exception as err:
            # Whatever it is: the worker has other work, and there are other schedules.
            schedule.due = now + _PAUSE
            if not schedule.failing:
                why = describe_error(err)
                log.warning("Schedule %s cannot be queued (%s); trying on.", schedule.name, why)
            schedule.failing = True
        else:
            if schedule.failing:
                log.info("Schedule %s is queued again.", schedule.name)
            schedule.failing = False

    # -- Looking ahead. -----------------------------------------------------------------------

    def next_tick(self) -> float:
        """Return when the next schedule is due, a Unix timestamp; infinity: there is none."""
        now = self._gator.clock.time()
        return min((each.coming_up(now) for each in self), default=math.inf)

    def seconds_left(self) -> float:
        """Return how long a worker may wait for other work; infinity: there is no schedule."""
        if not self._all:
            return math.inf
        left = self._next - self._gator.clock.time()
        return left if left > 0 else 0.05  # what is due now: another thread is at it

    def coming(self, limit: int, queue_names: Sequence[str] = ()) -> list[tuple[float, Schedule]]:
        """Return the next ticks of all schedules, soonest first: at least one of each.

        :param limit: how many in all, but for that.
        :param queue_names: those on these queues only; empty: all.
        """
        now = self._gator.clock.time()
        wanted = [each for each in self if not queue_names or each.queue_name in queue_names]
        lines = [_line(each, now) for each in wanted]
        first = [next(line) for line in lines]
        others = islice(merge(*lines, key=_when), max(0, limit - len(first)))
        return sorted([*first, *others], key=_when)


class Scheduling:
    """What a Gator has of all this."""

    schedules: Schedules

    @overload
    def every(
        self, seconds: Seconds, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Schedule: ...

    @overload
    def every(self, seconds: Seconds, func: str, /, *args: Any, **kwargs: Any) -> Schedule: ...

    def every(
        self, seconds: Seconds, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> Schedule:
        """Have the workers of this Gator queue a task every so many seconds.

        ::

            gator.every(25, check_mail)

        It is due at the multiples of ``seconds`` since 1970, UTC. Workers have to come by the
        Gator through this code: ``latergator.py --app myapp.queues:gator``.

        :param seconds: a number, or a timedelta.
        :raises InvalidTask, NotAllowed: no such interval, or see :meth:`alligator.Gator.task`.
        :raises UnsupportedOption: there is no store, which schedules need.
        """
        return self.options().every(seconds, func, *args, **kwargs)

    @overload
    def cron(
        self, expression: str, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Schedule: ...

    @overload
    def cron(self, expression: str, func: str, /, *args: Any, **kwargs: Any) -> Schedule: ...

    def cron(
        self, expression: str, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> Schedule:
        """Have the workers of this Gator queue a task when the clock shows this; UTC.

        ::

            gator.cron('0 5 * * tue', send_report)

        For another time zone: ``gator.options(tz='Europe/Berlin').cron(…)``.

        :param expression: minute, hour, day of month, month, day of week.
        :raises InvalidTask, NotAllowed: it cannot be read, or never comes; or see
            :meth:`alligator.Gator.task`.
        :raises UnsupportedOption: there is no store, which schedules need.
        :raises MissingDriver: cronsim is not installed.
        """
        return self.options().cron(expression, func, *args, **kwargs)

    def options(self, **options: Any) -> Options:
        """See :meth:`alligator.Gator.options`."""
        raise NotImplementedError


def _when(found: tuple[float, Schedule]) -> float:
    return found[0]


def _line(schedule: Schedule, now: float) -> Iterator[tuple[float, Schedule]]:
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
    """Return what a schedule is called, in every process alike."""
    what = json.dumps([*describe_rule(rule), args, kwargs], sort_keys=True)
    return f"{function_name(func)}-{hashlib.sha256(what.encode()).hexdigest()[:8]}"


def function_name(func: Callable[..., Any] | str) -> str:
    """Return the module and name of a function, or of one that was given by its name.

    :raises InvalidTask: it cannot be a task.
    """
    return ".".join(split_name(func) if isinstance(func, str) else wire_name(func))


def describe(tick: float, schedule: Schedule) -> tuple[str, str, str, str]:
    """Return a tick as text: when (as its time zone's clocks show), queue, what, and the rule."""
    rule, zone = describe_rule(schedule.rule)
    clock = time_zone(schedule.rule.tz if isinstance(schedule.rule, Cron) else None)
    given = [repr(each) for each in schedule.args]
    given += [f"{name}={each!r}" for name, each in schedule.kwargs.items()]
    call = f"{function_name(schedule.func)}({shorten(', '.join(given), 60)})"
    when = datetime.fromtimestamp(tick, clock).isoformat(" ")
    return when, schedule.queue_name, call, f"{rule} ({zone})" if zone else rule


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
