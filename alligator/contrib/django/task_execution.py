"""Run the tasks of Django's framework: make the function of a task, and tell of its runs.

A message names the function of a task, and its option ``adapter`` the backend, as in
``'django:default'``. A worker imports that name, and runs what it finds if that is a task.
"""

from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import wraps
from inspect import iscoroutinefunction
from types import MethodType
from typing import Any

from django.core.exceptions import SuspiciousOperation
from django.db import close_old_connections

from alligator.common import strict_json
from alligator.common.text import shorten
from alligator.contrib.django import task_results
from alligator.contrib.django.task_with_options import AlligatorTask
from alligator.contrib.django.tasks_framework import base, framework, normalize_json, signals
from alligator.exceptions import UnknownCallableError
from alligator.results.recorder import LARGEST_RESULT
from alligator.tasks.task import Task

#: The result of the task that runs in this context. ``enqueue()`` sets it where a task runs at
#: once.
running: ContextVar[Any] = ContextVar("alligator_django_task_result", default=None)

# By the function of a task and the alias of its backend: the task, and the function that runs it.
_adapted: dict[tuple[Any, str], tuple[Any, Callable[..., Any]]] = {}
_MOST_ADAPTED = 4096


def adapter_name(alias: str) -> str:
    """Return the option ``adapter`` of the tasks of a backend."""
    return f"django:{alias}"


def adapt(alias: str, found: Any) -> Callable[..., Any]:
    """Return the function that runs a task of Django's framework.

    :param alias: that of the backend, in ``TASKS``.
    :param found: what the name in a message leads to.
    :raises SuspiciousOperation: it is no task.
    :raises UnknownCallableError: there is no such backend here, perhaps not yet.
    """
    if not isinstance(found, base.Task):
        name = getattr(found, "__qualname__", None) or type(found).__name__
        raise SuspiciousOperation(
            f"A message names {shorten(str(name), 60)!r}, which is no task: only what @task has "
            "made runs as a task of Django."
        )
    known = _adapted.get((found.func, alias))
    if known is not None and known[0] is found:
        return known[1]
    _check_alias(alias)
    call = _call_of(found)
    call.__adapted__ = found  # type: ignore[attr-defined]
    call.observer = _Observer(alias)  # type: ignore[attr-defined]
    if len(_adapted) >= _MOST_ADAPTED:
        _adapted.clear()
    _adapted[found.func, alias] = found, call
    return call


def adapted(alias: str, func: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return the function that runs the task of a function; None: it was not made yet."""
    known = _adapted.get((func, alias))
    return None if known is None else known[1]


def _check_alias(alias: str) -> None:
    known = alias in framework.task_backends.settings
    if not (known and framework.task_backends[alias].task_class is AlligatorTask):
        raise UnknownCallableError(
            f"The setting TASKS has no {shorten(alias, 60)!r} whose BACKEND is "
            "'alligator.contrib.django.AlligatorBackend'; the task was enqueued to that."
        )


def _call_of(task: Any) -> Callable[..., Any]:
    func = task.func
    before = _context if task.takes_context else tuple

    if iscoroutinefunction(func):

        @wraps(func)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            return _sendable(await func(*before(), *args, **kwargs))

        call: Callable[..., Any] = call_async
    else:

        @wraps(func)
        def call_plain(*args: Any, **kwargs: Any) -> Any:
            return _sendable(func(*before(), *args, **kwargs))

        call = call_plain
    if task.takes_context:  # its signature is that without the first parameter
        call.__wrapped__ = MethodType(func, base.TaskContext)  # type: ignore[attr-defined]
    return call


def _context() -> tuple[Any]:
    return (base.TaskContext(task_result=running.get()),)


def _sendable(value: Any) -> Any:
    """Return a result as JSON has it.

    :raises TypeError, ValueError: JSON cannot carry it, or it is too large to be kept.
    """
    try:
        value = normalize_json(value)
    except (TypeError, ValueError) as err:
        kind = TypeError if isinstance(err, TypeError) else ValueError
        raise kind(f"What the task returned cannot be kept as JSON: {err}") from err
    if value is not None and len(strict_json.dumps(value)) > LARGEST_RESULT:
        raise ValueError(
            f"The result has more than {LARGEST_RESULT} characters of JSON: store it elsewhere, "
            "and return where."
        )
    return value


class _Observer:
    """Tells the store, and the receivers of signals, of the runs of one backend's tasks."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    @property
    def backend(self) -> Any:
        return framework.task_backends[self.alias]

    def started(self, task: Task) -> None:
        backend, result = self.backend, running.get()
        if result is None or result.id != task.task_id or task.delivery is not None:
            result = task_results.of_delivery(backend, task)
            running.set(result)
        task_results.note_start(backend, task, result)
        self._send(signals.task_started, backend, task, result)

    def succeeded(self, task: Task, value: Any) -> None:
        backend, result = self.backend, running.get()
        task_results.set_fields(
            result,
            _return_value=value,
            status=base.TaskResultStatus.SUCCESSFUL,
            finished_at=task_results.moment(backend.gator.clock.time()),
        )
        self._send(signals.task_finished, backend, task, result)

    def failed(self, task: Task, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt) and task.delivery is None:
            return  # raised at the keyboard, while a task ran at once
        backend, result = self.backend, running.get()
        if result is None:  # buried without a run
            result = task_results.of_delivery(backend, task)
        retries = task.may_retry(error)
        task_results.note_error(backend, task, result, error, retries=retries)
        if not retries:
            self._send(signals.task_finished, backend, task, result)

    def canceled(self, task: Task, error: BaseException) -> None:
        backend, result = self.backend, running.get()
        if result is not None:
            task_results.note_error(backend, task, result, error, retries=False)
            self._send(signals.task_finished, backend, task, result)

    def _send(self, signal: Any, backend: Any, task: Task, result: Any) -> None:
        try:
            signal.send(sender=type(backend), task_result=result)
        finally:
            # The hooks of a coroutine are called in a thread of their own.
            if task.delivery is not None and iscoroutinefunction(task.func):
                with suppress(Exception):
                    close_old_connections()
