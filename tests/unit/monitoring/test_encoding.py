"""Test that rows survive their way through a store, and that nothing else is believed."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alligator.backends.types import LiveWorker
from alligator.monitoring.encoding import (
    LONGEST_NAME,
    MOST_RUNNING,
    live_text,
    read_live,
    read_recent,
    recent_text,
)
from alligator.monitoring.rows import NowRow, RecentRow, WorkerRow

NOW = NowRow("id", "m.f", "q", 2, 1_700_000_000.125)
WORKER = WorkerRow(
    host="h",
    pid=17,
    queues=("q", "ü\ud800"),
    concurrency=3,
    version="1.2.0",
    started=1_700_000_000.5,
    last_seen=30.0,
    done=5,
    failed=1,
    running=(NOW,),
    name="h:17:x",
)
ENDED = RecentRow("id", "m.f", "q", 2, 1, 1.5, 2.5, 3.25, "h:17", "1, 'x'", "ValueError: \x1b")

TEXT = st.text(st.characters(), max_size=20)
TIME = st.floats(0, 1e11).map(lambda each: round(each, 3))


def live(row=WORKER, until=60.0):
    return LiveWorker(row.name, live_text(row), row.last_seen, until)


def test_a_worker():
    assert read_live(live(), 40.0) == WORKER
    assert read_live(live(), 60.1) == replace(WORKER, is_lost=True)


def test_what_a_worker_tells_is_bounded():
    many = replace(WORKER, running=(NOW,) * (MOST_RUNNING + 5))
    assert len(read_live(live(many), 0).running) == MOST_RUNNING
    long = replace(WORKER, host="h" * 10_000)
    assert len(read_live(live(long), 0).host) == LONGEST_NAME


@given(st.builds(RecentRow, *[TEXT] * 3, *[st.integers(0, 9)] * 2, *[TIME] * 3, *[TEXT] * 3))
def test_a_task_that_has_ended(row):
    text = recent_text(row)
    assert read_recent(text) == row
    text.encode("ascii")


def test_a_later_version_may_tell_more():
    assert read_recent(json.dumps([*json.loads(recent_text(ENDED)), "more"])) == ENDED
    found = replace(WORKER)
    text = json.dumps({**json.loads(live_text(WORKER)), "more": 1})
    assert read_live(LiveWorker(found.name, text, 30.0, 60.0), 0) == found


@pytest.mark.parametrize("spoilt", [None, True, "x", [], {}, -1, 1.5, 10**400, [[]], [1]])
@pytest.mark.parametrize("name", json.loads(live_text(WORKER)))
def test_a_live_view_of_another_shape(name, spoilt):
    fields = json.loads(live_text(WORKER))
    fields[name] = spoilt
    for text in (json.dumps(fields), json.dumps({**fields, name: ...}, default=lambda _: None)):
        row = read_live(LiveWorker("x", text, 1.0, 2.0), 0.0)
        assert row is None or isinstance(row, WorkerRow)
    del fields[name]
    assert read_live(LiveWorker("x", json.dumps(fields), 1.0, 2.0), 0.0) is None


@pytest.mark.parametrize("spoilt", [None, True, [], {}, -1, 1.5, 10**400])
@pytest.mark.parametrize("index", range(11))
def test_an_ended_task_of_another_shape(index, spoilt):
    fields = json.loads(recent_text(ENDED))
    fields[index] = spoilt
    row = read_recent(json.dumps(fields))
    assert row is None or isinstance(row, RecentRow)
    assert read_recent(json.dumps(fields[:index])) is None


@pytest.mark.parametrize("text", ["", "x", "null", "[" * 9999, '"' + "x" * (1 << 21) + '"', "NaN"])
def test_what_is_no_row(text):
    assert read_recent(text) is None
    assert read_live(LiveWorker("x", text, 1.0, 2.0), 0.0) is None


@pytest.mark.parametrize(
    ("more", "parents"),
    [
        ([["a", "b"]], ("a", "b")),
        ([["a", 7, None, "b"], "of a later version"], ("a", "b")),
        ([["x" * 5000] * 50], ("x" * 500,) * 20),
        ([{"a": 1}], ()),
        ([None], ()),
        ([], ()),
    ],
)
def test_the_parents_of_a_run_that_ended(more, parents):
    """They may be missing, as those of an earlier version are, and of any kind."""
    row = RecentRow("1", "m.f", "all", 1, 1, 1.0, 2.0, 3.0, "h:1", "", "")
    plain = recent_text(row)
    assert len(json.loads(plain)) == 11  # as before, where there are none
    found = read_recent(json.dumps([*json.loads(plain), *more]))
    assert found == replace(row, parents=parents)
    assert read_recent(recent_text(found)) == found
