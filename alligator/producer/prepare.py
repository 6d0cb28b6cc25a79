"""What a call goes through before it is queued: checked, and made a message."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from alligator.backends.base import DELAY, PRIORITY, Message, reaching
from alligator.backends.dsn import mask_password
from alligator.backends.legacy import LegacyClient
from alligator.common import strict_json
from alligator.common.ids import OwnId, is_own_id
from alligator.constants import WAITING
from alligator.exceptions import AlligatorException, InvalidTask, UnsupportedOption
from alligator.tasks.functions import (
    check_arguments,
    check_callable,
    check_hook,
    check_runs,
    explain_json,
    import_callable,
    split_name,
)
from alligator.tasks.message import id_of
from alligator.tasks.task import Task

if TYPE_CHECKING:
    from alligator.gator import Gator


class Intake:
    """Checks tasks for one Gator."""

    def __init__(self, gator: "Gator") -> None:
        self.gator = gator

    def prepare(
        self, task: Task, func: Callable[..., Any] | str, args: Sequence[Any], kwargs: Any
    ) -> None:
        """Check a call and make the task ready for it, without pushing it."""
        if not task.is_async:
            if isinstance(func, str):
                func = import_callable(*split_name(func))
            try:
                args, kwargs = strict_json.loads(strict_json.dumps([list(args), kwargs]))
            except (TypeError, ValueError, AlligatorException) as err:
                raise InvalidTask(f"{_name(func)}: {explain_json(err)}.") from err
            check_runs(func)
        elif isinstance(func, str):
            self.gator.policy.check_name(*split_name(func))
        else:
            self._check_callable(func)
        if not isinstance(func, str):
            check_arguments(func, args, kwargs)
        if not (task.on_start is None and task.on_success is None and task.on_error is None):
            for name in ("on_start", "on_success", "on_error"):
                if (hook := getattr(task, name)) is not None:
                    check_hook(hook, name)
                    if task.is_async:
                        self._check_callable(hook)
        task.to_call(func, *args, **kwargs)
        if task.status != WAITING or task.queue_position is not None:  # it was pushed before
            task.to_waiting()
            task.result = task.error = task.queue_position = None
        if task.id_was_given and not is_own_id(task.task_id):
            task.own_id = True
        now = task.pushed_at = self.gator.clock.time()
        if task.delay_by is not None:
            task.delay_until = now + task.delay_by
        if task.expires is not None:
            task.expires_at = now + task.expires
            if task.is_async and (task.delay_until or 0) >= task.expires_at:
                raise InvalidTask(
                    f"expires={task.expires:g} is before the task is due; give seconds from now."
                )

    def _check_callable(self, func: Callable[..., Any]) -> None:
        module, name = check_callable(func, self.gator.client.in_process)
        self.gator.policy.check_name(module, name)
        self.gator.policy.check_found(func, f"{module}.{name}")

    def message(self, task: Task, queue_name: str) -> Message:
        """Return a prepared task as it goes on that queue.

        :raises UnsupportedOption: the backend cannot keep one of its options.
        :raises InvalidTask: it does not survive JSON, or is too large for the backend.
        """
        self.check_supported(task)
        gator = self.gator
        due: float | None = getattr(task, "delay_until", None)
        if due is not None or getattr(task, "expires", None) is not None:
            due = self._due(task, queue_name)
        try:
            data = gator.codec.encode(task, queue_name)
        except AlligatorException:
            raise
        except (TypeError, ValueError, RecursionError, OverflowError) as err:
            raise InvalidTask(f"{_name(task.func)}: {explain_json(err)}.") from err
        largest = gator.client.max_size()
        if largest is not None and (size := _size(data, largest)) > largest:
            raise InvalidTask(
                f"The task has {size} bytes, and this backend takes at most {largest}; "
                + _most(task)
            )
        task.to_delayed() if due else task.to_waiting()
        task_id = OwnId(task.task_id) if task.own_id else task.task_id
        message = Message(task_id, data, due, getattr(task, "priority", 0))
        if gator.client.lease_seconds:
            limits = getattr(task, "timeout", None), getattr(task, "hook_timeout", None)
            return reaching(message, gator.client, *limits)
        return message

    def _due(self, task: Task, queue_name: str) -> float | None:
        """Return when a task is due, None: at once; seconds count by the clock of its queue."""
        due: float | None = getattr(task, "delay_until", None)
        expires: float | None = getattr(task, "expires", None)
        here = self.gator.clock.time()
        now = self.gator.client.server_time(queue_name)
        if now is None:
            now = here
            if expires is not None:  # so that it is known how much was left when it was pushed
                task.pushed_at = here
        else:
            called = now - max(0.0, here - task.pushed_at)  # of a batch, a while ago
            if (delay := getattr(task, "delay_by", None)) is not None:
                due = task.delay_until = called + delay
            if expires is not None:
                task.expires_at = called + expires
        return due if due is not None and due > now else None

    def check_supported(self, task: Task) -> None:
        """Refuse options that the backend cannot keep; connects to nothing.

        :raises UnsupportedOption: naming what would work.
        """
        saves = getattr(task, "save_results", None)
        if not (saves or getattr(task, "priority", 0) or getattr(task, "delay_until", None)):
            return
        client = self.gator.client
        if self.gator.store is None and saves:
            raise UnsupportedOption(
                f"{mask_password(client.conn_string)} keeps no results; name a place that "
                "does, Gator(…, store='redis://localhost:6379/0'), for the workers, too."
            )
        if isinstance(client, LegacyClient):
            return  # its push says so itself
        for option, needs in (("priority", PRIORITY), ("delay_until", DELAY)):
            if getattr(task, option, None) and needs not in client.supports:
                raise UnsupportedOption(
                    f"{mask_password(client.conn_string)} keeps no {option!r}; leave it "
                    "out, or use several queues or another backend."
                )


def _name(func: Any) -> str:
    return func if isinstance(func, str) else getattr(func, "__qualname__", repr(func))


def _most(task: Task) -> str:
    """Return what a task has most of, and what to do about it."""
    arguments = len(strict_json.dumps(list(task.func_args))) + len(
        strict_json.dumps(task.func_kwargs)
    )
    ids = 0 if task.kept_parents else sum(len(id_of(each)) for each in task.depends_on or ())
    if ids > arguments:
        return (
            f"the ids of the {len(task.depends_on or ())} tasks that it depends on have {ids} of "
            "them. Let it depend on one task that depends on these."
        )
    return f"its arguments have {arguments} of them. Store the data elsewhere and pass an id."


def _size(data: str | bytes, largest: int) -> int:
    # A character has up to 4 bytes; of what is far from too long, nobody asks.
    if isinstance(data, bytes) or len(data) <= largest // 4 or data.isascii():
        return len(data)
    return len(data.encode())
