"""Test functions that change their arguments: a retry has the arguments of the push."""

import asyncio
import copy
import json
import uuid

import pytest

from alligator import Gator, Task, Worker, current_task
from alligator.cli.show_dead_letter import as_test
from tests.support.compressed_task import SkinnyTask

seen: list = []
LIST, DICT = [1, [2]], {"name": "x", "inner": {"deep": True}}


def spoil(items, mapping):
    """Note what came, and leave nothing of it as it was."""
    seen.append(copy.deepcopy([items, mapping]))
    items.append("mine")
    items[1].clear()
    mapping.pop("name")
    mapping["inner"]["deep"] = False
    current_task().func_kwargs["more"] = 1
    raise ValueError("the real error")


async def spoil_in_a_coroutine(items, mapping):
    await asyncio.sleep(0)
    spoil(items, mapping)


def spoil_and_ask(items, mapping):
    try:
        spoil(items, mapping)
    except ValueError:
        current_task().retry()


def spoil_and_ask_for_others(items, mapping):
    try:
        spoil(items, mapping)
    except ValueError:
        current_task().retry(args=[["other", []]], kwargs={"mapping": mapping | {"name": 2}})


def give_others(task, err):
    task.func_args, task.func_kwargs = (["given", [5]],), {"mapping": copy.deepcopy(DICT)}


def change_in_place(task, *extra):
    task.func_kwargs["no_such"] = task.func_args[0].append("by a hook")


def look(task, *extra):
    seen.append(copy.deepcopy(task.func_args[0]))


def append(items):
    items.append("mine")
    raise ValueError("too much")


def succeed(items):
    items.append("mine")


@pytest.fixture(autouse=True)
def nothing_seen():
    seen.clear()


@pytest.fixture
def gator():
    return Gator(f"locmem://{uuid.uuid4().hex}")


def work(gator, **options):
    Worker(gator, log_level="CRITICAL", **options).run_forever()


def push(gator, func, **options):
    return gator.options(**options).task(func, copy.deepcopy(LIST), mapping=copy.deepcopy(DICT))


def check(letter, tries):
    assert seen == [[LIST, DICT]] * tries
    assert letter.error == "ValueError: the real error"
    data = json.loads(letter.data)
    assert (data["args"], data["kwargs"]) == ([LIST], {"mapping": DICT})


each_kind = pytest.mark.parametrize("func", [spoil, spoil_in_a_coroutine, spoil_and_ask])


@pytest.mark.parametrize("concurrency", [1, 2])
@each_kind
def test_retries_letters_and_what_is_revived_on_every_backend(durable_gator, func, concurrency):
    gator = durable_gator(f"args-{uuid.uuid4().hex[:8]}")
    push(gator, func, retries=2)
    work(gator, max_tasks=1, concurrency=concurrency)
    (letter,) = gator.dead()
    check(letter, 3)
    assert repr(LIST) in as_test(gator, letter)
    assert repr(DICT) in as_test(gator, letter)
    seen.clear()
    gator.revive()
    work(gator, max_tasks=1, concurrency=concurrency)
    (letter,) = gator.dead()
    check(letter, 3)


@each_kind
def test_each_way_to_run_one(gator, func):
    push(gator, func, retries=2)
    assert gator.run_all() == 3
    check(gator.dead()[0], 3)
    seen.clear()
    task = push(gator, func, retries=1)
    gator.pop()
    with pytest.raises(ValueError, match="the real error"):
        gator.get(task.task_id)
    check(gator.dead()[0], 2)
    seen.clear()
    push(gator, func, retries=1)
    worker = Worker(gator, log_level="CRITICAL")
    assert [worker.check_and_run_task() for _ in range(2)] == [False, False]
    check(gator.dead()[0], 2)


@each_kind
def test_at_once(gator, func):
    with pytest.raises(ValueError, match="the real error"):
        push(gator, func, retries=2, is_async=False)
    assert seen == [[LIST, DICT]] * 3
    seen.clear()
    task = Task(retries=1)
    task.to_call(func, copy.deepcopy(LIST), mapping=copy.deepcopy(DICT))
    gator.execute(task)
    gator.run_all()
    check(gator.dead()[0], 2)


def test_at_once_with_what_json_cannot_carry(gator):
    task, items = Task(is_async=False, retries=1), [object(), []]
    task.to_call(append, items)
    with pytest.raises(ValueError, match="too much"):
        gator.execute(task)
    assert items[2:] == ["mine", "mine"], "there is no other"


@pytest.mark.parametrize("is_async", [True, False])
def test_what_retry_was_told_holds(gator, is_async):
    if is_async:
        push(gator, spoil_and_ask_for_others, retries=1)
        gator.run_all()
        assert json.loads(gator.dead()[0].data)["args"] == [["other", []]]
    else:
        with pytest.raises(ValueError, match="the real error"):
            push(gator, spoil_and_ask_for_others, retries=1, is_async=False)
    changed = {"name": 2, "inner": {"deep": False}}
    assert seen == [[LIST, DICT], [["other", []], changed]]


@pytest.mark.parametrize("is_async", [True, False])
def test_what_a_hook_puts_in_their_place_holds(gator, is_async):
    if is_async:
        push(gator, spoil, retries=1, on_error=give_others)
        gator.run_all()
    else:
        with pytest.raises(ValueError, match="the real error"):
            push(gator, spoil, retries=1, is_async=False, on_error=give_others)
    assert seen == [[LIST, DICT], [["given", [5]], DICT]]


@pytest.mark.parametrize("hook", ["on_start", "on_error"])
def test_what_a_hook_changes_in_place_is_of_this_run_only(gator, hook):
    push(gator, spoil, retries=1, **{hook: change_in_place})
    gator.run_all()
    assert len(seen) == (2 if hook == "on_error" else 0)
    data = json.loads(gator.dead()[0].data)
    assert (data["args"], data["kwargs"]) == ([LIST], {"mapping": DICT})


def test_hooks_see_them_as_the_function_left_them(gator):
    gator.options(on_start=look, on_success=look).task(succeed, [1])
    gator.run_all()
    assert seen == [[1], [1, "mine"]]


def test_a_task_class_of_ones_own(gator):
    gator.task_class = SkinnyTask
    push(gator, spoil, retries=1)
    assert gator.run_all() == 2
    assert seen == [[LIST, DICT]] * 2
    task = SkinnyTask.deserialize(gator.dead()[0].data)
    assert (list(task.func_args), task.func_kwargs) == ([LIST], {"mapping": DICT})
