"""Test the arithmetic of the benchmarks, without measuring anything."""

import pytest

from benchmarks import chart, table
from benchmarks.meter import Meter, Sample, pace
from benchmarks.results import Missing, Results
from benchmarks.targets import Target, judge


def at(*points):
    return [Sample(*point) for point in points]


def test_the_rate_is_that_between_a_fifth_and_all():
    # A slow start of 10 s for the first 20, then 80 in 4 s; 0.2 s of CPU for those.
    samples = at((0.0, 0), (10.0, 20, 1.0), (12.0, 60), (14.0, 100, 1.2))
    found = pace(samples, 100)
    assert found.rate == 20
    assert found.cpu_us == pytest.approx(2500)


def test_a_sample_that_jumps_over_the_fifth_counts_as_what_it_saw():
    assert pace(at((0.0, 0), (1.0, 50), (2.0, 100)), 100).rate == 50


def test_more_than_all_may_be_done():
    assert pace(at((0.0, 0), (1.0, 20), (2.0, 120)), 100).rate == 100


@pytest.mark.parametrize(
    "samples", [at((0.0, 0)), at((0.0, 0), (1.0, 99)), at((0.0, 0), (1.0, 100))]
)
def test_a_rate_needs_two_samples_and_all_tasks(samples):
    with pytest.raises(ValueError, match="too few"):
        pace(samples, 100)


def test_the_meter_counts_marks_by_their_size(tmp_path):
    meter = Meter(tmp_path / "marks", size=8)
    assert meter.done() == 0
    (tmp_path / "marks").write_bytes(b"." * 23)
    assert meter.done() == 2
    assert [sample.done for sample in meter.watch(2)] == [0, 2]


def drained(**rates):
    results = Results()
    for name, values in rates.items():
        for number, rate in enumerate(values):
            results.add("drain", name, number, {"rate": rate})
    return results


def test_medians_are_over_the_passes():
    results = drained(a=[1.0, 9.0, 2.0])
    assert results.median("drain", "a", "rate") == 2
    with pytest.raises(Missing):
        results.median("drain", "a", "bytes")
    with pytest.raises(Missing):
        results.median("drain", "no library", "rate")


def test_a_ratio_compares_within_each_pass():
    # The machine halves its speed in each pass; the ratio stays, those of medians would too
    # were it not for the pass that one of them missed.
    results = drained(a=[40.0, 20.0, 10.0], b=[20.0, 10.0])
    assert results.ratio(("drain", "a", "rate"), ("drain", "b", "rate")) == 2
    with pytest.raises(Missing):
        results.ratio(("drain", "a", "rate"), ("drain", "c", "rate"))


def test_the_best_is_by_median_and_passes_over_who_has_none():
    results = drained(a=[1.0, 100.0, 2.0], b=[3.0, 3.0, 3.0])
    assert results.best("drain", ["a", "b", "c"], "rate") == "b"
    assert results.best("drain", ["a", "b", "c"], "rate", least=True) == "a"
    with pytest.raises(Missing):
        results.best("drain", ["c"], "rate")


@pytest.mark.parametrize(
    ("found", "at_most", "verdict"),
    [
        (3.0, False, "stretch met"),
        (2.0, False, "met"),
        (1.9, False, "missed"),
        (3.0, True, "missed"),
        (2.0, True, "met"),
        (1.0, True, "stretch met"),
    ],
)
def test_a_target_is_met_at_its_goal(found, at_most, verdict):
    target = Target("it", lambda _: found, 2, 1 if at_most else 3, at_most, "{:.1f}")
    (judged,) = judge(Results(), (target,))
    assert judged.verdict == verdict
    assert judged.goal == ("≤ 2.0" if at_most else "≥ 2.0")


def test_what_was_not_measured_is_said():
    assert {each.verdict for each in judge(Results())} == {"not measured"}


def whole():
    results = drained(Alligator=[60_000.0], RQ=[220.0], Celery=[950.0])
    results.about = dict.fromkeys(
        ("date", "cores", "system", "python", "redis", "passes", "scale"), "some"
    )
    results.fail("drain", "Huey", "it did not start")
    results.libraries = {"RQ": {"versions": "rq==3", "settings": "``rq worker``"}}
    return results


def test_tables_show_figures_and_what_has_none():
    text = table.as_rst(whole())
    assert "drain, one process, to the fastest peer\n     - 63.16×\n     - ≥ 10.00×" in text
    assert "   * - RQ\n     - 220\n     - –" in text
    assert "* Huey, drain: it did not start" in text
    assert "   * - RQ\n     - rq==3\n     - ``rq worker``" in text
    assert "63.16×" in table.as_text(whole())


def test_what_took_too_long_is_more_than_the_wait():
    results = whole()
    results.fail("crash", "RQ", "not within 120 s")
    text = table.as_rst(results)
    assert "     - > 120\n" in text
    assert "RQ, crash" not in text


def test_the_chart_ranks_who_was_measured():
    names = [name for name, _ in chart.ranked(whole(), "drain")]
    assert names == ["RQ", "Celery", "Alligator"]


def test_results_survive_their_file(tmp_path):
    whole().save(tmp_path / "found.json")
    assert Results.load(tmp_path / "found.json") == whole()
