"""Test that JSON is read and written strictly, and no deeper or larger than is safe."""

import tracemalloc

import pytest

from alligator.common import strict_json
from alligator.exceptions import (
    BadPayload,
)


def deep(levels):
    value = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "NaN",
        "[Infinity]",
        "[-Infinity]",
        '{"a": 1, "a": 2}',
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 101 + "1" + "}" * 101,
        "1" * 5000,
        b"\xff",
        b"\xff\xfe{\x00}\x00",
        "[1] 2",
        "1e999",
        "'a'",
    ],
)
def test_what_strict_json_refuses(text):
    with pytest.raises(BadPayload):
        strict_json.loads(text)


def test_brackets_in_text_do_not_count_as_depth():
    value = {"a": '[{"' * 500, "b": [[[1]]]}
    assert strict_json.loads(strict_json.dumps(value)) == value
    assert strict_json.loads("[" * 100 + "]" * 100)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([[]] * 50 + [deep(100)], "deeper than 100"),
        (deep(100_000), "deeper than 100"),
        ("x" * 2_000, "more than the 1000"),
        ({1: 1, "1": 2}, "stands twice"),
        ([{None: 1, "null": 2}], "stands twice"),
        ({"a": {True: 1, "true": 2}}, "stands twice"),
        ({1.5: 1, "1.5": 2}, "stands twice"),
        ({float("nan"): 1}, "not JSON compliant"),
    ],
    ids=lambda value: None if isinstance(value, list | dict) else value[-20:],
)
def test_what_would_not_be_read_is_not_written(value, says, monkeypatch):
    monkeypatch.setattr(strict_json, "MAX_BYTES", 1_000)
    with pytest.raises(ValueError, match=says):
        strict_json.dumps(value)


@pytest.mark.parametrize("value", [deep(100), {"1": 1, 2: 2}, {"a": '"1":'}, [{1: 1}, {1: 1}]])
def test_what_is_written_is_read(value):
    text = strict_json.dumps(value)
    assert strict_json.dumps(strict_json.loads(text)) == text


class Row:
    """What marks a model of Django."""

    _meta, pk = object(), 7


def test_a_model_is_refused_with_what_to_give_instead():
    with pytest.raises(TypeError, match="Row is not JSON serializable; give its pk"):
        strict_json.dumps([Row()])
    with pytest.raises(TypeError, match="serializable$"):
        strict_json.dumps([object()])


def test_a_long_string_costs_no_more_than_its_length():
    """The check of depth once took 120 bytes for each letter of it."""
    tracemalloc.start()
    try:
        with pytest.raises(BadPayload, match="deeper"):
            strict_json.loads("[" * 101 + '"' + 'x\\"' * 300_000)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
