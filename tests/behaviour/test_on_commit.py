"""Test what a Gator that knows no transactions says of ``on_commit``."""

import asyncio
import json
import operator

import pytest

from alligator import Gator, Task
from alligator.exceptions import InvalidTask, UnsupportedOption
from alligator.producer.options_and_batch import Options


def refusals():
    """Return each way to give the option, by name."""
    gator = Gator("locmem://on-commit")

    async def apush():
        await gator.apush(Task(on_commit=True), operator.add, 1, 2)

    def push_batch():
        task = Task(on_commit=True)
        gator.prepare(task, operator.add, (1, 2), {})
        gator.push_batch([task])

    return {
        "options": lambda: gator.options(on_commit=True),
        "an alias": lambda: gator.options(on_commit="orders"),
        "batch": lambda: gator.batch(on_commit=True),
        "inside a batch": lambda: gator.batch().options(on_commit=True),
        "all tasks": lambda: Gator("locmem://", options={"on_commit": True}),
        "a task": lambda: gator.push(Task(on_commit=True), operator.add, 1, 2),
        "a task in a batch": push_batch,
        "a task that is awaited": lambda: asyncio.run(apush()),
    }


@pytest.mark.parametrize("way", refusals())
def test_it_is_refused_with_what_to_write_instead(way):
    with pytest.raises(UnsupportedOption, match="from alligator.contrib.django import gators"):
        refusals()[way]()
    assert Gator("locmem://on-commit").len() == 0


def test_false_is_what_each_push_does_anyway():
    gator = Gator("locmem://at-once")
    task = gator.options(on_commit=False).task(operator.add, 1, 2)
    assert "on_commit" not in json.loads(gator.client.peek("all", task.task_id))["options"]
    assert gator.run_all() == 1
    assert gator.options(on_commit=None).task(operator.add, 1, 2).is_pushed
    gator.client.drop_all("all")


def test_a_value_that_cannot_be():
    with pytest.raises(InvalidTask, match="on_commit=3 is not True, False, or the alias"):
        Options(Gator("locmem://"), on_commit=3)
