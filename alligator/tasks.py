"""A task: what to call, how it stands, and how it looks on the queue."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import date
from types import UnionType
from typing import TYPE_CHECKING, Any, Self

from alligator import wire
from alligator.callables import import_callable, split_name, takes_two, wire_name
from alligator.constants import (
    CANCELED,
    DELAYED,
    FAILED,
    RETRYING,
    RUNNING,
    SUCCESS,
    WAITING,
)
from alligator.exceptions import BadPayload, InvalidTask, LeaveNow
from alligator.log import SafeTracebacks
from alligator.options import CHECKS, check_options
from alligator.retries import retry_delay
from alligator.utils import describe_error, determine_module, determine_name, new_task_id, shorten

if TYPE_CHECKING:
    from alligator.gator import Gator

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

#: What ``is_async`` may be on a queue.
_TRUTH = bool | int | str
_NUMBER = int | float

_HOOKS = ("on_start", "on_success", "on_error")
_WRITTEN = {
    "priority": 0,
    "retry_delay": 0.0,
    "retry_backoff": 1.0,
    "retry_max_delay": None,
    "save_results": None,
}

_current: ContextVar["Task | None"] = ContextVar("alligator_current_task", default=None)


def current_task() -> "Task | None":
    """Return the task that is running in this thread, or None outside of one."""
    return _current.get()


class Task:
    """A function to be called later, with its arguments and options.

    The options are those of :meth:`alligator.Gator.options`.

    :raises TypeError, InvalidTask, MultipleDelayError, UnsupportedOption: see
        :func:`alligator.options.check_options`.
    """

    def __init__(
        self,
        task_id: str | None = None,
        retries: int = 0,
        is_async: bool | str = True,
        on_start: Callable[..., Any] | None = None,
        on_success: Callable[..., Any] | None = None,
        on_error: Callable[..., Any] | None = None,
        depends_on: Any = None,
        delay_by: float | None = None,
        delay_until: float | date | None = None,
        **options: Any,
    ) -> None:
        if "async" in options:
            is_async = options.pop("async")
        given: dict[str, Any] = {"task_id": task_id, "retries": retries, "is_async": is_async}
        given |= {"on_start": on_start, "on_success": on_success, "on_error": on_error}
        given |= {"delay_by": delay_by, "delay_until": delay_until, "depends_on": depends_on}
        checked = check_options({**given, **options})
        self.task_id: str = checked.get("task_id") or new_task_id()
        self.retries: int = checked["retries"]
        self.is_async: bool = checked["is_async"]
        self.on_start: Callable[..., Any] | None = checked["on_start"]
        self.on_success: Callable[..., Any] | None = checked["on_success"]
        self.on_error: Callable[..., Any] | None = checked["on_error"]
        self.depends_on = None
        self.delay_by: float | None = checked.get("delay_by")
        self.delay_until: float | None = checked.get("delay_until")
        self.priority: int = checked.get("priority", 0)
        self.retry_delay: float = checked.get("retry_delay", 0.0)
        self.retry_backoff: float = checked.get("retry_backoff", 1.0)
        self.retry_max_delay: float | None = checked.get("retry_max_delay")
        self.queue_name: str | None = checked.get("queue_name")
        self.save_results: float | None = checked.get("save_results") or None

        self.pushed_at = 0.0  # Unix seconds; 0: not yet
        self.backend_id: str | None = None  # its id on the queue, where that is another
        self.retried = 0  # how many retries there have been
        self.status: int = WAITING
        self.func: Any = None
        self.func_args: Any = []
        self.func_kwargs: dict[str, Any] = {}
        self.result: Any = None
        self.error: BaseException | None = None
        self._gator: Gator | None = None

    @property
    def id(self) -> str:
        """Another name for ``task_id``."""
        return self.task_id

    @property
    def is_pushed(self) -> bool:
        """Whether this very object was put on a queue."""
        return self._gator is not None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {shorten(self.task_id)}>"

    def to_call(self, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> None:
        """Set what to call.

        ::

            task.to_call(my_function, 1, 'c', another=True)

        :param func: an importable function, or its name as text: ``'myapp.tasks.resize'``.
        """
        self.func = func
        self.func_args = args
        self.func_kwargs = kwargs

    # -- States; useful to a hook that wants to know how the task stands. -------------------

    def to_waiting(self) -> None:
        """Set the status to ``WAITING``: on the queue."""
        self.status = WAITING

    def to_delayed(self) -> None:
        """Set the status to ``DELAYED``: on the queue, for later."""
        self.status = DELAYED

    def to_running(self) -> None:
        """Set the status to ``RUNNING``."""
        self.status = RUNNING

    def to_success(self) -> None:
        """Set the status to ``SUCCESS``."""
        self.status = SUCCESS

    def to_failed(self) -> None:
        """Set the status to ``FAILED``."""
        self.status = FAILED

    def to_retrying(self) -> None:
        """Set the status to ``RETRYING``: failed, and to be run again."""
        self.status = RETRYING

    def to_canceled(self) -> None:
        """Set the status to ``CANCELED``: taken off the queue before it ran."""
        self.status = CANCELED

    # -- Afterwards. ------------------------------------------------------------------------

    def to_pushed(self, gator: "Gator") -> None:
        """Take note of who pushed it, and can tell how it stands. Called by that Gator."""
        self._gator = gator

    def wait(self, timeout: float | None = None, *, started: bool = False) -> bool:
        """Block until the task has ended, well or badly; ``status`` and ``result`` say which.

        ::

            task = gator.options(save_results=60).task(add, 18, 9)
            if task.wait(5):
                print(task.result)

        :param timeout: seconds; None: as long as it takes.
        :param started: wait only until it starts.
        :returns: False: not in that time, or it was canceled.
        :raises InvalidTask: it was not pushed.
        """
        if self._gator is None:
            if self.status in (SUCCESS, FAILED, CANCELED):
                return self.status != CANCELED
            raise InvalidTask(f"Task {shorten(self.task_id)} was not pushed: nothing to wait for.")
        results = self._gator.results
        ended = results.wait([self], timeout, started=started)
        results.refresh(self)
        return ended

    def cancel(self) -> bool:
        """Take the task off its queue before it runs; return False if it is too late for that.

        :raises InvalidTask: it was not pushed.
        """
        if self._gator is None:
            raise InvalidTask(f"Task {shorten(self.task_id)} was not pushed: nothing to cancel.")
        if self._gator.cancel(self) is None:
            return False
        self.to_canceled()
        return True

    # -- Running. ---------------------------------------------------------------------------

    def run(self) -> Any:
        """Run the function between its hooks, and return what it returned.

        ``on_start(task)`` first; then the function; then ``on_success(task, result)``, or
        ``on_error(task, err)`` and the exception again. A hook that raises is logged and
        changes nothing.
        """
        token = _current.set(self)
        self.to_running()
        try:
            self._call_hook(self.on_start)
            result = self.result = self.func(*self.func_args, **self.func_kwargs)
        except LeaveNow:
            raise
        except BaseException as err:
            # Also SystemExit and KeyboardInterrupt: a task ends itself, not its worker.
            self.error = err
            self.to_failed()
            self._call_hook(self.on_error, err)
            raise
        else:
            self.to_success()
            self._call_hook(self.on_success, result)
            return result
        finally:
            _current.reset(token)

    def _call_hook(self, hook: Callable[..., Any] | None, *extra: Any) -> None:
        if hook is None:
            return
        try:
            hook(self, *extra) if extra and takes_two(hook) else hook(self)
        except LeaveNow:
            raise
        except BaseException:  # whatever it is, it changes no outcome
            log.exception("Hook %r of task %s raised; it goes on.", hook, shorten(self.task_id))

    def spend_retry(self) -> float:
        """Use up one retry and return the seconds to wait before it."""
        delay = retry_delay(
            self.retry_delay, self.retry_backoff, self.retried, self.retry_max_delay
        )
        self.retries -= 1
        self.retried += 1
        self.to_retrying()
        return delay

    # -- The wire. --------------------------------------------------------------------------

    def serialize(self) -> str | bytes:
        """Return the task as it goes on the queue: a JSON object, that of Alligator 1.0.

        A subclass may return text or bytes of its own making.

        :raises TypeError, ValueError: the arguments do not survive JSON.
        :raises InvalidTask: the function, or a hook, cannot be imported.
        """
        module, name = self._names(self.func)
        data = {
            "task_id": self.task_id,
            "retries": self.retries,
            "is_async": self.is_async,
            "module": module,
            "callable": name,
            "args": self.func_args,
            "kwargs": self.func_kwargs,
            "options": self._options(),
        }
        return wire.dumps(data)

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {}
        for hook in _HOOKS:
            if (function := getattr(self, hook)) is not None:
                module, name = self._names(function)
                options[hook] = {"module": module, "callable": name}
        if self.delay_until is not None:
            options["delay_until"] = self.delay_until
        for option, default in _WRITTEN.items():
            if (value := getattr(self, option)) != default:
                options[option] = value
        if self.save_results is not None and self.pushed_at:
            options["pushed_at"] = self.pushed_at
        if self.retried:
            options["retried"] = self.retried
        return options

    @staticmethod
    def _names(func: Any) -> tuple[str, str]:
        if isinstance(func, str):
            return split_name(func)
        try:
            return wire_name(func)
        except InvalidTask:
            if not callable(func) or getattr(func, "__module__", None) is None:
                raise
            # Refused for a queue by the Gator; a Task by itself may still be looked at.
            return determine_module(func), determine_name(func)

    @classmethod
    def deserialize(cls, data: str | bytes) -> Self:
        """Return the task that some data from a queue describes.

        ``task_id`` and ``retries`` are required, and ``is_async`` may be 0.x's ``async``.

        :raises BadPayload: not JSON, fields missing or of the wrong type.
        :raises UnknownModuleError, UnknownCallableError: its function is not there.
        """
        message = _Message(wire.loads(data))
        options = _Message(message.read("options", dict, {}))
        try:
            task = cls(
                task_id=message.read("task_id", str),
                retries=message.read("retries", int),
                # Whatever it says, a worker runs it; 0.x wrote what it found in the environment.
                is_async=message.read("is_async", _TRUTH, message.read("async", _TRUTH, True)),
            )
            options.check_known((*_HOOKS, *_WRITTEN, "delay_until", "retried", "pushed_at"))
            for option in (*_WRITTEN, "delay_until"):
                if (value := options.fields.get(option)) is not None:
                    setattr(task, option, CHECKS[option](value))
        except (InvalidTask, TypeError) as err:
            raise BadPayload(f"The message has an unusable field: {err}") from err
        task.retried = options.read("retried", int, 0)
        task.pushed_at = float(options.read("pushed_at", _NUMBER, 0))
        task.to_call(
            message.function(), *message.read("args", list, []), **message.read("kwargs", dict, {})
        )
        for hook in _HOOKS:
            if options.fields.get(hook) is not None:
                setattr(task, hook, _Message(options.read(hook, dict)).function())
        return task


class _Message:
    """A JSON object from a queue, read field by field."""

    def __init__(self, fields: Any) -> None:
        if not isinstance(fields, Mapping):
            raise BadPayload(f"The message is a JSON {type(fields).__name__}, not an object.")
        self.fields = fields

    def read(self, name: str, kind: type | UnionType, *default: Any) -> Any:
        """Return a field of that type, or the default where it is absent or null."""
        value = self.fields.get(name)
        if value is None and default:
            return default[0]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            shown = shorten(repr(value), 60) if name in self.fields else "missing"
            wanted = getattr(kind, "__name__", kind)
            raise BadPayload(f"Field {name!r} of the message is {shown}, not {wanted}.")
        return value

    def check_known(self, names: Sequence[str]) -> None:
        """Refuse what a later version may have written: ignored, it would not be that task."""
        for name, value in self.fields.items():
            if name not in names and value is not None:
                known = ", ".join(names)
                raise BadPayload(f"Option {shorten(name)!r} is not known here; known: {known}.")

    def function(self) -> Callable[..., Any]:
        """Import the function that ``module`` and ``callable`` name."""
        module, name = self.read("module", str), self.read("callable", str)
        try:
            split_name(f"{module}:{name}")
        except InvalidTask as err:
            raise BadPayload(describe_error(err)) from err
        return import_callable(module, name)
