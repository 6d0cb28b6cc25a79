"""Adapt a third party's client with five methods to the full contract.

``len``, ``drop_all``, ``push``, ``pop`` and ``get`` were documented in 2015, and are all that it
needs. It cannot lease, so tasks run at most once. A task that would be a dead letter is logged with
its bytes.
"""

import inspect
import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from alligator.backends.base import (
    Client,
    Data,
    DeadTask,
    Delivery,
    Message,
    Place,
    QueueStats,
    Reason,
    Renew,
    Reserved,
)
from alligator.common.after_fork import renew_in_children
from alligator.common.ids import new_task_id
from alligator.common.text import shorten
from alligator.exceptions import UnsupportedOption
from alligator.security.signing import signed_id

log = logging.getLogger(__name__)

_SLICE = 0.2  # seconds between two looks at `stop`


class LegacyClient(Client):
    """Wrap such a client; its own exceptions pass through as they are."""

    supports = frozenset()  # push says at the call what it takes
    idle_wait = None

    def __init__(self, wrapped: Any) -> None:
        super().__init__(getattr(wrapped, "conn_string", ""))
        self.wrapped = wrapped
        self._lock = threading.RLock()  # such a client was written for one thread
        self._attempts: dict[str, int] = {}  # of tasks handed back unrun, by id
        renew_in_children(self)

    def renew(self) -> None:
        """Make a new lock in the child of a fork: a thread of the parent may hold the old one."""
        self._lock = threading.RLock()

    def check_queue_name(self, queue_name: str) -> None:
        """Accept any name: the wrapped client has rules of its own."""

    def len(self, queue_name: str) -> int:
        with self._lock:
            return int(self.wrapped.len(queue_name))

    def drop_all(self, queue_name: str) -> None:
        with self._lock:
            self.wrapped.drop_all(queue_name)

    def push(
        self,
        queue_name: str,
        task_id: str,
        data: Data,
        delay_until: float | None = None,
        *,
        priority: int = 0,
    ) -> str:
        """Push by the wrapped client, with the optional arguments only where they were set.

        :raises UnsupportedOption: the wrapped ``push`` does not take one that was set.
        """
        extra: dict[str, Any] = {}
        if delay_until is not None:
            extra["delay_until"] = delay_until
        if priority:
            extra["priority"] = priority
        self._check_push_takes(extra)
        with self._lock:
            pushed = self.wrapped.push(queue_name, task_id, data, **extra)
        return task_id if pushed is None else pushed

    def _check_push_takes(self, extra: dict[str, Any]) -> None:
        parameters = inspect.signature(self.wrapped.push).parameters
        if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
            return
        for name in extra:
            if name not in parameters:
                kind = type(self.wrapped)
                raise UnsupportedOption(
                    f"{kind.__module__}.{kind.__qualname__}.push takes no {name!r}; give it "
                    "that parameter, or use a backend that keeps the option."
                )

    def push_many(self, queue_name: str, messages: Sequence[Message]) -> list[str]:
        return [
            self.push(queue_name, each.task_id, each.data, each.delay_until, priority=each.priority)
            for each in messages
        ]

    def pop(self, queue_name: str) -> Data | None:
        """Take the next task; ``len`` is asked first, since ``pop`` may raise when empty."""
        with self._lock:
            return self.wrapped.pop(queue_name) if self.len(queue_name) else None

    def get(self, queue_name: str, task_id: str) -> Data | None:
        with self._lock:
            try:
                found: Data | None = self.wrapped.get(queue_name, task_id)
            except TypeError:
                return None  # the documented example indexes the row that it did not find
            return found

    def _lease(
        self,
        queue_names: Sequence[str],
        limit: int,
        lease: float,
        wait: float,
        acks: Sequence[Delivery],
        task_id: str | None,
    ) -> Reserved:
        """Pop one task, which is off the queue from then on."""
        for name in queue_names:
            data = self.pop(name) if task_id is None else self.get(name, task_id)
            if data is not None:
                found = task_id or id_in(data)
                attempt = self._attempts.pop(found, 0) + 1
                return Reserved([Delivery(name, found, data, None, attempt)], [])
        return Reserved([], [])

    def _wait(
        self,
        queue_names: Sequence[str],
        limit: int,
        lease: float,
        seconds: float,
        stop: Callable[[], bool],
    ) -> list[Delivery]:
        """Sleep, and do not look again: the worker does, after its ``nap_time``."""
        time.sleep(min(seconds, _SLICE))
        return []

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Return none: the task left the queue when it was popped."""
        return []

    def release(
        self, delivery: Delivery, data: Data | None = None, delay_until: float | None = None
    ) -> bool:
        """Push it again, at once where the wrapped client knows no delay."""
        if data is None:
            self._attempts[delivery.task_id] = delivery.attempt
        message = delivery.data if data is None else data
        try:
            self.push(delivery.queue_name, delivery.task_id, message, delay_until)
        except UnsupportedOption:
            self.push(delivery.queue_name, delivery.task_id, message)
        return True

    def extend(self, deliveries: Sequence[Delivery], lease: float) -> list[Delivery]:
        """Return none: there is no lease."""
        return []

    def bury(self, delivery: Delivery, data: Data | None, reason: Reason) -> bool:
        """Log it with its bytes: this client has no place for dead letters."""
        log.error(
            "Task became a dead letter on queue %r: %s; its data: %r",
            delivery.queue_name,
            shorten(reason.error, 500),
            delivery.data if data is None else data,
        )
        return True

    def dead(self, queue_name: str, limit: int = 100) -> list[DeadTask]:
        """Return none: dead letters were logged."""
        return []

    def revive(
        self, queue_name: str, task_id: str | None = None, renew: Renew | None = None
    ) -> int:
        return 0

    def purge_dead(self, queue_name: str, older_than: float = 0.0) -> int:
        return 0

    def find(self, queue_name: str, task_id: str) -> Place | None:
        raise NotImplementedError("This client cannot look at a task without taking it.")

    def peek(self, queue_name: str, task_id: str) -> Data | None:
        raise NotImplementedError("This client cannot look at a task without taking it.")

    def stats(self, queue_name: str) -> QueueStats:
        """Count the tasks of ``len`` as waiting; no more is known."""
        return QueueStats(self.len(queue_name), 0, 0, 0, None)

    def durability_warning(self) -> str | None:
        name = f"{type(self.wrapped).__module__}.{type(self.wrapped).__qualname__}"
        return f"{name} cannot lease tasks: one that is running when its worker dies is lost."

    def close(self) -> None:
        if callable(close := getattr(self.wrapped, "close", None)):
            close()


def id_in(data: Data) -> str:
    # So that a retry is pushed under the id it had; a message of another program gets a new one.
    if (signed := signed_id(data)) is not None:
        return signed
    try:
        found = json.loads(data)["task_id"]
    except (ValueError, TypeError, KeyError, RecursionError):
        found = None
    return found if isinstance(found, str) else new_task_id()
