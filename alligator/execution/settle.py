"""Settle what was run: record its outcome, if that is to be known, then ack, release or bury it.

Outcome first, ack last: a crash between them repeats the task and loses nothing. (A dead letter is
an outcome on record by itself, where store and queue are one.)
"""

import logging
import time
from contextlib import suppress
from dataclasses import dataclass

from alligator.backends.base import Client, Delivery, Reason, time_on
from alligator.backends.store import KEEP_FAILED, Record, Store, id_in_key
from alligator.common.clock import Clock
from alligator.common.log import SafeTracebacks
from alligator.common.text import describe_error, shorten
from alligator.constants import CANCELED
from alligator.exceptions import AlligatorException, ConnectionLost, InvalidTask, QueueFull
from alligator.execution.attempt import Outcome, Verdict
from alligator.execution.outage import FIRST_PAUSE, LONGEST_PAUSE
from alligator.results.records import Recorder, kept_for, put_with_room
from alligator.tasks.backoff import deploy_delay
from alligator.tasks.task import Task

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

#: Seconds before a task runs again whose outcome the store could not take.
_STORE_PAUSE = 5.0


@dataclass(slots=True)
class Settler:
    """Tells store and backend what became of deliveries.

    :param store: None: there is none, and nothing is recorded.
    """

    client: Client
    store: Store | None
    clock: Clock
    recorder: Recorder

    def settle(self, outcome: Outcome) -> bool:
        """Record what became of a delivery, if that is to be known, then tell the backend.

        A store out of reach that is not the backend itself: the task is handed back, to
        run again in a moment.

        :returns: False: the delivery had been overtaken.
        :raises ConnectionLost: it is not known what took effect; may be repeated.
        :raises QueueFull: it did not take effect, for want of room; repeat it, and keep the lease.
        """
        settled = self._settle(outcome)
        if settled and outcome.verdict is Verdict.ACK:
            self._forget_parents(outcome.task)
        return settled

    def _forget_parents(self, task: Task | None) -> None:
        """Forget what a task depended on that has ended, if that is kept in the store."""
        kept = getattr(task, "kept_parents", None)
        if kept is None or task is None or self.store is None:
            return
        with suppress(ConnectionLost, QueueFull):  # then they are gone in some weeks
            self.store.forget([kept.key(task.task_id)])

    def _settle(self, outcome: Outcome) -> bool:
        if self.store is None or not is_recorded(outcome):
            if self.store is None and kept_for(outcome.task):
                self._warn_of_no_store(outcome.delivery)
            return tell(self.client, outcome, self.clock)
        delivery, task, store = outcome.delivery, outcome.task, self.store
        key, keep = self.recorder.key_of(task, delivery), kept_for(task)
        if outcome.verdict is Verdict.ACK and task is not None:
            record = self.recorder.success(task, delivery.attempt, delivery.queue_name)
            if store is self.client.store:
                return put_with_room(
                    record, lambda it: store.settle(self.client, delivery, key, it, keep)
                )
        else:
            record = self.recorder.failure(task, delivery.attempt, outcome.reason)
            keep = max(KEEP_FAILED, keep)
            if store is self.client.store:
                return self._bury_and_note(outcome, key, record, keep)
        try:
            put_with_room(record, lambda it: store.note(key, it, keep))
            store.release_children(key, record)
        except ConnectionLost as err:
            log.warning(
                "Task %s ran, but its outcome could not be recorded, so it runs again: %s",
                shorten(id_in_key(key)),
                describe_error(err),
            )
            # It ended in order; so what died before may forget that.
            data = delivery.data if delivery.deaths else None
            now = time_on(self.client, delivery.queue_name, self.clock)
            return self.client.release(delivery, data, now + _STORE_PAUSE)
        return tell(self.client, outcome, self.clock)

    def settle_within(self, outcome: Outcome, seconds: float) -> bool:
        """Settle; where there is no room, try on for so many seconds. The lease must be kept.

        :raises QueueFull: there still is none.
        """
        deadline, pause = time.monotonic() + seconds, FIRST_PAUSE
        while True:
            try:
                return self.settle(outcome)
            except QueueFull:
                if time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def hand_back(self, outcome: Outcome, err: QueueFull) -> QueueFull:
        """Hand a task back that has run, and return the error that says so.

        :param err: why its outcome could not be settled.
        """
        delivery, ran = outcome.delivery, outcome.verdict.value
        if outcome.error is not None:
            ran = f"{ran}: {describe_error(outcome.error)}"
        try:
            self.client.release(delivery, None, self.due(outcome))
            back = "it was handed back"
        except AlligatorException:
            back = "it comes back when its lease runs out"
        return QueueFull(
            f"Task {shorten(delivery.task_id)} has run ({ran}), but there is no room for its "
            f"outcome, so {back} and runs again: {err}"
        )

    def due(self, outcome: Outcome) -> float | None:
        """Return when a task may run again, if that is what becomes of it; None: at once.

        By the clock of its queue, or by this one where the server is out of reach.
        """
        try:
            return due_at(self.client, outcome, self.clock)
        except AlligatorException:
            return self.clock.time() + outcome.delay

    def _bury_and_note(self, outcome: Outcome, key: str, record: Record, keep: float) -> bool:
        # In this order: a dead letter is on record itself, and the lease is checked with it, so
        # that nobody hears of a failure from a worker that was overtaken.
        if not tell(self.client, outcome, self.clock):
            return False
        try:
            if self.store is not None:
                self.store.note(key, record, keep)
        except (ConnectionLost, QueueFull) as err:
            log.warning(
                "Task %s is a dead letter, but those who wait for it were not told: %s",
                shorten(id_in_key(key)),
                describe_error(err),
            )
        return True

    @staticmethod
    def _warn_of_no_store(delivery: Delivery) -> None:
        log.warning(
            "Task %s is to save its result, but this Gator has no store: give it the one that "
            "it was pushed with, Gator(…, store='redis://…').",
            shorten(delivery.task_id),
        )

    def cancel(self, task: Task, delivery: Delivery) -> None:
        """Take a task off its queue that was reserved for this, and record it; so its children.

        :raises QueueFull: there is no room for that; it was handed back, and is not canceled.
        """
        try:
            self._cancel(task, delivery)
        except QueueFull:
            with suppress(AlligatorException):
                self.client.release(delivery)
            raise

    def _cancel(self, task: Task, delivery: Delivery) -> None:
        if self.store is None:
            self.client.ack([delivery])
            return
        record = self.recorder.make(task, delivery.attempt, CANCELED)
        keep, key = max(KEEP_FAILED, kept_for(task)), self.recorder.key_of(task, delivery)
        self.store.settle(self.client, delivery, key, record, keep)
        self._forget_parents(task)

    def cancel_held(self, task: Task, queue_name: str, task_id: str) -> bool:
        """Cancel a task that is held, and was not reserved; False: it is not held."""
        if self.store is None:
            return False
        record = self.recorder.make(task, 0, CANCELED)
        canceled = self.store.cancel_held(self.client, queue_name, task_id, record)
        if canceled:
            self._forget_parents(task)
        return canceled


def is_recorded(outcome: Outcome) -> bool:
    """Whether this outcome is put on record, where there is a store."""
    if outcome.verdict is Verdict.ACK:
        return bool(getattr(outcome.task, "known_for", 0))
    return outcome.verdict is Verdict.BURY


def due_at(client: Client, outcome: Outcome, clock: Clock) -> float | None:
    """Return when a task may run again, by the clock of its queue; None: at once.

    :raises ConnectionLost: that clock is not known, and out of reach.
    """
    if not outcome.delay:
        return None
    return time_on(client, outcome.delivery.queue_name, clock) + outcome.delay


def tell(client: Client, outcome: Outcome, clock: Clock) -> bool:
    """Tell the backend what became of a delivery; return False if it had been overtaken.

    :raises ConnectionLost: unknown whether it took effect; may be repeated.
    """
    delivery = outcome.delivery
    due = due_at(client, outcome, clock)
    match outcome.verdict:
        case Verdict.ACK:
            return not client.ack([delivery])
        case Verdict.LATER:
            if outcome.data is None or due is None:
                return client.release(delivery, None, due)
            try:
                return client.postpone(delivery, outcome.data, due)
            except InvalidTask:
                # No room to note how often it was looked for: by how often it was delivered.
                delay = deploy_delay(delivery.attempt)
                if delay is not None:
                    now = time_on(client, delivery.queue_name, clock)
                    return client.release(delivery, None, now + delay)
                error = outcome.error
                reason = Reason(describe_error(error)) if error is not None else outcome.reason
                return client.bury(delivery, None, reason)
        case Verdict.BURY:
            if outcome.tries is not None:
                delivery = delivery._replace(attempt=outcome.tries)
            return client.bury(delivery, outcome.data, outcome.reason)
        case Verdict.RETRY:
            try:
                return client.release(delivery, outcome.data, due)
            except InvalidTask as err:
                # It grew too large for its backend: a dead letter, as it came.
                return client.bury(delivery, None, Reason(describe_error(err)))
        case Verdict.CARRIED:
            raise ValueError("It has not ended.")
