"""Define hooks that leave their task in a broken state."""

import math


def raising(*args):
    raise RuntimeError("the hook itself")


def exiting(*args):
    raise SystemExit(3)


def interrupting(*args):
    raise KeyboardInterrupt


def no_retries(task, *args):
    task.retries = None


def retries_as_text(task, *args):
    task.retries = "3"


def no_end_of_retries(task, *args):
    task.retries = 10**9


def retries_deleted(task, *args):
    del task.retries


def delay_as_text(task, *args):
    task.retry_delay = "5"


def delay_not_a_number(task, *args):
    task.retry_delay = math.nan


def delay_below_zero(task, *args):
    task.retry_delay = -5


def no_task_id(task, *args):
    task.task_id = None


def another_function(task, *args):
    task.func = "os.system"


def arguments_gone(task, *args):
    task.func_args, task.func_kwargs = None, []


def result_deleted(task, *args):
    del task.result


def all_deleted(task, *args):
    task.__dict__.clear()


def hook_not_callable(task, *args):
    task.on_success = task.on_error = [5]
