"""Test what a Recording keeps, within which bounds, and that it never raises."""

import logging
import os
import time
import uuid

import pytest

from alligator import Gator, Task, Worker
from alligator.backends.base import Delivery, Reason
from alligator.backends.types import Report
from alligator.exceptions import RunAgain, TaskCanceled
from alligator.execution import activity_report as module
from alligator.execution.activity_report import LISTED, Recording
from alligator.execution.attempt import Outcome, Verdict
from alligator.monitoring.activity_counts import MEASURED
from tests.support import jobs


@pytest.fixture
def gator():
    return Gator(f"locmem://{uuid.uuid4().hex}")


@pytest.fixture
def recording(gator):
    return gator.new_recording()


def outcome(verdict=Verdict.ACK, func=jobs.note, queue_name="q", *, deaths=0, **more):
    task = Task()
    task.to_call(func, 1)
    data = '{"module": "tests.support.jobs", "callable": "note", "args": [], "options": {}}'
    delivery = Delivery(queue_name, task.task_id, data, None, deaths + 1, deaths)
    return Outcome(delivery, verdict, **{"task": task, **more})


def flush(recording):
    return recording.flush(lambda: Report("me", seconds=60))


def rows(gator):
    return {(row.queue_name, row.function): row for row in gator.activity()}


def test_nothing_is_sent_if_there_is_nothing(recording, monkeypatch):
    monkeypatch.setattr(recording.store, "report", lambda it: 1 / 0)
    assert flush(recording) is None


@pytest.mark.parametrize(
    ("given", "counted"),
    [
        (outcome(), {"succeeded": 1}),
        (outcome(deaths=2), {"succeeded": 1, "lost": 2}),
        (outcome(Verdict.RETRY, error=ValueError()), {"failed": 1, "retried": 1}),
        (outcome(Verdict.RETRY, error=RunAgain(0.0, None)), {"retried": 1}),
        (outcome(Verdict.BURY, error=ValueError()), {"failed": 1, "dead": 1}),
        (outcome(Verdict.BURY, task=None, error=ValueError()), {"failed": 1, "dead": 1}),
        (outcome(Verdict.BURY, task=None, deaths=3), {"dead": 1, "lost": 3}),
        (outcome(Verdict.BURY, expired=True, reason=Reason("Expired")), {"expired": 1}),
        (outcome(Verdict.CANCEL, error=TaskCanceled("x")), {"canceled": 1}),
        (outcome(Verdict.LATER, error=ValueError()), {}),
    ],
)
def test_each_end_is_counted(gator, recording, given, counted):
    recording.record(given, 0.5)
    flush(recording)
    found = rows(gator).get(("q", "tests.support.jobs.note"))
    names = ("succeeded", "failed", "retried", "dead", "expired", "canceled", "lost")
    assert {name: n for name in names if (n := getattr(found, name, 0))} == counted


def test_an_ack_that_was_refused_is_taken_back(gator, recording):
    done = outcome()
    recording.record(done, 0.001)
    flush(recording)
    recording.note_lost([done.delivery])
    flush(recording)
    assert rows(gator)["q", "tests.support.jobs.note"].succeeded == 0


class Unhashable:
    __hash__ = None

    def __init__(self):
        self.__module__, self.__qualname__ = "odd", "thing"

    def __call__(self, *args):
        """Do nothing."""


class Raises:
    """A task of the user's own, in which nothing works."""

    def __getattr__(self, name):
        raise RuntimeError(name)


def test_a_function_that_cannot_be_hashed(gator, recording):
    for _ in range(3):
        recording.record(outcome(func=Unhashable()), 0.001)
        recording.record(outcome(), 0.001)
        recording.record(outcome(Verdict.RETRY, func=Unhashable(), error=ValueError()), 0.001)
    flush(recording)
    assert rows(gator)["q", "odd.thing"].succeeded == 3
    assert rows(gator)["q", "odd.thing"].failed == 3
    assert sum(rows(gator)["q", "odd.thing"].duration_buckets) == 6
    assert rows(gator)["q", "tests.support.jobs.note"].succeeded == 3


def test_a_task_in_which_nothing_works_is_said_once(recording, caplog):
    for verdict in (Verdict.ACK, Verdict.RETRY, Verdict.BURY):
        for _ in range(2):
            recording.record(outcome(verdict, task=Raises(), error=ValueError()), 0.5)
    assert caplog.text.count("could not be recorded") == 1
    flush(recording)


def test_only_so_many_functions_are_counted_apart(gator, recording, monkeypatch):
    monkeypatch.setattr(module, "_MOST_FUNCTIONS", 3)
    for index in range(9):
        func = lambda: 0  # noqa: E731
        func.__qualname__ = f"f{index}"
        recording.record(outcome(func=func), 0.001)
    flush(recording)
    assert len(recording._tallies) == 4
    assert rows(gator)["q", "(others)"].succeeded == 6
    assert sum(row.succeeded for row in gator.activity()) == 9


def test_functions_that_are_used_no_more_are_forgotten(recording, monkeypatch):
    monkeypatch.setattr(module, "_UNUSED", 2)
    recording.record(outcome(), 0.001)
    for _ in range(5):
        flush(recording)
    assert recording._tallies == {}


def test_what_a_store_does_not_take_is_kept_within_bounds(gator, recording, monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 4)
    recording._listed = module.deque(maxlen=5)
    monkeypatch.setattr(module, "MOST_LISTED", 5)
    monkeypatch.setattr(module, "MOST_TOLD", 6)
    report = recording.store.report
    monkeypatch.setattr(recording.store, "report", lambda it: 1 / 0)
    for index in range(10):
        given = outcome(Verdict.BURY, queue_name=f"q{index}", error=ValueError())
        given.task.history = 60.0
        recording.record(given, 0.001)
        with pytest.raises(ZeroDivisionError):
            flush(recording)
    assert (len(recording._rows), len(recording._listed), len(recording._told)) == (4, 5, 6)
    monkeypatch.setattr(recording.store, "report", report)
    flush(recording)
    assert {key[0] for key in rows(gator)} == {"q6", "q7", "q8", "q9"}, "the last ones"
    assert [row.queue_name for row in gator.recent()] == ["q9", "q8", "q7", "q6", "q5"]
    assert not recording._rows
    assert not recording._listed
    assert not recording._told


def test_successes_of_a_second_are_listed_up_to_a_number(gator, recording):
    for _ in range(3 * LISTED):
        recording.record(outcome(), 0.5)
    flush(recording)
    assert len(gator.recent(10_000)) == LISTED
    recording.record(outcome(), 0.001)
    flush(recording)
    assert len(gator.recent(10_000)) == LISTED + 1


def test_many_successes_are_counted_and_few_measured(gator, recording):
    done = outcome()
    began = time.process_time()
    for _ in range(30_000):
        ended = recording.ended["q"]
        ended.append(jobs.note)
        if len(ended) >= ended.measure_at:
            recording.notice(done, 0.001)
    assert len(recording._measured) <= 2 * MEASURED
    flush(recording)
    took = time.process_time() - began
    row = rows(gator)["q", "tests.support.jobs.note"]
    assert row.succeeded == sum(row.duration_buckets) == recording.done == 30_000
    assert row.duration_sum == pytest.approx(30)
    assert took < 1.5, "some 20 ms on a machine that is not busy"


def test_threads_lose_no_count(gator):
    with gator.batch() as batch:
        for index in range(2000):
            batch.task(jobs.note, index)
    jobs.seen.clear()
    Worker(gator, concurrency=4, burst=True, log_level=logging.CRITICAL).run_forever()
    assert len(jobs.seen) == sum(row.succeeded for row in gator.activity()) == 2000


def test_a_forked_child_reports_nothing_of_its_parent(gator, recording):
    for each in (outcome(), outcome(Verdict.BURY, error=ValueError())):
        recording.record(each, 0.5)
    with recording._lock, recording._flushing:  # as another thread may have them
        child = os.fork()
        if not child:
            sent = []
            recording.store.report = lambda it: sent.append(it) or []
            recording.record(outcome(), 0.001)
            flush(recording)
            (report,) = sent
            os._exit(len(report.activity) + len(report.recent) - 2)
    assert os.waitpid(child, 0)[1] == 0
    flush(recording)
    assert rows(gator)["q", "tests.support.jobs.note"].succeeded == 1


def test_a_show_function_that_fails_changes_nothing(gator):
    recording = Recording(gator.recorder, gator.store, lambda task: 1 / 0)
    recording.record(outcome(), 0.5)
    flush(recording)
    assert [row.args for row in gator.recent()] == ["(cannot be shown)"]
