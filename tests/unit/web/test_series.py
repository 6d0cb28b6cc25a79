"""Test the series, totals and estimates that pages show: with any rows."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alligator.monitoring.activity_counts import BUCKETS, Measured, Tally, to_row
from alligator.monitoring.rows import ActivityRow, DepthRow, QueueRow
from alligator.web.charts import series
from alligator.web.charts.recorded import SLOT, merged_activity, merged_depths
from alligator.web.charts.series import Bins, Total

NOW = 1_800_000_030.0
MINUTE = 1_800_000_000

SECONDS = st.floats(0, 5000, allow_nan=False)


def counted(runs, minute=MINUTE, queue="q", function="m.f", failed=0):
    """Return a row of runs with these durations, as a worker counts them."""
    tally = Tally()
    tally.add("succeeded", len(runs) - failed)
    tally.add("failed", failed)
    tally.add("dead", failed)
    tally.add_runs(len(runs), [Measured(each, each / 2, is_single=True) for each in runs])
    return to_row(minute, queue, function, tally.take() or ())


@given(st.lists(SECONDS, min_size=1, max_size=60), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_in_the_bucket_of_the_real_one(runs, share):
    """That is all that a histogram can promise; and it is never more than the longest."""
    total = series.total([counted(runs)])
    found = total.duration(share)
    real = sorted(runs)[math.ceil(share * len(runs)) - 1]
    low = max((each for each in BUCKETS if each < real), default=0.0)
    high = min((each for each in BUCKETS if each >= real), default=max(runs))
    assert low - 1e-9 <= found <= high + 1e-9 or found == pytest.approx(max(runs))
    assert found <= max(runs) + 1e-9 or max(runs) == 0
    assert total.duration(0.5) <= total.duration(0.95) <= total.duration(0.99)


def test_percentiles_of_evenly_spread_values():
    runs = [each / 1000 for each in range(1, 1001)]
    total = series.total([counted(runs)])
    assert total.duration(0.5) == pytest.approx(0.5, rel=0.05)
    assert total.duration(0.95) == pytest.approx(0.95, rel=0.05)
    assert total.mean == pytest.approx(0.5005)
    assert total.wait(0.5) == pytest.approx(0.25, rel=0.1)


def test_nothing_has_no_percentile():
    total = Total()
    assert (total.duration(0.5), total.mean, total.failure_rate, total.runs) == (None,) * 3 + (0,)
    assert series.percentile([], 0.5, 1.0) is None


@pytest.mark.parametrize("each", series.RANGES, ids=lambda each: each.name)
@given(now=st.floats(1e9, 4e9))
def test_bins_cover_the_range_and_end_now(each, now):
    bins = Bins(now, each.minutes, each.step)
    assert bins.index(now) == bins.count - 1
    assert bins.start % bins.seconds == 0
    assert len(bins.starts) == each.minutes // each.step
    assert bins.index(bins.start - 1) is None
    assert bins.index(bins.starts[-1] + bins.seconds) is None
    assert all(bins.index(start) == at for at, start in enumerate(bins.starts))
    assert each.minutes + each.before <= 2880  # no more is kept


@given(st.lists(st.tuples(st.integers(-70, 5), st.integers(0, 50)), max_size=30))
def test_no_row_of_the_range_is_lost_or_counted_twice(given):
    rows = [ActivityRow(MINUTE + 60 * at, "q", "m.f", succeeded=count) for at, count in given]
    bins = Bins(NOW, 60, 5)
    inside = sum(row.succeeded for row in rows if bins.index(row.minute) is not None)
    assert sum(each.succeeded for each in series.by_bin(rows, bins)) == inside


def test_rates_are_per_minute_and_of_the_time_that_has_passed():
    bins = Bins(NOW, 10, 5)
    rows = [ActivityRow(start, "q", "m.f", succeeded=30) for start in bins.starts]
    rates = series.per_minute(series.by_bin(rows, bins), bins, lambda each: each.ended)
    passed = (NOW - bins.starts[-1]) / 60
    assert rates == [6.0, pytest.approx(30 / passed)]
    assert Bins(MINUTE + 5, 60, 1).minutes(59) is None  # too early to tell


def depth(at, waiting, queue="q", running=0):
    return DepthRow(MINUTE + 60 * at, queue, waiting, 0, running, 0.0)


def test_what_comes_in_is_what_ended_and_growth():
    bins = Bins(NOW, 5, 1)
    rows = [depth(-4, 10), depth(-3, 30), depth(-2, 30), depth(0, 5)]
    ended = [ActivityRow(MINUTE + 60 * at, "q", "m.f", succeeded=7) for at in range(-4, 1)]
    came = series.came_in(rows, series.by_bin(ended, bins), bins)
    assert came == [None, 27, 7, None, None]  # a gap is not guessed


def test_depths_have_gaps_where_nothing_was_recorded():
    bins = Bins(NOW, 4, 1)
    rows = [depth(-3, 2), depth(-1, 9), depth(-1, 4)]
    assert series.depth(rows, bins, lambda row: row.waiting) == [2, None, 9, None]
    assert series.summed([[1, None, None], [2, 3, None]]) == [3, 3, None]


def test_rates_now():
    """Of five minutes; what came in is not known where no depth was recorded."""
    queue = QueueRow("q", 100, 0, 0, 0, None, paused=False, workers=1)
    alone = QueueRow("alone", 5, 0, 0, 0, None, paused=False, workers=0)
    rows = [ActivityRow(MINUTE - 60 * at, "q", "m.f", succeeded=11, retried=3) for at in range(20)]
    rates = series.rates_now([queue, alone], rows, [depth(-5, 50), depth(-2, 70)], NOW)
    assert rates["q"].went == pytest.approx(6 * 11 / 5.5)
    assert rates["q"].came == pytest.approx(6 * 11 / 5.5 + 50 / 5)
    assert (rates["alone"].came, rates["alone"].went) == (None, 0)


def test_a_trend_needs_enough_runs():
    slow, fast = [2.4] * 10, [1.0] * 10
    found = series.trend(series.total([counted(slow)]), series.total([counted(fast)]))
    assert (found.text, found.is_slower) == ("2.4× slower", True)  # noqa: RUF001
    found = series.trend(series.total([counted(fast)]), series.total([counted(slow)]))
    assert (found.text, found.is_slower) == ("2.4× faster", False)  # noqa: RUF001
    found = series.trend(series.total([counted(fast)]), series.total([counted(fast)]))
    assert (found.text, found.is_slower) == ("as before", False)
    assert series.trend(series.total([counted(slow)]), series.total([counted([1.0] * 4)])) is None
    assert series.trend(series.total([counted(slow)]), None) is None


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from("ab"), st.lists(SECONDS, max_size=5)),
        max_size=20,
    )
)
def test_merging_into_slots_changes_no_total(given):
    rows = [counted(runs, MINUTE + 60 * at, function=name) for at, name, runs in given if runs]
    merged = merged_activity(rows)
    before, after = series.total(rows), series.total(merged)
    assert (before.runs, before.duration_buckets, before.duration_max) == (
        after.runs,
        after.duration_buckets,
        after.duration_max,
    )
    assert after.duration_sum == pytest.approx(before.duration_sum)
    assert all(row.minute % SLOT == 0 for row in merged)
    assert len({(row.minute, row.function) for row in merged}) == len(merged)


def test_of_a_slot_the_fullest_and_the_last_depth_stay():
    start = MINUTE // SLOT * SLOT
    rows = [DepthRow(start + 60 * at, "q", count, 0, 0, 0.0) for at, count in enumerate([1, 9, 4])]
    assert [row.waiting for row in merged_depths(rows)] == [9, 4]
    assert merged_depths(rows[:1]) == rows[:1]
