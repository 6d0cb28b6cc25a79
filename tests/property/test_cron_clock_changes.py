"""Compare cron with brute force, minute by minute, around clock changes of all time zones.

By default one change of each sort is looked at, of the years around now. With CLOCK_CHANGES=all it
is every change in every zone from 1970 to 2037 (of zones whose clocks change at the same moment by
the same offsets, one), which takes a while::

    CLOCK_CHANGES=all python -m pytest -q -s tests/property/test_cron_clock_changes.py --timeout 0
"""

import os
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alligator.scheduling.rules import Cron, ticks_after

pytest.importorskip("cronsim")

ALL = os.environ.get("CLOCK_CHANGES") == "all"
YEARS = (1970, 2038) if ALL else (2025, 2027)
MINUTE, HOUR, DAY = 60, 3600, 86_400

EXPRESSIONS = [
    # By what the clocks show.
    "* 2 * * *",
    "0 * * * *",
    "0 */2 * * *",
    "30 */3 * * *",
    "*/7 1-3 * * *",
    "*/30 0,23 * * sun",
    "*/20 * * * *",
    # By the times that are named.
    "0 2 * * *",
    "30 2 * * *",
    "0 0 * * *",
    "59 23 * * *",
    "15 1,2,3 * * *",
    "0,15,45 0-4 * * *",
    "5 0-23/2 * * *",
    "30 0-3 * * sun",
    "0-59/10 1-2 1-31 * *",
]

_FIELDS = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)]


# -- The same, reckoned in the most simple way. ---------------------------------------------------


@cache
def numbers(expression):
    """Return what each field of an expression allows."""
    fields = []
    for text, (low, high) in zip(expression.split(), _FIELDS, strict=True):
        allowed = set()
        for part in text.replace("sun", "0").split(","):
            span, _, step = part.partition("/")
            first, _, last = span.replace("*", f"{low}-{high}").partition("-")
            allowed |= set(range(int(first), int(last or first) + 1, int(step or 1)))
        fields.append(frozenset(allowed))
    return fields


def matches(expression, shown):
    minute, hour, day, month, weekday = numbers(expression)
    return (
        shown.minute in minute
        and shown.hour in hour
        and shown.day in day
        and shown.month in month
        and shown.isoweekday() % 7 in weekday
    )


def clock(moment, zone):
    return datetime.fromtimestamp(moment, zone).replace(tzinfo=None, fold=0)


def offset(moment, zone):
    return round(datetime.fromtimestamp(moment, zone).utcoffset().total_seconds())


@lru_cache(maxsize=20)
def full_minutes(begin, end, zone):
    """Return each moment at which a new minute is shown, and what is shown."""
    found = []
    for moment in range(begin, end, MINUTE):
        aligned = moment + -(moment + offset(moment, zone)) % MINUTE
        shown = clock(aligned, zone)
        if shown.second == 0 and begin <= aligned < end:
            found.append((aligned, shown))
    return found


def by_brute_force(expression, minutes, changes, zone):
    """Return the ticks among some minutes, with the moments when the clocks change there."""
    if any(field.startswith("*") for field in expression.split()[:2]):
        return [moment for moment, shown in minutes if matches(expression, shown)]
    first = {}
    for moment, shown in minutes:
        first.setdefault(shown, moment)
    found = {moment for shown, moment in first.items() if matches(expression, shown)}
    for change in changes:
        skipped = clock(change - 1, zone) + timedelta(seconds=1)
        skipped += timedelta(seconds=-skipped.second % MINUTE)
        while skipped < clock(change, zone):
            if skipped not in first and matches(expression, skipped):
                found.add(change)
            skipped += timedelta(minutes=1)
    return sorted(found)


# -- Where clocks change. -------------------------------------------------------------------------


def changes_of(zone, begin, end, step):
    """Return the moments when the clocks of a zone change, but for those there and back within a
    step.
    """
    found = []
    for early, late in pairwise(range(begin, end, step)):
        low, high = early, late
        if (before := offset(low, zone)) == offset(high, zone):
            continue
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if offset(middle, zone) == before else (low, middle)
        found.append(high)
    return found


def sorts_of_changes():
    """Return zones with moments when their clocks change: of each sort one, or all."""
    begin, end = (round(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in YEARS)
    found, known = [], set()
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        changes = changes_of(zone, begin, end, 6 * HOUR if ALL else DAY)
        for change in changes:
            before, after = offset(change - 1, zone), offset(change, zone)
            if ALL:  # one of each moment and offsets: cron knows nothing else of a zone
                near = tuple(each for each in changes if abs(each - change) < 4 * DAY)
                sort = before, after, change, near
            else:
                sort = before, after, clock(change - 1, zone).time()
            if sort not in known:
                known.add(sort)
                found.append((name, change))
    return found


def check(name, change):
    zone = ZoneInfo(name)
    shift = abs(offset(change, zone) - offset(change - 1, zone))
    begin, end = (change + sign * (shift + 5 * HOUR) // MINUTE * MINUTE for sign in (-1, 1))
    minutes = full_minutes(begin - DAY, end + DAY, zone)
    changes = changes_of(zone, begin - DAY, end + DAY, HOUR)
    edges = [change - 1, change, change - shift // 2, change + shift // 2]
    for expression in EXPRESSIONS:
        rule = Cron(expression, name)
        every = by_brute_force(expression, minutes, changes, zone)
        expected = every[bisect_right(every, begin) : bisect_left(every, end)]
        ticks = list(takewhile(lambda tick: tick < end, ticks_after(rule, begin)))
        assert ticks == expected, (expression, name, change)
        for moment in edges:
            index = bisect_right(every, moment)
            if index < len(every):
                assert rule.next_after(moment) == every[index], (expression, name, moment)
            if index and moment in edges[: 1 if ALL else 2]:
                assert rule.previous_or_at(moment) == every[index - 1], (expression, name, moment)


@pytest.mark.slow
def test_every_sort_of_change_is_as_by_brute_force():
    changes = sorts_of_changes()
    assert {
        offset(at, ZoneInfo(name)) - offset(at - 1, ZoneInfo(name)) for name, at in changes
    } >= {
        HOUR,
        -HOUR,
        HOUR // 2,
        -HOUR // 2,
    }
    for name, change in changes:
        check(name, change)
    print(f"\n{len(changes)} changes of clocks, {len(EXPRESSIONS)} expressions each")


# -- Any expression. ------------------------------------------------------------------------------

#: By an hour, by half an hour, by two; at midnight; and a whole day left out.
SAMPLE = [
    ("Australia/Lord_Howe", 1775314800),
    ("Australia/Lord_Howe", 1791041400),
    ("Europe/Berlin", 1774746000),
    ("Europe/Berlin", 1792890000),
    ("America/New_York", 1793512800),
    ("Antarctica/Troll", 1774746000),
    ("Antarctica/Troll", 1792890000),
    ("Africa/Cairo", 1776981600),
    ("America/Santiago", 1775358000),
    ("Pacific/Apia", 1325239200),
    ("Africa/Monrovia", 63593070),
]


def fields(low, high):
    some = st.lists(st.integers(low, high), min_size=1, max_size=3, unique=True)
    return st.one_of(
        some.map(lambda each: ",".join(map(str, sorted(each)))),
        st.integers(2, high // 2).map(lambda step: f"*/{step}"),
        st.integers(2, high // 2).map(lambda step: f"{low}-{high}/{step}"),
        st.sampled_from(["*", f"{low}-{high}"]),
    )


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(SAMPLE),
    fields(0, 59),
    fields(0, 23),
    st.sampled_from(["*", "*", "sun", "0,3"]),
    st.floats(-1, 1),
)
def test_any_expression_is_as_by_brute_force(where, minute, hour, weekday, part):
    name, change = where
    zone, expression = ZoneInfo(name), f"{minute} {hour} * * {weekday}"
    assert offset(change, zone) != offset(change - 1, zone)
    begin, end = change - 2 * DAY, change + 2 * DAY
    moment = change + part * DAY
    minutes = full_minutes(begin, end, zone)
    every = by_brute_force(expression, minutes, [change], zone)
    index = bisect_right(every, moment)
    if index < len(every):
        assert Cron(expression, name).next_after(moment) == every[index]
    if index:
        assert Cron(expression, name).previous_or_at(moment) == every[index - 1]
