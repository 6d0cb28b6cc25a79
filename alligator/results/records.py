"""What becomes of tasks is put on record, for those who want to know.

Outcome first, ack last: a crash in between repeats the task and loses nothing. (A dead letter
is an outcome on record by itself, where store and queue are one.) A success is
recorded where its task saves results, and costs nobody else anything; failures and
cancellations are recorded wherever there is a store.
"""

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from alligator.backends.base import GET, OWN_ID, Client, Data, DeadTask, Delivery, Reason, time_on
from alligator.backends.store import (
    BAD,
    KEEP_FAILED,
    Record,
    Store,
    id_in_key,
    own_record_key,
    record_key,
)
from alligator.common import strict_json
from alligator.common.clock import Clock
from alligator.common.ids import is_own_id
from alligator.common.log import SafeTracebacks
from alligator.common.text import describe_error, describe_traceback, end_of, shorten
from alligator.constants import CANCELED, FAILED, RUNNING, SUCCESS, WAITING
from alligator.exceptions import (
    AlligatorException,
    BadSignature,
    ConnectionLost,
    LeaveNow,
    QueueFull,
)
from alligator.execution.attempt import Outcome, Verdict, due_at, settle
from alligator.execution.outage import FIRST_PAUSE, LONGEST_PAUSE
from alligator.producer.bridge import Elsewhere, is_known_later
from alligator.security.signing import Signer, is_signed
from alligator.tasks.fields import fields_in, fields_of
from alligator.tasks.functions import explain_json
from alligator.tasks.task import Task

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

#: Bytes that a saved result may have as JSON.
LARGEST_RESULT = 1 << 20

#: Characters of a ``repr`` that are kept in place of a result, and of a traceback.
_LONGEST_REPR = 1000
_LONGEST_TRACEBACK = 20_000

#: Seconds before a task runs again whose outcome the store could not take.
_STORE_PAUSE = 5.0

#: In the place of a queue's name, so that no signature of a result is one of a message.
_RESULTS = "#results"


@dataclass(slots=True)
class Recorder:
    """Tells store and backend what became of deliveries.

    :param store: None: there is none, and nothing is recorded.
    """

    client: Client
    store: Store | None
    clock: Clock
    signer: Signer | None = None
    elsewhere: Elsewhere | None = None  # children held in a store on another backend

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
            if self.store is None and _kept(outcome.task):
                self._warn_of_no_store(outcome.delivery)
            return settle(self.client, outcome, self.clock)
        delivery, task, store = outcome.delivery, outcome.task, self.store
        key, keep = self._key(task, delivery), _kept(task)
        if outcome.verdict is Verdict.ACK and task is not None:
            record = self._success(task, delivery.attempt, delivery.queue_name)
            if store is self.client.store:
                return _with_room(
                    record, lambda it: store.settle(self.client, delivery, key, it, keep)
                )
        else:
            record = self._failure(task, delivery.attempt, outcome.reason)
            keep = max(KEEP_FAILED, keep)
            if store is self.client.store:
                return self._bury_and_note(outcome, key, record, keep)
        try:
            _with_room(record, lambda it: store.note(key, it, keep))
            if self.elsewhere is not None:
                self.elsewhere.end(delivery.queue_name, id_in_key(key), record)
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
        return settle(self.client, outcome, self.clock)

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
        if not settle(self.client, outcome, self.clock):
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

    def note_local(self, task: Task, queue_name: str) -> None:
        """Record a task that saves its result, and has just run here without a queue.

        :param queue_name: where it would be looked for.
        :raises QueueFull: it has run, and nobody else will know how it ended.
        """
        store, keep = self.store, _kept(task)
        if store is None or not keep:
            return
        if task.error is None:
            record = self._success(task, 0, queue_name)
        else:
            text = end_of(describe_traceback(task.error), _LONGEST_TRACEBACK)
            record = self._failure(task, 0, Reason(describe_error(task.error), text))
            keep = max(KEEP_FAILED, keep)
        try:
            key = _key_of(queue_name, task.task_id, task)
            _with_room(record, lambda it: store.note(key, it, keep))
        except QueueFull as err:
            raise QueueFull(
                f"Task {shorten(task.task_id)} has run here, but there is no room to record its "
                f"outcome: {err}"
            ) from err

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
        record = self._record(task, delivery.attempt, CANCELED)
        keep, key = max(KEEP_FAILED, _kept(task)), self._key(task, delivery)
        if self.elsewhere is not None:
            self.store.note(key, record, keep)
            self.elsewhere.end(delivery.queue_name, id_in_key(key), record)
        self.store.settle(self.client, delivery, key, record, keep)
        self._forget_parents(task)

    def peek_held(self, queue_name: str, task_id: str) -> Data | None:
        """Return the data of a task that may be held back; None: it is not."""
        if self.elsewhere is not None:
            return self.elsewhere.peek(queue_name, task_id)
        return self.client.peek(queue_name, task_id) if self.store else None

    def cancel_held(self, task: Task, delivery: Delivery) -> bool:
        """The same for a task that is held back, and was not reserved; False: it is not held."""
        if self.store is None:
            return False
        record = self._record(task, 0, CANCELED)
        if self.elsewhere is not None:
            canceled = self.elsewhere.cancel(delivery.queue_name, delivery.task_id, record)
        else:
            queue_name, task_id = delivery.queue_name, delivery.task_id
            canceled = self.store.cancel_held(self.client, queue_name, task_id, record)
        if canceled:
            self._forget_parents(task)
        return canceled

    def overrule(self, tasks: Iterable[tuple[str, Task]]) -> None:
        """Forget how earlier pushes of ids of the user's own ended badly, before they are pushed.

        For a store on another backend; else the push does it itself. (Where the queue gives ids
        of its own, the note of the push does.)

        :param tasks: each with its queue.
        """
        store = self.store
        if store is None or store is self.client.store or OWN_ID not in self.client.supports:
            return
        keys = [
            key
            for queue_name, task in tasks
            if task.has_own_id
            for key in (own_record_key(queue_name, task.task_id), task.task_id)
        ]
        if not keys:
            return
        found = zip(keys, store.records(keys), strict=True)
        if bad := [key for key, record in found if record is not None and record.state in BAD]:
            store.forget(bad)

    def note_pushed(self, task: Task, queue_name: str) -> bool:
        """Record the id that a task got on its queue; False: it had better take that over.

        Only of a task that saves its result: others cost nothing, and know it themselves.
        """
        if self.store is None or not _kept(task):
            return False
        record = self._record(task, 0, task.status or WAITING)._replace(place=task.backend_id or "")
        delay = max(0.0, (task.delay_until or 0.0) - record.at)
        try:
            self.store.note(_key_of(queue_name, task.task_id, task), record, KEEP_FAILED + delay)
        except (ConnectionLost, QueueFull) as err:  # it is queued, and will run
            log.warning(
                "Task %s was queued, but not recorded: %s",
                shorten(task.task_id),
                describe_error(err),
            )
        return True

    @property
    def notes_starts(self) -> bool:
        """Whether a start is put on record: where the queue cannot tell."""
        return self.store is not None and GET not in self.client.supports

    def note_started(self, task: Task, delivery: Delivery) -> None:
        """Record the start of a task that saves its result, where the queue cannot tell."""
        if self.store is None or not self.notes_starts or not _kept(task):
            return
        record = self._record(task, delivery.attempt, RUNNING)
        try:
            self.store.note(self._key(task, delivery), record, KEEP_FAILED)
        except (ConnectionLost, QueueFull) as err:  # it matters at the end
            log.warning(
                "The start of task %s was not recorded: %s",
                shorten(task.task_id),
                describe_error(err),
            )

    def _key(self, task: Task | None, delivery: Delivery) -> str:
        return _key_of(delivery.queue_name, self._id(task, delivery), task)

    def _id(self, task: Task | None, delivery: Delivery) -> str:
        # As whoever pushed it knows it: see note_pushed.
        if task is None:  # it did not come that far
            return self._own_id(delivery.queue_name, delivery.task_id, delivery.data)
        if OWN_ID in self.client.supports or not _kept(task):
            return delivery.task_id
        return task.task_id

    def _own_id(self, queue_name: str, place: str, data: Data) -> str:
        if OWN_ID in self.client.supports:
            return place
        if self.signer is not None:
            try:
                _, data = self.signer.open(queue_name, data)
            except BadSignature:
                return place
        own_id = fields_of(data).get("task_id")
        return own_id if is_known_later(data) and isinstance(own_id, str) else place

    def id_of_dead(self, letter: DeadTask) -> str:
        """Return the id by which the task of a dead letter was pushed."""
        return self._own_id(letter.queue_name, letter.task_id, letter.data)

    def note_revived(self, letter: DeadTask) -> None:
        """Record that a dead letter is to run again, where its queue will not know it by this id.

        Its failure is to be forgotten before. Without this it would be taken for lost.
        """
        if self.store is None or self.id_of_dead(letter) == letter.task_id:
            return
        key = self.keys_of_dead(letter)[0]  # where its end will be noted
        now = self.clock.time()
        pushed = fields_in(fields_of(letter.data), "options").get("pushed_at")
        record = Record(WAITING, at=now, pushed=pushed if isinstance(pushed, int | float) else now)
        try:
            self.store.note(key, record, KEEP_FAILED)
        except QueueFull as err:  # it is revived all the same, and its end will be noted
            log.warning("Task %s: %s", shorten(letter.task_id), describe_error(err))

    def keys_of_dead(self, letter: DeadTask) -> list[str]:
        """Return under which keys the task of a dead letter may be on record; the usual one first.

        That by the id alone is of Alligator 1.1, if the id is the user's own.
        """
        task_id = self.id_of_dead(letter)
        own = own_record_key(letter.queue_name, task_id)
        if "own_id" in fields_in(fields_of(letter.data), "options"):
            return [own]
        return [own, task_id] if is_own_id(task_id) else [task_id, own]

    def _record(self, task: Task | None, attempt: int, state: int) -> Record:
        now = self.clock.time()
        # Of a task that saves nothing it is not known when it was pushed; the latest counts.
        pushed = getattr(task, "pushed_at", None) or now
        return Record(state, at=now, attempt=attempt, pushed=pushed)

    def _failure(self, task: Task | None, attempt: int, reason: Reason) -> Record:
        record = self._record(task, attempt, FAILED)
        return record._replace(error=reason.error, traceback=reason.traceback)

    def _success(self, task: Task, attempt: int, queue_name: str) -> Record:
        if not task.save_results:
            return self._record(task, attempt, SUCCESS)
        text, problem = result_text(getattr(task, "result", None))
        if problem:
            log.warning("The result of task %s %s", shorten(task.task_id), problem)
        if self.signer:
            sealed_for = _sealed_for(queue_name) if task.has_own_id else _RESULTS
            text = str(self.signer.seal(sealed_for, task.task_id, text))
        return self._record(task, attempt, SUCCESS)._replace(result=text, error=problem)

    def value_of(self, queue_name: str, task_id: str, record: Record) -> Any:
        """Return the result that a record of a success holds; None: none was saved.

        :param queue_name: of the task.
        :raises BadSignature: keys are set, and none of them has signed it.
        :raises BadPayload: it is not JSON.
        """
        text = record.result
        if text is None:
            return None
        if self.signer:
            try:
                own_id, opened = self.signer.open(_sealed_for(queue_name), text)
            except BadSignature:  # not that of an own id, or by Alligator 1.1
                own_id, opened = self.signer.open(_RESULTS, text)
            if own_id != task_id:
                raise BadSignature("The result was signed for another task.")
            return strict_json.loads(opened)
        if is_signed(text):
            raise BadSignature("The result is signed; this Gator needs the secret_keys.")
        return strict_json.loads(text)


def _key_of(queue_name: str, task_id: str, task: Task | None) -> str:
    if getattr(task, "own_id", False):
        return own_record_key(queue_name, task_id)
    return record_key(queue_name, task_id)


def _sealed_for(queue_name: str) -> str:
    """Return in whose place a result of an own id is signed: it is worth nothing on others."""
    return f"{_RESULTS}/{queue_name}"


def _with_room(record: Record, put: Callable[[Record], bool]) -> bool:
    """Put a record down; without its result, where that is too much."""
    try:
        return put(record)
    except QueueFull:
        if record.result is None:
            raise
        # What has been done must not be done again for that.
        log.warning("There is no room for a result: the outcome is kept without it.")
        return put(record._replace(result=None, error="There was no room for the result."))


def is_recorded(outcome: Outcome) -> bool:
    """Whether this outcome is put on record, where there is a store."""
    if outcome.verdict is Verdict.ACK:
        return bool(getattr(outcome.task, "known_for", 0))
    return outcome.verdict is Verdict.BURY


def _kept(task: Task | None) -> float:
    if not (seconds := getattr(task, "known_for", None)):
        return 0.0
    return seconds if isinstance(seconds, int | float) else 0.0


def result_text(result: Any) -> tuple[str, str]:
    """Return a result as JSON, and what had to be changed for that ('': nothing).

    What JSON has no place for, or too much of it, is replaced by its ``repr``.
    """
    try:
        text = strict_json.dumps(result)
        if len(text) <= LARGEST_RESULT:
            return text, ""
        why = f"has {len(text)} bytes, more than the {LARGEST_RESULT} that are saved"
    except LeaveNow:
        raise
    except BaseException as err:  # the task has ended well, whatever its result does here
        why = f"cannot be saved: {explain_json(err, 'a result')}"
    try:
        shown = repr(result)
    except LeaveNow:
        raise
    except BaseException:
        shown = f"<{type(result).__name__}>"
    return strict_json.dumps(shorten(shown, _LONGEST_REPR)), f"{why}; its repr was saved instead."
