"""Taking tasks off a Gator's queue, and running them where one stands."""

import logging
from contextvars import copy_context

from alligator.backends.base import Delivery, time_on
from alligator.common import after_fork, strict_json
from alligator.common.log import SafeTracebacks
from alligator.exceptions import AlligatorException, LeaveNow, QueueFull
from alligator.execution.acks import report_refused
from alligator.execution.attempt import Outcome, Verdict, attempt
from alligator.execution.leases import Leases
from alligator.producer.push import Pusher
from alligator.runtime.timeouts import Overrun, TimeIsUp
from alligator.tasks.message import id_of
from alligator.tasks.task import Task
from alligator.wiring import Wiring

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

#: Seconds that a task run by ``pop``, ``get`` or ``run_all`` is leased for at a time.
LEASE = 30.0

#: Seconds that these wait for a backend that has no room for the outcome of a task.
ROOM_WITHIN = 2.0


class Taking(Wiring):
    """What a :class:`alligator.Gator` has of all this."""

    _pusher: Pusher

    def len(self) -> int:
        """Return how many tasks wait on the queue, delayed ones included."""
        return self.client.len(self.queue_name)

    def pop(self) -> Task | None:
        """Run the task at the front of the queue and return it; None: the queue is empty.

        :raises Exception: what the task raised, once it has no retry left; it is then among
            the dead letters.
        :raises QueueFull: it has run, but the backend has no room for its retry, its dead letter
            or its record, nor had for 2 seconds; it was handed back, and runs again.
        """
        return self._run_one()

    def get(self, task_id: str) -> Task | None:
        """Run one task now, delayed or not, and return it; None: no such task is waiting.

        :raises QueueFull: see :meth:`pop`.
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
        found = self._cancel(task_id)
        if found is not None and isinstance(task_id, Task):
            task_id.to_canceled()
        return found

    def _cancel(self, task_id: str | Task) -> Task | None:
        queue_name, backend_id = self.results.where(task_id)
        if self.elsewhere and (held := self._cancel_held(queue_name, id_of(task_id))):
            return held
        reserved = self.client.reserve([queue_name], 1, LEASE, task_id=backend_id)
        for delivery in reserved.deliveries:
            try:
                task = self.codec.decode(delivery)
            except BaseException:
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
        at once. Each retry gets the arguments as they were given, if JSON can carry them.

        A child that the function forks comes back to you, as from any function, if it does not
        end itself: without hooks and retries, and nothing is recorded of it. One that a coroutine
        forks ends there.

        :raises Exception: what the task raised, once it has no retry left.
        """
        origin = after_fork.generation
        while True:
            given = _as_json(task)
            task.called_with = task.func_args, task.func_kwargs
            try:
                copy_context().run(task.run)  # as its class may run it in a way of its own
            except (KeyboardInterrupt, LeaveNow, TimeIsUp):
                raise  # the person at the keyboard, or what is around; not the task
            except BaseException as err:
                if after_fork.generation != origin:
                    raise
                if not task.retries > 0:
                    self.recorder.note_local(task, task.queue_name or self.queue_name)
                    raise
                delay = task.spend_retry(err)
                if given is not None:
                    args, kwargs = strict_json.loads(given)
                    task.restore_arguments(tuple(args), kwargs)
                if task.is_async:
                    queue_name = task.queue_name or self.queue_name
                    now = time_on(self.client, queue_name, self.clock)
                    task.delay_until = now + delay if delay else None
                    task.delay_by = None  # it has had that
                    self._pusher.enqueue(task)
                    task.to_retrying()
                    return task
            else:
                if after_fork.generation == origin:
                    self.recorder.note_local(task, task.queue_name or self.queue_name)
                return task

    def run_all(self) -> int:
        """Run what is due on the queue in this process until none is left.

        For tests and scripts. A task that fails is retried and in the end buried, as a
        worker would do; nothing is raised for it.

        :returns: how many tasks were run, each try counted.
        :raises QueueFull: the backend has no room for the outcome of one; see :meth:`pop`.
        """
        ran = 0
        with self._leases() as leases:
            while delivery := self._reserve(None):
                self._run(leases, delivery)
                ran += 1
        return ran

    def _run_one(self, task_id: str | None = None) -> Task | None:
        delivery = self._reserve(task_id)
        if delivery is None:
            return None
        with self._leases() as leases:
            outcome = self._run(leases, delivery)
        if outcome.error is not None and outcome.verdict is not Verdict.RETRY:
            raise outcome.error
        if outcome.task is None or outcome.verdict is Verdict.BURY:
            raise AlligatorException(outcome.reason.error)
        return outcome.task

    def _reserve(self, task_id: str | None) -> Delivery | None:
        found = self.client.reserve([self.queue_name], 1, LEASE, task_id=task_id).deliveries
        return found[0] if found else None

    def _leases(self) -> Leases:
        return Leases(self.client, LEASE, log=log)

    def _run(self, leases: Leases, delivery: Delivery) -> Outcome:
        leases.take([delivery])
        leases.start_next()
        if delivery.attempt > 1:
            leases.lengthen(delivery)
        recorder = self.recorder
        outcome = attempt(
            delivery,
            self.codec,
            self.client.max_deaths,
            self.clock,
            lambda delivery, seconds: _limit(leases, delivery, seconds),
            recorder.note_started,
            client=self.client,
        )
        leases.settles(delivery)
        try:
            settled = recorder.settle_within(outcome, ROOM_WITHIN)
        except QueueFull as err:
            leases.end(delivery, ack=False)  # first, lest its lease be missed
            raise recorder.hand_back(outcome, err) from err
        leases.end(delivery, ack=False)
        if not settled:
            report_refused(log, [delivery])
        if isinstance(outcome.error, KeyboardInterrupt):
            raise outcome.error  # by the person at the keyboard, as it seems
        return outcome


def _as_json(task: Task) -> str | None:
    try:
        return strict_json.dumps([list(task.func_args), task.func_kwargs])
    except (TypeError, ValueError):  # of a task that was never meant for a queue
        return None


def _limit(leases: Leases, delivery: Delivery, seconds: float) -> Overrun:
    leases.cover(delivery, seconds + LEASE)
    return Overrun(LEASE, lambda: leases.give_up(delivery))
