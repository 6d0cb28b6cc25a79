"""Run tasks of a queue in the calling thread, without a worker."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any

from alligator.backends.base import GET, Client, Data, Delivery, time_on
from alligator.backends.queue_pauses import Pauses
from alligator.common import after_fork, strict_json
from alligator.common.clock import Clock
from alligator.common.hard_exit import beside
from alligator.common.log import SafeTracebacks
from alligator.constants import CANCELED, WAITING
from alligator.exceptions import (
    AlligatorException,
    LeaveNow,
    QueueFull,
    UnknownCallableError,
    UnknownModuleError,
)
from alligator.execution.acks import report_refused
from alligator.execution.activity_report import Recording
from alligator.execution.attempt import Outcome, Verdict, attempt, canceled
from alligator.execution.leases import Leases
from alligator.execution.progress_and_cancels import TaskDocuments
from alligator.execution.settle import Settler
from alligator.monitoring import cancel_requests
from alligator.results.query import Results
from alligator.runtime.timeouts import Overrun, TimeIsUp
from alligator.tasks.codec import Codec
from alligator.tasks.message import id_of
from alligator.tasks.middleware import RunMiddleware
from alligator.tasks.parent_results import join, split
from alligator.tasks.task import Task

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

#: Seconds that a task run by ``pop``, ``get`` or ``run_all`` is leased for at a time.
LEASE = 30.0

#: How often a task that is to be canceled is looked for, waiting and running by turns.
_TRIES = 3

#: Seconds that these wait for a backend that has no room for the outcome of a task.
ROOM_WITHIN = 2.0


class InlineRunner:
    """Run and cancel the tasks of one Gator; its methods of the same names say more.

    :param push_again: puts a task back on its queue, for a retry.
    :param middleware: called around the runs.
    :param recording: what is recorded of the tasks that run; None: nothing.
    :param pauses: which queues are paused that the backend gives tasks of all the same.
    """

    def __init__(
        self,
        client: Client,
        codec: Codec,
        clock: Clock,
        settler: Settler,
        results: Results,
        queue_name: str,
        push_again: Callable[[Task], Task],
        middleware: RunMiddleware | None = None,
        recording: Recording | None = None,
        pauses: Pauses | None = None,
    ) -> None:
        self.client, self.codec, self.clock = client, codec, clock
        self.settler, self.recorder, self.results = settler, settler.recorder, results
        self.queue_name, self.push_again = queue_name, push_again
        self.middleware, self.pauses = middleware, pauses
        self.recording = recording

    # -- Canceling. ---------------------------------------------------------------------------

    def cancel(self, task_id: str | Task, *, running: bool = False) -> Task | None:
        """Take a task off its queue, or ask its worker to end it, and return it; None: neither."""
        found = (
            self._cancel_running(task_id) if running else self._cancel(task_id, self.codec.decode)
        )
        if found is not None and found.status == CANCELED and isinstance(task_id, Task):
            task_id.to_canceled()
        return found

    def _cancel_running(self, task_id: str | Task) -> Task | None:
        cancel_requests.store_of(self.results)
        for _ in range(_TRIES):  # it may start, or be retried, between two looks
            can_look = GET in self.client.supports
            if can_look and (found := self._cancel(task_id, self._decoded)) is not None:
                return found
            state, data = cancel_requests.make(self.results, task_id)
            if state == WAITING and can_look:
                continue
            if state == WAITING:
                return None
            found = self._described(task_id, data)
            if state == CANCELED:
                found.to_canceled()
            else:
                found.to_running()
            return found
        return None

    def _described(self, task_id: str | Task, data: Data | None) -> Task:
        if data is None:
            return task_id if isinstance(task_id, Task) else Task(task_id)
        return self._decoded(Delivery(*self.results.where(task_id), data, None))

    def _decoded(self, delivery: Delivery) -> Task:
        """Return the task of a delivery; one whose code is not installed here, with names."""
        try:
            return self.codec.decode(delivery)
        except (UnknownModuleError, UnknownCallableError):
            return self.codec.decode_names(delivery)

    def _cancel(self, task_id: str | Task, decode: Callable[[Delivery], Task]) -> Task | None:
        queue_name, backend_id = self.results.where(task_id)
        # Held first: a task goes from the store to its queue, and never back.
        if held := self._cancel_held(queue_name, id_of(task_id), decode):
            return held
        reserved = self.client.withdraw(queue_name, backend_id, LEASE)
        for delivery in reserved.deliveries:
            try:
                task = decode(delivery)
            except BaseException:
                self.client.release(delivery)  # the caller cannot be given it, so it stays
                raise
            self.settler.cancel(task, delivery)
            task.to_canceled()
            return task
        return None

    def _cancel_held(
        self, queue_name: str, task_id: str, decode: Callable[[Delivery], Task]
    ) -> Task | None:
        store = self.settler.store
        if store is None or (data := store.peek_held(self.client, queue_name, task_id)) is None:
            return None
        delivery = Delivery(queue_name, task_id, data, None)
        task = decode(delivery)
        if not self.settler.cancel_held(task, queue_name, task_id):
            return None
        task.to_canceled()
        return task

    # -- Running. -----------------------------------------------------------------------------

    def execute(self, task: Task) -> Task:
        """Run a task, with its retries, and return it."""
        origin = after_fork.generation
        while True:
            args, kwargs, awaited = task.func_args, task.func_kwargs, None
            if task.awaits_results:
                args, kwargs, awaited = split(args, kwargs)
            given = _as_json(args, kwargs)
            try:
                if awaited:
                    self._fetch_results(task)
                task.called_with = task.func_args, task.func_kwargs
                if self.middleware is None:
                    copy_context().run(task.run)  # a class of the user may override it
                else:
                    copy_context().run(partial(self.middleware.run, task, ends_children=False))
            except (KeyboardInterrupt, LeaveNow, TimeIsUp):
                raise  # raised at the keyboard, or for what runs around the task
            except BaseException as err:
                if after_fork.generation != origin:
                    raise
                if not task.may_retry(err):
                    self.recorder.note_local(task, task.queue_name or self.queue_name)
                    raise
                delay = task.spend_retry(err)
                if given is not None:
                    args, kwargs = strict_json.loads(given)
                    if awaited:
                        args, kwargs = join(args, kwargs, awaited)
                    task.restore_arguments(tuple(args), kwargs)
                if task.is_async:
                    queue_name = task.queue_name or self.queue_name
                    now = time_on(self.client, queue_name, self.clock)
                    task.delay_until = now + delay if delay else None
                    task.delay_by = None  # it counted from the first push
                    self.push_again(task)
                    task.to_retrying()
                    return task
            else:
                if after_fork.generation == origin:
                    self.recorder.note_local(task, task.queue_name or self.queue_name)
                return task

    def _fetch_results(self, task: Task) -> None:
        try:
            self.codec.fetch_results(task)
        except AlligatorException as err:
            task.called_with = task.func_args, task.func_kwargs
            task.refuse(err)
            raise

    def run_all(self) -> int:
        """Run what is due until nothing is left, and return how many tasks were run."""
        ran = 0
        with self._recorded(), self._leases() as leases:
            while delivery := self._reserve(None):
                self._run(leases, delivery)
                ran += 1
        return ran

    def run_one(self, task: Task | str | None = None) -> Task | None:
        """Run a task and return it; without one named, that at the front of the queue.

        :returns: None: no such task is waiting, or the queue is empty.
        """
        delivery = self._reserve(None if task is None else self.results.where(task)[1])
        if delivery is None:
            return None
        with self._recorded(), self._leases() as leases:
            outcome = self._run(leases, delivery)
        if outcome.error is not None and outcome.verdict is not Verdict.RETRY:
            raise outcome.error
        if outcome.task is None or outcome.verdict is Verdict.BURY:
            raise AlligatorException(outcome.reason.error)
        return outcome.task

    def _reserve(self, task_id: str | None) -> Delivery | None:
        if task_id is None and self.pauses is not None and self.pauses.among([self.queue_name]):
            return None
        found = self.client.reserve([self.queue_name], 1, LEASE, task_id=task_id).deliveries
        return found[0] if found else None

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """Send what was recorded in the block to the store, at its end."""
        try:
            yield
        finally:
            if self.recording is not None:
                self.recording.flush_quietly()

    def _leases(self) -> Leases:
        leases = Leases(
            self.client,
            LEASE,
            log=log,
            watch=lambda: running.look(),
            at_end=lambda: running.close(),
        )

        def would_not_end(delivery: Delivery, task: Task) -> None:
            leases.settles(delivery)
            beside(partial(self.settler.settle, canceled(delivery, task)), 0.0)

        running = TaskDocuments(
            self.settler.store,
            self.recorder,
            leases.running,
            lambda delivery, task: Overrun(LEASE, partial(would_not_end, delivery, task)),
        )
        return leases

    def _run(self, leases: Leases, delivery: Delivery) -> Outcome:
        leases.take([delivery])
        leases.start_next()
        if delivery.attempt > 1:
            leases.lengthen(delivery)
        recorder, recording = self.recorder, self.recording
        began = time.monotonic()
        outcome = attempt(
            delivery,
            self.codec,
            self.client.max_deaths,
            self.clock,
            lambda delivery, seconds: _limit(leases, delivery, seconds),
            recorder.note_started,
            self.client,
            self.middleware,
        )
        if recording is not None:
            recording.record(outcome, time.monotonic() - began)
        leases.settles(delivery)
        try:
            settled = self.settler.settle_within(outcome, ROOM_WITHIN)
        except QueueFull as err:
            leases.end(delivery, ack=False)  # first: it is not held any more
            raise self.settler.hand_back(outcome, err) from err
        leases.end(delivery, ack=False)
        if not settled:
            report_refused(log, [delivery])
            if recording is not None and outcome.verdict is Verdict.ACK:
                recording.note_lost([delivery])
        if isinstance(outcome.error, KeyboardInterrupt):
            raise outcome.error  # probably raised at the keyboard
        return outcome


def _as_json(args: Any, kwargs: Any) -> str | None:
    try:
        return strict_json.dumps([list(args), kwargs])
    except (TypeError, ValueError):  # a task that was never meant for a queue
        return None


def _limit(leases: Leases, delivery: Delivery, seconds: float) -> Overrun:
    leases.cover(delivery, seconds + LEASE)
    return Overrun(LEASE, lambda: leases.give_up(delivery))
