"""Test Task: calling, hooks, states, and the message."""

import copy
import json
import operator
import pickle
from datetime import timedelta

import pytest

from alligator import (
    CANCELED,
    FAILED,
    RETRYING,
    RUNNING,
    SUCCESS,
    WAITING,
    Gator,
    Task,
    current_task,
)
from alligator.exceptions import (
    BadPayload,
    MultipleDelayError,
    UnknownCallableError,
    UnknownModuleError,
)
from alligator.testing import FakeClock
from tests.support import jobs
from tests.support.compressed_task import SkinnyTask


@pytest.fixture(autouse=True)
def _fresh():
    jobs.seen.clear()


def task_for(func, *args, **options):
    task = Task(**options)
    task.to_call(func, *args)
    return task


def test_fresh_task_has_the_documented_defaults():
    task = Task()
    assert (task.retries, task.is_async, task.status, task.result) == (0, True, WAITING, None)
    assert (task.func, task.func_args, task.func_kwargs) == (None, [], {})
    assert task.id == task.task_id
    task.to_call(jobs.note, 1, b=2)
    assert (task.func_args, task.func_kwargs) == ((1,), {"b": 2})


def test_a_delay_is_known_as_a_moment_at_once(monkeypatch):
    """As in 1.0, by ``time.time()`` at that moment."""
    monkeypatch.setattr("time.time", lambda: 1000)
    task = Task(delay_by=120)
    assert (task.delay_by, task.delay_until) == (120, 1120)
    assert Task(delay_by=timedelta(minutes=2)).delay_until == 1120
    assert Task().delay_until is None
    assert json.loads(task_for(jobs.note, delay_by=120).serialize())["options"] == {
        "delay_until": 1120
    }


def test_a_push_counts_its_delay_from_its_own_time(tmp_path):
    clock = FakeClock(5000.0)
    gator = Gator(f"locmem://{tmp_path}", clock=clock)
    own = Task(delay_by=60)
    with gator.options(delay_by=60) as opts, gator.batch(delay_by=60) as batch:
        for now in (5000.0, 5100.0):
            tasks = [opts.task(jobs.note), batch.task(jobs.note), gator.push(own, jobs.note)]
            assert {each.delay_until for each in tasks} == {now + 60}
            assert {each.delay_by for each in tasks} == {60}
            clock.advance(100)


def test_positional_signature_of_1_0():
    task = Task("id", 3, False, jobs.on_start, jobs.on_success, jobs.on_error, None, 5)
    assert (task.task_id, task.retries, task.is_async, task.delay_by) == ("id", 3, False, 5.0)
    assert task.on_start is jobs.on_start
    assert Task(**{"async": "off"}).is_async is False
    with pytest.raises(MultipleDelayError):
        Task(delay_by=1, delay_until=2)
    assert Task("id", 0, True, None, None, None, ["x"]).depends_on == ["x"]
    with pytest.raises(TypeError, match="retries"):
        Task(retrys=1)


class Plain(Task):
    """A class as it was before tasks had a parameter."""


class Counting(Task[int]):
    """A class of tasks that return a number."""


@pytest.mark.parametrize("kind", [Task, Task[int], Plain, Counting])
def test_the_parameter_is_for_type_checkers_alone(kind):
    task = kind("id", retries=3)
    task.to_call(operator.add, 1, 2)
    for each in (task, copy.copy(task), pickle.loads(pickle.dumps(task))):
        assert isinstance(each, Task)
        assert (each.task_id, each.retries, each.func) == ("id", 3, operator.add)
        assert each.serialize() == task.serialize()
        assert each.run() == 3
    expected = {"task_id": "id", "id_was_given": True, "func_args": [], "func_kwargs": {}}
    assert vars(Task("id")) == expected


def test_states():
    task = Task()
    for name, status in [
        ("waiting", WAITING),
        ("success", SUCCESS),
        ("failed", FAILED),
        ("canceled", CANCELED),
        ("retrying", RETRYING),
    ]:
        getattr(task, f"to_{name}")()
        assert task.status == status


def test_hooks_around_a_success():
    task = task_for(jobs.note, 1, on_start=jobs.on_start, on_success=jobs.on_success)
    assert task.run() == 2
    assert jobs.seen == [("on_start", RUNNING), ((1,), {}), ("on_success", SUCCESS, 2)]
    assert (task.result, task.status) == (2, SUCCESS)


def test_hooks_around_a_failure():
    task = task_for(jobs.fail, on_success=jobs.on_success, on_error=jobs.on_error)
    with pytest.raises(ValueError, match="too much"):
        task.run()
    assert jobs.seen == [("on_error", FAILED, "ValueError")]
    assert isinstance(task.error, ValueError)


def test_a_hook_with_one_argument_gets_the_task():
    task = task_for(jobs.fail, on_error=jobs.log_func)
    with pytest.raises(ValueError, match="too much"):
        task.run()
    assert jobs.seen == [("log_func", task.task_id, FAILED, None)]


@pytest.mark.parametrize("hook", ["on_start", "on_success"])
def test_a_hook_that_raises_changes_nothing(hook, caplog):
    task = task_for(jobs.note, **{hook: jobs.broken_hook})
    assert task.run() == 1
    assert task.status == SUCCESS
    assert "the hook itself" in caplog.text


def test_current_task():
    task = task_for(jobs.which_task)
    assert task.run() == task.task_id
    assert current_task() is None


def test_wire_format_is_that_of_1_0():
    task = task_for(jobs.note, 1, on_error=jobs.on_error, delay_until=5, retries=2, priority=7)
    assert json.loads(task.serialize()) == {
        "task_id": task.task_id,
        "retries": 2,
        "is_async": True,
        "module": "tests.support.jobs",
        "callable": "note",
        "args": [1],
        "kwargs": {},
        "options": {
            "on_error": {"module": "tests.support.jobs", "callable": "on_error"},
            "delay_until": 5.0,
            "priority": 7,
        },
    }


@pytest.mark.parametrize(
    "message",
    [
        {"task_id": "old", "retries": 1, "is_async": True, "options": {}, "kwargs": {"b": 2}},
        {"task_id": "old", "retries": 1, "async": True, "kwargs": {"b": 2}},
        {"task_id": "old", "retries": 1, "args": None, "kwargs": {"b": 2}, "options": None},
    ],
)
def test_messages_of_older_versions_run(message):
    data = json.dumps({**message, "module": "tests.support.jobs", "callable": "note"})
    task = Task.deserialize(data)
    assert (task.task_id, task.retries) == ("old", 1)
    task.run()
    assert jobs.seen == [((), {"b": 2})]


GOOD = {"task_id": "x", "retries": 0, "module": "tests.support.jobs", "callable": "note"}


@pytest.mark.parametrize(
    "change",
    [
        {"task_id": 3},
        {"task_id": None},
        {"task_id": ""},
        {"task_id": "a\nb"},
        {"retries": "1"},
        {"retries": True},
        {"retries": -1},
        {"retries": 10**9},
        {"module": 3},
        {"module": "os;import sys"},
        {"callable": ""},
        {"callable": "a..b"},
        {"options": {"on_error": {"module": "tests.support.jobs", "callable": "coroutine"}}},
        {"callable": "seen"},
        {"args": {}},
        {"kwargs": []},
        {"options": []},
        {"options": {"on_error": "name"}},
        {"options": {"on_error": {"module": "tests.support.jobs"}}},
        {"options": {"priority": 101}},
        {"options": {"retry_delay": "1"}},
        {"options": {"retried": "x"}},
        {"options": {"timeout": 0}},
        {"options": {"timeout": "30"}},
        {"options": {"expires": 30}},
        {"options": {"expires_at": "soon"}},
        {"options": {"depends_on": "a"}},
        {"options": {"depends_on": [5]}},
        {"options": {"of_a_later_version": 1}},
        {"is_async": "perhaps"},
        {"module": "a." * 300 + "b"},
    ],
)
def test_wrong_fields_are_bad_payloads(change):
    with pytest.raises(BadPayload):
        Task.deserialize(json.dumps({**GOOD, **change}))


@pytest.mark.parametrize("data", ["", "null", "3", "[]", '"x"', "{}", b"\xff", "{", "NaN"])
def test_what_is_no_task_is_a_bad_payload(data):
    with pytest.raises(BadPayload):
        Task.deserialize(data)


def test_missing_code_has_errors_of_its_own():
    with pytest.raises(UnknownModuleError):
        Task.deserialize(json.dumps({**GOOD, "module": "tests.no_such"}))
    with pytest.raises(UnknownCallableError):
        Task.deserialize(json.dumps({**GOOD, "callable": "no_such"}))


@pytest.mark.parametrize("fixture", ["sqlite_dsn", "redis_dsn", "beanstalk_dsn"])
def test_a_task_class_of_bytes_goes_through_a_backend(fixture, request):
    from alligator import Gator

    gator = Gator(request.getfixturevalue(fixture), "skinny", task_class=SkinnyTask)
    gator.options(retries=1)(jobs.note, 1)
    assert isinstance(gator.pop(), SkinnyTask)
    gator.options(retries=1)(jobs.fail)
    assert gator.run_all() == 2
    assert gator.dead()[0].data.startswith(b"BZh")
    gator.client.drop_all("skinny")
    gator.close()


@pytest.mark.parametrize("value", [False, "False", "1", "yes", 0, 1, None])
def test_whatever_is_async_says_a_worker_runs_it(value):
    """0.x wrote what it found in the environment."""
    for name in ("is_async", "async"):
        fields = {key: each for key, each in GOOD.items() if key != "is_async"}
        assert Task.deserialize(json.dumps({**fields, name: value})).func is not None


def test_unset_options_of_a_later_version_are_no_matter():
    assert Task.deserialize(json.dumps({**GOOD, "options": {"timeout": None}}))
