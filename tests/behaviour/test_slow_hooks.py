"""Test hooks that hang: the log names them, and ``hook_timeout`` breaks them off."""

import asyncio
import threading
import time
import uuid
from datetime import timedelta

import pytest

from alligator import Gator, Task, Worker
from alligator.exceptions import InvalidTask
from alligator.execution.attempt import _limited
from alligator.runtime.timeouts import _watch
from alligator.tasks import task as task_module
from tests.support import jobs

go_on = threading.Event()
seen: list = []


def waits(task, *extra):
    seen.append("hook")
    go_on.wait(20)


def spins(task, *extra):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        time.sleep(0.002)
    seen.append("to its end")


def fine(*args):
    seen.append("ran")


def fails(*args):
    raise ValueError("no")


async def coroutine(*args):
    await asyncio.sleep(0)
    seen.append("ran")


def inline(gator, options, func):
    gator.options(is_async=False, **options).task(func)


def run_all(gator, options, func):
    gator.options(**options).task(func)
    gator.run_all()


def popped(gator, options, func):
    gator.options(**options).task(func)
    gator.pop()


def worked(concurrency):
    def work(gator, options, func):
        gator.options(**options).task(func)
        Worker(gator, burst=True, concurrency=concurrency).run_forever()

    return work


every_way = pytest.mark.parametrize(
    "run", [inline, run_all, popped, worked(1), worked(3)], ids=lambda run: run.__qualname__
)
both_kinds = pytest.mark.parametrize("func", [fine, coroutine])


@pytest.fixture
def gator():
    seen.clear()
    go_on.clear()
    return Gator(f"locmem://{uuid.uuid4().hex}")


def warnings(caplog):
    return [each for each in caplog.messages if "has not returned" in each]


@every_way
@both_kinds
@pytest.mark.parametrize("name", ["on_start", "on_success"])
def test_it_is_said_once(gator, caplog, monkeypatch, run, func, name):
    monkeypatch.setattr(task_module, "HOOK_PATIENCE", 0.05)
    thread = threading.Thread(target=run, args=[gator, {"task_id": "mine", name: waits}, func])
    thread.start()
    deadline = time.monotonic() + 20
    while not warnings(caplog):
        assert time.monotonic() < deadline, "nothing was said"
        time.sleep(0.005)
    time.sleep(0.1)
    go_on.set()
    thread.join(20)
    (line,) = warnings(caplog)
    assert line.startswith(f"Hook {name} <function waits at")
    assert "of task mine has not returned after 0.05 s, since 20" in line
    assert sorted(seen) == ["hook", "ran"]


def test_nothing_is_said_of_hooks_that_return(gator, caplog, monkeypatch):
    monkeypatch.setattr(task_module, "HOOK_PATIENCE", 0.5)
    for _ in range(20):
        gator.options(on_start=fine, on_success=fine).task(fine)
        with pytest.raises(ValueError, match="no"):
            gator.options(on_error=fine, is_async=False).task(fails)
    gator.run_all()
    assert not any(hasattr(each, "_call") for each in list(_watch._alarms.values()))
    time.sleep(0.55)
    assert warnings(caplog) == []


@every_way
@both_kinds
def test_it_is_broken_off_and_changes_no_outcome(gator, caplog, run, func):
    started = time.monotonic()
    options = {"on_start": spins, "on_success": spins, "hook_timeout": 0.05}
    run(gator, options, func)
    assert time.monotonic() - started < 19
    assert (seen, gator.dead(), gator.len()) == (["ran"], [], 0)
    raised = [each for each in caplog.records if "raised; it goes on" in each.getMessage()]
    assert [str(each.exc_info[1]) for each in raised] == ["It ran for more than its 0.05 s."] * 2


def test_so_is_that_of_a_failure(gator):
    with pytest.raises(ValueError, match="no"):
        inline(gator, {"on_error": spins, "hook_timeout": timedelta(milliseconds=50)}, fails)
    assert seen == []


def test_timeout_and_hook_timeout_are_apart(gator):
    options = {"timeout": 0.5, "hook_timeout": 0.5, "on_start": spins, "on_success": spins}
    inline(gator, options, fine)
    assert seen == ["ran"]


def test_the_lease_covers_all_of_it(gator):
    def limit(**options):
        return _limited(Task(**options))

    assert limit() is None
    assert limit(timeout=5) == 5
    assert limit(hook_timeout=2) is None, "without hooks it is about nothing"
    assert limit(hook_timeout=2, on_start=fine) == 2
    assert limit(timeout=5, hook_timeout=2, on_start=fine, on_success=fine, on_error=fine) == 9


def test_on_the_wire_only_where_set(gator):
    task = gator.options(timeout=3).task(jobs.note)
    assert b"hook_timeout" not in bytes(gator.client.peek("all", task.task_id).encode())
    task = gator.options(hook_timeout=3).task(jobs.note)
    assert Task.deserialize(gator.client.peek("all", task.task_id)).hook_timeout == 3.0


@pytest.mark.parametrize("value", [0, -1, float("nan"), "soon", True])
def test_no_such_time(gator, value):
    with pytest.raises(InvalidTask, match="hook_timeout"):
        gator.options(hook_timeout=value)
