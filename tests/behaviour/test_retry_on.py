"""Test which exceptions are retried, and which bury the task at once, in every way of running."""

import asyncio
import json
import sys
import uuid

import pytest

from alligator import FAILED, Gator, Task, Worker, current_task
from alligator.exceptions import TaskTimeout
from alligator.testing import FakeClock
from tests.support import jobs

runs: list = []


class Flaky(ConnectionError):
    class Inner(Exception):
        """Has a name with two dots."""


def fail(kind):
    runs.append(kind)
    raise {"flaky": Flaky, "inner": Flaky.Inner, "value": ValueError, "exit": SystemExit}[kind]


async def fail_in_a_coroutine(kind):
    await asyncio.sleep(0)
    fail(kind)


def note_start(task):
    """A hook: its time does not count, however slow the machine is."""
    runs.append("too long")


def too_long():
    while True:
        pass


def ask_for_another():
    runs.append("asked")
    current_task().retry()


def grant_one(task, err):
    task.retries += 1


@pytest.fixture(autouse=True)
def nothing_ran():
    runs.clear()


@pytest.fixture
def gator():
    return Gator(f"locmem://{uuid.uuid4().hex}", clock=FakeClock())


def work(gator, **options):
    Worker(gator, log_level="CRITICAL", burst=True, **options).run_forever()


def at_once(gator, options, func, *args):
    try:
        gator.options(is_async=False, **options).task(func, *args)
    except BaseException as err:
        return type(err)


WAYS = {
    "inline": lambda gator, *_: work(gator),
    "threads": lambda gator, *_: work(gator, concurrency=2),
    "run_all": lambda gator, *_: gator.run_all(),
}

RULES = [
    # options, the kind of error, runs in all
    ({"retry_on": Flaky}, "flaky", 3),
    ({"retry_on": Flaky}, "value", 1),
    ({"retry_on": OSError}, "flaky", 3),
    ({"retry_on": [KeyError, "OSError"]}, "flaky", 3),
    ({"retry_on": "tests.behaviour.test_retry_on.Flaky"}, "flaky", 3),
    ({"retry_on": "tests.behaviour.test_retry_on:Flaky.Inner"}, "inner", 3),
    ({"retry_on": Flaky}, "inner", 1),
    ({"retry_on": "not.loaded.Error"}, "flaky", 1),
    ({"give_up_on": OSError}, "flaky", 1),
    ({"give_up_on": OSError}, "value", 3),
    ({"give_up_on": SystemExit}, "exit", 1),
    ({"retry_on": Exception, "give_up_on": Flaky}, "flaky", 1),
    ({"retry_on": Exception, "give_up_on": Flaky}, "value", 3),
    ({"retry_on": Flaky, "give_up_on": OSError}, "flaky", 1),
    ({"retry_on": Exception}, "exit", 1),
    ({"retry_on": BaseException}, "exit", 3),
    ({"give_up_on": ValueError, "on_error": grant_one}, "value", 1),
]


@pytest.mark.parametrize("way", [*WAYS, "at once"])
@pytest.mark.parametrize("func", [fail, fail_in_a_coroutine])
def test_each_rule(gator, way, func):
    for options, kind, count in RULES:
        runs.clear()
        if way == "at once":
            assert at_once(gator, {"retries": 2, **options}, func, kind) is not None
        else:
            gator.options(retries=2, **options).task(func, kind)
            WAYS[way](gator)
            assert len(gator.dead()) == 1
            gator.client.purge_dead(gator.queue_name)
        assert runs == [kind] * count, options


@pytest.mark.parametrize("way", [*WAYS, "at once"])
@pytest.mark.parametrize(
    ("options", "count"), [({"retry_on": TaskTimeout}, 2), ({"give_up_on": TaskTimeout}, 1)]
)
def test_a_timeout_can_be_named(gator, way, options, count):
    options = {"retries": 1, "timeout": 0.02, "on_start": note_start, **options}
    if way == "at once":
        assert at_once(gator, options, too_long) is TaskTimeout
    else:
        gator.options(**options).task(too_long)
        WAYS[way](gator)
    assert runs == ["too long"] * count


@pytest.mark.parametrize("way", [*WAYS, "at once"])
def test_who_asks_for_another_run_gets_it(gator, way):
    options = {"retries": 2, "retry_on": KeyError, "give_up_on": BaseException}
    if way == "at once":
        at_once(gator, options, ask_for_another)
    else:
        gator.options(**options).task(ask_for_another)
        WAYS[way](gator)
    assert runs == ["asked"] * 3


def test_a_name_by_which_another_module_has_it(gator, monkeypatch, tmp_path):
    """As requests.Timeout, which is requests.exceptions.Timeout."""
    (tmp_path / "facade_of_errors.py").write_text("from tests.behaviour.test_retry_on import Flaky")
    monkeypatch.syspath_prepend(tmp_path)
    opts = gator.options(retries=1, retry_on="facade_of_errors.Flaky")
    opts.task(fail, "flaky")
    work(gator)
    assert len(runs) == 1, "it is not loaded, so nothing can have raised it by that name"
    assert "facade_of_errors" not in sys.modules, "a message has nothing imported"
    __import__("facade_of_errors")
    opts.task(fail, "flaky")
    work(gator)
    assert len(runs) == 3
    del sys.modules["facade_of_errors"]


def test_the_names_are_on_the_wire_and_survive_a_retry_and_a_revival(gator):
    task = gator.options(retries=1, retry_on=[Flaky, OSError], give_up_on=KeyError).task(
        fail, "flaky"
    )
    names = {
        "retry_on": ["tests.behaviour.test_retry_on.Flaky", "builtins.OSError"],
        "give_up_on": ["builtins.KeyError"],
    }
    options = json.loads(gator.client.peek("all", task.task_id))["options"]
    assert options == names
    work(gator)
    (letter,) = gator.dead()
    kept = json.loads(letter.data)["options"]
    assert {name: kept[name] for name in names} == names
    gator.revive()
    work(gator)
    assert len(runs) == 4


def test_set_on_a_task_by_hand(gator):
    task = Task(retries=1)
    task.give_up_on = ValueError
    task.is_async = False
    with pytest.raises(ValueError, match="^$"):
        gator.push(task, fail, "value")
    assert (runs, task.status) == (["value"], FAILED)


def test_a_task_without_them_is_written_as_before(gator):
    task = gator.options(retries=1).task(jobs.note)
    assert json.loads(gator.client.peek("all", task.task_id))["options"] == {}
