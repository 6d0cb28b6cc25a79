"""Record the outcomes of tasks in the store, and read them.

A success is recorded only for a task that saves results, and costs other tasks nothing. Failures
and cancellations are recorded wherever there is a store; ``alligator.execution.settle`` decides
when.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from alligator.backends.base import GET, OWN_ID, Client, Data, DeadTask, Delivery, Reason
from alligator.backends.store import (
    BAD,
    KEEP_FAILED,
    Record,
    Store,
    own_record_key,
    queue_in_key,
    record_key,
)
from alligator.common import strict_json
from alligator.common.clock import Clock
from alligator.common.ids import is_generated
from alligator.common.log import SafeTracebacks
from alligator.common.text import describe_error, describe_traceback, shorten
from alligator.constants import FAILED, RUNNING, SUCCESS, WAITING
from alligator.exceptions import BadSignature, ConnectionLost, LeaveNow, QueueFull, ResultTimeout
from alligator.security.signing import Signer, is_signed
from alligator.tasks.functions import explain_json
from alligator.tasks.message import fields_in, fields_of, id_of, is_known_later
from alligator.tasks.parent_results import ResultOf
from alligator.tasks.task import Task

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

#: The longest result that is saved, in bytes of JSON.
LARGEST_RESULT = 1 << 20

#: Characters that are kept of a ``repr`` that replaces a result.
_LONGEST_REPR = 1000

#: How many records are read at once.
_AT_ONCE = 500

#: The name that a result is signed for instead of a queue, so that no signature of a result is
#: valid for a message.
_RESULTS = "#results"


@dataclass(slots=True)
class Recorder:
    """Make, write and read the records of one Gator's tasks.

    :param store: where the records are; None: nothing is recorded.
    """

    client: Client
    store: Store | None
    clock: Clock
    signer: Signer | None = None

    def note_local(self, task: Task, queue_name: str) -> None:
        """Record the end of a task that saves its result and ran here, without a queue.

        :param queue_name: the queue whose name a caller looks it up by.
        :raises QueueFull: it has run, and its outcome is not recorded.
        """
        store, keep = self.store, kept_for(task)
        if store is None or not keep:
            return
        if task.error is None:
            record = self.success(task, 0, queue_name)
        else:
            reason = Reason(describe_error(task.error), describe_traceback(task.error))
            record = self.failure(task, 0, reason)
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
        """Whether :meth:`overrule` has anything to do: the store is on another backend."""
        store = self.store
        return not (store is None or store is self.client.store) and OWN_ID in self.client.supports

    def overrule(self, tasks: Iterable[tuple[str, Task]]) -> None:
        """Forget the failures and cancellations of earlier pushes of the user's own ids.

        Call it before the push, with a store on another backend; else the push does it itself.
        (Where the queue gives its own ids, :meth:`note_pushed` does.)

        :param tasks: each with the name of its queue.
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
        """Record the id that the queue gave to a task that saves its result.

        :returns: False: the task saves none, so nothing is written. The task object should then
            take over the id of the queue.
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
        """Whether starts are recorded, since the queue cannot tell which tasks run."""
        return self.store is not None and GET not in self.client.supports

    def note_started(self, task: Task, delivery: Delivery) -> None:
        """Record the start of a task that saves its result, if :attr:`notes_starts`."""
        if self.store is None or not self.notes_starts or not kept_for(task):
            return
        record = self.make(task, delivery.attempt, RUNNING)
        try:
            self.store.note(self.key_of(task, delivery), record, KEEP_FAILED)
        except (ConnectionLost, QueueFull) as err:  # the task runs all the same
            log.warning(
                "The start of task %s was not recorded: %s",
                shorten(task.task_id),
                describe_error(err),
            )

    def key_of(self, task: Task | None, delivery: Delivery) -> str:
        """Return the key of a delivered task's record.

        :param task: None: its message could not be read.
        """
        return _key(delivery.queue_name, self._id(task, delivery), task)

    def _id(self, task: Task | None, delivery: Delivery) -> str:
        # The id that the producer knows; see note_pushed.
        if task is None:  # its message could not be read
            return self._id_at_push(delivery.queue_name, delivery.task_id, delivery.data)
        if OWN_ID in self.client.supports or not kept_for(task):
            return delivery.task_id
        return task.task_id

    def _id_at_push(self, queue_name: str, place: str, data: Data) -> str:
        if OWN_ID in self.client.supports:
            return place
        if self.signer is not None:
            try:
                _, data = self.signer.open(queue_name, data)
            except BadSignature:
                return place
        task_id = fields_of(data).get("task_id")
        return task_id if is_known_later(data) and isinstance(task_id, str) else place

    def key_in(self, delivery: Delivery) -> str:
        """Return the key of the record of a task by its message, unchecked.

        It is that of :meth:`key_of`, unless the message is of a format of the user's own.
        """
        task_id = self._id_at_push(delivery.queue_name, delivery.task_id, delivery.data)
        if "own_id" in fields_in(fields_of(delivery.data), "options"):
            return own_record_key(delivery.queue_name, task_id)
        return record_key(delivery.queue_name, task_id)

    def id_of_dead(self, letter: DeadTask) -> str:
        """Return the id under which the task of a dead letter was pushed."""
        return self._id_at_push(letter.queue_name, letter.task_id, letter.data)

    def note_revived(self, letter: DeadTask) -> None:
        """Record that a dead letter is to run again, if its queue knows it by another id.

        Without this record, the task would count as lost. Forget its failure before.
        """
        if self.store is None or self.id_of_dead(letter) == letter.task_id:
            return
        key = self.keys_of_dead(letter)[0]  # where its end will be recorded
        now = self.clock.time()
        pushed = fields_in(fields_of(letter.data), "options").get("pushed_at")
        record = Record(WAITING, at=now, pushed=pushed if isinstance(pushed, int | float) else now)
        try:
            self.store.note(key, record, KEEP_FAILED)
        except QueueFull as err:  # it is revived all the same, and its end will be recorded
            log.warning("Task %s: %s", shorten(letter.task_id), describe_error(err))

    def keys_of_dead(self, letter: DeadTask) -> list[str]:
        """Return the keys under which the task of a dead letter may be recorded, likeliest first.

        Alligator 1.1 recorded the user's own ids under the id alone.
        """
        task_id = self.id_of_dead(letter)
        own = own_record_key(letter.queue_name, task_id)
        if "own_id" in fields_in(fields_of(letter.data), "options"):
            return [own]
        return [task_id, own] if is_generated(task_id) else [own, task_id]

    def make(self, task: Task | None, attempt: int, state: int) -> Record:
        """Return the record of a task that has just entered a state."""
        now = self.clock.time()
        # A task that saves nothing does not know when it was pushed; the latest time counts.
        pushed = getattr(task, "pushed_at", None) or now
        return Record(state, at=now, attempt=attempt, pushed=pushed)

    def failure(self, task: Task | None, attempt: int, reason: Reason) -> Record:
        """Return the record of a failure, with its error and traceback."""
        record = self.make(task, attempt, FAILED)
        return record._replace(error=reason.error, traceback=reason.traceback)

    def success(self, task: Task, attempt: int, queue_name: str) -> Record:
        """Return the record of a success, with its signed result if the task saves it."""
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
        """Return the result in the record of a success; None: none was saved.

        :param queue_name: the queue of the task.
        :raises BadSignature: keys are set, and none of them has signed it.
        :raises BadPayload: it is not JSON.
        """
        text = record.result
        if text is None:
            return None
        if self.signer:
            try:
                sealed_id, opened = self.signer.open(_sealed_for(queue_name), text)
            except BadSignature:  # not of the user's own id, or written by Alligator 1.1
                sealed_id, opened = self.signer.open(_RESULTS, text)
            if sealed_id != task_id:
                raise BadSignature(
                    f"The result of task {shorten(task_id)} was signed for another task: "
                    "another program may write to the store."
                )
            return strict_json.loads(opened)
        if is_signed(text):
            raise BadSignature("The result is signed; this Gator needs the secret_keys.")
        return strict_json.loads(text)

    def results_of(self, awaited: Sequence[ResultOf]) -> list[Any]:
        """Return what these tasks returned, as JSON keeps it, with one look at the store.

        :raises ResultTimeout: there is no result, or not any more; or it is not as it was returned.
        :raises BadSignature, BadPayload: see :meth:`value_of`.
        """
        keys = [_keys_of(each) for each in awaited]
        wanted = [key for some in keys for key in some]
        found = dict(zip(wanted, self._records(wanted), strict=True))
        return [
            self._result_of(each, [(key, found[key]) for key in some])
            for each, some in zip(awaited, keys, strict=True)
        ]

    def _records(self, keys: Sequence[str]) -> list[Record | None]:
        if not keys:
            return []
        if self.store is None:
            raise ResultTimeout(
                "There is no store to get the result of another task from; name the store that "
                "its producer uses, Gator(…, store='redis://…')."
            )
        return [
            record
            for start in range(0, len(keys), _AT_ONCE)
            for record in self.store.records(keys[start : start + _AT_ONCE])
        ]

    def _result_of(self, awaited: ResultOf, found: Sequence[tuple[str, Record | None]]) -> Any:
        task_id, why = id_of(awaited.parent), "it is not kept, or not any more"
        if not found:  # it ran here
            text, problem = result_text(awaited.parent.result)
            if not problem:
                return strict_json.loads(text)
            raise ResultTimeout(f"The result of task {shorten(task_id)} {problem}")
        there = [(key, each) for key, each in found if each is not None and each.ended]
        if there:
            key, record = max(there, key=lambda each: each[1].fence)
            if record.state == SUCCESS and record.result is not None and not record.error:
                names = [queue_in_key(key), *awaited.queue_names, ""]
                return self.value_of(next(filter(None, names), ""), task_id, record)
            if record.state != SUCCESS:
                why = f"it did not succeed: {record.error}"
            elif record.error:
                why = f"it is not as it was returned: {record.error}"
            else:
                why = "it was pushed without save_results=seconds"
        raise ResultTimeout(
            f"There is no result of task {shorten(task_id)}, which is an argument here: {why}."
        )


def _keys_of(awaited: ResultOf) -> list[str]:
    """Return the keys under which a task may be recorded; none: it ran in this process."""
    parent = awaited.parent
    if isinstance(parent, Task) and not parent.is_pushed and parent.status == SUCCESS:
        return []
    names = awaited.queue_names or ((parent[0],) if isinstance(parent, tuple) else ())
    if not names and isinstance(parent, Task) and parent.place is not None:
        names = (parent.place[1],)
    task_id = id_of(parent)
    return [*(own_record_key(name, task_id) for name in names), task_id]


def _key(queue_name: str, task_id: str, task: Task | None) -> str:
    if getattr(task, "lookalike_id", False):
        return own_record_key(queue_name, task_id)
    return record_key(queue_name, task_id)


def _sealed_for(queue_name: str) -> str:
    """Return the name that the result of a user's own id is signed for, valid for one queue."""
    return f"{_RESULTS}/{queue_name}"


def put_with_room(record: Record, put: Callable[[Record], bool]) -> bool:
    """Write a record with ``put``; without its result, if the store has no room for it."""
    try:
        return put(record)
    except QueueFull:
        if record.result is None:
            raise
        # The task has run, and must not run again only because its result is too large.
        log.warning("The store has no room for a result; its outcome is recorded without it.")
        return put(record._replace(result=None, error="There was no room for the result."))


def kept_for(task: Task | None) -> float:
    """Return for how many seconds the outcome of a task is kept; 0: it is not recorded."""
    if not (seconds := getattr(task, "known_for", None)):
        return 0.0
    return seconds if isinstance(seconds, int | float) else 0.0


def result_text(result: Any) -> tuple[str, str]:
    """Return a result as JSON, and what was changed to write it ('': nothing).

    A result that JSON cannot hold, or that is too large, is replaced by its ``repr``.
    """
    try:
        text = strict_json.dumps(result)
        if len(text) <= LARGEST_RESULT:
            return text, ""
        why = f"has {len(text)} bytes, more than the {LARGEST_RESULT} that can be saved"
    except LeaveNow:
        raise
    except BaseException as err:  # the task has succeeded, whatever its result raises here
        why = f"cannot be saved: {explain_json(err, 'a result')}"
    try:
        shown = repr(result)
    except LeaveNow:
        raise
    except BaseException:
        shown = f"<{type(result).__name__}>"
    return strict_json.dumps(shorten(shown, _LONGEST_REPR)), f"{why}; its repr was saved instead."
