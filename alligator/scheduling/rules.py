"""Compute when a schedule ticks: arithmetic on time, without a queue or a clock.

A rule (:class:`Every` or :class:`Cron`) is a set of moments, the same in every process. So each
worker knows by itself which tick is next and what its id is. Moments are Unix timestamps in
seconds.

``cronsim`` (the extra ``cron``) reads cron expressions. It is asked without a time zone: its own
answers leave ticks out if clocks change by half an hour. This module computes what the clocks show,
as Debian's cron does:

* An expression that names its minutes and hours (``30 2 * * *``) ticks once a day. If the clocks
  skip that time, it ticks at the moment they skip to. If they show it twice, the first counts.
* An expression whose minute or hour begins with a star (``0 * * * *``, ``*/5 2 * * *``) follows
  the clocks: it ticks in every hour that they show, in none that they skip, and twice in an hour
  that they show twice.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Protocol

from alligator.common.text import shorten
from alligator.exceptions import InvalidTask, MissingDriver

#: Seconds between two ticks, at least and at most (a hundred years).
SHORTEST = 0.001
LONGEST = 36_525 * 86_400.0

#: A tick that a worker sees this many seconds after its time, or sooner, is not missed.
LATE = 10.0

#: How many missed ticks are queued at a time.
LIMIT = 1000

_LONGEST_NAME = 150  # of a schedule, in the id of its ticks
_SECOND = timedelta(seconds=1)
_EPOCH = datetime(1970, 1, 1)  # as a calendar shows it
#: Two changes of the clocks within so many seconds, there and back, are not seen.
_DAY = 86_400


class Rule(Protocol):
    """The times of a schedule."""

    def next_after(self, moment: float) -> float:
        """Return the first tick later than ``moment``."""

    def previous_or_at(self, moment: float) -> float:
        """Return the last tick not later than ``moment``."""


@dataclass(frozen=True, slots=True)
class Every:
    """Tick at the multiples of so many seconds since 1970: ``Every(86400)`` at midnight, UTC.

    :raises InvalidTask: not a number of seconds from 0.001 to a hundred years.
    """

    seconds: float

    def __post_init__(self) -> None:
        given = self.seconds
        number = isinstance(given, int | float) and not isinstance(given, bool)
        if not number or not SHORTEST <= given <= LONGEST:
            raise InvalidTask(
                f"every({shorten(repr(given), 60)}) is no interval; give a number of "
                f"seconds, or a timedelta, from {SHORTEST} to {LONGEST:.0f} s (a hundred years)."
            )

    def next_after(self, moment: float) -> float:
        return (self._count(moment) + 1) * self.seconds

    def previous_or_at(self, moment: float) -> float:
        return self._count(moment) * self.seconds

    def _count(self, moment: float) -> int:
        # Division rounds, so the quotient may be off by one.
        count = math.floor(moment / self.seconds)
        if count * self.seconds > moment:
            return count - 1
        return count + 1 if (count + 1) * self.seconds <= moment else count


@dataclass(frozen=True, slots=True)
class Cron:
    """Tick at the full minutes that a cron expression of five fields names.

    :param expression: minute, hour, day of month, month, day of week; names such as ``tue`` and
        ``jan``, lists, ranges and steps; ``L`` for the last day of a month, ``5L`` for its last
        Friday, ``mon#2`` for its second Monday. If neither of the two fields of a day begins
        with a star, one match is enough.
    :param tz: the time zone of the expression, such as ``'Europe/Berlin'``; None: UTC, which
        is the same on every machine.
    :raises InvalidTask: the expression cannot be read, or never matches; or there is no such time
        zone.
    :raises MissingDriver: the package that reads it is not installed.
    """

    expression: str
    tz: str | tzinfo | None = None
    _zone: tzinfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_zone", time_zone(self.tz))
        expression = self.expression
        if not isinstance(expression, str) or len(expression.split()) != 5:
            raise _unreadable(expression, "it does not have five fields, as '0 5 * * tue' does")
        cronsim = _cronsim()
        try:
            self.next_after(0.0)
        except cronsim.CronSimError as err:
            hint = ", or there is no such day" if "day-of-month" in str(err) else ""
            raise _unreadable(expression, f"{err}{hint}") from err
        except StopIteration:
            raise _unreadable(expression, "it never comes") from None

    def next_after(self, moment: float) -> float:
        start = math.floor(moment)  # ticks are whole seconds
        return self._next_named(start) if self._names_times else self._next_shown(start)

    @property
    def _names_times(self) -> bool:
        minute, hour, *_ = self.expression.split()
        return not (minute.startswith("*") or hour.startswith("*"))

    def _next_named(self, start: int) -> float:
        """Return when the clocks first show a time that is named, or skip it."""
        matches = _matches(self.expression, self._clock(start))
        while True:
            shown = next(matches)
            first = shown.replace(tzinfo=self._zone)
            found = math.floor(first.timestamp())
            if self._clock(found) != shown:  # the clocks skip it, from `early` on
                early = math.floor(first.replace(fold=1).timestamp())
                found = self._change(early, found) or found
            # From inside an hour shown twice, the first of the two is found again; it is over.
            if found > start:
                return float(found)

    def _next_shown(self, start: int) -> float:
        """Return when the clocks next show a time that matches."""
        after, offset = self._clock(start), self._offset(start)
        while True:
            shown = next(_matches(self.expression, after))
            found = round((shown - _EPOCH - offset) / _SECOND)
            # This holds if the clocks do not change. If they do within a day, go on from there:
            # what they show twice later was no match the first time, unless `shown` is near.
            change = self._change(start, min(found, start + _DAY))
            if change is not None:
                start, offset = change, self._offset(change)
                after = self._clock(start) - _SECOND
            elif found <= start + _DAY:
                return float(found)
            else:
                start = max(start + _DAY, found - 2 * _DAY)
                after, offset = self._clock(start), self._offset(start)

    def _clock(self, moment: int) -> datetime:
        """Return what the clocks show."""
        return datetime.fromtimestamp(moment, self._zone).replace(tzinfo=None, fold=0)

    def _offset(self, moment: int) -> timedelta:
        return datetime.fromtimestamp(moment, self._zone).utcoffset() or timedelta(0)

    def _change(self, early: int, late: int) -> int | None:
        """Return the moment after ``early``, and not after ``late``, when the clocks change."""
        before = self._offset(early)
        if self._offset(late) == before:
            return None
        while late - early > 1:
            middle = (early + late) // 2
            early, late = (middle, late) if self._offset(middle) == before else (early, middle)
        return late

    def previous_or_at(self, moment: float) -> float:
        # By next_after alone, so that both always agree on the ticks.
        window = 3600.0
        while (found := self.next_after(moment - window)) > moment:
            window *= 4
        early, late = found, moment
        while late - early >= 1:  # ticks are whole seconds
            middle = (early + late) / 2
            following = self.next_after(middle)
            early, late = (following, late) if following <= moment else (early, middle)
        return early


def time_zone(tz: Any) -> tzinfo:
    """Return the time zone of that name; None: UTC.

    :raises InvalidTask: this machine knows none of that name.
    """
    if tz is None:
        return UTC
    if isinstance(tz, tzinfo):
        return tz
    from zoneinfo import ZoneInfo  # few need it, and it takes a while

    try:
        if not isinstance(tz, str):  # Python's own check lets a tuple pass
            raise TypeError(f"a {type(tz).__name__}")  # noqa: TRY301 - as ZoneInfo does
        return ZoneInfo(tz)
    # A name may also be that of a folder, or no path at all.
    except (KeyError, ValueError, TypeError, AttributeError, OSError) as err:
        raise InvalidTask(
            f"tz={shorten(repr(tz), 60)} is no time zone that this machine knows; names are as "
            "'Europe/Berlin', and pip install 'alligator[cron]' brings them all."
        ) from err


def tick_id(name: str, moment: float) -> str:
    """Return the id of a tick of a schedule, the same in every process.

    ::

        >>> tick_id('myapp.reports.weekly', 1795496400)
        'myapp.reports.weekly@2026-11-24T05:00:00Z'

    It is valid as a task's id: a name that is too long for that, or cannot be printed, is cut and
    made unique by a hash.
    """
    if len(name) > _LONGEST_NAME or not name.isprintable():
        digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]
        name = f"{shorten(name, _LONGEST_NAME - 17)}~{digest}"
    when = datetime.fromtimestamp(moment, UTC).isoformat().removesuffix("+00:00")
    return f"{name}@{when}Z"


def ticks_after(rule: Rule, moment: float) -> Iterator[float]:
    """Yield the ticks later than ``moment``, for ever."""
    while True:
        moment = rule.next_after(moment)
        yield moment


def due_ticks(
    rule: Rule,
    last: float,
    now: float,
    *,
    catch_up: bool = False,
    since: float = math.inf,
    late: float = LATE,
    limit: int = LIMIT,
) -> list[float]:
    """Return the ticks to queue now, oldest first.

    With ``catch_up``: all since the last one, ``limit`` at a time. Without: the newest, if it is at
    most ``late`` seconds old, or came while this worker was running but busy. Older ticks were
    missed, and are skipped.

    :param last: the last tick that was queued; or when the schedule was first seen.
    :param since: when this worker began to look; by default, just now.
    """
    newest = rule.previous_or_at(now)
    if newest <= last:
        return []
    if not catch_up:
        return [newest] if newest >= min(since, now - late) else []
    found: list[float] = []
    for tick in ticks_after(rule, last):
        if tick > now or len(found) >= limit:
            break
        found.append(tick)
    return found


# -- The options of a schedule. ---------------------------------------------------------------


def _flag(name: str) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise InvalidTask(f"{name}={shorten(repr(value), 60)} is neither True nor False.")
        return value

    return check


def _zone(value: Any) -> Any:
    time_zone(value)
    return value


#: Options of a schedule, each with what checks its value.
SCHEDULE_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "tz": _zone,
    "catch_up": _flag("catch_up"),
    "overlap": _flag("overlap"),
}


def check_schedule_options(given: dict[str, Any]) -> dict[str, Any]:
    """Take the options of a schedule out of ``given``, and return them, checked.

    :raises InvalidTask: a value that an option cannot have.
    """
    found = {name: given.pop(name) for name in SCHEDULE_CHECKS if name in given}
    return {name: SCHEDULE_CHECKS[name](each) for name, each in found.items() if each is not None}


# -- What cronsim is asked. -------------------------------------------------------------------


def _matches(expression: str, after: datetime) -> Iterator[datetime]:
    """Yield the times after another that match; neither has a time zone."""
    ticks: Iterator[datetime] = _cronsim().CronSim(expression, after)
    return ticks


def _cronsim() -> Any:
    try:
        import cronsim
    except ModuleNotFoundError as err:
        raise MissingDriver(
            "Package 'cronsim' is not installed; pip install 'alligator[cron]' brings it."
        ) from err
    return cronsim


def _unreadable(expression: Any, why: str) -> InvalidTask:
    return InvalidTask(f"Cron expression {shorten(repr(expression), 100)}: {why}.")
