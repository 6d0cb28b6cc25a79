"""Define plain functions that tests use as tasks and hooks."""

import asyncio

from alligator import current_task

seen: list = []


def note(*args, **kwargs):
    seen.append((args, kwargs))
    return len(seen)


def fail(message="too much"):
    raise ValueError(message)


def which_task():
    return current_task().task_id


def on_start(task):
    seen.append(("on_start", task.status))


def on_success(task, result):
    seen.append(("on_success", task.status, result))


def on_error(task, err):
    seen.append(("on_error", task.status, type(err).__name__))


def log_func(job):
    seen.append(("log_func", job.id, job.status, job.result))


def broken_hook(*args):
    raise RuntimeError("the hook itself")


def spoil(task, *args):
    """A hook that leaves a task unfit for the queue, as its second argument says how."""
    name, value = task.func_args[:2]
    setattr(task, name, value)


def wipe(task, *args):
    task.__dict__.clear()


def press_ctrl_c(*args):
    raise KeyboardInterrupt


def fail_with(name, value):
    raise ValueError("the failure that counts")


async def coroutine():
    """Do nothing, and take no time for it."""


async def rest(seconds):
    """Wait on the event loop."""
    await asyncio.sleep(seconds)


class Mailer:
    @staticmethod
    def send(to):
        return f"sent to {to}"

    def method(self):
        """Not importable."""
