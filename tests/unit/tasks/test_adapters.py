"""Test the option ``adapter`` of a message, by which the function of a task is made."""

import json
import sys
from types import ModuleType

import pytest

from alligator import Gator, current_task
from alligator.backends.base import Delivery
from alligator.exceptions import BadPayload, InvalidTask, UnknownModuleError
from alligator.tasks import adapters
from alligator.tasks.adapters import adapter_of, check_adapter

seen = []


class Entry:
    """An object that is no function."""

    def __init__(self, text):
        self.text = text


entry = Entry("hello")


class Observer:
    def started(self, task):
        seen.append("started")

    def succeeded(self, task, result):
        seen.append(("succeeded", result))

    def failed(self, task, error):
        seen.append(("failed", type(error), task.may_retry(error)))

    def canceled(self, task, error):
        seen.append("canceled")


class Broken(Observer):
    def started(self, task):
        raise OSError("of the observer")


def adapt(told, found):
    if not isinstance(found, Entry):
        raise TypeError("no entry")

    def call(number):
        if number < 0:
            raise ValueError(number)
        return f"{told} {found.text} {number} {current_task().headers.get('h')}"

    call.__module__, call.__qualname__, call.__name__ = __name__, "entry", "entry"
    call.__adapted__ = found
    call.observer = Broken() if told == "broken" else Observer()
    return call


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    module = ModuleType("adapters_for_tests")
    module.adapt = adapt
    monkeypatch.setitem(sys.modules, "adapters_for_tests", module)
    monkeypatch.setitem(adapters._MODULES, "test", "adapters_for_tests")
    monkeypatch.setitem(adapters._MODULES, "missing", "no_such_module")
    seen.clear()


@pytest.fixture
def gator(tmp_path):
    return Gator(f"locmem://{tmp_path}")


def push(gator, number, told="well", **options):
    task = gator.new_task({"headers": {"h": "H"}, **options})
    task.adapter = f"test:{told}"
    return gator.push(task, adapt(told, entry), number)


def test_it_runs_and_is_told_of(gator):
    task = push(gator, 1, save_results=60)
    data = json.loads(gator.client.peek("all", task.task_id))
    assert (data["module"], data["callable"]) == (__name__, "entry")
    assert data["options"]["adapter"] == "test:well"
    assert gator.run_all() == 1
    assert gator.result(task) == "well hello 1 H"
    assert seen == ["started", ("succeeded", "well hello 1 H")]


def test_a_retry_keeps_the_adapter(gator):
    push(gator, -1, retries=1)
    assert gator.run_all() == 2
    assert seen == [
        "started",
        ("failed", ValueError, True),
        "started",
        ("failed", ValueError, False),
    ]


def test_an_observer_that_raises_changes_nothing(gator, caplog):
    task = push(gator, 1, "broken", save_results=60)
    gator.run_all()
    assert gator.result(task) == "broken hello 1 H"
    assert "of the observer" in caplog.text


def test_what_the_adapter_refuses_is_a_dead_letter_with_its_bytes(gator):
    task = push(gator, 1)
    data = gator.client.peek("all", task.task_id).replace('"entry"', '"push"')
    gator.client.drop_all("all")
    gator.client.push("all", task.task_id, data)
    gator.run_all()
    (letter,) = gator.client.dead("all", 10)
    assert (letter.data, letter.error) == (data, "TypeError: no entry")


def test_names_alone_need_no_adapter(gator):
    task = push(gator, 1)
    delivery = Delivery("all", task.task_id, gator.client.peek("all", task.task_id), None)
    found = gator.codec.decode_names(delivery)
    assert (str(found.func), found.adapter) == (f"{__name__}:entry", "test:well")


def test_without_its_adapter_it_is_no_function():
    with pytest.raises(InvalidTask):
        Gator("locmem://").task(entry, 1)


def test_adapters_that_there_are_not():
    with pytest.raises(BadPayload, match="There is no adapter 'x'"):
        adapter_of("x:y")
    with pytest.raises(UnknownModuleError, match="no_such_module, which this task needs"):
        adapter_of("missing")
    for value in ("", 3, "x" * 201, "a\nb"):
        with pytest.raises(InvalidTask):
            check_adapter(value)
