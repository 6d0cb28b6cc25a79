"""Settle a delivery: record the outcome if it is to be kept, then ack, release or bury.

The outcome comes first and the ack last: a crash between them repeats the task and loses nothing.
(A dead letter is a record by itself, if store and queue are one backend.)

A success that is not recorded, as most are, does not come here in a worker: it is acked in bulk
(``execution/leases.py`` and ``acks.py``).
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
from alligator.execution.backend_trouble import FIRST_PAUSE, LONGEST_PAUSE
from alligator.monitoring import cancel_requests
from alligator.results.recorder import Recorder, kept_for, put_with_room
from alligator.tasks.backoff import deploy_delay
from alligator.tasks.task import Task

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

#: Seconds before a task runs again if the store could not record its outcome.
_STORE_PAUSE = 5.0


@dataclass(slots=True)
class Settler:
    """Record outcomes in the store, and settle deliveries with the backend.

    :param store: where outcomes are recorded; None: nothing is recorded.
    """

    client: Client
    store: Store | None
    clock: Clock
    recorder: Recorder

    def settle(self, outcome: Outcome) -> bool:
        """Record the outcome of a delivery if it is to be kept, then tell the backend.

        If the store is another backend and unreachable, the task is handed back and runs again
        5 seconds later.

        :returns: False: the lease had been lost.
        :raises ConnectionLost: unknown what took effect; may be repeated.
        :raises QueueFull: nothing took effect, for lack of room; repeat it, and keep the lease.
        """
        settled = self._settle(outcome)
        if settled and outcome.verdict in (Verdict.ACK, Verdict.CANCEL):
            self._forget_parents(outcome.task)
        if settled and outcome.verdict is Verdict.CANCEL:
            self._forget_request(outcome)
        return settled

    def _forget_request(self, outcome: Outcome) -> None:
        """Forget the request to cancel a task, which is canceled."""
        if self.store is not None:
            with suppress(ConnectionLost, QueueFull):  # it is for this push alone, and expires
                key = self.recorder.key_of(outcome.task, outcome.delivery)
                self.store.delete_documents([cancel_requests.document_key(key)])

    def _forget_parents(self, task: Task | None) -> None:
        """Forget the parents of a task that has ended, if the store keeps them."""
        kept = getattr(task, "kept_parents", None)
        if kept is None or task is None or self.store is None:
            return
        with suppress(ConnectionLost, QueueFull):  # then they expire some weeks later
            self.store.forget([kept.key(task.task_id)])

    def _settle(self, outcome: Outcome) -> bool:
        if self.store is None or not is_recorded(outcome):
            if self.store is None and kept_for(outcome.task):
                self._warn_of_no_store(outcome.delivery)
            return tell(self.client, outcome, self.clock)
        delivery, task, store = outcome.delivery, outcome.task, self.store
        key, keep = self.recorder.key_of(task, delivery), kept_for(task)
        if outcome.verdict is Verdict.CANCEL:
            record = self.recorder.make(task, delivery.attempt, CANCELED)
            keep = max(KEEP_FAILED, keep)
            if store is self.client.store:
                return store.settle(self.client, delivery, key, record, keep)
        elif outcome.verdict is Verdict.ACK and task is not None:
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
            # The task ended, so its earlier deaths need not count any more.
            data = delivery.data if delivery.deaths else None
            now = time_on(self.client, delivery.queue_name, self.clock)
            return self.client.release(delivery, data, now + _STORE_PAUSE)
        return tell(self.client, outcome, self.clock)

    def settle_within(self, outcome: Outcome, seconds: float) -> bool:
        """Settle, and retry for so many seconds while there is no room. Keep the lease meanwhile.

        :raises QueueFull: there still is no room.
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
        """Hand back a task that has run, and return the error that says so.

        :param err: why its outcome could not be recorded.
        """
        delivery, ran = outcome.delivery, outcome.verdict.value
        if outcome.error is not None:
            ran = f"{ran}: {describe_error(outcome.error)}"
        try:
            self.client.release(delivery, None, self.due(outcome))
            back = "it was handed back"
        except AlligatorException:
            back = "its lease will run out"
        return QueueFull(
            f"Task {shorten(delivery.task_id)} has run ({ran}), but there is no room for its "
            f"outcome, so {back} and it runs again: {err}"
        )

    def due(self, outcome: Outcome) -> float | None:
        """Return when a task may run again, if it is to; None: at once.

        The clock is that of its queue, or of this process if the server cannot be reached.
        """
        try:
            return due_at(self.client, outcome, self.clock)
        except AlligatorException:
            return self.clock.time() + outcome.delay

    def _bury_and_note(self, outcome: Outcome, key: str, record: Record, keep: float) -> bool:
        # Bury first: a dead letter is a record itself, and burying checks the lease. So a worker
        # that lost the lease records no failure.
        if not tell(self.client, outcome, self.clock):
            return False
        try:
            if self.store is not None:
                self.store.note(key, record, keep)
        except (ConnectionLost, QueueFull) as err:
            log.warning(
                "Task %s is a dead letter, but its failure could not be recorded for callers that "
                "wait and for its children: %s",
                shorten(id_in_key(key)),
                describe_error(err),
            )
        return True

    @staticmethod
    def _warn_of_no_store(delivery: Delivery) -> None:
        log.warning(
            "Task %s cannot save its result, since this Gator has no store: name the store that "
            "its producer uses, Gator(…, store='redis://…').",
            shorten(delivery.task_id),
        )

    def cancel(self, task: Task, delivery: Delivery) -> None:
        """Cancel a task that the caller reserved, and its children, and record it.

        :raises QueueFull: there is no room for the record; the task was handed back, not canceled.
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
        """Cancel a task that waits for its parents; return False if it does not wait."""
        if self.store is None:
            return False
        record = self.recorder.make(task, 0, CANCELED)
        canceled = self.store.cancel_held(self.client, queue_name, task_id, record)
        if canceled:
            self._forget_parents(task)
        return canceled


def is_recorded(outcome: Outcome) -> bool:
    """Return whether an outcome is recorded if there is a store."""
    if outcome.verdict is Verdict.ACK:
        return bool(getattr(outcome.task, "known_for", 0))
    return outcome.verdict in (Verdict.BURY, Verdict.CANCEL)


def due_at(client: Client, outcome: Outcome, clock: Clock) -> float | None:
    """Return when a task may run again, by the clock of its queue; None: at once.

    :raises ConnectionLost: that clock cannot be read.
    """
    if not outcome.delay:
        return None
    return time_on(client, outcome.delivery.queue_name, clock) + outcome.delay


def tell(client: Client, outcome: Outcome, clock: Clock) -> bool:
    """Ack, release or bury a delivery; return False if its lease had been lost.

    :raises ConnectionLost: unknown whether it took effect; may be repeated.
    """
    delivery = outcome.delivery
    due = due_at(client, outcome, clock)
    match outcome.verdict:
        case Verdict.ACK | Verdict.CANCEL:
            return not client.ack([delivery])
        case Verdict.LATER:
            if outcome.data is None or due is None:
                return client.release(delivery, None, due)
            try:
                return client.postpone(delivery, outcome.data, due)
            except InvalidTask:
                # The message has no room for the count of attempts: count deliveries instead.
                delay = deploy_delay(delivery.attempt)
                if delay is not None:
                    now = time_on(client, delivery.queue_name, clock)
                    return client.release(delivery, None, now + delay)
                error = outcome.error
                reason = Reason(describe_error(error)) if error is not None else outcome.reason
                return client.bury(delivery, None, reason)
        case Verdict.BURY:
            return client.bury(_with_tries(outcome), outcome.data, outcome.reason)
        case Verdict.RETRY:
            try:
                return client.release(delivery, outcome.data, due)
            except InvalidTask as err:
                # The message grew too large for its backend: bury it as delivered.
                return client.bury(_with_tries(outcome), None, Reason(describe_error(err)))
        case Verdict.CARRIED:
            raise ValueError(f"Task {shorten(delivery.task_id)} has not ended: settle it later.")


def _with_tries(outcome: Outcome) -> Delivery:
    """Return the delivery by which to bury a task, with the number of attempts at it."""
    delivery, tries = outcome.delivery, outcome.tries
    return delivery if tries is None else delivery._replace(attempt=tries)
