"""Check the options of a task: their names, and what each may be."""

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from datetime import time as day_time
from typing import Any

from alligator.backends.base import MAX_PRIORITY, MIN_PRIORITY
from alligator.common.clock import in_seconds
from alligator.common.text import shorten
from alligator.exceptions import InvalidTask, MultipleDelayError
from alligator.tasks.exception_names import exception_name
from alligator.tasks.functions import check_hook, fits, refuse_coroutine, signature_of
from alligator.tasks.limits import MOST, rate_of

#: Other spellings: in 0.x, and in the first README.
ALIASES = {"async": "is_async", "run_after": "delay_by"}

#: The largest number of retries that a user may set.
MOST_RETRIES = 1_000_000

#: The most headers of a task, and the most bytes of all their names and texts.
MOST_HEADERS, HEADERS_BYTES = 32, 8192

#: The most exceptions that ``retry_on``, or ``give_up_on``, may name.
MOST_EXCEPTIONS = 100

#: Options that are about one task, and so cannot be those of all.
_OF_ONE_TASK = frozenset({"task_id", "delay_until", "depends_on"})

_FALSE = frozenset({"false", "0", "no", "off", ""})
_TRUE = frozenset({"true", "1", "yes", "on"})


def truth(value: Any) -> bool:
    """Return ``is_async`` as a bool; text, as from an environment variable, is understood.

    :raises InvalidTask: text that means neither true nor false.
    """
    if not isinstance(value, str):
        return bool(value)
    text = value.strip().lower()
    if text in _FALSE or text in _TRUE:
        return text in _TRUE
    allowed = ", ".join(sorted(_TRUE | _FALSE - {""}))
    raise _invalid("is_async", value, f"is neither true nor false; it may be {allowed}")


def _invalid(name: str, value: Any, why: str) -> InvalidTask:
    return InvalidTask(f"{name}={shorten(repr(value), 60)} {why}.")


def timestamp(value: Any) -> float:
    """Return a ``delay_until`` as a Unix timestamp in seconds.

    A number is a timestamp. An aware datetime is exact; a naive one is local time, as for
    Python's ``datetime.timestamp``. A date is its midnight, local time.

    :raises InvalidTask: anything else, NaN and infinity included.
    """
    try:
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, date):
            return datetime.combine(value, day_time()).timestamp()
    except (ValueError, OverflowError, OSError) as err:
        raise _invalid("delay_until", value, "is outside the times of this system") from err
    return _number("delay_until", value, "a Unix timestamp, a datetime or a date")


def _number(name: str, value: Any, kind: str = "a finite number") -> float:
    number = math.nan if isinstance(value, timedelta) else in_seconds(value)
    if not math.isfinite(number):
        raise _invalid(name, value, f"is not {kind}")
    return number


def seconds_of(name: str, value: Any, low: float = 0.0, hint: str = "") -> float:
    """Return a duration in seconds, given as a number of seconds or a timedelta.

    :raises InvalidTask: it is neither, below ``low``, or infinite.
    """
    number = in_seconds(value)
    if not low <= number < math.inf:
        above = "above 0" if low == _TINY else f"from {low:g} up"
        why = f"is neither a number of seconds {above} nor such a timedelta{hint}"
        raise _invalid(name, value, why)
    return number


#: The least above 0.
_TINY = math.nextafter(0.0, 1.0)


def _seconds(name: str, hint: str = "") -> Callable[[Any], float]:
    return lambda value: seconds_of(name, value, hint=hint)


def _positive(name: str) -> Callable[[Any], float]:
    return lambda value: seconds_of(name, value, _TINY)


def moment(name: str) -> Callable[[Any], float]:
    """Return a check of a Unix timestamp in a message."""
    return lambda value: _number(name, value)


def _whole(name: str, low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _invalid(name, value, f"is not a whole number from {low} to {high}")
        return value

    return check


def _backoff(value: Any) -> float:
    number = _number("retry_backoff", value)
    if number < 1:
        raise _invalid("retry_backoff", value, "is below 1; 2 doubles the delay each time")
    return number


def _task_id(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 200 or not value.isprintable():
        raise _invalid("task_id", value, "is not 1 to 200 printable characters")
    return value


def _hook(name: str, *takes: str) -> Callable[[Any], Any]:
    """Return a check of a hook.

    :param takes: its arguments; a hook takes all of them, or the first alone.
    """
    ways = {1, len(takes)}

    def check(value: Any) -> Any:
        if value is None:
            return None
        refuse_coroutine(value)
        if not callable(value):
            raise _invalid(name, value, "is not a function")
        check_hook(value, name)
        if not any(fits(value, count) for count in ways):
            shown = getattr(value, "__qualname__", None) or shorten(repr(value), 60)
            calls = " or ".join(f"{name}({', '.join(takes[:count])})" for count in sorted(ways))
            raise InvalidTask(
                f"{name}={shown} cannot be called as {calls}: its parameters do not fit."
            )
        return value

    return check


def _key(name: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not 1 <= len(value) <= 200 or not value.isprintable():
            raise _invalid(name, value, "is not 1 to 200 printable characters")
        return value

    return check


def _text(name: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise _invalid(name, value, "is not text")
        return value

    return check


def _headers(value: Any) -> dict[str, str]:
    """Return a copy of headers. The errors show no value, which may be a secret."""
    if not isinstance(value, Mapping):
        raise InvalidTask(f"headers= is a {type(value).__name__}, not a dictionary of text.")
    if len(value) > MOST_HEADERS:
        raise InvalidTask(f"headers= has {len(value)} entries; at most {MOST_HEADERS} are kept.")
    size = 0
    for name, text in value.items():
        if not isinstance(name, str) or not name or not name.isprintable():
            raise InvalidTask(
                f"headers= has the name {shorten(repr(name), 60)}; a name is printable text."
            )
        if not isinstance(text, str) or not text.isprintable():
            what = "unprintable text" if isinstance(text, str) else f"a {type(text).__name__}"
            raise InvalidTask(
                f"Header {shorten(name, 60)!r} is {what}; headers are printable text, on one line."
            )
        size += len(name.encode()) + len(text.encode())
    if size > HEADERS_BYTES:
        raise InvalidTask(
            f"headers= have {size} bytes; names and texts may have {HEADERS_BYTES} in all."
        )
    return dict(value)


def _exceptions(option: str) -> Callable[[Any], list[str]]:
    def check(value: Any) -> list[str]:
        if isinstance(value, str | type) or not isinstance(value, Iterable):
            value = [value]
        names = list(dict.fromkeys(exception_name(option, each) for each in value))
        if not 1 <= len(names) <= MOST_EXCEPTIONS:
            raise InvalidTask(
                f"{option}= names {len(names)} exceptions; it takes 1 to {MOST_EXCEPTIONS}."
            )
        return names

    return check


def _unique(value: Any) -> str | bool:
    """Return ``unique``: False, True (function and arguments), or a key."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or not 1 <= len(value) <= 200 or not value.isprintable():
        why = "is neither True (the function and its arguments) nor a key of 1 to 200 printable"
        raise _invalid("unique", value, f"{why} characters")
    return value


def _unique_until(value: Any) -> str:
    if not isinstance(value, str) or value not in ("end", "start"):
        raise _invalid("unique_until", value, "is neither 'end' nor 'start'")
    return value


def _check_together(options: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse options that say nothing, or contradict each other.

    :param given: those of them that are no defaults.
    """
    unique, debounce = options.get("unique"), options.get("debounce")
    if debounce is None:
        if "debounce_max" in given:
            raise InvalidTask(
                f"debounce_max={options['debounce_max']:g} is the most that debounce= may delay a "
                "task; give debounce=seconds as well."
            )
        if "unique_until" in given and not unique:
            raise InvalidTask(
                f"unique_until={options['unique_until']!r} says how long unique= holds; give "
                "unique=True or unique='key' as well."
            )
        return
    if options.get("debounce_max", debounce) < debounce:
        raise InvalidTask(
            f"debounce_max={options['debounce_max']:g} is below debounce={debounce:g}; it is the "
            "most that all pushes together delay the task, so give as many seconds or more."
        )
    if unique is False:
        raise InvalidTask(
            "debounce= and unique=False do not go together; leave unique= out, or give a key."
        )
    if options.get("unique_until") == "end":
        raise InvalidTask(
            "debounce= and unique_until='end' do not go together: a push after the start makes a "
            "new task; leave unique_until= out."
        )
    if options.get("depends_on"):
        raise InvalidTask(
            "debounce= and depends_on= do not go together: a task that waits for others starts "
            "when they have ended; use unique= instead."
        )


def _on_commit(value: Any) -> bool | str:
    if not isinstance(value, bool | str) or value == "":
        raise _invalid("on_commit", value, "is not True, False, or the alias of a database")
    return value


def _parents(value: Any) -> list[Any]:
    """Return the entries of ``depends_on``: tasks, ids and ``(queue_name, id)``, each once."""
    one = isinstance(value, str) or hasattr(value, "task_id")
    if not one and not isinstance(value, Iterable):
        raise _invalid("depends_on", value, "is no task and no id of one")
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


#: The check of each option, which returns the normalized value.
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
    "headers": _headers,
    "retry_on": _exceptions("retry_on"),
    "give_up_on": _exceptions("give_up_on"),
    "unique": _unique,
    "unique_until": _unique_until,
    "debounce": _positive("debounce"),
    "debounce_max": _positive("debounce_max"),
    "limit": _whole("limit", 1, MOST),
    "limit_key": _key("limit_key"),
    "rate": rate_of,
    "rate_key": _key("rate_key"),
    "history": _seconds("history", ", for which the history is to be kept"),
    "on_commit": _on_commit,
}

#: Options of a schedule, which ``every`` and ``cron`` take as well.
SCHEDULE_OPTIONS = frozenset({"tz", "catch_up", "overlap"})

#: For these, None means "not set", as in the signature of Task.
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
        "headers",
        "retry_on",
        "give_up_on",
        "unique",
        "unique_until",
        "debounce",
        "debounce_max",
        "limit",
        "limit_key",
        "rate",
        "rate_key",
        "history",
        "on_commit",
        *SCHEDULE_OPTIONS,
    }
)


#: Options of which one needs, or excludes, another.
_TOGETHER = frozenset({"unique_until", "debounce", "debounce_max"})


def check_options(
    given: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Check options, and return them normalized under their proper names.

    :param defaults: checked options, which the given ones override. A None that means "not set"
        removes a default.
    :raises TypeError: an unknown option, or one given under two spellings.
    :raises MultipleDelayError: ``delay_by`` and ``delay_until`` together.
    :raises InvalidTask: an option cannot have this value, or is for schedules; or ``retry_on``
        without ``retries``.
    """
    options: dict[str, Any] = {}
    unset = set()
    for spelled, value in given.items():
        name = ALIASES.get(spelled, spelled)
        if name in options:
            raise TypeError(f"Option {name!r} is given twice, once as {spelled!r}.")
        if value is None and name in _NONE_IS_UNSET:
            unset.add(name)
            continue
        if name in SCHEDULE_OPTIONS:
            raise only_for_schedules([name])
        if name not in CHECKS:
            known = [*CHECKS, *ALIASES, *SCHEDULE_OPTIONS]
            # The nearest name to 'retry' is retry_on; most mean how often.
            close = difflib.get_close_matches("retries" if name == "retry" else name, known, 1)
            hint = f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(CHECKS)}."
            raise TypeError(f"Unknown option {spelled!r}.{hint}")
        options[name] = CHECKS[name](value)
    if "delay_by" in options and "delay_until" in options:
        raise MultipleDelayError("Give either delay_by or delay_until, not both.")
    only_given = options
    if defaults:
        unset |= {"delay_by"} if "delay_until" in options else set()
        options = {name: each for name, each in defaults.items() if name not in unset} | options
    if "retry_on" in only_given and not options.get("retries"):
        raise InvalidTask("retry_on= changes nothing without retries: give retries=1, or more.")
    if not _TOGETHER.isdisjoint(options):
        _check_together(options, only_given)
    for key, needs in (("limit_key", "limit"), ("rate_key", "rate")):
        if key in only_given and needs not in options:
            raise InvalidTask(f"{key}= changes nothing without {needs}=: give both.")
    return options


def check_defaults(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Check the options of all tasks of a Gator, and return them as :func:`check_options` does.

    :raises TypeError, MultipleDelayError: as that does.
    :raises InvalidTask: as that does; or an option is about one task.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise InvalidTask(f"options= is a {type(given).__name__}, not a dictionary of options.")
    options = check_options(given)
    for name in sorted(_OF_ONE_TASK & options.keys()):
        raise InvalidTask(f"{name}= is about one task, and cannot be an option of all.")
    return options


def options_meant(func: Callable[..., Any], names: Iterable[str]) -> str:
    """Return what to write instead, where options are among arguments that a function refuses.

    :param names: the keyword arguments of the call.
    :returns: '': none of them is an option which the function itself does not take.
    """
    signature = signature_of(func)
    taken = () if signature is None else signature.parameters
    options = [each for each in names if each not in taken]
    options = [each for each in options if each in CHECKS or each in ALIASES]
    if not options:
        return ""
    called = "is an option" if len(options) == 1 else "are options"
    given = ", ".join(f"{each}=…" for each in options)
    name = getattr(func, "__qualname__", "f")
    return f"{' and '.join(options)} {called}: gator.options({given}).task({name}, …)."


def only_for_schedules(names: Iterable[str]) -> InvalidTask:
    """Return the error for a task that was given options of a schedule."""
    return InvalidTask(
        f"{', '.join(f'{name}=' for name in names)} is for schedules, opts.every(…) and "
        "opts.cron(…), and for nothing else; leave it out here."
    )
