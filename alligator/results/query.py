"""Look up the status and the result of pushed tasks, and wait for them."""

import time
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext
from math import isnan
from typing import Any, NamedTuple

from alligator.backends.base import GET, OWN_ID, Client, Data, DeadTask, Place
from alligator.backends.dsn import mask_password
from alligator.backends.store import ENDED, KEEP_FAILED, Record, Store, own_record_key
from alligator.common.clock import Seconds, in_seconds
from alligator.common.ids import is_generated
from alligator.common.text import shorten
from alligator.constants import CANCELED, DELAYED, FAILED, RETRYING, RUNNING, SUCCESS, WAITING
from alligator.exceptions import (
    InvalidTask,
    ResultTimeout,
    TaskCanceled,
    TaskFailed,
    UnsupportedOption,
)
from alligator.results.recorder import Recorder
from alligator.tasks.message import fields_in, fields_of
from alligator.tasks.task import Task

#: Seconds between two looks at a task whose end may not be recorded, at first and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.25

#: The same where the store announces starts and ends. It does not if the queue was dropped.
_FOLLOWING = 1.0

#: The same where the store will record every end.
_LONGEST_WATCH = 5.0

#: How many dead letters are searched for an error that has no record.
_LETTERS = 1000

#: How many records are read at once.
_AT_ONCE = 500

_NOT_STARTED = (WAITING, DELAYED)
_STARTED = (RUNNING, RETRYING)


class Look(NamedTuple):
    """What one look at a task found."""

    status: int | None
    record: Record | None = None  # of its last push
    place: Place | None = None  # on its queue
    data: Data | None = None  # its message, if that was needed


class Results:
    """Look up outcomes for one Gator: of its own tasks, and of others by their id.

    :param queue_name: the queue on which a task that is given as an id is looked up.
    """

    def __init__(self, recorder: Recorder, queue_name: str) -> None:
        self.recorder, self.queue_name = recorder, queue_name
        self.client: Client = recorder.client
        self.store: Store | None = recorder.store

    def status(self, task: Task | str) -> int | None:
        """Return the status of a task; see :meth:`alligator.Gator.status`."""
        return self.look(task)[0]

    def wait(
        self, tasks: Sequence[Task | str] | Task, timeout: Seconds | None, *, started: bool
    ) -> bool:
        """Block until all these tasks have ended; see :meth:`alligator.Gator.wait`."""
        deadline = float("inf") if timeout is None else time.monotonic() + patience(timeout)
        tasks = [tasks] if isinstance(tasks, str | Task) else tasks
        pending = deque(tasks)
        done = self._drop_ended(pending, started=started)
        if done is not None or deadline <= time.monotonic():
            return bool(done)
        pause, longest, queue_names = self._pauses(tasks, started=started)
        keys = [key for each in pending for key in self.keys(each)]
        store = self.store
        with nullcontext() if store is None else store.watch(keys, queue_names) as watch:
            while (done := self._drop_ended(pending, started=started)) is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                if watch is None:
                    time.sleep(min(left, pause))
                elif watch.wait(min(left, pause)):
                    continue
                pause = min(2 * pause, longest)
        return done

    def result(self, task: Task | str, timeout: Seconds | None) -> Any:
        """Return what a task returned; see :meth:`alligator.Gator.result`."""
        self.check_saves(task)
        self.wait([task], timeout, started=False)
        return self.value(task, *self.look(task), timeout)

    def check_saves(self, task: Task | str) -> None:
        """Refuse a task that was pushed without ``save_results``.

        :raises UnsupportedOption: it was.
        """
        if isinstance(task, Task) and task.save_results is None:
            raise UnsupportedOption(
                f"Task {shorten(_id_of(task))} was pushed without save_results=seconds, so its "
                "result was not saved."
            )

    def value(
        self, task: Task | str, status: int | None, record: Record | None, timeout: Seconds | None
    ) -> Any:
        """Return what a task returned, by what :meth:`look` has found; or raise why there is none.

        :param timeout: how long it was waited for.
        :raises TaskFailed, TaskCanceled, ResultTimeout: see :meth:`alligator.Gator.result`.
        """
        task_id = _id_of(task)
        if status == CANCELED:
            raise TaskCanceled(f"Task {shorten(task_id)} was canceled.")
        if status == FAILED:
            raise self._failure(task, record)
        if status is None:
            raise ResultTimeout(
                f"Nothing is known of task {shorten(task_id)}: it was never pushed here, saved no "
                "result, its result has expired, or it was dropped or lost."
            )
        if status == SUCCESS and record is None and isinstance(task, Task):
            return task.result  # the task object read it before, or ran in this process
        if status != SUCCESS or record is None:
            raise not_ended(task, timeout)
        if record.result is None and not record.error:
            raise ResultTimeout(f"Task {shorten(task_id)} succeeded, and saved no result.")
        return self.recorder.value_of(self.queue_of(task), task_id, record)

    def refresh(self, task: Task) -> None:
        """Set the ``status``, ``result`` and ``error`` of a task to what is known now."""
        self.set_outcome(task, *self.look(task))

    def set_outcome(self, task: Task, status: int | None, record: Record | None) -> None:
        """Set in a task what :meth:`look` has found."""
        task.status = status
        if status == SUCCESS and record is not None:
            task.result = self.recorder.value_of(self.queue_of(task), task.task_id, record)
        elif status == FAILED:
            task.error = self._failure(task, record) if task.error is None else task.error

    def _failure(self, task: Task | str, record: Record | None) -> TaskFailed:
        if record is None and isinstance(task, Task) and isinstance(task.error, TaskFailed):
            return task.error
        found = record or self.letter(task)
        error, traceback = (found.error, found.traceback) if found else ("", "")
        what = f"Task {shorten(_id_of(task))} failed: {error or 'it is a dead letter'}"
        return TaskFailed(what, error=error, traceback=traceback)

    def letter(self, task: Task | str) -> DeadTask | None:
        """Return the dead letter of a task.

        :returns: None: there is none; or the queue gives new ids, or is not one of Alligator's,
            and it is not among the newest 1,000.
        """
        queue_name, task_id = self.where(task)
        if OWN_ID in self.client.supports:
            return self.client.letter(queue_name, task_id)
        return self.letter_among(self.client.dead(queue_name, _LETTERS), task)

    def letter_among(self, letters: Sequence[DeadTask], task: Task | str) -> DeadTask | None:
        """Return the dead letter of a task among these; None: it is not there."""
        _, backend_id = self.where(task)
        found = next((each for each in letters if each.task_id == backend_id), None)
        if found is None and OWN_ID not in self.client.supports:
            # A retry gave it another id on the queue; the message has the id of the push.
            task_id = _id_of(task)
            found = next((e for e in letters if self.recorder.id_of_dead(e) == task_id), None)
        return found

    # -- Lookup. ------------------------------------------------------------------------------

    def _drop_ended(self, pending: deque[Task | str], *, started: bool) -> bool | None:
        """Drop the tasks that have ended (``started``: begun) from the front.

        The caller waits for all, so no task behind the first pending one is looked up.

        :returns: True: all have ended; False: one was canceled, or lost; None: some are pending.
        """
        while pending:
            some = [pending[index] for index in range(min(len(pending), _AT_ONCE))]
            for each, record in zip(some, self._records(some), strict=True):
                status, _ = self.look(each, record)
                if not (done := self.is_done(each, status, started=started)):
                    return done
                pending.popleft()
        return True

    def is_done(self, task: Task | str, status: int | None, *, started: bool) -> bool | None:
        """Return whether a wait for a task is over, by the status that :meth:`look` has found.

        :returns: True: it has ended (``started``: begun); False: it was canceled, or lost; None:
            it has not ended.
        """
        if status == CANCELED:
            return False
        if status is None and not (over := self._is_over(task)):
            return over
        if status in _NOT_STARTED or (status in _STARTED and not started):
            return None
        return True

    def _is_over(self, task: Task | str) -> bool | None:
        """Return whether an unknown task has ended.

        :returns: True: it has left its queue, and only a failure would be recorded; False: it was
            dropped or lost, or its record has expired; None: it may still run.
        """
        if not (isinstance(task, Task) and task.is_pushed and GET in self.client.supports):
            return None
        return not task.known_for and self._lost_nothing_since(task) is not False

    def _lost_nothing_since(self, task: Task) -> bool | None:
        return self.client.lost_nothing_since(self.queue_of(task), task.queue_position)

    def _records(self, tasks: Sequence[Task | str]) -> list[Record | None]:
        return read_records(self.store, [(self, each) for each in tasks])

    def _record(self, task: Task | str) -> Record | None:
        return self._records([task])[0]

    def record(self, task: Task | str) -> Record | None:
        """Return the record of a task; None: there is none."""
        return None if self.store is None else self._record(task)

    def keys(self, task: Task | str) -> list[str]:
        """Return the keys under which a task may be recorded: queue and id, or the id alone."""
        task_id = _id_of(task)
        # Of a pending task that a push returned, it is not known whether the user chose its id.
        if isinstance(task, Task) and not (task.has_own_id or task.is_duplicate):
            return [task_id]
        return [own_record_key(self.queue_of(task), task_id), task_id]

    def look(
        self, task: Task | str, record: Record | None = None
    ) -> tuple[int | None, Record | None]:
        """Return the status of a task, and the record of its last push.

        :param record: one that was just read. If it shows the end of this push, that decides.
        """
        found = self.look_closely(task, record)
        return found.status, found.record

    def look_closely(
        self, task: Task | str, record: Record | None = None, *, looks: int = 3
    ) -> Look:
        """Return what :meth:`look` does, and what else was seen for it.

        :param looks: how often to look again where the data of a task is not there.
        """
        if isinstance(task, Task):
            if not task.is_pushed and task.status in ENDED:
                return Look(task.status)
            if record is not None and record.ended and record.pushed >= _pushed(task):
                return Look(record.state, record)
        place = self.find(task)
        if self.store is not None:  # after the queue: a task that left it since has a record
            record = self._record(task)
        if place is None:
            if isinstance(task, Task) and (record is None or _is_earlier(record, task)):
                if record is not None and record.state == FAILED:  # a success would replace it
                    return Look(task.status if task.status in ENDED else None)
                return Look(self._unrecorded(task))
            if record is not None and not record.ended and self._is_queue_empty(task):
                record = self._record(task)  # it may have ended meanwhile
                if record is None or not record.ended:
                    return Look(None)
            return Look(record.state if record else None, record)
        ended = record if record is not None and record.ended else None
        if place.state == FAILED:
            return Look(ended.state if ended else FAILED, ended, place)
        if ended is None and place.state == RUNNING:
            _is_there_again(task, RUNNING)
            return Look(RUNNING, None, place)
        data = self.client.peek(*self.where(task))
        if data is None:
            if looks:
                return self.look_closely(task, looks=looks - 1)  # it left the queue a moment ago
            return Look(place.state, None, place)  # only its data was lost
        options = fields_in(fields_of(data), "options")
        pushed = options.get("pushed_at")
        if ended is not None and isinstance(pushed, int | float) and ended.pushed >= pushed:
            return Look(ended.state, ended, place, data)  # it is about to leave the queue
        retries = place.state in _NOT_STARTED and options.get("retried")
        state = RETRYING if retries else place.state
        _is_there_again(task, state)
        return Look(state, None, place, data)

    def _unrecorded(self, task: Task) -> int | None:
        """Return the status of a task without queue place and record, if it can be proved.

        Absence proves nothing: the task may have been dropped, or lost with its server.
        """
        if task.status in ENDED:
            return task.status  # the task object knows it for certain
        if not task.is_pushed or task.known_for or self.store is None:
            return None
        # A failure or a cancel would have a record, unless that has expired.
        if self.recorder.clock.time() - task.pushed_at > KEEP_FAILED:
            return None
        return SUCCESS if self._lost_nothing_since(task) else None

    def _is_queue_empty(self, task: Task | str) -> bool:
        """Return whether a task cannot be on its queue, since nothing is, where ids change.

        There a retry has a new id, so a task that is not found under its first one may still wait.
        """
        if GET not in self.client.supports or OWN_ID in self.client.supports:
            return False
        if not isinstance(task, Task) or not task.is_pushed or task.depends_on:
            return False  # it may not have been pushed yet, or be held
        found = self.client.stats(self.queue_of(task))
        return not (found.waiting or found.delayed or found.running)

    def where(self, task: Task | str) -> tuple[str, str]:
        """Return the queue that a task should be on, and its id there."""
        if isinstance(task, Task):
            return self.queue_of(task), task.backend_id or task.task_id
        task_id = _id_of(task)
        if OWN_ID not in self.client.supports and self.store is not None:
            record = self._record(task_id)
            return self.queue_name, (record.place if record else "") or task_id
        return self.queue_name, task_id

    def find(self, task: Task | str) -> Place | None:
        """Return the place of a task on its queue; None: not there, or SQS cannot tell.

        :raises UnsupportedOption: neither the queue nor a store can tell.
        """
        if GET in self.client.supports:
            return self.client.find(*self.where(task))
        untold = isinstance(task, Task) and task.is_pushed and not task.known_for
        if self.store is None or untold:
            raise UnsupportedOption(
                f"{mask_password(self.client.conn_string)} cannot look up a task. Name a store "
                "that can, Gator(…, store='redis://…'), and push without save_results=0."
            )
        return None

    def _pauses(
        self, tasks: Sequence[Task | str], *, started: bool
    ) -> tuple[float, float, list[str]]:
        """Return the seconds between two looks, at first and at most, and the queues to follow."""
        if self.store is None:
            return _FIRST_PAUSE, _LONGEST_PAUSE, []
        saving = (isinstance(each, Task) and each.known_for for each in tasks)
        if not started and all(saving):  # the end of each will be recorded
            return _LONGEST_WATCH, _LONGEST_WATCH, []
        if self.store is self.client.store and self.store.follows_queues:
            queue_names = sorted({self.queue_of(each) for each in tasks})
            return _FOLLOWING, _FOLLOWING, queue_names
        return _FIRST_PAUSE, _LONGEST_PAUSE, []

    def queue_of(self, task: Task | str) -> str:
        """Return the name of the queue that a task should be on."""
        return (task.queue_name if isinstance(task, Task) else None) or self.queue_name


def read_records(
    store: Store | None, tasks: Sequence[tuple[Results, Task | str]]
) -> list[Record | None]:
    """Return the record of each task, looked up as ``Results`` does; None: there is none."""
    if store is None:
        return [None] * len(tasks)
    keys = [results.keys(each) for results, each in tasks]
    found = iter(store.records([key for some in keys for key in some]))
    return [
        _chosen(task, [next(found) for _ in some])
        for (_, task), some in zip(tasks, keys, strict=True)
    ]


def not_ended(task: Task | str, timeout: Seconds | None) -> ResultTimeout:
    """Return the error for a task that has not ended in that time."""
    waited = 0.0 if timeout is None else patience(timeout)
    return ResultTimeout(f"Task {shorten(_id_of(task))} has not ended within {waited:g} s.")


def patience(timeout: Any) -> float:
    """Return the seconds of a timeout; 0 if it is negative."""
    seconds = in_seconds(timeout)
    if isnan(seconds):
        raise InvalidTask(
            f"timeout={shorten(repr(timeout), 60)} is neither a number of seconds nor a timedelta."
        )
    return max(0.0, seconds)


def _is_there_again(task: Task | str, state: int) -> None:
    """Reset a task object that had failed: the task was revived."""
    if isinstance(task, Task) and task.is_pushed and task.status == FAILED:
        task.status, task.error = state, None


def _pushed(task: Task) -> float:
    """Return the time before which no record of a task was made; 0: the pending one was earlier."""
    return 0.0 if task.is_duplicate else task.pushed_at


def _is_earlier(record: Record, task: Task) -> bool:
    """Return whether a record belongs to an earlier push of the same id."""
    # The time of the push is exact for a success, and for a failure of the user's own id.
    exact = record.state == SUCCESS or (record.state == FAILED and task.has_own_id)
    return exact and record.pushed < _pushed(task)


def _chosen(task: Task | str, found: Sequence[Record | None]) -> Record | None:
    """Return which of these records belongs to a task.

    :param found: the record by queue and id, unless it can have none; the record by the id alone.
    """
    *of_queue, by_id = found
    mine = of_queue[0] if of_queue else None
    if not of_queue or by_id is None:
        return mine or by_id
    # Alligator 1.1 wrote it if the id is the user's own. Of another queue, it looks the same.
    if isinstance(task, Task) and by_id.pushed < _pushed(task):
        return mine
    if mine is not None and is_generated(_id_of(task)):
        return mine
    return by_id if mine is None or by_id.fence > mine.fence else mine


def _id_of(task: Task | str) -> str:
    if isinstance(task, Task):
        return task.task_id
    if isinstance(task, str):
        return task
    raise InvalidTask(f"{shorten(repr(task), 60)} is neither a task nor the id of one.")
