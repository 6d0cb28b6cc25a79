"""Test any middleware around any run against a model of what counts: how the run itself ended."""

import asyncio
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alligator import Gator, Worker, current_task
from alligator.common.text import describe_error
from alligator.exceptions import TaskFailed

#: What a middleware does.
BEHAVIOURS = [
    "goes on",
    "swallows",
    "raises before",
    "raises after",
    "replaces",
    "forgets",
    "twice",
]
LAYERS = st.lists(st.tuples(st.sampled_from(BEHAVIOURS), st.booleans()), max_size=4)
ran: list = []


class Before(Exception):
    """Raised instead of the run."""


class After(Exception):
    """Raised after the run."""


class Layer:
    def __init__(self, does):
        self.does = does

    def run(self, task, call_next):
        if self.does == "raises before":
            raise Before
        if self.does == "forgets":
            return
        try:
            call_next()
            if self.does == "twice":
                call_next()
        except Exception:
            if self.does == "replaces":
                raise After from None
            if self.does != "swallows":
                raise
        if self.does == "raises after":
            raise After


class AsyncLayer(Layer):
    async def run(self, task, call_next):
        if self.does == "raises before":
            raise Before
        if self.does == "forgets":
            return
        try:
            await call_next()
            if self.does == "twice":
                await call_next()
        except Exception:
            if self.does == "replaces":
                raise After from None
            if self.does != "swallows":
                raise
        if self.does == "raises after":
            raise After


def function(*, fails):
    ran.append(current_task().task_id)
    if fails:
        raise ValueError


async def coroutine(*, fails):
    await asyncio.sleep(0)
    function(fails=fails)


def expected(layers, *, fails):
    """Return the name of the error, or None, and whether the function runs."""
    if not layers:
        return ("ValueError" if fails else None), True
    does = layers[0]
    if does == "raises before":
        return "Before", False
    if does == "forgets":
        return TaskFailed.__name__, False
    error, runs = expected(layers[1:], fails=fails)
    if error is None and does in ("raises after", "twice"):
        return {"raises after": "After", "twice": "RuntimeError"}[does], runs
    return error, runs


def notes_error(task, err):
    ran.append(describe_error(err))


@settings(max_examples=30, deadline=None)
@given(LAYERS, st.booleans(), st.sampled_from([function, coroutine]))
@pytest.mark.parametrize("way", ["worker", "threads", "run_all", "at once"])
def test_how_a_run_ends(way, layers, fails, func):
    ran.clear()
    middleware = [(AsyncLayer if is_async else Layer)(does) for does, is_async in layers]
    gator = Gator(f"locmem://{uuid.uuid4().hex}", middleware=middleware)
    opts = gator.options(on_error=notes_error, is_async=way != "at once")
    try:
        opts.task(func, fails=fails)
        found = None
    except Exception as err:
        found = type(err).__name__
    if way != "at once":
        if way == "run_all":
            gator.run_all()
        else:
            concurrency = 1 if way == "worker" else 2
            Worker(gator, burst=True, log_level="CRITICAL", concurrency=concurrency).run_forever()
        assert gator.len() == 0
        found = next((each.error.partition(":")[0] for each in gator.dead()), None)
    error, runs = expected([does for does, _ in layers], fails=fails)
    assert found == error
    assert len(ran) == runs + (error is not None), "the hook is called once, for a failure"
