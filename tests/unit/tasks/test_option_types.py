"""Test that the types of options say what options take when a program runs."""

import inspect
import types
import typing
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from alligator import Batch, Gator, Options, Task
from alligator.exceptions import AlligatorException
from alligator.options import (
    BatchOptions,
    ErrorHook,
    GatorOptions,
    Hook,
    ScheduleOptions,
    SuccessHook,
    TaskOptions,
)
from alligator.scheduling.rules import check_schedule_options
from alligator.tasks.task import KeywordOptions
from alligator.tasks.validation import ALIASES, CHECKS, SCHEDULE_OPTIONS, check_options

#: "async" is a word of Python, and so no name of a keyword.
OLD_NAMES = ALIASES.keys() - {"async"}

TAKES = {Hook: {1}, SuccessHook: {2}, ErrorHook: {2}}


def one(task):
    pass


def two(task, more):
    pass


def one_or_two(task, more=None):
    pass


def three(task, more, most):
    pass


VALUES = [
    *(None, True, False, 0, 5, 1.5, 1.7e9, timedelta(minutes=1)),
    *(datetime.now(UTC), date(2030, 1, 1), ZoneInfo("UTC"), "UTC", "text", "no", "end", "start"),
    *("100/m", "ValueError", "requests.Timeout", b"bytes", (100, 60), (100, timedelta(1))),
    *([], {}, {"name": "text"}, {"name": 5}, OSError, int, [OSError], (OSError, "KeyError")),
    *([int], ["id"], ("queue", "id"), [("queue", "id"), "id"], Task(), {Task()}, [5], object()),
    *(one, two, one_or_two, three),
]
#: What is taken when a program runs, though its type does not say so.
WIDER = {"is_async": object}  # its truth counts, as in 0.x

hints = typing.get_type_hints
ALL = hints(ScheduleOptions)


def alternatives(hint):
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return [each for part in typing.get_args(hint) for each in alternatives(part)]
    if origin is typing.Literal:
        return [typing.Literal[each] for each in typing.get_args(hint)]
    return [hint]


def is_of(value, hint):
    """Return whether a checker would let a value have this type."""
    return any(_is_of(value, each) for each in alternatives(hint))


def _is_of(value, hint):
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint in TAKES:
        return callable(value) and any(_takes(value, count) for count in TAKES[hint])
    if origin is typing.Literal:
        return value in args
    if origin is type:
        return isinstance(value, type) and issubclass(value, args[0])
    if origin is tuple:
        return isinstance(value, tuple) and len(value) == len(args) and all(map(is_of, value, args))
    if origin is Iterable:
        return isinstance(value, Iterable) and all(is_of(each, args[0]) for each in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(is_of(each, args[1]) for each in value.values())
    if isinstance(value, bool) and hint in (int, float):
        return False  # a checker lets it pass; it is refused when a program runs
    return isinstance(value, (int, float) if hint is float else hint)


def _takes(func, count):
    try:
        inspect.signature(func).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # a class of Python itself, which shows no parameters
        return True
    return True


#: What some options need beside them.
BESIDE = {
    "retry_on": {"retries": 1},
    "unique_until": {"unique": True},
    "debounce_max": {"debounce": 0.001},
    "limit_key": {"limit": 1},
    "rate_key": {"rate": "1/s"},
}


def is_taken(name, value):
    try:
        if name in SCHEDULE_OPTIONS:
            check_schedule_options({name: value})
        else:
            check_options({**BESIDE.get(name, {}), name: value})
    except AlligatorException:
        return False
    return True


def test_they_name_each_option_and_no_other():
    of_schedules = SCHEDULE_OPTIONS
    assert ALL.keys() == CHECKS.keys() | OLD_NAMES | of_schedules
    assert hints(TaskOptions).keys() == ALL.keys() - of_schedules
    assert hints(BatchOptions).keys() == ALL.keys() - of_schedules - {"on_success"}
    of_one = {"task_id", "delay_until", "depends_on"}
    assert hints(GatorOptions).keys() == ALL.keys() - of_schedules - of_one


def test_each_place_takes_those_that_its_type_names():
    task, on_success = hints(TaskOptions), {"on_success"}
    parameters = inspect.signature(Task).parameters
    assert {*parameters} - {"options"} | hints(KeywordOptions).keys() == task.keys()
    for call, options in [
        (Gator.options, ScheduleOptions),
        (Options, ScheduleOptions),
        (Gator.batch, BatchOptions),
        (Batch, BatchOptions),
        (Batch.options, TaskOptions),
        (Task, KeywordOptions),
    ]:
        called = call.__init__ if isinstance(call, type) else call
        found = hints(called)
        assert typing.get_args(found["options"]) == (options,), call
    assert on_success <= inspect.signature(Gator.batch).parameters.keys()


@pytest.mark.parametrize("name", ALL)
def test_an_option_takes_what_its_type_says_and_no_more(name):
    taken = [value for value in VALUES if is_taken(name, value)]
    wider = [value for value in taken if not is_of(value, ALL[name])]
    assert wider == [value for value in wider if isinstance(value, WIDER.get(name, ()))]
    for each in alternatives(ALL[name]):
        assert any(is_of(value, each) for value in taken), f"{name}= never takes {each}"
