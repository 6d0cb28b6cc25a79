"""Test how the history of a task comes about, also where its writers overlap or are killed."""

import json
from dataclasses import replace
from itertools import permutations

import pytest

from alligator.backends.store import Record
from alligator.constants import FAILED, RUNNING, SUCCESS
from alligator.monitoring.attempts import (
    LONGEST_TRACEBACK,
    MOST_ATTEMPTS,
    Attempt,
    Told,
    ended_as_recorded,
    merged,
    read_history,
    with_revival,
)


def told(number, outcome, started=None, ended=None, worker="w1", **more):
    started = 100.0 * number if started is None else started
    ended = started + 5 if ended is None and outcome != "running" else ended
    attempt = Attempt(number, started, ended, worker, outcome, more.pop("error", ""))
    return Told("id", "m.f", "q", "1", "a=2", 50.0, attempt, **more)


def outcomes(*all_told):
    text = None
    for each in all_told:
        text = merged(text, each)
    return [each.outcome for each in read_history(text).attempts]


def test_one_attempt():
    text = merged(None, told(1, "running"))
    assert read_history(text).attempts[0].ended is None
    found = read_history(merged(text, told(1, "succeeded", result="7")))
    assert (found.task_id, found.function, found.queue_name) == ("id", "m.f", "q")
    assert (found.args, found.kwargs, found.pushed, found.result) == ("1", "a=2", 50.0, "7")
    (attempt,) = found.attempts
    assert (attempt.started, attempt.ended, attempt.worker) == (100.0, 105.0, "w1")
    assert attempt.outcome == "succeeded"


def test_a_start_that_comes_late_changes_nothing():
    assert outcomes(told(1, "succeeded"), told(1, "running")) == ["succeeded"]
    assert outcomes(told(1, "succeeded"), told(1, "succeeded")) == ["succeeded"]


def test_retries():
    assert outcomes(
        told(1, "running"),
        told(1, "retried"),
        told(2, "running"),
        told(2, "retried"),
        told(3, "failed"),
    ) == ["retried", "retried", "failed"]


def test_a_killed_worker_leaves_an_attempt_that_is_lost():
    start, after = told(1, "running"), told(2, "running", worker="w2", deaths=1)
    assert outcomes(start, after) == ["lost", "running"]
    end = told(2, "succeeded", worker="w2", deaths=1)
    assert outcomes(start, after, end) == ["lost", "succeeded"]
    assert outcomes(start, end) == ["lost", "succeeded"]


def test_a_worker_that_was_killed_before_it_told_is_counted():
    end = told(3, "succeeded", deaths=2)
    text = merged(None, end)
    found = read_history(text).attempts
    assert [each.outcome for each in found] == ["lost", "lost", "succeeded"]
    assert [each.started for each in found[:2]] == [0.0, 0.0]
    assert [each.outcome for each in read_history(merged(text, end)).attempts] == [
        "lost",
        "lost",
        "succeeded",
    ]
    assert outcomes(told(1, "running"), end) == ["lost", "lost", "succeeded"]
    assert outcomes(told(1, "retried"), end) == ["retried", "lost", "lost", "succeeded"]


def test_a_worker_that_stood_still_was_overtaken():
    """Whichever of the two is told first, only one attempt has succeeded."""
    first = told(1, "succeeded", ended=300.0)
    second = told(2, "succeeded", worker="w2", deaths=1)
    assert outcomes(told(1, "running"), told(2, "running", worker="w2", deaths=1), first, second)
    for order in permutations((first, second)):
        found = outcomes(told(1, "running"), *order)
        assert found == ["lost", "succeeded"], order


def test_a_dead_letter_that_was_revived_begins_with_the_first_number_again():
    again = told(1, "failed", started=101.0, ended=101.5)
    first = told(1, "failed", started=100.0, ended=100.5)
    assert outcomes(first, again) == ["failed", "failed"]
    assert outcomes(first, told(1, "running", started=101.0), again) == ["failed", "failed"]


def test_when_a_dead_letter_was_revived_is_kept():
    """Through later attempts, and not for a new push of the id."""
    text = merged(None, told(1, "failed", 100.0))
    assert read_history(text).revived == ()
    text = with_revival(text, 110.12345)
    text = merged(text, told(1, "failed", 120.0))
    text = with_revival(merged(text, told(1, "failed", 120.0)), 130.0)
    found = read_history(merged(text, told(1, "succeeded", 140.0)))
    assert found.revived == (110.123, 130.0)
    assert [each.outcome for each in found.attempts] == ["failed", "failed", "succeeded"]
    again = replace(told(1, "running", 500.0), pushed=400.0)
    assert read_history(merged(text, again)).revived == ()
    for moment in range(200):
        text = with_revival(text, moment)
    assert read_history(text).revived == tuple(range(180, 200))
    assert with_revival("{}", 1.0) is None


@pytest.mark.parametrize("revived", [None, 7, ["x"], [None], [True], [[1]]])
def test_times_of_revival_of_another_shape(revived):
    document = json.loads(merged(None, told(1, "failed", 100.0)))
    assert read_history(json.dumps({**document, "revived": revived})) is None


def test_a_new_push_of_the_same_id_starts_anew():
    again = replace(told(1, "failed"), pushed=60.0)
    assert outcomes(told(1, "retried"), again) == ["failed"]
    assert outcomes(again, told(1, "retried")) == ["failed"], "an attempt of the earlier push"


def test_what_is_kept_is_bounded():
    text = None
    for number in range(1, MOST_ATTEMPTS + 30):
        each = told(number, "retried", error="e" * 9999)
        attempt = replace(each.attempt, traceback="t" * 99_999 + str(number))
        text = merged(text, replace(each, attempt=attempt, task_id="i" * 9999))
    found = read_history(text)
    assert len(found.attempts) == MOST_ATTEMPTS
    assert [bool(each.traceback) for each in found.attempts][-6:] == [False, *[True] * 5]
    last = found.attempts[-1]
    assert last.traceback.endswith(str(MOST_ATTEMPTS + 29))
    assert len(last.traceback) == LONGEST_TRACEBACK
    assert len(text) < 300_000


@pytest.mark.parametrize("text", ["", "x", "[]", '{"attempts": [1]}', '{"attempts": []}', "7"])
def test_a_document_that_cannot_be_read_is_replaced(text):
    assert read_history(text) is None
    assert outcomes_of(merged(text, told(1, "failed"))) == ["failed"]


def outcomes_of(text):
    return [each.outcome for each in read_history(text).attempts]


@pytest.mark.parametrize("spoilt", [None, "x", True, [], -1, 1e400, 10**400, {}])
@pytest.mark.parametrize("index", range(7))
def test_an_attempt_of_another_shape(index, spoilt):
    document = json.loads(merged(None, told(1, "failed")))
    document["attempts"][0][index] = spoilt
    found = read_history(json.dumps(document))
    assert found is None or len(found.attempts) == 1


def test_an_end_that_only_the_record_tells():
    history = read_history(merged(None, told(1, "running")))
    ended = Record(FAILED, error="ValueError", traceback="…", at=130.0)
    (attempt,) = ended_as_recorded(history, ended).attempts
    assert (attempt.outcome, attempt.ended, attempt.error) == ("failed", 130.0, "ValueError")
    for record in (None, Record(RUNNING, at=130.0), Record(SUCCESS, at=40.0)):
        assert ended_as_recorded(history, record) == history
    done = read_history(merged(None, told(1, "retried")))
    assert ended_as_recorded(done, ended) == done
