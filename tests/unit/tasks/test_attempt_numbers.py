"""Test the number of an attempt: of a delivery and of a listed task, by what the message says."""

import json

import pytest

from alligator import Task
from alligator.backends.base import Delivery, Listed
from alligator.constants import DELAYED, FAILED, RUNNING, WAITING
from alligator.tasks.attempt_numbers import attempts_of, number_of
from alligator.tasks.message import with_missed
from alligator.tasks.validation import MOST_RETRIES
from tests.support import jobs
from tests.support.compressed_task import SkinnyTask


def message(kind=Task, **changes):
    task = kind(retries=2)
    task.to_call(jobs.note)
    for name, value in changes.items():
        setattr(task, name, value)
    return task, task.serialize()


@pytest.mark.parametrize(("retried", "missed", "deaths"), [(0, 0, 0), (2, 0, 1), (1, 3, 0)])
def test_retries_deaths_and_looks_for_missing_code_count(retried, missed, deaths):
    task, data = message(retried=retried)
    data, before = with_missed(data, missed), retried + missed + deaths
    for raw in (data, data.encode()):
        delivery = Delivery("q", "t", raw, None, attempt=40, deaths=deaths)
        assert number_of(delivery) == number_of(delivery, task) == before + 1
        for state, shown in ((WAITING, before), (DELAYED, before), (RUNNING, before + 1)):
            assert attempts_of(Listed("t", raw, state, attempts=40, deaths=deaths)) == shown
    assert attempts_of(Listed("t", data, FAILED, attempts=40)) == 40


@pytest.mark.parametrize("data", ["no json", b"\xff", "", "[]", '{"options": {"retried": 3}}'])
def test_of_what_is_no_message_of_a_task_deliveries_count(data):
    assert number_of(Delivery("q", "t", data, None, 5)) == 5
    assert attempts_of(Listed("t", data, WAITING, attempts=5)) == 5


@pytest.mark.parametrize("retried", [-1, MOST_RETRIES + 1, "7", 1.5, None, [], {"a": 1}])
def test_a_number_that_is_none_of_retries_counts_for_nothing(retried):
    data = json.dumps({"retries": 1, "options": {"retried": retried}})
    assert number_of(Delivery("q", "t", data, None, 5)) == 1


def test_of_a_class_that_forgets_retries_deliveries_count():
    task, data = message(SkinnyTask)
    assert number_of(Delivery("q", "t", data, None, 5), task) == 5

    class Strange:
        @property
        def retried(self):
            raise SystemExit

    assert number_of(Delivery("q", "t", data, None, 5), Strange()) == 5


def test_a_long_message_is_read_if_it_was_delivered_before():
    _, data = message(retried=1, func_args=["x" * 200_000])
    assert number_of(Delivery("q", "t", data, None, 2)) == 2
    assert number_of(Delivery("q", "t", data, None, 1)) == 1
