"""What an option may be."""

import datetime

import pytest

from alligator.exceptions import InvalidTask, MultipleDelayError
from alligator.options import check_options, timestamp, truth
from tests import jobs


@pytest.mark.parametrize(
    ("given", "checked"),
    [
        ({}, {}),
        ({"retries": 3}, {"retries": 3}),
        ({"run_after": 60}, {"delay_by": 60.0}),
        ({"async": "False"}, {"is_async": False}),
        ({"is_async": 1}, {"is_async": True}),
        ({"delay_until": 5}, {"delay_until": 5.0}),
        ({"delay_until": None, "task_id": None, "depends_on": None}, {}),
        ({"priority": -100}, {"priority": -100}),
        ({"retry_delay": 0, "retry_backoff": 2}, {"retry_delay": 0.0, "retry_backoff": 2.0}),
        ({"on_error": jobs.on_error}, {"on_error": jobs.on_error}),
        ({"on_error": None}, {"on_error": None}),
    ],
)
def test_good(given, checked):
    assert check_options(given) == checked


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"retrys": 3}, TypeError, "retries"),
        ({"zzz": 3}, TypeError, "Known:"),
        ({"async": True, "is_async": True}, TypeError, "twice"),
        ({"delay_by": 1, "delay_until": 2}, MultipleDelayError, "not both"),
        ({"run_after": 1, "delay_until": 2}, MultipleDelayError, "not both"),
        ({"depends_on": 1}, InvalidTask, "depends_on"),
        *(({name: 1}, InvalidTask, name) for name in ("tz", "catch_up", "overlap")),
        *(
            (given, InvalidTask, next(iter(given)))
            for given in (
                {"retries": -1},
                {"retries": 1.5},
                {"retries": True},
                {"retries": "3"},
                {"retries": 10**9},
                {"priority": 101},
                {"priority": -101},
                {"delay_by": -1},
                {"delay_by": 10**400},
                {"delay_until": datetime.datetime.min},
                {"delay_until": datetime.date.min},
                {"delay_by": float("nan")},
                {"delay_by": "1"},
                {"delay_until": float("inf")},
                {"delay_until": "tomorrow"},
                {"retry_delay": -0.1},
                {"save_results": -1},
                {"save_results": "always"},
                {"retry_backoff": 0.5},
                {"retry_max_delay": float("inf")},
                {"task_id": ""},
                {"task_id": 3},
                {"task_id": "x" * 201},
                {"task_id": "a\nb"},
                {"is_async": "maybe"},
                {"on_start": "name"},
                {"queue_name": 3},
            )
        ),
    ],
)
def test_bad(given, error, says):
    with pytest.raises(error, match=says):
        check_options(given)


@pytest.mark.parametrize("text", ["False", "false", "0", "no", "off", "", " FALSE "])
def test_texts_that_mean_false(text):
    assert truth(text) is False


@pytest.mark.parametrize("text", ["True", "true", "1", "yes", "on"])
def test_texts_that_mean_true(text):
    assert truth(text) is True


def test_moments():
    aware = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    assert timestamp(aware) == 1893492000.0
    naive = datetime.datetime(2030, 1, 1, 12)
    assert timestamp(naive) == naive.timestamp()
    assert timestamp(datetime.date(2030, 1, 1)) == datetime.datetime(2030, 1, 1).timestamp()
