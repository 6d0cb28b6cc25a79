"""Test that what happens to tasks is added up exactly, also where not every run is measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alligator import Task
from alligator.backends.activity_sums import added
from alligator.common.ids import LookalikeId, new_task_id
from alligator.monitoring import activity_counts
from alligator.monitoring.activity_counts import (
    BUCKETS,
    COUNTS,
    LONG,
    MEASURED,
    SIZE,
    Measured,
    Sampling,
    Tally,
    to_row,
)


def row_of(*numbers):
    total = ()
    for each in numbers:
        total = added(total, each or ())
    return to_row(60, "q", "m.f", total)


def add(tally, *runs):
    """Add successes that were all measured."""
    tally.add("succeeded", len(runs))
    tally.add_runs(len(runs), [Measured(took, wait, took >= LONG) for took, wait in runs])


def test_nothing_happened():
    tally = Tally()
    assert tally.take() is None
    add(tally, (0.0005, None))
    assert tally.take()
    assert tally.take() is None


def test_what_is_measured_is_added_up():
    tally = Tally()
    waits, durations = [0.5, 0.002, 7.0], [0.0005, 0.02, 5000.0]
    add(tally, *zip(durations, waits, strict=True))
    tally.add("failed")
    tally.add("retried", 2)
    tally.add("lost", 3)
    row = row_of(tally.take())
    assert (row.minute, row.queue_name, row.function) == (60, "q", "m.f")
    found = [getattr(row, name) for name in COUNTS]
    assert found == [3, 1, 2, 0, 0, 3]
    assert row.canceled == 0
    assert row.wait_sum == pytest.approx(sum(waits))
    assert row.duration_sum == pytest.approx(sum(durations))
    assert (row.wait_max, row.duration_max) == (7.0, 5000.0)
    assert sum(row.wait_buckets) == sum(row.duration_buckets) == 3
    assert row.duration_buckets[0] == 1
    assert row.duration_buckets[-1] == 1, "longer than all bounds"
    assert row.wait_buckets[BUCKETS.index(0.003)] == 1
    assert len(row.wait_buckets) == len(row.duration_buckets) == len(BUCKETS) + 1


def test_a_bound_belongs_to_its_bucket():
    tally = Tally()
    add(tally, *((each, None) for each in BUCKETS))
    assert row_of(tally.take()).duration_buckets == (*[1] * len(BUCKETS), 0)


def test_those_that_are_measured_stand_for_the_others():
    tally = Tally()
    measured = [Measured(0.001, 1.0), Measured(0.003, 2.0), Measured(50.0, 9.0, is_single=True)]
    tally.add_runs(1001, measured)
    row = row_of(tally.take())
    assert row.duration_sum == pytest.approx(500 * 0.001 + 500 * 0.003 + 50)
    assert row.wait_sum == pytest.approx(500 * 1.0 + 500 * 2.0 + 9.0)
    assert sum(row.duration_buckets) == sum(row.wait_buckets) == 1001
    tally.add_runs(10, [])
    assert row_of(tally.take()).duration_sum == pytest.approx(0.03), "as the last one did"


def test_runs_that_none_stood_for_yet_are_made_up_for():
    tally = Tally()
    tally.add_runs(5, [])
    assert tally.take() is None
    tally.add_runs(5, [Measured(0.001, None)])
    assert sum(row_of(tally.take()).duration_buckets) == 10


MEASUREMENTS = st.lists(
    st.builds(Measured, st.floats(0, 1e5), st.none() | st.floats(0, 1e5), st.booleans()),
    max_size=8,
)


@given(st.lists(st.tuples(MEASUREMENTS, st.integers(0, 500), st.booleans()), max_size=20))
def test_no_run_is_lost_or_counted_twice(steps):
    """Whatever was measured, and whenever it is flushed."""
    tally, taken, total = Tally(), [], 0
    for measured, more, flush in steps:
        tally.add_runs(len(measured) + more, measured)
        total += len(measured) + more
        if flush:
            taken.append(tally.take())
    tally.add_runs(1, [Measured(0.0, None)])
    row = row_of(*taken, tally.take())
    took = [each.took for measured, _, _ in steps for each in measured]
    assert sum(row.duration_buckets) == total + 1
    assert sum(row.wait_buckets) <= total
    assert row.duration_max == max(took, default=0.0)
    assert row.duration_sum <= total * max(took, default=0.0) * 1.0001


def test_about_so_many_are_measured():
    sampling = Sampling()
    next_at, measured, runs = 0, 0, 0
    for _ in range(4):
        at, measured = 0, 0
        for at in range(30_000):
            if at >= next_at:
                measured += 1
                next_at = at + sampling.measured()
        assert measured <= 2 * MEASURED
        assert measured >= 0.9 * MEASURED
        runs = at + 1
        next_at = sampling.next_second(runs, 1.0)
    sampling.next_second(30, 1.0)
    assert [sampling.measured() for _ in range(30)] == [1] * 30, "of few, each"


def test_added_up_in_any_order_it_is_the_same():
    parts = []
    for took in (0.5, 2.0, 0.001):
        tally = Tally()
        add(tally, (took, took))
        parts.append(tally.take())
    one, other = row_of(*parts), row_of(*reversed(parts))
    assert one == other
    assert one.duration_max == 2.0


@pytest.mark.parametrize(
    "numbers", [(), (1,), (-1.0,) * SIZE, (float("nan"), float("inf")), (5,) * (SIZE + 9)]
)
def test_any_numbers_can_be_read(numbers):
    row = to_row(0, "q", "f", numbers)
    assert all(getattr(row, name) >= 0 for name in (*COUNTS, *activity_counts.SUMS))
    assert len(row.duration_buckets) == len(BUCKETS) + 1


def test_when_a_task_was_pushed():
    task = Task()
    task.task_id = "0192f0c1-2345-7abc-8def-0123456789ab"
    assert activity_counts.pushed_at(task) == 0x0192F0C12345 / 1000
    task.pushed_at = 5.0
    assert activity_counts.pushed_at(task) == 5.0
    assert activity_counts.pushed_at(Task("order-17")) == 0.0
    lookalike = Task(new_task_id())
    lookalike.lookalike_id = True
    assert activity_counts.pushed_at(lookalike) == 0.0
    task = Task()
    task.task_id = LookalikeId("zzzzzzzz-zzzz-7zzz-zzzz-zzzzzzzzzzzz")
    assert activity_counts.pushed_at(task) == 0.0
    assert activity_counts.pushed_at(object()) == 0.0


def test_how_long_a_task_waited():
    task = Task()
    task.pushed_at = 100.0
    assert activity_counts.waited(task, 103.0) == 3.0
    assert activity_counts.waited(task, 99.0) == 0.0, "by another clock"
    task.delay_until = 102.5
    assert activity_counts.waited(task, 103.0) == 0.5, "from when it was due"
    task.retried = 1
    assert activity_counts.waited(task, 103.0) is None
    child = Task(depends_on=["a"])
    child.pushed_at = 100.0
    assert activity_counts.waited(child, 103.0) is None
    assert activity_counts.waited(Task("own"), 5.0) is None
