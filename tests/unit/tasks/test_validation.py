"""Test which values an option may have."""

import datetime
from unittest.mock import Mock

import pytest

from alligator import SUCCESS, Gator, Task, Worker
from alligator.exceptions import InvalidTask, MultipleDelayError, ResultTimeout, RunAgain
from alligator.tasks.validation import check_options, timestamp, truth
from tests.support import jobs


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
        ({"headers": {"a": "1"}}, {"headers": {"a": "1"}}),
        ({"headers": None, "retry_on": None, "give_up_on": None}, {}),
        ({"give_up_on": ValueError}, {"give_up_on": ["builtins.ValueError"]}),
        ({"give_up_on": "ValueError"}, {"give_up_on": ["builtins.ValueError"]}),
        ({"give_up_on": ("a.B", "a:B", "c.D")}, {"give_up_on": ["a.B", "c.D"]}),
        (
            {"retries": 1, "retry_on": [InvalidTask]},
            {"retries": 1, "retry_on": ["alligator.exceptions.InvalidTask"]},
        ),
        ({"limit": 3, "limit_key": "customer 7"}, {"limit": 3, "limit_key": "customer 7"}),
        ({"limit": None, "limit_key": None, "rate": None, "rate_key": None}, {}),
        ({"rate": "100/m", "rate_key": "é"}, {"rate": (100, 60.0), "rate_key": "é"}),
        ({"rate": " 5 / s "}, {"rate": (5, 1.0)}),
        ({"rate": "1/h"}, {"rate": (1, 3600.0)}),
        ({"rate": "1/d"}, {"rate": (1, 86_400.0)}),
        ({"rate": [7, 0.5]}, {"rate": (7, 0.5)}),
        ({"rate": (7, datetime.timedelta(minutes=2))}, {"rate": (7, 120.0)}),
    ],
)
def test_good(given, checked):
    assert check_options(given) == checked


def test_the_largest_headers():
    headers = {"é" * 16: "x" * 4064, **{str(each): "" for each in range(10, 40)}}
    headers["last"] = "y" * (8192 - 32 - 4064 - 60 - 4)
    assert len(headers) == 32
    assert check_options({"headers": headers}) == {"headers": headers}


def test_an_error_shows_no_text_of_a_header():
    with pytest.raises(InvalidTask) as caught:
        check_options({"headers": {"token": "s3cret\n"}})
    assert "token" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "3", 1_000_000_001])
def test_a_limit_is_a_whole_number(value):
    with pytest.raises(InvalidTask, match=r"^limit=.* is not a whole number from 1 to [0-9]+\.$"):
        check_options({"limit": value})


@pytest.mark.parametrize("name", ["limit_key", "rate_key"])
def test_keys_are_short_and_printable(name):
    needs = {name.removesuffix("_key"): 1 if name == "limit_key" else "1/s"}
    for value in ("", "a\nb", "x" * 201, 7, "\ud800"):
        with pytest.raises(InvalidTask, match=f"^{name}=.* 1 to 200 printable"):
            check_options({name: value, **needs})
    with pytest.raises(InvalidTask, match=f"^{name}= changes nothing without"):
        check_options({name: "key"})


UNREADABLE = ["", "100", "100/y", "0/s", "-1/s", "1.5/s", "/m", 100, (1,), (0, 1), (1, 0), (1, -1)]
UNREADABLE += [(1, 2, 3), (True, 1), (1.5, 1), (1, "m"), ("1", 1), (1, 1e99), (1, float("nan"))]


@pytest.mark.parametrize("value", UNREADABLE, ids=repr)
def test_a_rate_that_cannot_be_read(value):
    with pytest.raises(InvalidTask) as caught:
        check_options({"rate": value})
    assert str(caught.value).startswith(f"rate={value!r} cannot be read: give 'N/s', 'N/m', 'N/h'")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "merged"),
    [
        ({}, {"retries": 3, "timeout": 5.0, "delay_by": 1.0}),
        ({"retries": 0}, {"retries": 0, "timeout": 5.0, "delay_by": 1.0}),
        ({"timeout": None, "run_after": None}, {"retries": 3}),
        ({"timeout": 7, "delay_until": 9}, {"retries": 3, "timeout": 7.0, "delay_until": 9.0}),
        (
            {"retry_on": "a.B", "timeout": None, "delay_by": None},
            {"retries": 3, "retry_on": ["a.B"]},
        ),
    ],
)
def test_defaults_and_what_overrides_them(given, merged):
    assert check_options(given, {"retries": 3, "timeout": 5.0, "delay_by": 1.0}) == merged


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
                {"headers": "a"},
                {"headers": {1: "a"}},
                {"headers": {"a": None}},
                {"headers": {"a\0": "b"}},
                {"headers": {"a": "b\n"}},
                {"headers": {"a": "\ud800"}},
                {"headers": dict.fromkeys(map(str, range(33)), "")},
                {"headers": {"a": "é" * 4096}},
                {"retry_on": OSError},
                {"retry_on": OSError, "retries": 0},
                {"give_up_on": int},
                {"give_up_on": OSError()},
                {"give_up_on": "NoSuchError"},
                {"give_up_on": "os.path/x"},
                {"give_up_on": "a." * 300 + "b"},
                {"give_up_on": []},
                {"give_up_on": [f"a.b{each}" for each in range(101)]},
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


@pytest.mark.parametrize("name", ["retry", "max_retries", "retrys"])
def test_a_number_of_retries_by_another_name(name):
    with pytest.raises(TypeError, match="Did you mean 'retries'"):
        check_options({name: 3})


SECONDS = ["retry_delay", "retry_max_delay", "delay_by", "timeout", "expires", "save_results"]


@pytest.mark.parametrize("name", SECONDS)
def test_every_option_in_seconds_takes_a_timedelta_and_says_what_it_takes(name):
    assert check_options({name: datetime.timedelta(minutes=1.5)}) == {name: 90.0}
    for wrong in (True, "60", -1, datetime.timedelta(-1), float("nan"), [1]):
        with pytest.raises(InvalidTask, match=rf"{name}=.* number of seconds .* timedelta"):
            check_options({name: wrong})


def test_how_long_a_result_is_kept_has_to_be_said():
    with pytest.raises(InvalidTask, match=r"save_results=True .* for which the result is to be ke"):
        check_options({"save_results": True})


def test_a_moment_is_no_span_of_time():
    with pytest.raises(InvalidTask, match="not a Unix timestamp, a datetime or a date"):
        check_options({"delay_until": datetime.timedelta(1)})
    with pytest.raises(InvalidTask, match="not a finite number"):
        check_options({"retry_backoff": datetime.timedelta(2)})


def test_the_other_spans_of_time(tmp_path):
    minute = datetime.timedelta(minutes=1)
    gator = Gator(f"locmem://{tmp_path}")
    every = gator.every(minute, jobs.note)
    assert every.rule.seconds == 60
    assert every.name == gator.options().every(60.0, jobs.note).name
    with pytest.raises(InvalidTask, match="a number of seconds, or a timedelta, from 0.001"):
        gator.every(datetime.timedelta(0), jobs.note)
    worker = Worker(gator, nap_time=minute, lease=minute, grace=minute)
    assert (worker.nap_time, worker.lease, worker.grace) == (60, 60, 60)
    for name in ("nap_time", "lease", "grace"):
        with pytest.raises(InvalidTask, match=f"{name}='1' is neither a number of seconds from"):
            Worker(gator, **{name: "1"})
    jobs.seen.clear()
    task = gator.options(save_results=minute).task(jobs.note)
    moment = datetime.timedelta(milliseconds=1)
    assert task.wait(moment) is False
    assert gator.wait([task.id], -moment) is False
    with pytest.raises(ResultTimeout, match=r"not ended within 0\.001 s\."):
        gator.result(task, moment)
    again = Task(is_async=False, retries=1)
    again.to_call(lambda: again.retry(moment))
    with pytest.raises(RunAgain) as asked:
        again.run()
    assert asked.value.delay == 0.001
    for wrong in ("1", True, float("nan")):
        with pytest.raises(InvalidTask, match="timeout=.* nor a timedelta"):
            task.wait(wrong)
    assert gator.run_all() == 1
    assert task.wait(minute) is True
    assert gator.result(task, minute) == 1


HOOKS = ["on_start", "on_success", "on_error"]


def none():
    """Take nothing."""


def one(task, more=1):
    """Take the task, and something if given."""


def two(task, found):
    """Take two."""


def three(task, found, more):
    """Take three."""


def by_name(task, *, found):
    """Take one, and another in a way in which no hook is called."""


def star(*args):
    """Take whatever comes."""


class Unhashable:
    """A hook that is an object; one that takes a task alone."""

    __hash__ = None

    def __call__(self, task):
        """Take one."""


@pytest.mark.parametrize(
    ("name", "hook"),
    [
        *((name, none) for name in HOOKS),
        *((name, three) for name in HOOKS),
        ("on_success", by_name),
        ("on_start", two),
        ("on_error", lambda: None),
    ],
)
def test_a_hook_that_could_never_be_called_is_refused(name, hook):
    with pytest.raises(InvalidTask, match=rf"{name}=.* cannot be called as {name}\(ta"):
        check_options({name: hook})


@pytest.mark.parametrize("hook", [one, star, lambda task: None, Unhashable(), print, Mock()])
def test_a_hook_that_can_be_called_is_not(hook, tmp_path):
    for name in HOOKS:
        assert check_options({name: hook}) == {name: hook}
    both = {"on_start": hook, "on_success": hook}
    task = Gator(f"locmem://{tmp_path}").options(is_async=False, **both).task(jobs.note)
    assert task.status == SUCCESS
    assert check_options({"on_error": two, "on_success": two}) == {
        "on_error": two,
        "on_success": two,
    }


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
