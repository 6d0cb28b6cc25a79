"""The Gator: the one object an application needs. It enqueues, looks up and cancels."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, ParamSpec, overload

from alligator import wire
from alligator.backends import client_class
from alligator.backends.base import (
    DELAY,
    OWN_ID,
    PRIORITY,
    Client,
    DeadTask,
    Delivery,
    Message,
)
from alligator.backends.dsn import mask_password
from alligator.backends.legacy import LegacyClient
from alligator.callables import (
    check_arguments,
    check_callable,
    explain_json,
    import_callable,
    split_name,
    wire_name,
)
from alligator.clock import Clock, SystemClock
from alligator.codec import Codec
from alligator.constants import ALL
from alligator.exceptions import AlligatorException, InvalidTask, UnsupportedOption
from alligator.execution import Outcome, Verdict, attempt, settle
from alligator.keeper import Keeper
from alligator.log import SafeTracebacks
from alligator.options import Batch, Options
from alligator.security import Policy
from alligator.signing import Signer
from alligator.tasks import Task

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

P = ParamSpec("P")

#: Seconds that a task run by ``pop``, ``get`` or ``run_all`` is leased for at a time.
LEASE = 30.0


class Gator:
    """A door to one queue, and to others of the same backend by ``queue_name=``.

    ::

        gator = Gator('redis://localhost:6379/0')
        gator.task(send_post_email, user.pk, post.pk)

    Constructing one connects to nothing; the first use does. It may be shared by threads
    and used after a fork.

    :param conn_string: the DSN of the backend.
    :param queue_name: the queue that tasks go to.
    :param task_class: a class to use in place of :class:`alligator.Task`.
    :param backend_class: a client class to use in place of the one that the DSN names.
    :param allowed: the functions that may run, hooks included: ``['myapp.tasks.*', …]``; None:
        any but the known ways to run code. See :class:`alligator.security.Policy`.
    :param secret_keys: keys to sign tasks with; unsigned ones are then not run. The first
        signs, all are accepted: ``[new, old]``. At least 16 bytes each.
    :param clock: where time comes from; for tests.
    :raises InvalidDSN: the DSN is malformed, its scheme unknown, or its driver missing.
    :raises InvalidTask: the backend cannot have a queue of that name; ``allowed`` or
        ``secret_keys`` is not such a list.
    """

    def __init__(
        self,
        conn_string: str,
        queue_name: str = ALL,
        task_class: type[Task] = Task,
        backend_class: Callable[..., Any] | None = None,
        *,
        allowed: Sequence[str] | None = None,
        secret_keys: Sequence[str | bytes] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.conn_string = conn_string
        self.queue_name = queue_name
        self.task_class = task_class
        self.backend_class = backend_class
        self.policy = Policy(allowed)
        self.signer = None if secret_keys is None else Signer(secret_keys)
        self._given_clock = clock
        self.clock: Clock = clock or SystemClock()
        self.backend: Any = self.build_backend(conn_string)
        #: The backend with the full contract, whatever it has of its own.
        self.client: Client = (
            self.backend if isinstance(self.backend, Client) else LegacyClient(self.backend)
        )
        self.client.check_queue_name(queue_name)

    def __repr__(self) -> str:
        return f"<Gator {mask_password(self.conn_string)} {self.queue_name!r}>"

    def build_backend(self, conn_string: str) -> Any:
        """Return a new client for a DSN.

        ::

            backend = gator.build_backend('locmem://')
        """
        factory = self.backend_class or client_class(conn_string)
        ours = isinstance(factory, type) and issubclass(factory, Client)
        if ours and self._given_clock is not None:
            return factory(conn_string, clock=self._given_clock)
        return factory(conn_string)

    @property
    def codec(self) -> Codec:
        """How tasks are written and read here."""
        return Codec(self.task_class, self.policy, self.signer, OWN_ID in self.client.supports)

    # -- Putting tasks on the queue. ----------------------------------------------------------

    @overload
    def task(self, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Task: ...

    @overload
    def task(self, func: str, /, *args: Any, **kwargs: Any) -> Task: ...

    def task(self, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Task:
        """Push a task with the default options, and return it.

        ::

            on_queue = gator.task(increment, incr_by=2)

        :param func: an importable function; or its name, ``'myapp.tasks.resize'``, where
            its code is not at hand.
        :raises InvalidTask: not importable, arguments that do not fit or do not survive
            JSON, or more than the backend takes. Nothing was queued then.
        :raises NotAllowed: it may not run here; see ``allowed``.
        :raises ConnectionLost, QueueFull, QueueNotFound: the backend did not take it.
        """
        return self.push(self.make_task({}), func, *args, **kwargs)

    def options(self, **options: Any) -> Options:
        """Return a context whose ``task`` method uses these options; it may be used again.

        ::

            with gator.options(retries=2, on_success=party_time) as opts:
                opts.task(increment, incr_by=2678)
        """
        return Options(self, **options)

    def batch(self, **options: Any) -> Batch:
        """Like :meth:`options`, but all tasks go to the backend in bulk at the end.

        ::

            with gator.batch() as batch:
                for photo in photos:
                    batch.task(create_thumbnail, photo.path)
        """
        return Batch(self, **options)

    def push(
        self, task: Task, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> Task:
        """Push a task of your own making and return it; run it at once if it is not async.

        ::

            finished = gator.push(Task(is_async=False, retries=3), increment, incr_by=2)
        """
        self.prepare(task, func, args, kwargs)
        return self._enqueue(task) if task.is_async else self.execute(task)

    def make_task(self, options: dict[str, Any]) -> Task:
        """Return a new task of this Gator's class, with checked options."""
        return self.task_class(**options)

    def prepare(
        self, task: Task, func: Callable[..., Any] | str, args: Sequence[Any], kwargs: Any
    ) -> None:
        """Check a call and make the task ready for it, without pushing it."""
        if not task.is_async:
            if isinstance(func, str):
                func = import_callable(*split_name(func))
            try:
                args, kwargs = wire.loads(wire.dumps([list(args), kwargs]))
            except (TypeError, ValueError, AlligatorException) as err:
                raise InvalidTask(f"{_name(func)}: {explain_json(err)}.") from err
        elif isinstance(func, str):
            self.policy.check_name(*split_name(func))
        else:
            self._check_callable(func)
        if not isinstance(func, str):
            check_arguments(func, args, kwargs)
        if task.is_async:
            for hook in (task.on_start, task.on_success, task.on_error):
                if hook is not None:
                    self._check_callable(hook)
        task.to_call(func, *args, **kwargs)
        if task.delay_by is not None:
            task.delay_until = self.clock.time() + task.delay_by

    def _check_callable(self, func: Callable[..., Any]) -> None:
        check_callable(func, self.client.in_process)
        module, name = wire_name(func)
        self.policy.check_name(module, name)
        self.policy.check_found(func, f"{module}.{name}")

    def push_batch(self, tasks: Sequence[Task]) -> None:
        """Push prepared tasks in bulk, queue by queue; then run those that are not async."""
        queues: dict[str, list[tuple[Task, Message]]] = {}
        for task in tasks:
            if task.is_async:
                name = task.queue_name or self.queue_name
                queues.setdefault(name, []).append((task, self._message(task, name)))
        for name, pairs in queues.items():
            ids = self.client.push_many(name, [message for _, message in pairs])
            for (task, _), task_id in zip(pairs, ids, strict=True):
                task.task_id = task_id
        for task in tasks:
            if not task.is_async:
                self.execute(task)

    def _enqueue(self, task: Task) -> Task:
        queue_name = task.queue_name or self.queue_name
        task_id, data, delay_until, priority = self._message(task, queue_name)
        extra: dict[str, Any] = {}
        if delay_until is not None:
            extra["delay_until"] = delay_until
        if priority:
            extra["priority"] = priority
        task.task_id = self.client.push(queue_name, task_id, data, **extra)
        return task

    def _message(self, task: Task, queue_name: str) -> Message:
        self._check_supported(task)
        try:
            data = self.codec.encode(task, queue_name)
        except AlligatorException:
            raise
        except (TypeError, ValueError, RecursionError, OverflowError) as err:
            raise InvalidTask(f"{_name(task.func)}: {explain_json(err)}.") from err
        largest = self.client.max_size()
        if largest is not None and (size := _size(data)) > largest:
            raise InvalidTask(
                f"The task has {size} bytes, and this backend takes at most {largest}; store the "
                "data elsewhere and pass an id."
            )
        due = getattr(task, "delay_until", None)
        if due is not None and due <= self.clock.time():
            due = None
        task.to_delayed() if due else task.to_waiting()
        return Message(task.task_id, data, due, getattr(task, "priority", 0))

    def _check_supported(self, task: Task) -> None:
        if isinstance(self.client, LegacyClient):
            return  # its push says so itself
        for option, needs in (("priority", PRIORITY), ("delay_until", DELAY)):
            if getattr(task, option, None) and needs not in self.client.supports:
                raise UnsupportedOption(
                    f"{mask_password(self.conn_string)} keeps no {option!r}; leave it out, or "
                    "use several queues or another backend."
                )

    # -- Taking tasks off the queue. ----------------------------------------------------------

    def len(self) -> int:
        """Return how many tasks wait on the queue, delayed ones included."""
        return self.client.len(self.queue_name)

    def pop(self) -> Task | None:
        """Run the task at the front of the queue and return it; None: the queue is empty.

        :raises Exception: what the task raised, once it has no retry left; it is then among
            the dead letters.
        """
        return self._run_one()

    def get(self, task_id: str) -> Task | None:
        """Run one task now, delayed or not, and return it; None: no such task is waiting.

        :raises NotImplementedError: on SQS, which cannot look a task up.
        """
        return self._run_one(task_id)

    def cancel(self, task_id: str) -> Task | None:
        """Take a task off the queue before it runs and return it; None: no such task waits.

        ::

            task = gator.task(add, 18, 9)
            gator.cancel(task.task_id)
        """
        reserved = self.client.reserve([self.queue_name], 1, LEASE, task_id=task_id)
        for delivery in reserved.deliveries:
            try:
                task = self.codec.decode(delivery)
            except Exception:
                self.client.release(delivery)  # it cannot be shown, so it is not taken either
                raise
            self.client.ack([delivery])
            task.to_canceled()
            return task
        return None

    def execute(self, task: Task) -> Task:
        """Run a task that you hold, with its retries, and return it.

        A failure with a retry left puts an async task back on the queue, and runs another
        at once.

        :raises Exception: what the task raised, once it has no retry left.
        """
        while True:
            try:
                task.run()
            except KeyboardInterrupt:
                raise  # the person at the keyboard, not the task
            except BaseException:
                if not task.retries > 0:
                    raise
                delay = task.spend_retry()
                if task.is_async:
                    task.delay_until = self.clock.time() + delay if delay else None
                    self._enqueue(task)
                    task.to_retrying()
                    return task
            else:
                return task

    def run_all(self) -> int:
        """Run what is due on the queue in this process until none is left.

        For tests and scripts. A task that fails is retried and in the end buried, as a
        worker would do; nothing is raised for it.

        :returns: how many tasks were run, each try counted.
        """
        ran = 0
        with self._keeper() as keeper:
            while delivery := self._reserve(None):
                self._run(keeper, delivery)
                ran += 1
        return ran

    def _run_one(self, task_id: str | None = None) -> Task | None:
        delivery = self._reserve(task_id)
        if delivery is None:
            return None
        with self._keeper() as keeper:
            outcome = self._run(keeper, delivery)
        if outcome.error is not None and outcome.verdict is not Verdict.RETRY:
            raise outcome.error
        if outcome.task is None:
            raise AlligatorException(outcome.reason.error)
        return outcome.task

    def _reserve(self, task_id: str | None) -> Delivery | None:
        found = self.client.reserve([self.queue_name], 1, LEASE, task_id=task_id).deliveries
        return found[0] if found else None

    @contextmanager
    def _keeper(self) -> Iterator[Keeper]:
        with Keeper(self.client, LEASE, log=log) as keeper:
            yield keeper

    def _run(self, keeper: Keeper, delivery: Delivery) -> Outcome:
        keeper.take([delivery])
        keeper.start_next()
        outcome = attempt(delivery, self.codec, self.client.max_deaths)
        settle(self.client, outcome, self.clock)
        keeper.end(delivery, ack=False)
        if isinstance(outcome.error, KeyboardInterrupt):
            raise outcome.error  # by the person at the keyboard, as it seems
        return outcome

    # -- Looking after the queue. -------------------------------------------------------------

    def dead(self, limit: int = 100) -> list[DeadTask]:
        """Return the tasks of this queue that were given up, newest first."""
        return self.client.dead(self.queue_name, limit)

    def revive(self, task_id: str | None = None) -> int:
        """Put a dead task back on the queue, or all of them; return how many."""
        return self.client.revive(self.queue_name, task_id)

    def stats(self) -> dict[str, Any]:
        """Return ``waiting``, ``delayed``, ``running``, ``dead`` (counts) and ``oldest`` (the
        seconds that the first in line has waited, or None).
        """
        return asdict(self.client.stats(self.queue_name))

    def close(self) -> None:
        """Let go of connections and files; the next use opens them again."""
        self.client.close()


def _name(func: Any) -> str:
    return func if isinstance(func, str) else getattr(func, "__qualname__", repr(func))


def _size(data: str | bytes) -> int:
    if isinstance(data, bytes) or data.isascii():
        return len(data)
    return len(data.encode())
