"""The Gator: the one object an application needs. It enqueues, looks up and cancels."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, ParamSpec, overload

from alligator.backends import client_class
from alligator.backends.base import OWN_ID, Client, DeadTask, Delivery
from alligator.backends.dsn import mask_password
from alligator.backends.legacy import LegacyClient
from alligator.backends.store import Store
from alligator.clock import Clock, SystemClock
from alligator.codec import Codec
from alligator.constants import ALL
from alligator.elsewhere import between
from alligator.exceptions import AlligatorException, InvalidDSN, LeaveNow
from alligator.execution import Outcome, Verdict, attempt
from alligator.explaining import Explaining
from alligator.intake import Intake
from alligator.keeper import Keeper
from alligator.log import SafeTracebacks
from alligator.messages import id_of
from alligator.molds import Mold
from alligator.options import Batch, Options
from alligator.pushing import Pusher
from alligator.recording import Recorder
from alligator.results import Results
from alligator.schedules import Schedules, Scheduling
from alligator.security import Policy
from alligator.signing import Signer
from alligator.tasks import Task
from alligator.timeouts import Overrun, TimeIsUp

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

P = ParamSpec("P")

#: Seconds that a task run by ``pop``, ``get`` or ``run_all`` is leased for at a time.
LEASE = 30.0

_ALL_DEAD = 1_000_000


class Gator(Scheduling, Explaining):
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
    :param store: the DSN of a place for results (or the store itself), where the backend has
        none (beanstalk, sqs), or another one is to be used.
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
        store: str | Store | None = None,
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
        #: Where outcomes are kept; None: nowhere.
        self.store: Store | None = self.client.store if store is None else self._store_at(store)
        self.schedules = Schedules(self)
        #: What a task goes through here before it is queued.
        self.intake = Intake(self)
        self._pusher = Pusher(self)
        self._plain = self.mold({})
        self.elsewhere = between(self.client, self.store)

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

    def _store_at(self, place: str | Store) -> Store:
        if isinstance(place, Store):
            return place
        client = client_class(place)(place, clock=self._given_clock)
        store: Store | None = getattr(client, "store", None)
        if store is None:
            raise InvalidDSN(f"{mask_password(place)} is no store; locmem, sqlite and redis are.")
        return store

    @property
    def recorder(self) -> Recorder:
        """How outcomes are put on record here."""
        return Recorder(self.client, self.store, self.clock, self.signer, self.elsewhere)

    @property
    def results(self) -> Results:
        """What can be said of tasks after they were pushed."""
        return Results(self.recorder, self.queue_name)

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
        if self._plain.task_class is not self.task_class:
            self._plain = self.mold({})
        return self.push(self._plain.cast(), func, *args, **kwargs)

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
        return self._pusher.push(task) if task.is_async else self._run_here(task)

    def mold(self, options: dict[str, Any]) -> Mold:
        """Return what makes new tasks of this Gator's class, with checked options."""
        return Mold(self.task_class, options)

    def prepare(
        self, task: Task, func: Callable[..., Any] | str, args: Sequence[Any], kwargs: Any
    ) -> None:
        """Check a call and make the task ready for it, without pushing it."""
        self.intake.prepare(task, func, args, kwargs)
        if task.depends_on:
            self._pusher.dependencies.check(task)

    def push_batch(self, tasks: Sequence[Task]) -> None:
        """Push prepared tasks in bulk, queue by queue; then run those that are not async."""
        self._pusher.push_batch([task for task in tasks if task.is_async])
        for task in tasks:
            if not task.is_async:
                self._run_here(task)

    def _run_here(self, task: Task) -> Task:
        if self._pusher.dependencies.may_run(task):
            return self.execute(task)
        task.to_canceled()
        return task

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
        return self._run_one(self.results.where(task_id)[1])

    def cancel(self, task_id: str | Task) -> Task | None:
        """Take a task off the queue before it runs and return it; None: no such task waits.

        ::

            task = gator.task(add, 18, 9)
            gator.cancel(task.task_id)

        :param task_id: on this Gator's queue; or the task itself, which knows its queue.
        """
        queue_name, backend_id = self.results.where(task_id)
        if self.elsewhere and (held := self._cancel_held(queue_name, id_of(task_id))):
            return held
        reserved = self.client.reserve([queue_name], 1, LEASE, task_id=backend_id)
        for delivery in reserved.deliveries:
            try:
                task = self.codec.decode(delivery)
            except Exception:
                self.client.release(delivery)  # it cannot be shown, so it is not taken either
                raise
            self.recorder.cancel(task, delivery)
            task.to_canceled()
            return task
        return None if self.elsewhere else self._cancel_held(queue_name, backend_id)

    def _cancel_held(self, queue_name: str, task_id: str) -> Task | None:
        if (data := self.recorder.peek_held(queue_name, task_id)) is None:
            return None
        delivery = Delivery(queue_name, task_id, data, None)
        task = self.codec.decode(delivery)
        if not self.recorder.cancel_held(task, delivery):
            return None
        task.to_canceled()
        return task

    def execute(self, task: Task) -> Task:
        """Run a task that you hold, with its retries, and return it.

        A failure with a retry left puts an async task back on the queue, and runs another
        at once.

        :raises Exception: what the task raised, once it has no retry left.
        """
        while True:
            try:
                task.run()
            except (KeyboardInterrupt, LeaveNow, TimeIsUp):
                raise  # the person at the keyboard, or what is around; not the task
            except BaseException as err:
                if not task.retries > 0:
                    self.recorder.note_local(task)
                    raise
                delay = task.spend_retry(err)
                if task.is_async:
                    task.delay_until = self.clock.time() + delay if delay else None
                    self._pusher.enqueue(task)
                    task.to_retrying()
                    return task
            else:
                self.recorder.note_local(task)
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

    def run_until(self, when: Any, to_consume: str | Sequence[str] | None = None) -> int:
        """Let a FakeClock run up to a moment, and run what comes up on the way, as a worker would.

        :param when: ``'+1d'``, ``'+1h30m'``, a timedelta, seconds; or a datetime, a timestamp.
        :param to_consume: a queue name, or several in strict order; None: the Gator's queue.
        :returns: how many tasks were run, each try counted.
        :raises UnsupportedOption: the Gator's clock, or its backend's, cannot be moved.
        :raises InvalidTask: that is no moment to come.
        """
        from alligator.testing.playing import play  # brings the worker, which stands above

        return play(self, when, to_consume)

    def _run_one(self, task_id: str | None = None) -> Task | None:
        delivery = self._reserve(task_id)
        if delivery is None:
            return None
        with self._keeper() as keeper:
            outcome = self._run(keeper, delivery)
        if outcome.error is not None and outcome.verdict is not Verdict.RETRY:
            raise outcome.error
        if outcome.task is None or outcome.verdict is Verdict.BURY:
            raise AlligatorException(outcome.reason.error)
        return outcome.task

    def _reserve(self, task_id: str | None) -> Delivery | None:
        found = self.client.reserve([self.queue_name], 1, LEASE, task_id=task_id).deliveries
        return found[0] if found else None

    def _keeper(self) -> Keeper:
        return Keeper(self.client, LEASE, log=log)

    def _run(self, keeper: Keeper, delivery: Delivery) -> Outcome:
        keeper.take([delivery])
        keeper.start_next()
        recorder = self.recorder
        outcome = attempt(
            delivery,
            self.codec,
            self.client.max_deaths,
            self.clock,
            lambda delivery, seconds: _limit(keeper, delivery, seconds),
            recorder.note_started,
        )
        recorder.settle(outcome)
        keeper.end(delivery, ack=False)
        if isinstance(outcome.error, KeyboardInterrupt):
            raise outcome.error  # by the person at the keyboard, as it seems
        return outcome

    # -- What became of tasks. ----------------------------------------------------------------

    def status(self, task: Task | str) -> int | None:
        """Return how a task stands: ``WAITING``, ``DELAYED``, ``RUNNING``, ``RETRYING``,
        ``SUCCESS``, ``FAILED`` or ``CANCELED``.

        :param task: the task, or its id on this Gator's queue.
        :returns: None: never heard of, or it succeeded and nothing was saved (any more).
        """
        return self.results.status(task)

    def wait(
        self,
        tasks: Sequence[Task | str] | Task,
        timeout: float | None = None,
        *,
        started: bool = False,
    ) -> bool:
        """Block until all of these tasks have ended, well or badly.

        An id of which nothing is known has not ended: of a task without ``save_results``,
        only the object that :meth:`task` returned can be waited for.

        :param timeout: seconds; None: as long as it takes.
        :param started: wait only until all have started.
        :returns: False: not in that time, or one was canceled.
        """
        return self.results.wait(tasks, timeout, started=started)

    def result(self, task: Task | str, timeout: float | None = 0.0) -> Any:
        """Return what a task returned that was pushed with ``save_results``.

        :param timeout: seconds to wait for it; None: as long as it takes.
        :raises TaskFailed: it failed; with its ``error`` and ``traceback``.
        :raises TaskCanceled: it was canceled.
        :raises ResultTimeout: it has not ended in that time, or nothing is known of it.
        """
        return self.results.result(task, timeout)

    # -- Looking after the queue. -------------------------------------------------------------

    def dead(self, limit: int = 100) -> list[DeadTask]:
        """Return the tasks of this queue that were given up, newest first."""
        return self.client.dead(self.queue_name, limit)

    def revive(self, task_id: str | None = None) -> int:
        """Put a dead task back on the queue, or all of them; return how many."""
        if self.store is not None:  # their failure is no longer how they stand
            letters = self.dead(_ALL_DEAD)
            self.store.forget(
                self.recorder.id_of_dead(each)
                for each in letters
                if task_id is None or task_id == each.task_id
            )
        return self.client.revive(self.queue_name, task_id)

    def stats(self) -> dict[str, Any]:
        """Return ``waiting``, ``delayed``, ``running``, ``dead`` (counts) and ``oldest`` (the
        seconds that the first in line has waited, or None).
        """
        return asdict(self.client.stats(self.queue_name))

    def close(self) -> None:
        """Let go of connections and files; the next use opens them again."""
        self.client.close()
        if self.store is not None:
            self.store.close()


def _limit(keeper: Keeper, delivery: Delivery, seconds: float) -> Overrun:
    keeper.cover(delivery, seconds + LEASE)
    return Overrun(LEASE, lambda: keeper.give_up(delivery))
