"""Test properties of every schedule rule, above all around the hours when clocks change."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alligator.scheduling.rules import Cron, Every, due_ticks

pytest.importorskip("cronsim")

# Changes of clocks, in UTC: Berlin and New York, forward and back, in 2026.
CHANGES = [1774746000, 1792890000, 1772953200, 1793512800]

moments = st.one_of(
    st.builds(
        lambda change, off: change + off,
        st.sampled_from(CHANGES),
        st.floats(-200_000, 200_000) | st.integers(-7200, 7200),
    ),
    st.floats(0, 4e9),
)
numbers = st.lists(st.integers(0, 59), min_size=1, max_size=4, unique=True)
minutes = st.one_of(
    numbers.map(lambda each: ",".join(map(str, each))),
    st.sampled_from(["*", "*/7", "0", "30", "15-45/10"]),
)
hours = st.sampled_from(["*", "*/2", "1", "2", "1,2,3", "0-23", "22-23", "0"])
days = st.sampled_from(["* * *", "* * sun", "1 * *", "* 3,10,11 sun", "L * *", "29 2 *"])
crons = st.builds(
    lambda minute, hour, day, zone: Cron(f"{minute} {hour} {day}", zone),
    minutes,
    hours,
    days,
    st.sampled_from([None, "Europe/Berlin", "America/New_York"]),
)
everies = st.builds(Every, st.floats(0.001, 1e8) | st.integers(1, 100_000))
rules = st.one_of(crons, everies)


@settings(max_examples=150, deadline=None)
@given(rules, moments, st.floats(0, 1))
def test_next_and_previous_speak_of_the_same_ticks(rule, moment, part):
    following, previous = rule.next_after(moment), rule.previous_or_at(moment)
    assert previous <= moment < following
    assert rule.previous_or_at(following) == following
    assert rule.previous_or_at(previous) == previous
    assert rule.next_after(previous) == following
    between = moment + part * (following - moment)
    if between < following:
        assert rule.next_after(between) == following
        assert rule.previous_or_at(between) == previous


@settings(max_examples=60, deadline=None)
@given(
    rules,
    moments,
    st.lists(st.floats(0, 5000), min_size=1, max_size=6),
    st.integers(1, 5),
)
def test_looking_at_any_times_makes_up_for_each_tick_once(rule, start, pauses, limit):
    last, now, found = start, start, []
    for pause in pauses:
        now += pause
        for _ in range(50):
            due = due_ticks(rule, last, now, catch_up=True, limit=limit)
            if not due:
                break
            found += due
            last = due[-1]
    expected = due_ticks(rule, start, last, catch_up=True, limit=len(found) + 1)
    assert found == expected
    assert found == sorted(set(found))


@settings(max_examples=60, deadline=None)
@given(rules, moments, st.floats(0, 100_000), st.floats(0, 60), moments)
def test_without_catching_up_it_is_the_latest_or_none(rule, last, passed, late, since):
    now = last + passed
    newest = rule.previous_or_at(now)
    due = due_ticks(rule, last, now, late=late, since=since)
    counts = newest > last and newest >= min(since, now - late)
    assert due == ([newest] if counts else [])


@settings(max_examples=60, deadline=None)
@given(everies, moments, st.lists(st.floats(0, 5000), min_size=1, max_size=20))
def test_who_looks_so_many_times_finds_as_many_ticks_at_most(rule, start, pauses):
    now, last = start, start
    for pause in pauses:
        now += pause
        due = due_ticks(rule, last, now, since=start)
        assert due == ([rule.previous_or_at(now)] if rule.previous_or_at(now) > last else [])
        last = now
