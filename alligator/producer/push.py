"""Check a call, make it a message, and push it to its queue."""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from alligator.backends.base import (
    DEBOUNCE,
    DELAY,
    LIMIT,
    PRIORITY,
    RATE,
    UNIQUE,
    Client,
    Controls,
    Data,
    Duplicate,
    Message,
    controlled,
    controls_of,
    reaching,
)
from alligator.backends.dsn import mask_password
from alligator.backends.legacy import LegacyClient
from alligator.backends.store import Store
from alligator.common import strict_json
from alligator.common.clock import Clock
from alligator.common.ids import LookalikeId, is_generated
from alligator.constants import CANCELED, WAITING
from alligator.exceptions import AlligatorException, InvalidTask, UnsupportedOption
from alligator.producer.dependencies import Dependencies, replace_parent
from alligator.results.recorder import Recorder
from alligator.security.policy import Policy
from alligator.tasks.codec import Codec
from alligator.tasks.functions import (
    check_callable,
    check_hook,
    check_runs,
    check_shape,
    explain_json,
    import_callable,
    split_name,
)
from alligator.tasks.limits import with_limits
from alligator.tasks.message import id_of
from alligator.tasks.parent_results import ResultOf, join, split
from alligator.tasks.task import Task, TaskHandle
from alligator.tasks.uniqueness import with_unique, without_unique
from alligator.tasks.validation import CHECKS, options_meant


class Producer:
    """Pushes tasks for one Gator.

    :param queue_name: the queue of tasks that name none.
    :param used: collects the names of the queues that were pushed to.
    :param handle: given to each pushed task, for its ``wait`` and ``cancel``.
    """

    def __init__(
        self,
        client: Client,
        store: Store | None,
        codec: Codec,
        policy: Policy,
        clock: Clock,
        recorder: Recorder,
        queue_name: str,
        used: dict[str, None],
        handle: TaskHandle,
    ) -> None:
        self.client, self.store = client, store
        self.codec, self.policy, self.clock = codec, policy, clock
        self.recorder, self.queue_name = recorder, queue_name
        self.used, self.handle = used, handle
        self._bridged = store is not None and store.bridged
        self._overrules = recorder.overrules
        self.dependencies = Dependencies(client, store, queue_name, used)
        # Whether a call is allowed and fits depends on these alone; a refusal is not remembered.
        self._check_call = lru_cache(4096)(self._check_call_once)

    # -- Checking a call. ---------------------------------------------------------------------

    def prepare(
        self,
        task: Task,
        func: Callable[..., Any] | str,
        args: Sequence[Any],
        kwargs: Any,
        now: float | None = None,
    ) -> None:
        """Check a call, and set it in the task.

        :param now: when it is pushed, a Unix timestamp; None: now.
        """
        if not task.is_async:
            if isinstance(func, str):
                func = import_callable(*split_name(func))
            plain_args, plain_kwargs, awaited = split(args, kwargs)
            try:
                args, kwargs = strict_json.loads(strict_json.dumps([plain_args, plain_kwargs]))
            except (TypeError, ValueError, AlligatorException) as err:
                raise _not_json(func, err) from err
            args, kwargs = join(args, kwargs, awaited)
            check_runs(func)
            _check_shape(func, len(args), tuple(kwargs))
            CHECKS["headers"](task.headers)
        elif isinstance(func, str):
            self.policy.check_name(*split_name(func))
        else:
            try:
                self._check_call(func, len(args), tuple(kwargs))
            except TypeError:  # it cannot be hashed, so it is no function
                self._check_function(func)
        if not (task.on_start is None and task.on_success is None and task.on_error is None):
            for name in ("on_start", "on_success", "on_error"):
                if (hook := getattr(task, name)) is not None:
                    check_hook(hook, name)
                    if task.is_async:
                        self._check_function(hook)
        task.to_call(func, *args, **kwargs)
        if task.status != WAITING or task.queue_position is not None:  # it was pushed before
            task.to_waiting()
            task.result = task.error = task.queue_position = None
            task.awaits_results = False
            if task.is_duplicate:
                task.task_id, task.is_duplicate = task.replaced_id or task.task_id, False
        if ResultOf in map(type, args) or (kwargs and ResultOf in map(type, kwargs.values())):
            self.dependencies.await_results(task)
        # The user chose this id, and it looks generated: is_generated() cannot tell, so note it.
        if task.id_was_given and is_generated(task.task_id):
            task.lookalike_id = True
        now = task.pushed_at = self.clock.time() if now is None else now
        if task.delay_by is not None:
            task.delay_until = now + task.delay_by
        if task.expires is not None:
            task.expires_at = now + task.expires
            due = max(task.delay_until or 0, now + (task.debounce or 0))
            if task.is_async and due >= task.expires_at:
                raise InvalidTask(
                    f"expires={task.expires:g} is before the task is due; give seconds from now."
                )
        if task.depends_on:
            self.dependencies.check(task)

    def prepare_again(self, task: Task) -> Task:
        """Check what a middleware may have changed in a prepared task, and return that task."""
        self.prepare(task, task.func, task.func_args, task.func_kwargs, task.pushed_at)
        return task

    def _check_call_once(
        self, func: Callable[..., Any], count: int, names: tuple[str, ...]
    ) -> None:
        self._check_function(func)
        _check_shape(func, count, names)

    def _check_function(self, func: Callable[..., Any]) -> None:
        module, name = check_callable(func, self.client.in_process)
        self.policy.check_name(module, name)
        self.policy.check_found(func, f"{module}.{name}")

    # -- Making it a message. -----------------------------------------------------------------

    def message(self, task: Task, queue_name: str) -> Message:
        """Return a prepared task as it goes on that queue.

        :raises UnsupportedOption: the backend cannot keep one of its options.
        :raises InvalidTask: it does not survive JSON, or is too large for the backend.
        """
        due: float | None = getattr(task, "delay_until", None)
        asks = getattr(task, "unique", False) or getattr(task, "debounce", None)
        asks = asks or getattr(task, "limit", None) or getattr(task, "rate", None)
        asks = asks or getattr(task, "save_results", None) or getattr(task, "history", None)
        if due or asks or getattr(task, "priority", 0):
            self.check_supported(task)
        if due is not None or getattr(task, "expires", None) is not None:
            due = self._due(task, queue_name)
        try:
            data = self.codec.encode(task, queue_name)
        except AlligatorException:
            raise
        except (TypeError, ValueError, RecursionError, OverflowError) as err:
            raise _not_json(task.func, err) from err
        largest = self.client.max_size()
        # A character has up to 4 bytes: most messages need no exact count.
        if largest is not None and len(data) > largest // 4 and (size := _size(data)) > largest:
            raise InvalidTask(
                f"The task has {size} bytes, and this backend takes at most {largest}; "
                + _most(task)
            )
        task.to_delayed() if due else task.to_waiting()
        task_id = LookalikeId(task.task_id) if task.lookalike_id else task.task_id
        message = Message(task_id, data, due, getattr(task, "priority", 0))
        if self.client.lease_seconds:
            limits = getattr(task, "timeout", None), getattr(task, "hook_timeout", None)
            return reaching(message, self.client, *limits)
        return self._controlled(task, message, queue_name) if asks else message

    def message_of_many(self, task: Task, queue_name: str) -> Message | None:
        """Return the message of a prepared task that is pushed together with others.

        :returns: None: it waits for other tasks, so :meth:`push` has to push it.
        :raises AlligatorException: see :meth:`message`.
        """
        if task.depends_on:
            return None
        if self._bridged:
            self.dependencies.record_outcomes([], [task])
        return self.message(task, queue_name)

    def _controlled(self, task: Task, message: Message, queue_name: str) -> Message:
        """Return a message with what its task asks of its queue."""

        def data_for(task_id: str) -> Data:
            own, task.task_id = task.task_id, task_id
            try:
                return self.codec.encode(task, queue_name)
            finally:
                task.task_id = own

        controls = with_limits(with_unique(Controls(), task), task)
        if controls.debounce:
            task.to_delayed()
        return controlled(message, controls, data_for)

    def _due(self, task: Task, queue_name: str) -> float | None:
        """Return when a task is due, by the clock of its queue; None: at once."""
        due: float | None = getattr(task, "delay_until", None)
        expires: float | None = getattr(task, "expires", None)
        here = self.clock.time()
        now = self.client.server_time(queue_name)
        if now is None:
            now = here
            if expires is not None:  # a worker compares expires_at with this
                task.pushed_at = here
        else:
            called = now - max(0.0, here - task.pushed_at)  # in a batch, a while ago
            if (delay := getattr(task, "delay_by", None)) is not None:
                due = task.delay_until = called + delay
            if expires is not None:
                task.expires_at = called + expires
        return due if due is not None and due > now else None

    def check_supported(self, task: Task) -> None:
        """Refuse options that the backend cannot keep; connects to nothing.

        :raises UnsupportedOption: naming what would work.
        """
        client, store = self.client, self.store
        if getattr(task, "history", None) and (store is None or not store.monitors):
            raise UnsupportedOption(
                f"{mask_password(client.conn_string)} keeps no history; name a store that does, "
                "Gator(…, store='redis://localhost:6379/0'), for the workers, too."
            )
        if store is None and getattr(task, "save_results", None):
            raise UnsupportedOption(
                f"{mask_password(client.conn_string)} keeps no results; name a place that "
                "does, Gator(…, store='redis://localhost:6379/0'), for the workers, too."
            )
        for option, needs in (("unique", UNIQUE), ("debounce", DEBOUNCE)):
            if getattr(task, option, None) and needs not in client.controls:
                raise UnsupportedOption(
                    f"{mask_password(client.conn_string)} keeps no {option!r}, as a push cannot "
                    "look for a pending task there; leave it out, or use a queue on locmem, "
                    "sqlite or redis."
                )
        if self._bridged and getattr(task, "unique", False) and task.depends_on:
            raise UnsupportedOption(
                "'unique' and 'depends_on' together need a queue that is its own store; use "
                "locmem, sqlite or redis without store=, or leave one of them out."
            )
        for option in (LIMIT, RATE):
            if getattr(task, option, None) and option not in client.controls:
                raise UnsupportedOption(
                    f"{mask_password(client.conn_string)} keeps no {option!r}, as its server hands "
                    "out tasks without counting; leave it out, or use a queue on locmem, sqlite or "
                    "redis."
                )
        if isinstance(client, LegacyClient):
            return  # its own push raises
        for option, needs in (("priority", PRIORITY), ("delay_until", DELAY)):
            if getattr(task, option, None) and needs not in client.supports:
                raise UnsupportedOption(
                    f"{mask_password(client.conn_string)} keeps no {option!r}; leave it "
                    "out, or use several queues or another backend."
                )

    # -- Pushing. -----------------------------------------------------------------------------

    def push(self, task: Task, *, again: bool = False) -> Task:
        """Push a prepared task that is async, or have the store hold it until its parents end.

        :param again: whether it has run already, so that its parents have ended.
        """
        if not again:
            if task.depends_on:
                self.dependencies.record_outcomes([task], ())
                self._hold([task])
                return task
            if self._bridged:
                self.dependencies.record_outcomes([], [task])
        queue_name = task.queue_name or self.queue_name
        message = self.message(task, queue_name)
        if again and (controls := controls_of(message)) is not None:
            # It has run: no pending task is the same, and its retry waits for no further push.
            message = controlled(message, without_unique(controls))
        if self._overrules:
            self.recorder.overrule([(queue_name, task)])
        task_id, data, delay_until, priority = message
        if type(message) is not Message:  # it asks for more than push() takes
            backend_id = self.client.push_many(queue_name, [message])[0]
        else:
            extra: dict[str, Any] = {}
            if delay_until is not None:
                extra["delay_until"] = delay_until
            if priority:
                extra["priority"] = priority
            backend_id = self.client.push(queue_name, task_id, data, **extra)
        self.was_pushed(task, queue_name, backend_id)
        return task

    def push_batch(self, tasks: Sequence[Task]) -> None:
        """Push prepared tasks in bulk, queue by queue, and then the tasks that wait for others."""
        queues: dict[str, list[tuple[Task, Message]]] = {}
        children = self.dependencies.in_order(tasks)
        if 0 < len(children) < len(tasks):
            self.dependencies.check_store()
        self.dependencies.record_outcomes(children, tasks)
        for task in tasks:
            if not (children and task.depends_on):
                name = task.queue_name or self.queue_name
                queues.setdefault(name, []).append((task, self.message(task, name)))
        self.recorder.overrule((name, task) for name, pairs in queues.items() for task, _ in pairs)
        for name, pairs in queues.items():
            ids = self.client.push_many(name, [message for _, message in pairs])
            for (task, _), task_id in zip(pairs, ids, strict=True):
                self.was_pushed(task, name, task_id)
                if children:
                    replace_parent(children, task)
        if children:
            self._hold(children)

    def was_pushed(self, task: Task, queue_name: str, backend_id: str) -> None:
        """Note in a task that it is on that queue, by the id that the push returned."""
        task.queue_position = getattr(backend_id, "position", None)
        task.backend_id = None
        if type(backend_id) is Duplicate:
            _stand_for(task, backend_id)
        elif backend_id != task.task_id:
            task.backend_id = str(backend_id)
            if not self.recorder.note_pushed(task, queue_name):
                task.task_id, task.backend_id = task.backend_id, None
        self.used[queue_name] = None
        task.to_pushed(self.handle)

    def _hold(self, tasks: Sequence[Task]) -> None:
        positions = self._positions(tasks)
        for some in self.dependencies.in_steps(tasks):
            states = self.dependencies.hold(some, self.message, self.clock)
            for task, state in zip(some, states, strict=True):
                queue_name = task.queue_name or self.queue_name
                task.queue_position = positions.get(queue_name)
                self.used[queue_name] = None
                task.to_pushed(self.handle)
                if isinstance(state, Duplicate):
                    _stand_for(task, state)
                elif state == CANCELED:
                    task.to_canceled()

    def _positions(self, tasks: Iterable[Task]) -> dict[str, Any]:
        """Return the positions of the queues of held tasks whose end no store is told."""
        names = {each.queue_name or self.queue_name for each in tasks if not each.known_for}
        return {each: self.client.position(each) for each in names}


def _stand_for(task: Task, pending: Duplicate) -> None:
    """Let a task that was not queued stand for the one that is pending instead."""
    task.replaced_id, task.task_id = task.task_id, str(pending)
    task.is_duplicate, task.lookalike_id = True, False


def _check_shape(func: Callable[..., Any], count: int, names: tuple[str, ...]) -> None:
    try:
        check_shape(func, count, names)
    except InvalidTask as err:
        if not (meant := options_meant(func, names)):
            raise
        raise InvalidTask(f"{err} {meant}") from err.__cause__


def _not_json(func: Any, err: BaseException) -> InvalidTask:
    if ResultOf.__name__ in str(err):
        return InvalidTask(
            f"{_name(func)}: result_of() is inside another argument; it can only be an argument "
            "itself. For many results, let the function take *args: task(f, *results)."
        )
    return InvalidTask(f"{_name(func)}: {explain_json(err)}.")


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


def _size(data: str | bytes) -> int:
    if isinstance(data, bytes) or data.isascii():
        return len(data)
    return len(data.encode())
