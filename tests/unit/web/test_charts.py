"""Test the charts: well-formed, inside their frame, and told in words, whatever the numbers are."""

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alligator.web.charts import drawing
from alligator.web.charts.drawing import Series
from tests.support.pages import HOSTILE

START = 1_800_000_000
VALUES = st.none() | st.floats() | st.integers(0, 10**20) | st.just(0)
LISTS = st.lists(st.lists(VALUES, min_size=1, max_size=12), min_size=1, max_size=5)


def starts(count):
    return [START + 60 * each for each in range(count)]


def made(kind, lists, **options):
    count = min(map(len, lists))
    series = [Series(f"s{at}", each[:count]) for at, each in enumerate(lists)]
    return getattr(drawing, kind)("Depth", series, starts(count), 60, **options)


def parsed(svg):
    """Return the elements of a drawing, all of whose numbers are in its frame."""
    root = ET.fromstring(str(svg))
    wide, high = map(float, root.get("viewBox").split()[2:])
    for each in root.iter():
        text = " ".join(value for key, value in each.attrib.items() if key in ("d", "x", "y", "x1"))
        assert "nan" not in text
        assert "inf" not in text
        pairs = re.findall(r"([-\d.]+) ([-\d.]+)", each.get("d", ""))
        assert all(-2.1 <= float(x) <= wide + 2.1 for x, _ in pairs)
        assert all(0 <= float(y) <= high for _, y in pairs)
        assert "style" not in each.attrib
    assert root.get("role") == "img"
    assert root.get("aria-label")
    return list(root.iter())


@settings(max_examples=60)
@given(LISTS, st.sampled_from(["line_chart", "bar_chart"]), st.booleans())
def test_any_numbers_can_be_drawn(lists, kind, whole):
    chart = made(kind, lists, whole=whole)
    count = min(map(len, lists))
    known = any(v is not None and math.isfinite(v) for each in lists for v in each[:count])
    assert chart.is_empty is not known
    if known:
        parsed(chart.svg)
        assert "UTC" in chart.summary
    else:
        assert chart.summary == "Depth: nothing was recorded."


@settings(max_examples=60)
@given(st.lists(VALUES, max_size=30))
def test_any_sparkline_can_be_drawn(values):
    svg = drawing.sparkline("Waiting", values)
    if any(each is not None and math.isfinite(each) for each in values):
        parsed(svg)
    else:
        assert svg == ""


@given(st.floats(0, 1e15), st.booleans())
def test_axes_have_round_numbers(most, whole):
    steps = drawing.round_steps(most, whole=whole)
    assert steps[0] == 0
    assert steps[-1] >= most * (1 - 1e-6)
    assert 2 <= len(steps) <= 6
    step = steps[1]
    if step > 1e-9:
        assert round(step / 10 ** math.floor(math.log10(step) + 1e-9), 6) in (1, 2, 5, 10)
    if whole:
        assert step >= 1


@given(st.floats(0, 1e9))
def test_axes_of_durations_have_times_that_are_round(most):
    """From a second on, steps are those of a clock; all labels have one unit."""
    steps = drawing.time_steps(most)
    labels = drawing.time_labels(steps)
    assert steps[0] == 0
    assert steps[-1] >= most * (1 - 1e-6)
    assert 2 <= len(steps) <= 6
    assert len({each.partition(" ")[2] for each in labels[1:]}) == 1
    assert labels[0] == "0"
    assert max(map(len, labels)) <= 8
    step = steps[1]
    if 1 <= step < 86_400:
        assert 86_400 % step == 0


@pytest.mark.parametrize(
    ("most", "labels"),
    [
        (0.05, "0, 20 ms, 40 ms, 60 ms"),
        (2.9, "0, 1 s, 2 s, 3 s"),
        (70, "0, 30 s, 60 s, 90 s"),
        (200, "0, 1 min, 2 min, 3 min, 4 min"),
        (9000, "0, 1 h, 2 h, 3 h"),
        (200_000, "0, 1 d, 2 d, 3 d"),
    ],
)
def test_labels_of_durations(most, labels):
    assert ", ".join(drawing.time_labels(drawing.time_steps(most))) == labels


@pytest.mark.parametrize("top", [3.0, 90.0, 12_345.0, 9.9e9])
def test_no_label_of_the_axis_is_clipped(top):
    """Each has the room that it needs at the left, also at the size on a narrow screen."""
    for options in ({"is_time": True}, {}):
        chart = made("line_chart", [[top / 3, top]], **options)
        labels = [e for e in parsed(chart.svg) if e.get("text-anchor") == "end"]
        assert len(labels) > 1
        for each in labels:
            assert float(each.get("x")) >= 7.4 * len(each.text)


def test_the_key_shows_each_line_as_it_is_drawn():
    """Its colour and its dashes, so that lines are told apart without colour."""
    chart = made("line_chart", [[1, 2], [2, 3], [3, 4]])
    drawn = {e.get("stroke-dasharray") for e in parsed(chart.svg) if e.tag == "path"}
    samples = [next(ET.fromstring(str(sample)).iter("path")) for _, sample in chart.key]
    assert {each.get("stroke-dasharray") for each in samples} == drawn
    assert [each.get("class") for each in samples] == ["line s1", "line s2", "line s3"]


@given(st.integers(1, 4 * 10**9), st.sampled_from([3600, 21_600, 86_400, 172_800]))
def test_clock_times_are_round_and_few(start, length):
    found = drawing.clock_times(start, start + length)
    assert 1 <= len(found) <= 7
    assert all(start <= each <= start + length for each in found)
    assert all(each % 60 == 0 for each in found)


def test_a_line_is_broken_where_nothing_is_known():
    chart = made("line_chart", [[1, 2, None, 3, 4]])
    assert len([each for each in parsed(chart.svg) if each.get("class") == "line s1"]) == 2
    assert [cells for _, cells in chart.rows] == [["4"], ["3"], ["2"], ["1"]]


def test_one_point_is_seen():
    chart = made("line_chart", [[None, 5, None]])
    (line,) = [each for each in parsed(chart.svg) if each.get("class") == "line s1"]
    assert "L" in line.get("d")


def test_bars_stand_on_each_other():
    chart = made("bar_chart", [[10], [5]])
    low, high = (each for each in parsed(chart.svg) if each.tag == "rect")
    assert float(high.get("y")) + float(high.get("height")) == pytest.approx(float(low.get("y")))


def test_lines_differ_without_colour():
    chart = made("line_chart", [[1, 2], [2, 3], [3, 4]])
    dashes = [each.get("stroke-dasharray") for each in parsed(chart.svg) if each.tag == "path"]
    assert len(set(dashes)) == 3


def test_labels_are_escaped():
    chart = drawing.line_chart(HOSTILE, [Series(HOSTILE, [1, 2])], starts(2), 60)
    parsed(chart.svg)
    assert "<script" not in chart.svg
    assert "<script" not in drawing.sparkline(HOSTILE, [1])


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (0.25, "0.25"), (12, "12"), (4_000, "4,000"), (40_000, "40 k"), (2.5e6, "2.5 M")],
)
def test_numbers_on_axes_are_short(number, text):
    assert drawing.short_number(number) == text


def test_it_is_told_in_words():
    chart = made("line_chart", [[1, 5, None, 2]])
    assert chart.summary == "Depth, 08:00 to 08:04 UTC. s0: now 2, lowest 1, highest 5."
