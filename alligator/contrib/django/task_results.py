"""Keep the results of tasks of Django's framework, and read them.

The record of Alligator says how a task ended. Two documents beside it have the rest. The first is
written before the push: the task and its arguments, in full. Workers write the second one, before a
run and after a failure: who ran the task, since when, and the errors. (The history of Alligator is
for people: it shortens and masks arguments, and is up to a second late.)
"""

import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.exceptions import SuspiciousOperation

from alligator.backends.store import Store
from alligator.common import strict_json
from alligator.common.importing import import_attr
from alligator.common.text import describe_error, describe_traceback, shorten
from alligator.constants import CANCELED, FAILED, RUNNING, SUCCESS
from alligator.contrib.django.tasks_framework import (
    InvalidTask,
    InvalidTaskBackend,
    base,
    exceptions,
)
from alligator.exceptions import (
    AlligatorException,
    BadPayload,
    BadSignature,
    NotAllowed,
    UnknownCallableError,
    UnknownModuleError,
)
from alligator.exceptions import InvalidTask as InvalidGatorTask
from alligator.execution.activity_report import host
from alligator.gator import Gator
from alligator.results.query import Results
from alligator.tasks.backoff import retry_delay
from alligator.tasks.functions import split_name
from alligator.tasks.task import Task

log = logging.getLogger(__name__)

#: Seconds that the documents are kept longer than the result: a task may wait, and run, that long.
SLACK = 86_400.0

#: Seconds from the push until a first attempt, up to which no earlier attempts are looked for: they
#: are there only if it was a dead letter that was revived.
QUICK = 5.0

#: The attempts of one task that are kept, the last ones.
MOST_ATTEMPTS = 100

#: Options that are no JSON, or say nothing about a later run of the same task.
_NOT_KEPT = frozenset({"on_start", "on_success", "on_error", "depends_on", "on_commit"})

_STATUS = {RUNNING: "RUNNING", SUCCESS: "SUCCESSFUL", FAILED: "FAILED", CANCELED: "FAILED"}

#: Errors about a document that was damaged or forged, or whose task is gone.
_UNUSABLE = (
    BadPayload,
    BadSignature,
    InvalidGatorTask,
    InvalidTaskBackend,
    NotAllowed,
    UnknownCallableError,
    UnknownModuleError,
)

#: Errors about values in a document that are not what they should be.
_MALFORMED = (AttributeError, KeyError, OverflowError, OSError, TypeError, ValueError)

#: The name that documents are signed for instead of a queue.
_SIGNED_FOR = "#django-tasks"


def new(task: Any, task_id: str, alias: str, args: Any, kwargs: Any, enqueued: float | None) -> Any:
    """Return the result of a task that has not run.

    :param enqueued: a Unix timestamp.
    :raises TypeError, ValueError: JSON has no such arguments.
    """
    return base.TaskResult(
        task=task,
        id=task_id,
        status=base.TaskResultStatus.READY,
        enqueued_at=None if enqueued is None else moment(enqueued),
        started_at=None,
        finished_at=None,
        last_attempted_at=None,
        args=list(args),
        kwargs=dict(kwargs),
        backend=alias,
        errors=[],
        worker_ids=[],
    )


def set_fields(result: Any, **values: Any) -> None:
    """Set fields of a result, which is frozen."""
    for name, value in values.items():
        object.__setattr__(result, name, value)


def moment(timestamp: float) -> datetime:
    """Return a Unix timestamp as Django has times: aware, unless ``USE_TZ`` is False."""
    zone = UTC if settings.USE_TZ else None
    try:
        return datetime.fromtimestamp(timestamp, zone)
    except ValueError:
        datetime.fromtimestamp(timestamp - 1e-3, zone)  # or it is no time at all
        return datetime.max.replace(tzinfo=zone)  # a timestamp of it is rounded up


# -- Before the push. -------------------------------------------------------------------------


def save(gator: Gator, result: Any, keep: float, due: float | None = None) -> None:
    """Keep what a task is, and its arguments, before it is pushed.

    :param keep: seconds that its result is kept.
    :param due: when it may run, a Unix timestamp; None: at once.
    :raises ConnectionLost, QueueFull: the store did not take it.
    """
    task, store = result.task, _store(gator)
    text = {
        "path": task.module_path,
        "args": result.args,
        "kwargs": result.kwargs,
        "queue": task.queue_name,
        "priority": task.priority,
        "run_after": None if task.run_after is None else task.run_after.timestamp(),
        "enqueued": result.enqueued_at.timestamp(),
        "backend": result.backend,
        "options": kept_options(task),
    }
    waits = max(0.0, (due or 0.0) - gator.clock.time())
    sealed = _sealed(gator, result.id, strict_json.dumps(text))
    store.put_document(_key(result.id), sealed, keep + waits + SLACK)


def forget(gator: Gator, *task_ids: str) -> None:
    """Delete the documents of tasks."""
    keys = [key for each in task_ids for key in (_key(each), _attempts_key(each))]
    _store(gator).delete_documents(keys)


def kept_options(task: Any) -> dict[str, Any]:
    """Return the options of a task, as far as JSON can carry them."""
    options = getattr(task, "options", {})
    return {name: value for name, value in options.items() if name not in _NOT_KEPT}


# -- In the worker. ---------------------------------------------------------------------------


def of_delivery(backend: Any, task: Task) -> Any:
    """Return the result of a task of Alligator that is about to run.

    :param task: of a task of Django's framework.
    """
    queue_name = task.queue_name if task.delivery is None else task.delivery.queue_name
    due = task.delay_until
    ours = _with_options(
        getattr(task.func, "__adapted__", None),
        backend.alias,
        queue_name,
        task.priority,
        None if due is None else moment(due),
        None,
    )
    return new(ours, task.task_id, backend.alias, task.func_args, task.func_kwargs, task.pushed_at)


def note_start(backend: Any, task: Task, result: Any) -> None:
    """Note, in a result and in the store, that a run begins; a store that fails stops no task."""
    gator, now = backend.gator, backend.gator.clock.time()
    worker = f"{host()}:{os.getpid()}"
    if task.delivery is None:  # it runs where it was enqueued, and its result is in memory
        result.worker_ids.append(worker)
        first = result.started_at or moment(now)
        set_fields(result, started_at=first, last_attempted_at=moment(now))
    else:
        keep = _kept_for(task)
        before = task.retried + task.delivery.deaths
        attempts = [["", now, None]] * before  # if nothing is kept of them
        due = max(task.pushed_at, task.delay_until or 0.0)
        if keep and (before or task.delivery.attempt > 1 or now - due > QUICK):
            attempts = _quietly(task, lambda: _attempts(gator, result.id)) or attempts
        attempts = [*attempts, [worker, now, None]]
        _set_attempts(result, attempts)
        if keep:
            _quietly(task, lambda: _save_attempts(gator, result.id, attempts, keep))
            if now - task.pushed_at > SLACK / 2:
                _quietly(task, lambda: save_again(gator, result, keep))
    set_fields(result, status=base.TaskResultStatus.RUNNING)


def save_again(gator: Gator, result: Any, keep: float) -> None:
    """Keep what a task is for some time more: it has waited long."""
    store = _store(gator)
    text = store.documents([_key(result.id)])[0]
    if text is None:
        save(gator, result, keep)
    else:
        store.put_document(_key(result.id), text, keep + SLACK)


def note_error(
    backend: Any, task: Task, result: Any, error: BaseException, *, retries: bool
) -> None:
    """Note, in a result and in the store, that a run failed.

    :param retries: whether the task runs again.
    """
    kind = type(error)
    told = [f"{kind.__module__}.{kind.__qualname__}", describe_traceback(error)]
    result.errors.append(base.TaskError(exception_class_path=told[0], traceback=told[1]))
    status = base.TaskResultStatus
    if retries:
        set_fields(result, status=status.READY)
    else:
        now = moment(backend.gator.clock.time())
        set_fields(result, status=status.FAILED, finished_at=now)
    keep = _kept_for(task)
    if task.delivery is None or not keep or not result.worker_ids:
        return
    mine = result.worker_ids[-1], result.last_attempted_at
    pause = task.retry_delay, task.retry_backoff, task.retried, task.retry_max_delay
    delay = retry_delay(*pause) if retries else 0.0

    def note() -> None:
        # Read again: this worker may have stood still while another one ran the task.
        attempts = _attempts(backend.gator, result.id)
        for each in attempts:
            if (each[0], moment(each[1])) == mine:
                each[2] = told
        _save_attempts(backend.gator, result.id, attempts, keep + delay)
        if delay > SLACK / 2:
            save_again(backend.gator, result, keep + delay)

    _quietly(task, note)


def _kept_for(task: Task) -> float:
    return task.save_results or 0.0


def _quietly(task: Task, call: Any) -> Any:
    """Make a call to the store; if it fails, the task goes on without."""
    try:
        return call()
    except AlligatorException as err:
        log.warning(
            "What happened to task %s could not be kept; it goes on: %s",
            shorten(task.task_id),
            describe_error(err),
        )
        return None


# -- Afterwards. ------------------------------------------------------------------------------


def read(gator: Gator, task_id: str) -> Any:
    """Return the result of a task, as it stands.

    :raises TaskResultDoesNotExist: nothing is known of it, or not any more.
    :raises ConnectionLost: the store, or the queue, cannot be reached.
    """
    store = _store(gator)
    missing = exceptions.TaskResultDoesNotExist(task_id)
    if not isinstance(task_id, str):
        raise missing
    told, attempts_text = store.documents([_key(task_id), _attempts_key(task_id)])
    if told is None:
        raise missing
    try:
        it = strict_json.loads(_opened(gator, task_id, told))
        due = it["run_after"]
        task = _with_options(
            task_of(gator, it["path"]),
            it["backend"],
            it["queue"],
            it["priority"],
            None if due is None else moment(due),
            it["options"],
        )
        found = new(task, task_id, it["backend"], it["args"], it["kwargs"], it["enqueued"])
    except (*_UNUSABLE, SuspiciousOperation, *_MALFORMED) as err:
        raise exceptions.TaskResultDoesNotExist(
            f"What is kept of {shorten(task_id)} cannot be read: {describe_error(err)}"
        ) from err
    results = Results(gator.recorder, it["queue"])
    status, record = results.look(task_id)
    if status is None:
        raise missing
    if status in _STATUS:  # it may have begun since the document was read
        (attempts_text,) = store.documents([_attempts_key(task_id)])
    attempts = list[Any]()
    if attempts_text is not None:
        attempts = _read_attempts(gator, task_id, attempts_text)
        _set_attempts(found, attempts)
    set_fields(found, status=base.TaskResultStatus(_STATUS.get(status, "READY")))
    if found.is_finished and record is not None:
        set_fields(found, finished_at=moment(record.at))
    if status == SUCCESS:
        if record is None or (record.result is None and not record.error):
            raise missing
        value = gator.recorder.value_of(it["queue"], task_id, record)
        set_fields(found, _return_value=value)
    elif found.is_finished:
        _add_last_error(found, results, status, record, attempts)
    return found


def _add_last_error(
    found: Any, results: Results, status: int, record: Any, attempts: list[Any]
) -> None:
    """Add the error by which a task ended, if no worker has told of it.

    Its worker was killed again and again, it was not started in time, it could not be read, it was
    canceled before it ran, or the worker could not tell.
    """
    told = attempts[-1][2] if attempts else None
    line = "TaskCanceled" if status == CANCELED else record.error if record else ""
    if told and line.partition(":")[0] in ("", told[0].rpartition(".")[2]):
        return
    if status == CANCELED:
        path, text = "alligator.exceptions.TaskCanceled", "The task was canceled."
    else:
        known = record or results.letter(found.id)
        line = known.error if known else "It is a dead letter."
        text = (known.traceback if known else "") or f"{line}\n"
        path = _class_path(line)
        if not known or not record:
            set_fields(found, finished_at=moment(known.died_at) if known else found.enqueued_at)
    found.errors.append(base.TaskError(exception_class_path=path, traceback=text))


def _class_path(line: str) -> str:
    """Return the class of an error of Alligator's own, or of Python, by its text."""
    import builtins

    from alligator import exceptions as ours

    name = line.partition(":")[0]
    for module in (ours, builtins):
        kind = getattr(module, name, None)
        if isinstance(kind, type) and issubclass(kind, BaseException):
            return f"{module.__name__}.{name}"
    return "alligator.exceptions.TaskFailed"


def task_of(gator: Gator, path: str) -> Any:
    """Return the task of a dotted path, which came from a store.

    :raises NotAllowed: no function of that name may run here.
    :raises SuspiciousOperation: it is no task of Django's framework.
    :raises UnknownModuleError, UnknownCallableError: there is nothing.
    """
    module, name = split_name(path)
    gator.policy.check_name(module, name)
    found = import_attr(module, name)
    if not isinstance(found, base.Task):
        raise SuspiciousOperation(f"{shorten(path)!r} is no task of Django's framework.")
    return found


def _with_options(
    task: Any,
    alias: str,
    queue_name: str | None,
    priority: int,
    run_after: datetime | None,
    options: Mapping[str, Any] | None,
) -> Any:
    """Return a task as it was enqueued.

    :param options: those of Alligator; None: as its decorator has them.
    """
    given: dict[str, Any] = {"priority": priority, "queue_name": queue_name, "backend": alias}
    given["run_after"] = run_after
    own = getattr(task, "options", None)
    if options and own is not None and kept_options(task) != options:
        given |= options
    try:
        return task.using(**given)
    except InvalidTask:  # the settings have no such queue any more
        return task


# -- Documents. -------------------------------------------------------------------------------


def _store(gator: Gator) -> Store:
    store = gator.store
    if store is None or not store.monitors:
        raise NotImplementedError(
            f"{gator!r} keeps no results. Name a store that does, 'STORE': 'redis://…', or do not "
            "ask for results."
        )
    return store


def _key(task_id: str) -> str:
    return f"django-task:{task_id}"


def _attempts_key(task_id: str) -> str:
    return f"django-task-attempts:{task_id}"


def _sealed(gator: Gator, task_id: str, text: str) -> str:
    if gator.signer is None:
        return text
    return str(gator.signer.seal(_SIGNED_FOR, task_id, text))


def _opened(gator: Gator, task_id: str, text: str) -> str:
    """Return a text without its signature.

    :raises BadSignature: keys are set, and none of them has signed it.
    """
    if gator.signer is None:
        return text
    signed_id, opened = gator.signer.open(_SIGNED_FOR, text)
    if signed_id != task_id:
        raise exceptions.TaskResultDoesNotExist(task_id)
    return str(opened)


def _attempts(gator: Gator, task_id: str) -> list[Any]:
    text = _store(gator).documents([_attempts_key(task_id)])[0]
    return [] if text is None else _read_attempts(gator, task_id, text)


def _read_attempts(gator: Gator, task_id: str, text: str) -> list[Any]:
    """Return the attempts in a document: worker, start, and class path and traceback, or None.

    There are none in one that cannot be read.
    """
    try:
        found = strict_json.loads(_opened(gator, task_id, text))
        read: list[Any] = [
            [str(worker), float(started), error if error is None else list(map(str, error))]
            for worker, started, error in found
        ]
        for _, started, error in read:
            moment(started)
            if error is not None and len(error) != 2:
                return []
    except (*_UNUSABLE, *_MALFORMED):
        return []
    return read


def _save_attempts(gator: Gator, task_id: str, attempts: list[Any], keep: float) -> None:
    text = _sealed(gator, task_id, strict_json.dumps(attempts[-MOST_ATTEMPTS:]))
    _store(gator).put_document(_attempts_key(task_id), text, keep + SLACK)


def _set_attempts(result: Any, attempts: list[Any]) -> None:
    times = [started for _, started, _ in attempts]
    result.worker_ids[:] = [worker for worker, _, _ in attempts]
    result.errors[:] = [
        base.TaskError(exception_class_path=error[0], traceback=error[1])
        for _, _, error in attempts
        if error is not None
    ]
    if times:
        set_fields(result, started_at=moment(times[0]), last_attempted_at=moment(times[-1]))
