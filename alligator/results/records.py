"""Put on record what becomes of tasks, and read it again.

A success is recorded where its task saves results, and costs other tasks nothing; failures and
cancellations are recorded wherever there is a store. ``alligator.execution.settle`` decides when.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from alligator.backends.base import GET, OWN_ID, Client, Data, DeadTask, Delivery, Reason
from alligator.backends.store import (
    BAD,
    KEEP_FAILED,
    Record,
    Store,
    own_record_key,
    record_key,
)
from alligator.common import strict_json
from alligator.common.clock import Clock
from alligator.common.ids import is_own_id
from alligator.common.log import SafeTracebacks
from alligator.common.text import describe_error, describe_traceback, shorten
from alligator.constants import FAILED, RUNNING, SUCCESS, WAITING
from alligator.exceptions import BadSignature, ConnectionLost, LeaveNow, QueueFull
from alligator.security.signing import Signer, is_signed
from alligator.tasks.functions import explain_json
from alligator.tasks.message import fields_in, fields_of, is_known_later
from alligator.tasks.task import Task

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

#: Bytes that a saved result may have as JSON.
LARGEST_RESULT = 1 << 20

#: Characters of a ``repr`` that are kept in place of a result, and of a traceback.
_LONGEST_REPR = 1000

#: What a result is signed for instead of a queue, so that no signature of a result is one of a
#: message.
_RESULTS = "#results"


@dataclass(slots=True)
class Recorder:
    """Makes, notes and reads the records of one Gator's tasks.

    :param store: None: there is none, and nothing is recorded.
    """

    client: Client
    store: Store | None
    clock: Clock
    signer: Signer | None = None

    def note_local(self, task: Task, queue_name: str) -> None:
        """Record a task that saves its result, and has just run here without a queue.

        :param queue_name: where it would be looked for.
        :raises QueueFull: it has run, and nobody else will know how it ended.
        """
        store, keep = self.store, kept_for(task)
        if store is None or not keep:
            return
        if task.error is None:
            record = self.success(task, 0, queue_name)
        else:
            text = describe_traceback(task.error)
            record = self.failure(task, 0, Reason(describe_error(task.error), text))
            keep = max(KEEP_FAILED, keep)
        try:
            key = _key(queue_name, task.task_id, task)
            put_with_room(record, lambda it: store.note(key, it, keep))
        except QueueFull as err:
            raise QueueFull(
                f"Task {shorten(task.task_id)} has run here, but there is no room to record its "
                f"outcome: {err}"
            ) from err

    @property
    def overrules(self) -> bool:
        """Whether :meth:`overrule` has anything to do here: with a store on another backend."""
        store = self.store
        return not (store is None or store is self.client.store) and OWN_ID in self.client.supports

    def overrule(self, tasks: Iterable[tuple[str, Task]]) -> None:
        """Forget how earlier pushes of ids of the user's own ended badly, before they are pushed.

        For a store on another backend; else the push does it itself. (Where the queue gives ids
        of its own, the note of the push does.)

        :param tasks: each with its queue.
        """
        store = self.store
        if store is None or not self.overrules:
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
        if self.store is None or not kept_for(task):
            return False
        record = self.make(task, 0, task.status or WAITING)._replace(place=task.backend_id or "")
        delay = max(0.0, (task.delay_until or 0.0) - record.at)
        try:
            self.store.note(_key(queue_name, task.task_id, task), record, KEEP_FAILED + delay)
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
        if self.store is None or not self.notes_starts or not kept_for(task):
            return
        record = self.make(task, delivery.attempt, RUNNING)
        try:
            self.store.note(self.key_of(task, delivery), record, KEEP_FAILED)
        except (ConnectionLost, QueueFull) as err:  # it matters at the end
            log.warning(
                "The start of task %s was not recorded: %s",
                shorten(task.task_id),
                describe_error(err),
            )

    def key_of(self, task: Task | None, delivery: Delivery) -> str:
        """Return under which key a delivered task is on record.

        :param task: None: its message could not be read.
        """
        return _key(delivery.queue_name, self._id(task, delivery), task)

    def _id(self, task: Task | None, delivery: Delivery) -> str:
        # As whoever pushed it knows it: see note_pushed.
        if task is None:  # it did not come that far
            return self._own_id(delivery.queue_name, delivery.task_id, delivery.data)
        if OWN_ID in self.client.supports or not kept_for(task):
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

    def make(self, task: Task | None, attempt: int, state: int) -> Record:
        """Return the record of a task that has just come to a state."""
        now = self.clock.time()
        # Of a task that saves nothing it is not known when it was pushed; the latest counts.
        pushed = getattr(task, "pushed_at", None) or now
        return Record(state, at=now, attempt=attempt, pushed=pushed)

    def failure(self, task: Task | None, attempt: int, reason: Reason) -> Record:
        """Return the record of a failure, with its error and traceback."""
        record = self.make(task, attempt, FAILED)
        return record._replace(error=reason.error, traceback=reason.traceback)

    def success(self, task: Task, attempt: int, queue_name: str) -> Record:
        """Return the record of a success, with its result if the task saves it, signed."""
        if not task.save_results:
            return self.make(task, attempt, SUCCESS)
        text, problem = result_text(getattr(task, "result", None))
        if problem:
            log.warning("The result of task %s %s", shorten(task.task_id), problem)
        if self.signer:
            sealed_for = _sealed_for(queue_name) if task.has_own_id else _RESULTS
            text = str(self.signer.seal(sealed_for, task.task_id, text))
        return self.make(task, attempt, SUCCESS)._replace(result=text, error=problem)

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


def _key(queue_name: str, task_id: str, task: Task | None) -> str:
    if getattr(task, "own_id", False):
        return own_record_key(queue_name, task_id)
    return record_key(queue_name, task_id)


def _sealed_for(queue_name: str) -> str:
    """Return in whose place a result of an own id is signed: it is worth nothing on others."""
    return f"{_RESULTS}/{queue_name}"


def put_with_room(record: Record, put: Callable[[Record], bool]) -> bool:
    """Note a record with ``put``; without its result, if the store has no room for that."""
    try:
        return put(record)
    except QueueFull:
        if record.result is None:
            raise
        # What has been done must not be done again for that.
        log.warning("There is no room for a result: the outcome is kept without it.")
        return put(record._replace(result=None, error="There was no room for the result."))


def kept_for(task: Task | None) -> float:
    """Return for how many seconds the outcome of a task is known; 0: it is not recorded."""
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
