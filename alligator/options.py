"""The options of a task: their names, what each may be, and the contexts that carry them."""

import difflib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from datetime import time as day_time
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, overload

from alligator.backends.base import MAX_PRIORITY, MIN_PRIORITY
from alligator.callables import check_hook, fits
from alligator.exceptions import InvalidTask, MultipleDelayError
from alligator.ticks import Cron, Every, Rule, time_zone
from alligator.utils import Seconds, in_seconds, shorten

if TYPE_CHECKING:
    from alligator.gator import Gator
    from alligator.molds import Mold
    from alligator.tasks import Task
    from alligator.ticking import Schedule

P = ParamSpec("P")

#: Other spellings: 0.x's, and the first README's.
ALIASES = {"async": "is_async", "run_after": "delay_by"}

#: As many as anybody may ask for.
MOST_RETRIES = 1_000_000

_FALSE = frozenset({"false", "0", "no", "off", ""})
_TRUE = frozenset({"true", "1", "yes", "on"})


def truth(value: Any) -> bool:
    """Return what ``is_async`` means; text as it comes from an environment is understood.

    :raises InvalidTask: text that is neither a yes nor a no.
    """
    if not isinstance(value, str):
        return bool(value)
    text = value.strip().lower()
    if text in _FALSE or text in _TRUE:
        return text in _TRUE
    allowed = ", ".join(sorted(_TRUE | _FALSE - {""}))
    raise InvalidTask(
        f"is_async={shorten(repr(value), 60)} is neither true nor false; it may be {allowed}."
    )


def timestamp(value: Any) -> float:
    """Return the Unix timestamp in seconds that a ``delay_until`` stands for.

    A number is one; an aware datetime is exact, a naive one local time as in Python's own
    ``datetime.timestamp``; a date is its midnight, local time.

    :raises InvalidTask: anything else, NaN and infinity included.
    """
    try:
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, date):
            return datetime.combine(value, day_time()).timestamp()
    except (ValueError, OverflowError, OSError) as err:
        raise InvalidTask(
            f"delay_until={shorten(repr(value), 60)} is no moment that a clock can show."
        ) from err
    return _number("delay_until", value, "a Unix timestamp, a datetime or a date")


def _number(name: str, value: Any, kind: str = "a finite number") -> float:
    number = math.nan if isinstance(value, timedelta) else in_seconds(value)
    if not math.isfinite(number):
        raise InvalidTask(f"{name}={shorten(repr(value), 60)} is not {kind}.")
    return number


def seconds_of(name: str, value: Any, low: float = 0.0, hint: str = "") -> float:
    """Return a span of time in seconds: a number of them, or a timedelta.

    :raises InvalidTask: neither, below ``low`` or infinite.
    """
    number = in_seconds(value)
    if not low <= number < math.inf:
        above = "above 0" if low == _TINY else f"from {low:g} up"
        raise InvalidTask(
            f"{name}={shorten(repr(value), 60)} is neither a number of seconds {above} nor such a "
            f"timedelta{hint}."
        )
    return number


#: The least above 0.
_TINY = math.nextafter(0.0, 1.0)


def _seconds(name: str, hint: str = "") -> Callable[[Any], float]:
    return lambda value: seconds_of(name, value, hint=hint)


def _positive(name: str) -> Callable[[Any], float]:
    return lambda value: seconds_of(name, value, _TINY)


def moment(name: str) -> Callable[[Any], float]:
    """Return a check of a Unix timestamp as a queue holds it."""
    return lambda value: _number(name, value)


def _whole(name: str, low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InvalidTask(
                f"{name}={shorten(repr(value), 60)} is not a whole number from {low} to {high}."
            )
        return value

    return check


def _backoff(value: Any) -> float:
    number = _number("retry_backoff", value)
    if number < 1:
        raise InvalidTask(
            f"retry_backoff={shorten(repr(value), 60)} is below 1; 2 doubles the delay each time."
        )
    return number


def _task_id(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 200 or not value.isprintable():
        raise InvalidTask(
            f"task_id={shorten(repr(value), 60)} is not 1 to 200 printable characters."
        )
    return value


def _hook(name: str, *takes: str) -> Callable[[Any], Any]:
    """Return a check of a hook.

    :param takes: what it is called with: all of that, or the first alone.
    """
    ways = {1, len(takes)}

    def check(value: Any) -> Any:
        if value is None:
            return None
        if not callable(value):
            raise InvalidTask(f"{name}={shorten(repr(value), 60)} is not a function.")
        check_hook(value, name)
        if not any(fits(value, count) for count in ways):
            shown = getattr(value, "__qualname__", None) or shorten(repr(value), 60)
            calls = " or ".join(f"{name}({', '.join(takes[:count])})" for count in sorted(ways))
            raise InvalidTask(
                f"{name}={shown} cannot be called as it will be, {calls}: its parameters do not "
                "fit."
            )
        return value

    return check


def _text(name: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise InvalidTask(f"{name}={shorten(repr(value), 60)} is not text.")
        return value

    return check


def _flag(name: str) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise InvalidTask(f"{name}={shorten(repr(value), 60)} is neither True nor False.")
        return value

    return check


def _zone(value: Any) -> Any:
    time_zone(value)
    return value


def _parents(value: Any) -> list[Any]:
    """Return what to wait for: tasks, ids and ``(queue_name, id)``, each once."""
    one = isinstance(value, str) or hasattr(value, "task_id")
    if not one and not isinstance(value, Iterable):
        raise InvalidTask(f"depends_on={shorten(repr(value), 60)} is no task and no id of one.")
    parents = [value] if one else list(value)
    for each in parents:
        pair = isinstance(each, tuple) and [type(part) for part in each] == [str, str]
        if not (pair or isinstance(each, str) or hasattr(each, "task_id")):
            raise InvalidTask(
                f"depends_on: {shorten(repr(each), 60)} is no task, no id of one, and no "
                "(queue_name, id)."
            )
    return list({_identity(each): each for each in parents}.values())


def _identity(parent: Any) -> Any:
    return parent if isinstance(parent, str | tuple) else id(parent)


#: Every option, with what checks and normalizes its value.
CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "task_id": _task_id,
    "retries": _whole("retries", 0, MOST_RETRIES),
    "retry_delay": _seconds("retry_delay"),
    "retry_backoff": _backoff,
    "retry_max_delay": _seconds("retry_max_delay"),
    "is_async": truth,
    "on_start": _hook("on_start", "task"),
    "on_success": _hook("on_success", "task", "result"),
    "on_error": _hook("on_error", "task", "err"),
    "depends_on": _parents,
    "delay_by": _seconds("delay_by"),
    "delay_until": timestamp,
    "priority": _whole("priority", MIN_PRIORITY, MAX_PRIORITY),
    "timeout": _positive("timeout"),
    "hook_timeout": _positive("hook_timeout"),
    "expires": _positive("expires"),
    "queue_name": _text("queue_name"),
    "save_results": _seconds("save_results", ", for which the result is to be kept"),
}

#: The same for those of a schedule, which ``every`` and ``cron`` take beside the others.
SCHEDULE_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "tz": _zone,
    "catch_up": _flag("catch_up"),
    "overlap": _flag("overlap"),
}

#: None stands for "not set" here, as in the signature of Task.
_NONE_IS_UNSET = frozenset(
    {
        "task_id",
        "depends_on",
        "delay_by",
        "delay_until",
        "retry_max_delay",
        "timeout",
        "hook_timeout",
        "expires",
        "queue_name",
        "save_results",
        *SCHEDULE_CHECKS,
    }
)


def check_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options under their proper names, checked and normalized.

    :raises TypeError: an unknown option, or one given under two spellings.
    :raises MultipleDelayError: ``delay_by`` and ``delay_until`` together.
    :raises InvalidTask: a value that an option cannot have, or an option of a schedule.
    """
    options: dict[str, Any] = {}
    for spelled, value in given.items():
        name = ALIASES.get(spelled, spelled)
        if name in options:
            raise TypeError(f"Option {name!r} is given twice, once as {spelled!r}.")
        if value is None and name in _NONE_IS_UNSET:
            continue
        if name in SCHEDULE_CHECKS:
            raise _only_for_schedules([name])
        if name not in CHECKS:
            close = difflib.get_close_matches(name, [*CHECKS, *ALIASES, *SCHEDULE_CHECKS], 1)
            hint = f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(CHECKS)}."
            raise TypeError(f"Unknown option {spelled!r}.{hint}")
        options[name] = CHECKS[name](value)
    if "delay_by" in options and "delay_until" in options:
        raise MultipleDelayError("Give either delay_by or delay_until, not both.")
    return options


def check_schedule_options(given: dict[str, Any]) -> dict[str, Any]:
    """Take the options of a schedule out of ``given``, and return them, checked.

    :raises InvalidTask: a value that an option cannot have.
    """
    found = {name: given.pop(name) for name in SCHEDULE_CHECKS if name in given}
    return {name: SCHEDULE_CHECKS[name](each) for name, each in found.items() if each is not None}


def _only_for_schedules(names: Iterable[str]) -> InvalidTask:
    return InvalidTask(
        f"{', '.join(f'{name}=' for name in names)} is for schedules, opts.every(…) and "
        "opts.cron(…), and for nothing else; leave it out here."
    )


class Options:
    """Options for many tasks: ``with gator.options(retries=3) as opts: opts.task(f, 1)``.

    It may be used again and again, inside ``with`` or without, and called directly:
    ``opts(f, 1)`` is ``opts.task(f, 1)``.

    :raises TypeError, InvalidTask, MultipleDelayError, UnsupportedOption: at once, for
        options that are not right; see :func:`check_options`.
    """

    def __init__(self, gator: "Gator", **options: Any) -> None:
        self.gator = gator
        self.schedule_kwargs = check_schedule_options(options)
        self.task_kwargs = check_options(options)
        self._mold: Mold | None = None
        if "queue_name" in self.task_kwargs:
            gator.client.check_queue_name(self.task_kwargs["queue_name"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    @overload
    def task(self, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> "Task": ...

    @overload
    def task(self, func: str, /, *args: Any, **kwargs: Any) -> "Task": ...

    def task(self, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> "Task":
        """Push a task with these options; see :meth:`alligator.Gator.task`."""
        return self._push(self._make_task({}), func, args, kwargs)

    @overload
    def __call__(
        self, func: Callable[..., Any] | str, /, *args: Any, timeout: Seconds | None, **kwargs: Any
    ) -> "Task": ...

    @overload
    def __call__(self, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> "Task": ...

    @overload
    def __call__(self, func: str, /, *args: Any, **kwargs: Any) -> "Task": ...

    def __call__(self, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> "Task":
        """Push a task, as :meth:`task` does.

        ``timeout=`` is an option here, unless the function has a parameter of that name.
        """
        extra = {}
        if "timeout" in kwargs and not _takes_timeout(func):
            extra = check_options({"timeout": kwargs.pop("timeout")})
        return self._push(self._make_task(extra), func, args, kwargs)

    @overload
    def every(
        self, seconds: Seconds, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> "Schedule": ...

    @overload
    def every(self, seconds: Seconds, func: str, /, *args: Any, **kwargs: Any) -> "Schedule": ...

    def every(
        self, seconds: Seconds, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> "Schedule":
        """Schedule a task with these options; see :meth:`alligator.Gator.every`."""
        return self._declare(
            Every(seconds.total_seconds() if isinstance(seconds, timedelta) else seconds),
            func,
            args,
            kwargs,
        )

    @overload
    def cron(
        self, expression: str, func: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> "Schedule": ...

    @overload
    def cron(self, expression: str, func: str, /, *args: Any, **kwargs: Any) -> "Schedule": ...

    def cron(
        self, expression: str, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any
    ) -> "Schedule":
        """Schedule a task with these options; see :meth:`alligator.Gator.cron`."""
        rule = Cron(expression, self.schedule_kwargs.get("tz"))
        return self._declare(rule, func, args, kwargs)

    def _declare(self, rule: Rule, func: Any, args: Any, kwargs: Any) -> "Schedule":
        own = {name: each for name, each in self.schedule_kwargs.items() if name != "tz"}
        return self.gator.schedules.add(rule, func, args, kwargs, self.task_kwargs, **own)

    def _make_task(self, extra: dict[str, Any]) -> "Task":
        if self.schedule_kwargs:
            raise _only_for_schedules(self.schedule_kwargs)
        if extra:
            return self.gator.mold({**self.task_kwargs, **extra}).cast()
        if self._mold is None or self._mold.task_class is not self.gator.task_class:
            self._mold = self.gator.mold(self.task_kwargs)
        return self._mold.cast()

    def _push(self, task: "Task", func: Callable[..., Any] | str, args: Any, kwargs: Any) -> "Task":
        return self.gator.push(task, func, *args, **kwargs)


class Batch(Options):
    """Options whose tasks go to the backend together, when the ``with`` block ends well.

    An exception inside the block pushes nothing. Tasks get their final id at the end on
    backends that give ids of their own. With ``is_async=False`` they run at the end.
    """

    def __init__(self, gator: "Gator", **options: Any) -> None:
        super().__init__(gator, **check_options(options))
        self._tasks: list[Task] | None = None

    def __enter__(self) -> Self:
        if self._tasks is not None:
            raise RuntimeError("This batch is open already; make another with gator.batch().")
        self._tasks = []
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        tasks, self._tasks = self._tasks or [], None
        if kind is None:
            self.gator.push_batch(tasks)

    def _push(self, task: "Task", func: Callable[..., Any] | str, args: Any, kwargs: Any) -> "Task":
        if self._tasks is None:
            raise RuntimeError("Use a batch as 'with gator.batch() as batch: batch.task(...)'.")
        self.gator.prepare(task, func, args, kwargs)
        self._tasks.append(task)
        return task

    def _declare(self, rule: Rule, func: Any, args: Any, kwargs: Any) -> "Schedule":
        raise InvalidTask("A batch pushes tasks; declare schedules with gator.options(…).")


def _takes_timeout(func: Callable[..., Any] | str) -> bool:
    if isinstance(func, str):
        return False
    try:
        parameters = inspect.signature(func).parameters
    except (TypeError, ValueError):
        return False
    return "timeout" in parameters or any(
        each.kind is each.VAR_KEYWORD for each in parameters.values()
    )
