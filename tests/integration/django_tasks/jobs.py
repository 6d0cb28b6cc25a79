"""Tasks of Django's framework, for the tests beside this file and for the workers they start."""

import asyncio
import json
import os
import time
from pathlib import Path

from alligator import current_task
from alligator.contrib.django.tasks_framework import framework

task = framework.task


class Outer:
    class Unusual(Exception):
        """Of a class inside a class."""


@task
def add(a, b=0):
    return a + b


@task(priority=7)
async def add_on_loop(a, b):
    await asyncio.sleep(0)
    return a + b


@task(takes_context=True)
def tell(context, *args, **kwargs):
    result = context.task_result
    return {
        "id": result.id,
        "attempt": context.attempt,
        "args": result.args,
        "kwargs": result.kwargs,
        "given": [args, kwargs],
        "status": str(result.status),
        "queue": result.task.queue_name,
    }


@task(takes_context=True)
async def tell_on_loop(context):
    return [context.task_result.id, context.attempt]


@task
def fail(text="too much"):
    raise Outer.Unusual(text)


@task(retries=2)
def fail_twice(path):
    with Path(path).open("a") as file:
        file.write("x")
    if len(Path(path).read_text()) < 3:
        raise ValueError("not yet")
    return "now"


@task(takes_context=True, retries=1)
async def fail_once_on_loop(context):
    if context.attempt == 1:
        raise LookupError("the first time")
    return context.attempt


@task
def leave(code):
    raise SystemExit(code)


@task
def interrupt():
    raise KeyboardInterrupt


@task
def no_json():
    return object()


@task
def large(size):
    return "x" * size


@task(unique=True)
def once(number, note=""):
    return number


@task(timeout=0.05)
def too_long():
    time.sleep(5)


@task(timeout=0.05)
async def too_long_on_loop():
    await asyncio.sleep(5)


@task(takes_context=True)
def die_first(context, path):
    """Kill the worker in the first attempt."""
    Path(path, f"attempt-{context.attempt}").touch()
    if context.attempt == 1:
        os.kill(os.getpid(), 9)
    return [context.attempt, len(context.task_result.worker_ids)]


@task
def append(path, text):
    with Path(path).open("a") as file:
        file.write(json.dumps(text) + "\n")


@task
def ask_again():
    current_task().retry()


def plain(path):
    """Is no task."""
    Path(path).touch()


@task
def wait_for(began, go_on):
    Path(began).touch()
    deadline = time.monotonic() + 30
    while not Path(go_on).exists() and time.monotonic() < deadline:
        time.sleep(0.01)


@task
def run_until_stopped(began):
    Path(began).touch()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        time.sleep(0.01)


@task
async def run_on_loop_until_stopped(began):
    Path(began).touch()
    await asyncio.sleep(30)
