"""What a worker does with one delivery, in whichever of its threads.

1. :func:`~alligator.execution.attempt.attempt` it: read it, run it, judge.
2. Count it, before the hand that ran it is free.
3. Settle it: an ack goes soon, with others, or at once where the task took a while; a retry is
   released and what is given up buried right away. What cannot be told is told later.
4. Report: the result of a success, the reason of anything else.

Where several tasks run at a time, no thread waits for a coroutine: it is carried on by the event
loop, and steps 2 to 4 follow there if nothing in them can block, else in a thread of the
:class:`~alligator.workers.pool.Helpers`.
"""

import logging
import time
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from functools import partial
from typing import Any

from alligator.backends.base import Delivery
from alligator.common.text import describe_error, shorten
from alligator.exceptions import ConnectionLost, LeaveNow, QueueFull, RunAgain
from alligator.execution.acks import report_refused
from alligator.execution.attempt import Limit, Outcome, Verdict, attempt, conclude
from alligator.execution.leases import Leases
from alligator.execution.outage import Outage
from alligator.gator import Gator
from alligator.results.records import is_recorded
from alligator.runtime.event_loop import EventLoop
from alligator.tasks.task import Task
from alligator.workers.pool import Helpers
from alligator.workers.prefetch import SLOW, Prefetch
from alligator.workers.signals import StopSignals


class Processor:
    """Runs the deliveries of one worker; safe to use from threads.

    :param count: told of each outcome, before it is settled.
    :param show: told of each result.
    :param limit: asked about each task that has a timeout.
    :param signals: those that may interrupt a task, run in the main thread; None: none do.
    :param loop: what carries coroutines on; None: :meth:`run` waits for them.
    :param shows_none: whether ``show`` is to be told of results that are None.
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
    ) -> None:
        self.gator, self.leases, self.log = gator, leases, log
        self.recorder = gator.recorder
        self.prefetch, self.outage = prefetch, outage
        self.count, self.show = count, show
        self.loop, self.shows_none = loop, shows_none
        self.helpers = Helpers()
        self.codec = gator.codec
        self._limit, self._signals = limit, signals
        self._client, self._clock = gator.client, gator.clock
        self._max_deaths = gator.client.max_deaths
        self._begin = self.recorder.note_started if self.recorder.notes_starts else None

    def run(self, delivery: Delivery) -> bool:
        """Run a delivery that has just started, and settle it.

        :returns: False: it goes on as a coroutine, and is settled when that ends.
        :raises LeaveNow: the worker is to leave; nothing else.
        """
        if delivery.attempt > 1:
            self.leases.lengthen(delivery)
        started = time.monotonic()
        try:
            if (signals := self._signals) is None:
                outcome = self._attempt(delivery, started)
            else:
                outcome = signals.interruptible(self._attempt, delivery, started)
            if outcome.verdict is Verdict.CARRIED:
                return False
            self._finish(outcome, time.monotonic() - started)
        except LeaveNow:
            raise
        except BaseException as err:
            self._give_up(delivery, err)
        return True

    def _attempt(self, delivery: Delivery, started: float) -> Outcome:
        carry = partial(self._carry, delivery, started) if self.loop is not None else None
        codec, deaths, clock, client = self.codec, self._max_deaths, self._clock, self._client
        # By position: by name, and be it in a partial, takes 0.5 µs more.
        return attempt(delivery, codec, deaths, clock, self._limit, self._begin, carry, client)

    def run_now(self, delivery: Delivery, patience: float, holder: Leases | None) -> bool:
        """Run a delivery and settle it before this returns; whether it succeeded.

        :param patience: seconds to wait for a backend that has no room for the outcome.
        :param holder: what holds such an outcome, in the place of waiting.
        :raises AlligatorException: it could not be settled, and comes back by its lease.
        """
        if delivery.attempt > 1:
            self.leases.lengthen(delivery)
        started = time.monotonic()
        if self._signals is None:
            outcome = self._attempt(delivery, started)
        else:
            outcome = self._signals.interruptible(self._attempt, delivery, started)
        self.count(outcome)
        self.leases.settles(delivery)
        settle = partial(self.recorder.settle, outcome)
        settled: bool | None = None
        try:
            settled = settle()
        except QueueFull as err:
            due = self.recorder.due(outcome)
            held_by = holder or self.leases
            held_by.tell_later(delivery, settle, err, due, outcome.leased_anew)
        self.leases.end(delivery, ack=False)
        self._report(outcome, settled=settled)
        if holder is None:
            self.leases.wait_for_room(patience)
        return outcome.verdict is Verdict.ACK

    def _carry(
        self,
        delivery: Delivery,
        started: float,
        task: Task,
        coroutine: Coroutine[Any, Any, Any],
    ) -> None:
        if self.loop is not None:
            done = partial(self._ended, delivery, started, task)
            self.loop.carry(coroutine, task.timeout, done)

    def _ended(
        self, delivery: Delivery, started: float, task: Task, result: Any, error: Any
    ) -> None:
        """On the event loop, in the context of a coroutine: see to its end, without blocking."""
        if isinstance(error, LeaveNow):
            return  # it was canceled as the worker leaves, and is handed back
        blocks = error is not None or task.on_success is not None or task.known_for
        shows = result is not None or self.shows_none
        if blocks or shows or delivery.deaths or self.leases.is_closed:
            conclude = partial(self._conclude, delivery, started, task, result, error)
            self.helpers.call(partial(copy_context().run, conclude))
        else:
            self._conclude(delivery, started, task, result, error)

    def _conclude(
        self, delivery: Delivery, started: float, task: Task, result: Any, error: Any
    ) -> None:
        try:
            outcome = conclude(delivery, self.codec, task, result, error)
            self._finish(outcome, time.monotonic() - started, carried=True)
            if self.leases.is_closed:  # it ended after its worker
                self.tell(self.leases.acks.send)
        except LeaveNow:
            return
        except BaseException as err:
            self._give_up(delivery, err)

    def _give_up(self, delivery: Delivery, err: BaseException) -> None:
        # Nothing should get here. The worker stays, and the task comes back by its lease.
        self.leases.end(delivery, ack=False)
        # No error with its traceback: it may be that which cannot be shown.
        self.log.error("Task %s: %s", shorten(delivery.task_id), describe_error(err))

    def _finish(self, outcome: Outcome, took: float, *, carried: bool = False) -> None:
        # What was carried keeps its place until it is reported: else there would be ever more
        # helpers where that takes longer than the tasks.
        leases, delivery = self.leases, outcome.delivery
        leases.expected = self.prefetch.add(took)
        self.count(outcome)  # before it ends: a hand is free only when max_tasks knows
        settled: bool | None = None
        if outcome.verdict is Verdict.ACK and not is_recorded(outcome):
            due = leases.end(delivery, ack=True, leaves=not carried)
            # A suspect at once, too: if the worker dies in between, that would count against it.
            if delivery.deaths or (not carried and (due or took > SLOW)):
                self.tell(leases.acks.send)
            elif self.loop is not None:  # else this very thread is about to
                leases.ack_soon()
        else:
            settled = self._settle(outcome)
            leases.end(delivery, ack=False, leaves=not carried)
        try:
            if settled is not None or self._has_news(outcome):
                self._report(outcome, settled=settled)
        finally:
            if carried:
                leases.leave()

    def _has_news(self, outcome: Outcome) -> bool:
        if self.shows_none or outcome.verdict is not Verdict.ACK:
            return True
        return getattr(outcome.task, "result", None) is not None

    def _settle(self, outcome: Outcome) -> bool | None:
        def tell() -> bool:
            return self.recorder.settle(outcome)

        self.leases.settles(outcome.delivery)
        try:
            return tell()
        except Exception as err:
            if isinstance(err, ConnectionLost | QueueFull):  # these pass: it is told again then
                due = self.recorder.due(outcome)
                self.leases.tell_later(outcome.delivery, tell, err, due, outcome.leased_anew)
            else:
                self.outage.begins(err)
            return None

    def tell(self, say: Callable[[], Any]) -> Any:
        """Say it to the backend; if that fails it is said later, or the task comes back."""
        try:
            return say()
        except Exception as err:
            self.outage.begins(err)
            return None

    def _report(self, outcome: Outcome, *, settled: bool | None) -> None:
        if settled is False:
            report_refused(self.log, [outcome.delivery])
        if outcome.verdict is Verdict.ACK and outcome.task is not None:
            self._show(getattr(outcome.task, "result", None))
            return
        task_id = shorten(outcome.delivery.task_id)
        if outcome.verdict is Verdict.BURY:
            self.log.error(
                "Task %s was given up: %s", task_id, outcome.reason.error, exc_info=outcome.error
            )
        elif isinstance(outcome.error, RunAgain):
            self.log.info("Task %s %s.", task_id, outcome.error)
        else:
            why = describe_error(outcome.error) if outcome.error is not None else "no reason given"
            self.log.warning("Task %s (%s): %s", task_id, outcome.verdict.value, why)

    def _show(self, result: Any) -> None:
        try:
            self.show(result)
        except LeaveNow:
            raise
        except BaseException as err:
            # The task is done and stays so; its result only has no text, or no place to go.
            self.log.warning("A result could not be shown: %s", describe_error(err))
