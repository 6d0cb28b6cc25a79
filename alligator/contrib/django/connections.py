"""Close the database connections of a worker that are too old, or broken, around each task.

A web request does this with the signals of Django; a worker has no requests. What Django's
``CONN_MAX_AGE`` says of requests holds for tasks. In a worker, a connection that was kept is
checked before a task uses it, whatever ``CONN_HEALTH_CHECKS`` says: it may have idled for hours.
"""

import logging
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections
from django.db.backends.signals import connection_created

from alligator.common.text import describe_error
from alligator.runtime.event_loop import around_call_in_thread, worker_loop
from alligator.tasks.middleware import runs_on_loop
from alligator.tasks.task import Task

log = logging.getLogger(__name__)

#: Whether a task runs in this context: one that runs inside of it uses its connections.
_inside: ContextVar[bool] = ContextVar("alligator_inside_django_task", default=False)


#: Set once this process has had a connection: before, there is nothing to close.
_has_connected = threading.Event()


def _note_connection(*, connection: Any, **_given: Any) -> None:
    _has_connected.set()
    if worker_loop.get() is not None:
        connection.health_check_enabled = True  # Django asks at the first use of each task


connection_created.connect(_note_connection)


class DatabaseConnections:
    """Middleware that closes connections around the tasks of a worker.

    Without a worker (``is_async=False``, ``run_all``, ``pop``, ``get``) a task uses the connections
    of its caller: these stay open unless they are broken. A connection with an open transaction,
    as in a ``TestCase``, is never closed.

    Coroutines reach the database by ``sync_to_async``, in one thread for all of them. What is too
    old is closed there when none of them runs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._coroutines = 0
        if connections.all(initialized_only=True):  # from before this module was imported
            _has_connected.set()

    async def run(self, task: Task, call_next: Callable[[], Awaitable[Any]]) -> Any:
        """Close connections, run the task, and close connections again."""
        is_owner = worker_loop.get() is not None and not _inside.get()
        token = _inside.set(True)
        try:
            if runs_on_loop(task):
                return await self._run_on_loop(call_next, is_owner)
            close = close_if_due if is_owner else close_broken
            if _has_connected.is_set():
                close()
            try:
                return await call_next()
            finally:
                if _has_connected.is_set():
                    close()
        finally:
            _inside.reset(token)

    async def _run_on_loop(self, call_next: Callable[[], Awaitable[Any]], is_owner: bool) -> Any:
        with self._lock:
            self._coroutines += 1
            is_alone = self._coroutines == 1
        # Hooks are plain functions, which run in other threads.
        close = close_if_due if is_owner else close_broken
        token = around_call_in_thread.set(partial(_closing, close))
        try:
            await self._close_in_thread(is_owner and is_alone)
            return await call_next()
        finally:
            around_call_in_thread.reset(token)
            with self._lock:
                self._coroutines -= 1
                is_alone = self._coroutines == 0
            await self._close_in_thread(is_owner and is_alone)

    async def _close_in_thread(self, is_owner: bool) -> None:
        if _has_connected.is_set():
            await sync_to_async(close_if_due if is_owner else close_broken)()


def _closing(close: Callable[[], None], call: Callable[[], Any]) -> Any:
    close()
    try:
        return call()
    finally:
        close()


def close_if_due() -> None:
    """Close the connections of this thread that are too old, or broken.

    ``close_old_connections`` of Django would close one that is inside a transaction, too. As at
    the beginning of a request, the queries are forgotten that Django notes where ``DEBUG`` is on.
    """
    for each in connections.all(initialized_only=True):
        each.queries_log.clear()
        try:
            if not each.in_atomic_block:
                each.close_if_unusable_or_obsolete()
        except Exception as err:
            _log_failure(err)


def close_broken() -> None:
    """Close the connections of this thread on which an error occurred, if they are broken."""
    for each in connections.all(initialized_only=True):
        try:
            if each.connection is None or not each.errors_occurred or each.in_atomic_block:
                continue
            if not each.is_usable():
                each.close()
        except Exception as err:
            _log_failure(err)


def _log_failure(err: Exception) -> None:
    log.warning("A database connection could not be closed: %s", describe_error(err))
