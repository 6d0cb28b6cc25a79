# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""Subclass what a user may subclass: right overrides, and wrong ones."""

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any, Self

from alligator import Gator, Task, Worker
from alligator.backends.base import Data, Delivery, Message
from alligator.backends.locmem_backend import Client


class SkinnyTask(Task):
    """Write its own message, and call hooks of its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tenant = "7"

    def to_failed(self) -> None:
        """Log it."""
        super().to_failed()
        logging.error("%s failed", self.task_id)

    def serialize(self) -> str:
        """Leave out the options."""
        return json.dumps({"task_id": self.task_id, "retries": self.retries})

    @classmethod
    def deserialize(cls, data: str | bytes) -> Self:
        """Read that."""
        fields = json.loads(data)
        task = cls(task_id=fields["task_id"], retries=fields["retries"])
        task.to_call("myapp.f", *fields["args"], **fields["kwargs"])
        return task


class WrongTask(Task):
    """Override what it cannot."""

    def to_failed(self, why: str) -> None:  # type: ignore
        """Need an argument that it is not given."""

    def serialize(self) -> int:  # type: ignore
        """Return no message."""
        return 7

    @classmethod
    def deserialize(cls, data: int) -> Self:  # type: ignore
        """Take no message."""
        return cls()


class QuietWorker(Worker):
    """Say other things, and run tasks in its own way."""

    def get_log(self, log_level: int | str = logging.INFO) -> logging.Logger:
        """Return the logger of the application."""
        return logging.getLogger("myapp")

    def ident(self) -> str:
        """Name it."""
        return "mine"

    def starting(self) -> None:
        """Say more."""
        super().starting()
        self.log.info("%s %s %d", self.ident(), self.to_consume, self.tasks_complete)

    def result(self, result: Any) -> None:
        """Say nothing."""

    def check_and_run_task(self) -> bool:
        """Run one, and tell."""
        return super().check_and_run_task()


class WrongWorker(Worker):
    """Override what it cannot."""

    def ident(self) -> int:  # type: ignore
        """Return no text."""
        return 7

    def result(self) -> None:  # type: ignore
        """Take no result."""

    def check_and_run_task(self, fast: bool) -> bool:  # type: ignore
        """Need an argument that it is not given."""
        return fast


class CountingClient(Client):
    """Count what is pushed, in code of its own."""

    pushed = 0

    def push(
        self,
        queue_name: str,
        task_id: str,
        data: Data,
        delay_until: float | None = None,
        *,
        priority: int = 0,
    ) -> str:
        """Count it."""
        self.pushed += 1
        return super().push(queue_name, task_id, data, delay_until, priority=priority)

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Count them."""
        return super().ack(deliveries)


class WrongClient(Client):
    """Override what it cannot."""

    def push(self, queue_name: str, data: Data) -> str:  # type: ignore
        """Take no id."""
        return queue_name

    def push_many(self, queue_name: str, messages: Sequence[Message]) -> None:  # type: ignore
        """Return no ids."""

    def len(self, queue_name: str) -> str:  # type: ignore
        """Return no number."""
        return queue_name


class TracingGator(Gator):
    """See each push."""

    def push(
        self, task: Task, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> Task:
        """Log it."""
        logging.info("%s", func)
        return super().push(task, func, *args, **kwargs)


class WrongGator(Gator):
    """Override what it cannot."""

    def push(self, task: Task) -> Task:  # type: ignore
        """Take no function."""
        return task


gator = TracingGator("locmem://", task_class=SkinnyTask, backend_class=CountingClient)
QuietWorker(gator, max_tasks=5).run_forever()
Gator("locmem://", task_class=QuietWorker)  # type: ignore[arg-type]
