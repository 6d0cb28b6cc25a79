"""Be a backend for Django's tasks framework: ``alligator.contrib.django.AlligatorBackend``."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from operator import itemgetter
from typing import Any
from weakref import WeakKeyDictionary

from django.conf import settings
from django.core import checks
from django.db import transaction

from alligator.backends.base import DELAY, PRIORITY
from alligator.common import after_fork
from alligator.common.ids import new_task_id
from alligator.common.text import shorten
from alligator.contrib.django import gators, task_results
from alligator.contrib.django.gator_handler import build
from alligator.contrib.django.settings import KEYS, InvalidSettings, parse
from alligator.contrib.django.task_execution import adapt, adapted, adapter_name, running
from alligator.contrib.django.task_with_options import AlligatorTask
from alligator.contrib.django.tasks_framework import (
    BaseTaskBackend,
    InvalidTask,
    base,
    exceptions,
    framework,
    signals,
)
from alligator.exceptions import AlligatorException, NotAllowed
from alligator.exceptions import InvalidTask as InvalidGatorTask
from alligator.gator import Gator
from alligator.tasks.task import Task
from alligator.tasks.validation import check_options

#: Seconds that results are kept, unless ``OPTIONS`` has ``'KEEP'``.
KEEP = 86_400.0

#: The keys of ``OPTIONS`` that are not those of the setting ``ALLIGATOR``.
_OWN_KEYS = ("ALIAS", "IMMEDIATE", "KEEP")

#: Results that are kept in memory, of tasks that ran at once or were enqueued on locmem.
_MOST_REMEMBERED = 1_000


@dataclass(frozen=True)
class _Given:
    """What the ``OPTIONS`` of a backend say."""

    alias: str  # of settings.ALLIGATOR; '': they name a DSN
    own: Mapping[str, Any]  # the settings of a Gator, if they name a DSN
    immediate: bool
    keep: float | None


class AlligatorBackend(BaseTaskBackend):  # type: ignore[misc]
    """Runs the tasks of Django's framework on a queue of Alligator.

    ::

        TASKS = {'default': {'BACKEND': 'alligator.contrib.django.AlligatorBackend'}}

    ``OPTIONS`` may have ``'ALIAS'``, of ``settings.ALLIGATOR``; or ``'DSN'``, with the other keys
    of that setting; ``'KEEP'``, the seconds that results are kept, a day unless said otherwise;
    ``'IMMEDIATE': True``, to run tasks at once, in tests. See :doc:`/django`.
    """

    task_class = AlligatorTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        self._given: _Given | None = None  # read at the first use: check() tells what is wrong

    # -- Its settings. ------------------------------------------------------------------------

    @property
    def given(self) -> _Given:
        """What ``OPTIONS`` say.

        :raises InvalidSettings: that cannot be.
        """
        if self._given is None:
            self._given = _read_options(self.alias, self.options)
            if not self._given.immediate:
                self._look_at_backend()
        return self._given

    @property
    def gator(self) -> Gator:
        """The Gator by which tasks are pushed, and their results read.

        :raises InvalidSettings: the settings have none, or it cannot be.
        """
        given = self.given
        if given.immediate:
            return _immediate_gator(given)
        return gators[given.alias] if given.alias else _gator_of(self.alias, given.own)

    @property
    def keep(self) -> float:
        """Seconds that results are kept, unless a task says otherwise; 0: not at all."""
        given = self.given
        if given.keep is not None:
            return given.keep
        if not self._can_keep:
            return 0.0
        default = self.gator.default_options.get("save_results")
        return KEEP if default is None else default

    @property
    def _can_keep(self) -> bool:
        store = self.gator.store
        return store is not None and store.monitors

    def _look_at_backend(self) -> None:
        """Let ``supports_…`` say what this very queue can do."""
        client = self.gator.client
        self.supports_defer = DELAY in client.supports
        self.supports_priority = PRIORITY in client.supports
        self.supports_get_result = self._can_keep and self.keep > 0

    def check(self, **_kwargs: Any) -> list[Any]:
        """Return what is wrong with the settings of this backend, with a hint for each."""
        where = f"TASKS[{self.alias!r}]"
        try:
            gator = self.gator
            for name in sorted(self.queues):
                gator.check_queue_name(name)
        except (AlligatorException, TypeError) as err:
            return [checks.Error(f"{where}: {err}", id="alligator.tasks.E001")]
        found = []
        if self.given.immediate and not settings.DEBUG and not _is_testing():
            found.append(
                checks.Warning(
                    f"{where} runs tasks at once, in the process that enqueues them.",
                    hint="'IMMEDIATE' is for tests: leave it out in production.",
                    id="alligator.tasks.W001",
                )
            )
        if not self.supports_get_result and not self.given.immediate and self.given.keep != 0:
            found.append(
                checks.Warning(
                    f"{where} keeps no results: its queue is no store.",
                    hint="Name one with 'STORE': 'redis://localhost:6379/0'; or say that none are "
                    "wanted: OPTIONS = {'KEEP': 0}.",
                    id="alligator.tasks.W002",
                )
            )
        return found

    # -- Enqueuing. ---------------------------------------------------------------------------

    def validate_task(self, task: Any) -> None:
        """Refuse a task that this backend cannot run.

        :raises InvalidTask: that of the framework.
        :raises TypeError: it has an option that there is not.
        """
        given = self.given  # which also sets supports_…
        super().validate_task(task)
        if options := getattr(task, "options", None):
            try:
                if not given.immediate:
                    self.gator.check_on_commit(options.get("on_commit", False))
                check_options(options, self.gator.default_options)
            except InvalidGatorTask as err:
                raise InvalidTask(str(err)) from err

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Push a task to its queue, and return its result, which is ``READY``.

        :raises InvalidTask: that of the framework, if the task cannot be; that of Alligator, if
            its arguments do not fit, or are too large.
        :raises TypeError, ValueError: JSON has no such arguments.
        :raises ConnectionLost, QueueFull: the backend did not take it.
        """
        if not self.given.immediate:
            self.gator._note_blocking("task.enqueue", "await task.aenqueue(…)")
        result = self._push(task, args, kwargs)
        if result.send:
            signals.task_enqueued.send(type(self), task_result=result.found)
        return result.found

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Do as :meth:`enqueue` does, and do not block the event loop meanwhile."""
        given, options = self.given, getattr(task, "options", {})
        on_commit = options.get("on_commit", self.gator.default_options.get("on_commit"))
        if given.immediate or on_commit:  # in the thread whose transaction may be open
            return await super().aenqueue(task, args, kwargs)
        threads = self.gator._awaitable("task.aenqueue", "task.enqueue")
        result = await threads.call(self._push, task, args, kwargs)
        if result.send:
            await signals.task_enqueued.asend(type(self), task_result=result.found)
        return result.found

    def _push(self, task: Any, args: Any, kwargs: Any) -> "_Pushed":
        self.validate_task(task)
        if self.given.immediate:
            return _Pushed(self._run_now(task, args, kwargs), send=False)
        gator, alias = self.gator, self.alias
        call = adapted(alias, task.func) or adapt(alias, _as_imported(gator, task))
        queued = self._task_of_gator(gator, task)
        now = gator.clock.time()
        result = task_results.new(task, queued.task_id, alias, args, kwargs, now)
        keep = queued.save_results or 0.0
        if keep:
            gator.prepare(queued, call, tuple(result.args), result.kwargs)
            task_results.save(gator, result, keep, queued.delay_until)
        gator.push(queued, call, *result.args, **result.kwargs)
        if queued.is_duplicate:
            return _Pushed(self._pending(gator, queued, result, keep), send=False)
        task_results.set_fields(result, id=queued.task_id)
        if gator.client.in_process:
            remembered = task_results.new(task, result.id, alias, args, kwargs, now)
            _memory_of(gator)[result.id] = remembered
        if queued.on_commit and not queued.is_pushed:  # it will be, after the commit
            send = partial(signals.task_enqueued.send, type(self), task_result=result)
            # gators of this project alone know transactions
            using = gator.using if queued.on_commit is True else queued.on_commit  # type: ignore[attr-defined]
            transaction.on_commit(send, using=using)
            return _Pushed(result, send=False)
        return _Pushed(result, send=True)

    def _task_of_gator(self, gator: Gator, task: Any) -> Task:
        """Return the task of Alligator that runs a task of the framework."""
        given: dict[str, Any] = {"priority": task.priority, "queue_name": task.queue_name}
        if task.run_after is not None:
            given["delay_until"] = task.run_after
        given |= getattr(task, "options", {})
        if self._can_keep:
            given.setdefault("save_results", self.keep)
        given["task_id"] = None
        queued = gator.new_task(check_options(given, gator.default_options))
        queued.adapter = adapter_name(self.alias)
        return queued

    def _pending(self, gator: Gator, queued: Task, result: Any, keep: float) -> Any:
        """Return the result of the task that is pending instead of one with ``unique``."""
        if keep:
            own = result.id
            task_results.forget(gator, own)
            task_results.set_fields(result, id=queued.task_id)
            if queued.debounce:  # its arguments are now these
                task_results.save(gator, result, keep, queued.delay_until)
                if (known := _memory_of(gator).get(queued.task_id)) is not None:
                    task_results.set_fields(known, args=result.args, kwargs=result.kwargs)
            try:
                return self.get_result(queued.task_id)
            except exceptions.TaskResultDoesNotExist:  # it was pushed without a result
                pass
        task_results.set_fields(result, id=queued.task_id)
        return result

    # -- Running at once. ---------------------------------------------------------------------

    def _run_now(self, task: Any, args: Any, kwargs: Any) -> Any:
        gator = self.gator
        call = adapted(self.alias, task.func) or adapt(self.alias, _as_imported(gator, task))
        result = task_results.new(task, new_task_id(), self.alias, args, kwargs, gator.clock.time())
        options = {
            name: value
            for name, value in getattr(task, "options", {}).items()
            if name not in ("depends_on", "on_commit", "save_results", "history")
        }
        options |= {"is_async": False, "queue_name": task.queue_name, "task_id": result.id}
        local = gator.new_task(check_options(options, gator.default_options))
        local.adapter, local.observer = adapter_name(self.alias), call.observer  # type: ignore[attr-defined]
        _memory_of(gator)[result.id] = result
        signals.task_enqueued.send(type(self), task_result=result)
        token = running.set(result)
        try:
            gator.push(local, call, *result.args, **result.kwargs)
        except KeyboardInterrupt:
            raise
        except BaseException:
            if not result.is_finished:
                raise  # it did not run
        finally:
            running.reset(token)
        return result

    # -- Results. -----------------------------------------------------------------------------

    def get_result(self, result_id: str) -> Any:
        """Return the result of a task, as it stands.

        :raises TaskResultDoesNotExist: nothing is known of it, or not any more.
        :raises NotImplementedError: there is no store to keep results.
        :raises ConnectionLost: the store, or the queue, cannot be reached.
        """
        gator = self.gator
        if self.given.immediate:
            if (found := _memory_of(gator).get(result_id)) is None:
                raise exceptions.TaskResultDoesNotExist(result_id)
            return found
        if not gator.client.in_process:
            return task_results.read(gator, result_id)
        remembered = _memory_of(gator).get(result_id)
        if remembered is not None and remembered.status == base.TaskResultStatus.SUCCESSFUL:
            return remembered  # it stays so
        found = task_results.read(gator, result_id)
        if remembered is None:
            return found
        changes = {name: getattr(found, name) for name in base.TASK_REFRESH_ATTRS}
        task_results.set_fields(remembered, **changes)
        return remembered

    async def aget_result(self, result_id: str) -> Any:
        """Do as :meth:`get_result` does, and do not block the event loop meanwhile."""
        threads = self.gator._awaitable("task.aget_result", "task.get_result")
        return await threads.call(self.get_result, result_id)

    # -- For tests. ---------------------------------------------------------------------------

    @property
    def results(self) -> list[Any]:
        """The results of what was enqueued in this process, with ``IMMEDIATE`` or on locmem.

        :raises NotImplementedError: the queue is another one.
        """
        known = list(self._remembered())
        return [self.get_result(each) for each in known]

    def clear(self) -> None:
        """Forget :attr:`results`, and drop their tasks from the queues.

        :raises NotImplementedError: the queue is neither locmem nor ``IMMEDIATE``.
        """
        remembered, gator = self._remembered(), self.gator
        if not self.given.immediate:
            for name in {each.task.queue_name for each in remembered.values()}:
                gator.client.drop_all(name)
            if remembered and self._can_keep:
                task_results.forget(gator, *remembered)
        remembered.clear()

    def _remembered(self) -> "_Memory":
        gator = self.gator
        if not (self.given.immediate or gator.client.in_process):
            raise NotImplementedError(
                "results and clear() are for tests, with OPTIONS = {'IMMEDIATE': True} or "
                f"{{'DSN': 'locmem://'}}; TASKS[{self.alias!r}] has neither."
            )
        return _memory_of(gator)


@dataclass(frozen=True)
class _Pushed:
    """What a push returns: a result, and whether receivers are still to be told of it."""

    found: Any
    send: bool


def queue_names(alias: str) -> list[str]:
    """Return the queues of the backends that push by the Gator of an alias, for its workers.

    :param alias: of ``settings.ALLIGATOR``.
    :raises InvalidTaskBackend: there is no such class as ``TASKS`` names.
    """
    names = dict[str, None]()
    for each in framework.task_backends:
        backend = framework.task_backends[each]
        if isinstance(backend, AlligatorBackend):
            given = backend.given
            if given.alias == alias and not given.immediate:
                names |= dict.fromkeys(sorted(backend.queues))
    return list(names)


# -- Settings. --------------------------------------------------------------------------------


def _read_options(alias: str, options: Any) -> _Given:
    where = f"TASKS[{alias!r}]['OPTIONS']"
    if not isinstance(options, Mapping):
        raise InvalidSettings(f"{where} is {shorten(repr(options), 60)}, and no dictionary.")
    has_dsn = "DSN" in options
    known = [*_OWN_KEYS, *(KEYS if has_dsn else ["DSN"])]
    for key in options:
        if key not in known:
            near = get_close_matches(str(key).upper(), [*_OWN_KEYS, *KEYS], 1, 0.5)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
            if key in KEYS:
                hint = "It belongs into the setting ALLIGATOR, or beside a 'DSN' here."
            raise InvalidSettings(f"{where} has the unknown key {shorten(repr(key), 60)}. {hint}")
    if has_dsn and "ALIAS" in options:
        raise InvalidSettings(f"{where} has both 'ALIAS' and 'DSN'; give one.")
    immediate, keep = options.get("IMMEDIATE", False), options.get("KEEP")
    if not isinstance(immediate, bool):
        raise InvalidSettings(
            f"{where}['IMMEDIATE'] is {shorten(repr(immediate), 60)}, and neither True nor False."
        )
    if keep is not None:
        try:
            keep = check_options({"save_results": keep})["save_results"]
        except InvalidGatorTask:
            raise InvalidSettings(
                f"{where}['KEEP'] is {shorten(repr(keep), 60)}, and neither a number of seconds "
                "nor a timedelta."
            ) from None
    own = {key: value for key, value in options.items() if key not in _OWN_KEYS}
    name = "" if has_dsn else options.get("ALIAS", "default")
    return _Given(name, own, immediate, keep)


def _is_testing() -> bool:
    """Return whether Django's test runner, or pytest-django, runs."""
    from django.core import mail

    return hasattr(mail, "outbox")


class _Gators:
    """The Gators of backends that name a DSN or run tasks at once: one for each in a process."""

    def __init__(self) -> None:
        self._made: dict[str, Gator] = {}
        self.renew()
        after_fork.renew_in_children(self)

    def renew(self) -> None:
        """In the child of a fork, use a new lock: another thread may have held it."""
        self._lock = threading.RLock()

    def get(self, key: str, make: Callable[[], Gator]) -> Gator:
        """Return the Gator of a key; make it if there is none."""
        with self._lock:
            if (found := self._made.get(key)) is None:
                found = self._made[key] = make()
            return found


_gators = _Gators()


def _gator_of(alias: str, own: Mapping[str, Any]) -> Gator:
    """Return the Gator of a backend that names a DSN."""

    def make() -> Gator:
        try:
            return build(parse(dict(own))["default"])
        except InvalidSettings as err:
            text = str(err).replace("ALLIGATOR", f"TASKS[{alias!r}]['OPTIONS']", 1)
            raise InvalidSettings(text, err.key, err.near) from None

    return _gators.get(repr(sorted(own.items(), key=itemgetter(0))), make)


def _immediate_gator(given: _Given) -> Gator:
    """Return a Gator that connects to nothing, with the options of the one that it stands for."""
    options: Mapping[str, Any] = {}
    if given.own:
        options = _gator_of("", given.own).default_options
    elif hasattr(settings, "ALLIGATOR") and given.alias in gators:
        options = gators[given.alias].default_options
    left_out = ("save_results", "history", "on_commit")
    kept: Any = {name: value for name, value in options.items() if name not in left_out}
    make = partial(Gator, "locmem://alligator-immediate", options=kept)
    return _gators.get(f"immediate {kept!r}", make)


class _Memory(OrderedDict[str, Any]):
    """The last results of one Gator, by id."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        while len(self) > _MOST_REMEMBERED:
            self.popitem(last=False)


_memories: "WeakKeyDictionary[Gator, _Memory]" = WeakKeyDictionary()


def _memory_of(gator: Gator) -> _Memory:
    return _memories.setdefault(gator, _Memory())


def _as_imported(gator: Gator, task: Any) -> Any:
    """Return what a worker finds under the name of a task.

    :raises InvalidTask: it is not that task.
    :raises NotAllowed: the Gator does not allow it.
    """
    try:
        found = task_results.task_of(gator, task.module_path)
    except NotAllowed:
        raise
    except Exception as err:
        raise InvalidTask(f"{task.module_path} cannot be imported as a task: {err}") from err
    if found.func is not task.func:
        raise InvalidTask(
            f"{task.module_path} leads to another task; give the task the name of its function."
        )
    return found


__all__ = ["AlligatorBackend", "queue_names"]
