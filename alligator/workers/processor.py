"""Run one delivery, in any thread of the worker.

1. Attempt it (:func:`~alligator.execution.attempt.attempt`): read it, run it, judge.
2. Count it, before its thread is free.
3. Settle it: an ack goes soon, with others, or at once if the task took a while. A retry is
   released, and a dead letter buried, right away. If that fails, it is repeated later.
4. Report it: the result of a success, the reason of anything else.

If several tasks run at a time, no thread waits for a coroutine: the event loop runs it. Steps 2
to 4 follow there if nothing in them can block, else in an
:class:`~alligator.workers.pool.Executor`.
"""

import logging
import time
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from functools import partial
from typing import Any

from alligator.backends.base import GET, Delivery
from alligator.common.text import describe_error, shorten
from alligator.exceptions import ConnectionLost, LeaveNow, QueueFull, RunAgain
from alligator.execution.acks import report_refused
from alligator.execution.activity_report import Recording
from alligator.execution.attempt import Limit, Outcome, Verdict, attempt, conclude
from alligator.execution.backend_trouble import Outage
from alligator.execution.leases import Leases
from alligator.gator import Gator
from alligator.monitoring.activity_counts import LONG
from alligator.runtime.event_loop import EventLoop
from alligator.tasks.task import Task
from alligator.workers.pool import Executor
from alligator.workers.prefetch_size import SLOW, Prefetch
from alligator.workers.signals import StopSignals
from alligator.workers.task_lines import TaskLines, described, fields_of

_ACK, _CARRIED = Verdict.ACK, Verdict.CARRIED  # found at once: see attempt.py


class Processor:
    """Runs the deliveries of one worker; safe to use from threads.

    :param count: told of each outcome, before it is settled.
    :param recording: what is recorded of the tasks that run; None: nothing.
    :param show: told of each result.
    :param limit: asked about each task that has a timeout.
    :param signals: may interrupt a task in the main thread; None: no signal does.
    :param loop: runs coroutines; None: :meth:`run` waits for them.
    :param shows_none: whether ``show`` is told of results that are None.
    :param lines: logs a line when a task starts and ends; None: nothing does.
    """

    def __init__(
        self,
        gator: Gator,
        leases: Leases,
        *,
        log: logging.Logger,
        prefetch: Prefetch,
        outage: Outage,
        count: Callable[[Outcome], None],
        show: Callable[[Any], None],
        limit: Limit,
        signals: StopSignals | None = None,
        loop: EventLoop | None = None,
        shows_none: bool = True,
        lines: TaskLines | None = None,
        recording: Recording | None = None,
    ) -> None:
        self.leases, self.log = leases, log
        self.settler, self.codec = gator.settler, gator.codec
        self.prefetch, self.outage = prefetch, outage
        self.count, self.show = count, show
        self.recording = recording
        # The user's own class may lack what a Task has: then each task takes the long way.
        self._records_all = not issubclass(gator.task_class, Task)
        self.loop, self.lines = loop, lines
        # Whether each task is reported; else those of which there is something to say.
        self._reports_all = shows_none or lines is not None
        self.executor = Executor()
        recorder = gator.recorder
        begin: Callable[[Task, Delivery], None] | None = None
        if recorder.notes_starts:
            begin = recorder.note_started
        if lines is not None:
            begin = lines.begins(begin)
        # What attempt() takes between the delivery and ``carry``: how to read, check and limit it.
        # Passed by position: by name, and be it in a partial, takes 0.5 µs more for each task.
        checks = self.codec, gator.client.max_deaths, gator.clock
        # A backend without GET may keep a dead letter in the log only.
        kept = GET in gator.client.supports
        self._revival = " To run it again: gator.revive(its id)." if kept else ""
        self._has_middleware = gator.run_middleware is not None
        self._how = *checks, limit, begin, gator.client, gator.run_middleware
        if loop is not None:
            loop.call_in_thread = self.executor.call
        call: Callable[..., Outcome] = attempt
        self._attempt = call if signals is None else partial(signals.interruptible, call)

    def run(self, delivery: Delivery) -> bool:
        """Run a delivery that has just started, and settle it.

        :returns: False: it goes on as a coroutine, and is settled when that ends.
        :raises LeaveNow: the worker is to leave; nothing else.
        """
        if delivery.attempt > 1:
            self.leases.lengthen(delivery)
        started = time.monotonic()
        carry = partial(self._carry, delivery, started) if self.loop is not None else None
        try:
            outcome = self._attempt(delivery, *self._how, carry)
            if outcome.verdict is _CARRIED:
                return False
            self._finish(outcome, time.monotonic() - started)
        except LeaveNow:
            raise
        except BaseException as err:
            self._give_up(delivery, err)
        return True

    def run_now(self, delivery: Delivery, patience: float, holder: Leases | None) -> bool:
        """Run a delivery and settle it before this returns; return whether it succeeded.

        :param patience: seconds to wait for a backend that has no room for the outcome.
        :param holder: keeps such an outcome, so that this does not wait.
        :raises AlligatorException: it could not be settled, and comes back by its lease.
        """
        if delivery.attempt > 1:
            self.leases.lengthen(delivery)
        started = time.monotonic()
        outcome = self._attempt(delivery, *self._how)
        took = time.monotonic() - started
        if self.recording is not None:
            self.recording.record(outcome, took)
        self.count(outcome)
        self.leases.settles(delivery)
        settled: bool | None = None
        try:
            settled = self.settler.settle(outcome)
        except QueueFull as err:
            self._settle_later(outcome, err, holder or self.leases)
        self.leases.end(delivery, ack=False)
        self._report(outcome, took, settled=settled)
        if holder is None:
            self.leases.wait_for_room(patience)
        return outcome.verdict is Verdict.ACK

    def _carry(
        self,
        delivery: Delivery,
        started: float,
        task: Task,
        coroutine: Coroutine[Any, Any, Any],
        timeout: float | None,
    ) -> None:
        if self.loop is not None:
            done = partial(self._ended, delivery, started, task)
            # Middleware goes around the coroutine, and is not canceled with it.
            owner = None if self._has_middleware else task
            self.loop.carry(coroutine, timeout, done, owner)

    def _ended(
        self, delivery: Delivery, started: float, task: Task, result: Any, error: Any
    ) -> None:
        """On the event loop, in the context of a coroutine that has ended: do not block."""
        if isinstance(error, LeaveNow):
            return  # canceled because the worker leaves, which hands the task back
        blocks = error is not None or task.on_success is not None or task.known_for
        blocks = blocks or task.observer is not None
        shows = result is not None or self._reports_all
        if blocks or shows or delivery.deaths or self.leases.is_closed:
            conclude = partial(self._conclude, delivery, started, task, result, error)
            self.executor.call(partial(copy_context().run, conclude))
        else:
            self._conclude(delivery, started, task, result, error)

    def _conclude(
        self, delivery: Delivery, started: float, task: Task, result: Any, error: Any
    ) -> None:
        try:
            outcome = conclude(delivery, self.codec, task, result, error)
            self._finish(outcome, time.monotonic() - started, carried=True)
            if self.leases.is_closed:  # it ended after its worker
                self.leases.send_acks()
        except LeaveNow:
            return
        except BaseException as err:
            self._give_up(delivery, err)

    def _give_up(self, delivery: Delivery, err: BaseException) -> None:
        # No task should get here. The worker stays, and the task comes back by its lease.
        self.leases.end(delivery, ack=False)
        # Without the traceback: the error itself may fail to be formatted.
        self.log.error("Task %s: %s", shorten(delivery.task_id), describe_error(err))

    def _finish(self, outcome: Outcome, took: float, *, carried: bool = False) -> None:
        # A coroutine keeps its place until it is reported: else there would be ever more threads
        # in the executor, if reports take longer than tasks.
        leases, delivery = self.leases, outcome.delivery
        succeeded = outcome.verdict is _ACK
        self.prefetch.add(took)
        self.count(outcome)  # before it ends: its thread is free only when max_tasks is known
        task: Any = outcome.task
        recording, settled = self.recording, None
        if succeeded and not getattr(task, "known_for", 0):  # its end is not in the store
            if recording is not None:
                if self._records_all or delivery.deaths:
                    recording.record(outcome, took)
                else:  # in place, as this is done for every task
                    ended = recording.ended[delivery.queue_name]
                    ended.append(task.func)
                    if len(ended) >= ended.measure_at or took >= LONG or task.history:
                        recording.notice(outcome, took)
            # The ack waits there for company: the next reserve, or send_acks, takes it along.
            due = leases.end(delivery, ack=True, frees_place=not carried)
            # A suspect at once, too: if the worker dies in between, that would count against it.
            if delivery.deaths or (not carried and (due or took > SLOW)):
                leases.send_acks()
            elif self.loop is not None:  # else this very thread is about to
                leases.ack_soon()
        else:
            if recording is not None:
                recording.record(outcome, took)
            settled = self._settle(outcome)
            leases.end(delivery, ack=False, frees_place=not carried)
        try:
            if (
                settled is not None
                or self._reports_all
                or not succeeded
                or getattr(outcome.task, "result", None) is not None
            ):
                self._report(outcome, took, settled=settled)
        finally:
            if carried:
                leases.free_place()

    def _settle(self, outcome: Outcome) -> bool | None:
        self.leases.settles(outcome.delivery)
        try:
            return self.settler.settle(outcome)
        except (ConnectionLost, QueueFull) as err:  # these pass
            self._settle_later(outcome, err, self.leases)
        except Exception as err:
            self.outage.begins(err)
        return None

    def _settle_later(self, outcome: Outcome, err: Exception, leases: Leases) -> None:
        due, settle = self.settler.due(outcome), partial(self.settler.settle, outcome)
        leases.settle_later(outcome.delivery, settle, err, due, outcome.leased_again)

    def _report(self, outcome: Outcome, took: float, *, settled: bool | None) -> None:
        if settled is False:
            report_refused(self.log, [outcome.delivery])
            if self.recording is not None and outcome.verdict is Verdict.ACK:
                self.recording.note_lost([outcome.delivery])
        if outcome.verdict is Verdict.ACK and outcome.task is not None:
            self._show(getattr(outcome.task, "result", None))
            if self.lines is not None:
                self.lines.succeed(outcome, took)
            return
        task_id, about = shorten(outcome.delivery.task_id), described(outcome, took)
        fields = fields_of(outcome, took)
        if outcome.verdict is Verdict.BURY:
            why = outcome.reason.error
            self.log.error(
                "Task %s became a dead letter: %s %s%s",
                task_id,
                why,
                about,
                self._revival if settled else "",
                exc_info=outcome.error,
                extra=fields,
            )
        elif outcome.verdict is Verdict.CANCEL:
            self.log.info("Task %s was canceled while it ran. %s", task_id, about, extra=fields)
        elif isinstance(outcome.error, RunAgain):
            self.log.info("Task %s %s. %s", task_id, outcome.error, about, extra=fields)
        else:
            why = describe_error(outcome.error) if outcome.error is not None else "no reason given"
            verdict = outcome.verdict.value
            self.log.warning("Task %s (%s): %s %s", task_id, verdict, why, about, extra=fields)

    def _show(self, result: Any) -> None:
        try:
            self.show(result)
        except LeaveNow:
            raise
        except BaseException as err:
            # The task has succeeded all the same: only its result could not be formatted or logged.
            self.log.warning("A result could not be shown: %s", describe_error(err))
