"""Test when schedules tick, above all around clock changes."""

import math
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from alligator.contrib.rpqueue import weekday_in_its_place
from alligator.exceptions import InvalidTask, MissingDriver
from alligator.scheduling import rules
from alligator.scheduling.rules import Cron, Every, due_ticks, tick_id, ticks_after

pytest.importorskip("cronsim")

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"


def at(text):
    """Return the timestamp of a moment written in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def shown(moments):
    return [datetime.fromtimestamp(each, UTC).strftime("%m-%d %H:%M") for each in moments]


def between(rule, begin, end):
    return shown(each for each in islice(ticks_after(rule, at(begin)), 500) if each < at(end))


#: Expression, zone, from, to (UTC) → ticks (UTC). Clocks went forward at 01:00 UTC on 29 March
#: 2026 in Berlin and at 07:00 on 8 March in New York; back at 01:00 on 25 October, and at 06:00
#: on 1 November.
CHANGES = {
    "does not exist, so at 03:00, when it would have been": (
        ("30 2 * * *", BERLIN, "2026-03-28", "2026-03-31"),
        ["03-28 01:30", "03-29 01:00", "03-30 00:30"],
    ),
    "does not exist in New York": (
        ("15 2 * * *", NEW_YORK, "2026-03-07", "2026-03-10"),
        ["03-07 07:15", "03-08 07:00", "03-09 06:15"],
    ),
    "several that do not exist are one, and that at their end is the same": (
        ("0,20,40 2,3 * * *", BERLIN, "2026-03-29", "2026-03-29T12:00"),
        ["03-29 01:00", "03-29 01:20", "03-29 01:40"],
    ),
    "exists twice, runs once": (
        ("30 2 * * *", BERLIN, "2026-10-24", "2026-10-27"),
        ["10-24 00:30", "10-25 00:30", "10-26 01:30"],
    ),
    "exists twice in New York": (
        ("15 1 * * *", NEW_YORK, "2026-10-31", "2026-11-03"),
        ["10-31 05:15", "11-01 05:15", "11-02 06:15"],
    ),
    "every hour is every hour when it is skipped": (
        ("0 * * * *", BERLIN, "2026-03-28T23:30", "2026-03-29T03:30"),
        ["03-29 00:00", "03-29 01:00", "03-29 02:00", "03-29 03:00"],
    ),
    "every hour is every hour when it comes twice": (
        ("0 * * * *", NEW_YORK, "2026-11-01T04:30", "2026-11-01T08:30"),
        ["11-01 05:00", "11-01 06:00", "11-01 07:00", "11-01 08:00"],
    ),
    "with a star, what does not exist is left out": (
        ("*/20 2 * * *", BERLIN, "2026-03-29", "2026-03-30T00:50"),
        ["03-30 00:00", "03-30 00:20", "03-30 00:40"],
    ),
    "with a star, what exists twice runs twice": (
        ("*/20 2 * * *", BERLIN, "2026-10-24T12:00", "2026-10-25T12:00"),
        ["10-25 00:00", "10-25 00:20", "10-25 00:40", "10-25 01:00", "10-25 01:20", "10-25 01:40"],
    ),
    "clocks go back by half an hour, and every other hour still comes": (
        ("0 */2 * * *", LORD_HOWE, "2026-04-04T12:00", "2026-04-04T18:30"),
        ["04-04 13:00", "04-04 15:30", "04-04 17:30"],
    ),
    "half an hour that does not exist is made up for": (
        ("15 2 * * *", LORD_HOWE, "2026-10-02T12:00", "2026-10-04T16:00"),
        ["10-02 15:45", "10-03 15:30", "10-04 15:15"],
    ),
    "a weekday, before and after": (
        ("0 5 * * tue", BERLIN, "2026-10-20", "2026-10-28"),
        ["10-20 03:00", "10-27 04:00"],
    ),
    "no zone is UTC": (
        ("30 2 * * *", None, "2026-03-28", "2026-03-30"),
        ["03-28 02:30", "03-29 02:30"],
    ),
    "the last day of a month": (
        ("0 0 L * *", None, "2026-01-01", "2026-04-01"),
        ["01-31 00:00", "02-28 00:00", "03-31 00:00"],
    ),
    "day of month or day of week, where neither is a star": (
        ("0 0 13 * fri", None, "2026-11-01", "2026-11-20"),
        ["11-06 00:00", "11-13 00:00"],
    ),
}


@pytest.mark.parametrize(("given", "expected"), CHANGES.values(), ids=CHANGES)
def test_where_clocks_change(given, expected):
    expression, zone, begin, end = given
    rule = Cron(expression, zone)
    assert between(rule, begin, end) == expected
    # From wherever one looks, also from within the doubled hour, these are the ticks.
    found, moment, step = set(), at(end) - 1, (at(end) - at(begin)) / 149
    while moment >= at(begin):
        found.add(rule.next_after(moment))
        previous = rule.previous_or_at(moment)
        assert previous <= moment < rule.next_after(previous)
        moment -= step
    assert set(expected) >= set(shown(each for each in found if each < at(end)))


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, "Australia/Lord_Howe", "Africa/Cairo"])
@pytest.mark.parametrize("time", [(0, 0), (1, 0), (1, 30), (2, 0), (2, 30), (3, 0), (12, 5)])
def test_a_fixed_time_comes_once_a_day_all_year(zone, time):
    hour, minute = time
    rule, tz = Cron(f"{minute} {hour} * * *", zone), ZoneInfo(zone)
    begin = datetime(2026, 1, 1, tzinfo=tz)
    found = list(islice(ticks_after(rule, begin.timestamp() - 1), 365))
    days = [datetime.fromtimestamp(each, tz).date() for each in found]
    assert days == [begin.date() + timedelta(days=each) for each in range(365)]


def test_every_is_a_multiple_wherever_one_looks_from():
    assert Every(25).next_after(1_700_000_000) == 1_700_000_025
    assert Every(25).next_after(1_700_000_024.9) == 1_700_000_025
    assert Every(25).previous_or_at(1_700_000_024.9) == 1_700_000_000
    assert Every(25).previous_or_at(1_700_000_000) == 1_700_000_000
    assert shown([Every(86_400).next_after(at("2026-05-05T10:00"))]) == ["05-06 00:00"]


@pytest.mark.parametrize(
    "seconds", [0, -1, 0.0005, math.nan, math.inf, 1e300, True, "5", None, [1]], ids=repr
)
def test_no_interval(seconds):
    with pytest.raises(InvalidTask, match="no interval"):
        Every(seconds)


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("0 0 31 2 *", "no such day"),
        ("0 0 30 2 *", "no such day"),
        ("0 0 31 4,6,9,11 *", "no such day"),
        ("0 0 LW * */7", "never comes"),
        ("60 * * * *", "Bad minute"),
        ("*/0 * * * *", "Bad minute"),
        ("* 24 * * *", "Bad hour"),
        ("* * * 13 *", "Bad month"),
        ("* * * * someday", "Bad day-of-week"),
        ("0 5 tue * *", "Bad day-of-month"),
        ("* * * *", "five fields"),
        ("0 * * * * *", "five fields"),
        ("", "five fields"),
        ("@daily", "five fields"),
        (5, "five fields"),
        (None, "five fields"),
    ],
)
def test_no_cron_expression(expression, why):
    with pytest.raises(InvalidTask, match=why):
        Cron(expression)


def test_rare_is_not_never():
    assert shown([Cron("0 0 29 2 *").next_after(at("2096-03-01"))]) == ["02-29 00:00"]
    fifth_monday = Cron("0 0 * 2 mon#5")
    assert fifth_monday.next_after(at("2026-01-01")) == at("2044-02-29")
    assert fifth_monday.previous_or_at(at("2026-01-01")) == at("2016-02-29")


@pytest.mark.parametrize(
    "zone",
    ["Europe/Atlantis", "", "Europe", "../etc/passwd", "/etc/passwd", "a\0b", "x" * 5000, 3, b"x"],
    ids=ascii,
)
def test_no_time_zone(zone):
    with pytest.raises(InvalidTask, match="no time zone that this machine knows"):
        Cron("* * * * *", zone)


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(MissingDriver, match=r"pip install 'alligator\[cron\]'"):
        Cron("* * * * *")
    Every(25)  # needs none


def test_the_id_of_a_tick():
    assert tick_id("weekly", at("2026-11-24T05:00")) == "weekly@2026-11-24T05:00:00Z"
    assert tick_id("fast", 0.025) == "fast@1970-01-01T00:00:00.025000Z"
    long = [tick_id("x" * 300 + end, 0) for end in "ab"]
    assert len(set(long)) == 2
    odd = [tick_id(f"line\n{end}\udcff", 0) for end in "ab"]
    assert len(set(odd)) == 2
    assert all(len(each) <= 200 and each.isprintable() for each in long + odd)
    fast = Every(0.001)
    assert len({tick_id("f", each) for each in islice(ticks_after(fast, 1.79e9), 3000)}) == 3000


def test_ids_are_the_same_in_every_process():
    code = (
        "from alligator.scheduling.rules import *; from itertools import islice\n"
        "for rule in (Every(0.7), Cron('*/7 1-3 * * *', 'Europe/Berlin'), Cron('5 4 * * *')):\n"
        "    print([tick_id('it', each) for each in islice(ticks_after(rule, 1.79e9), 50)])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "TZ": zone, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for zone, seed in (("UTC", "1"), ("Asia/Tokyo", "2"))
    }
    assert len(said) == 1
    assert said.pop().count("it@") == 150


# -- Which ticks are due. -----------------------------------------------------------------------

HOURLY = Every(3600)
TEN = at("2026-11-21T10:00")


def test_due_at_its_moment_and_only_once():
    assert due_ticks(HOURLY, TEN - 3600, TEN - 0.001) == []
    assert due_ticks(HOURLY, TEN - 3600, TEN) == [TEN]
    assert due_ticks(HOURLY, TEN, TEN + 5) == []


def test_what_was_missed_is_skipped():
    assert due_ticks(HOURLY, TEN - 7200, TEN + 9) == [TEN], "late, not missed"
    assert due_ticks(HOURLY, TEN - 7200, TEN + 11) == []
    assert due_ticks(HOURLY, TEN - 7200, TEN + 11, late=20) == [TEN]
    assert due_ticks(Every(1), TEN, TEN + 600, late=0) == [TEN + 600]


def test_whoever_was_watching_but_busy_did_not_miss_the_newest():
    assert due_ticks(HOURLY, TEN - 7200, TEN + 300, since=TEN - 60) == [TEN]
    assert due_ticks(HOURLY, TEN - 7200, TEN + 300, since=TEN + 60) == []


def test_what_was_missed_is_made_up_for():
    missed = [TEN - 3600, TEN]
    assert due_ticks(HOURLY, TEN - 7200, TEN + 300, catch_up=True) == missed
    seconds = due_ticks(Every(1), TEN, TEN + 5000, catch_up=True)
    assert seconds == [TEN + each for each in range(1, rules.LIMIT + 1)]
    assert due_ticks(Every(1), TEN, TEN + 50, catch_up=True, limit=2) == [TEN + 1, TEN + 2]


@pytest.mark.parametrize("passed", [3.5, 9.5, 10.5, 30.5])
def test_of_what_came_meanwhile_only_the_latest_is_due(passed):
    latest = TEN + passed - 0.5
    assert due_ticks(Every(1), TEN, TEN + passed, since=TEN - 60) == [latest]
    assert due_ticks(Every(1), TEN, TEN + passed) == [latest]


def test_rpqueue_has_the_weekday_in_third_place():
    assert weekday_in_its_place("0 5 tue * *") == "0 5 * * tue"
    assert weekday_in_its_place("0 5 MON-FRI 3 *") == "0 5 * 3 MON-FRI"
    assert weekday_in_its_place("0 5 1 * tue") == "0 5 1 * tue"
    assert weekday_in_its_place("nonsense") == "nonsense"
