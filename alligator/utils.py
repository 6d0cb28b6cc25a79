"""Names of functions, and functions from names."""

import importlib
import math
import os
import threading
import time
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from types import ModuleType
from typing import Any, Protocol

from alligator.exceptions import (
    ImportFailed,
    LeaveNow,
    UnknownCallableError,
    UnknownModuleError,
)

#: Characters of a module and a function in it; longer names are not looked for.
LONGEST_NAME = 500


class ImportGuard(Protocol):
    """Whoever has a say in what may be imported while a message is read."""

    def stand_in(self, module: str, name: str) -> Any:
        """Return what to hand out in place of an attribute; None: it is to be imported."""

    def before_module(self, module: str) -> None:
        """Raise unless that module may be imported."""

    def before_import(self, module: str, name: str) -> None:
        """Raise unless that attribute may be imported."""

    def on_the_way(self, module: str, name: str, owner: Any) -> None:
        """Raise unless that object may stand between a module and its attribute."""

    def after_import(self, module: str, name: str, found: Any) -> None:
        """Raise unless that object may be handed out."""

    def remember(self, key: tuple[str, str, bool], found: Any) -> None:
        """Take note of what a module, a name and whether it is to be plain have led to."""

    def recall(self, key: tuple[str, str, bool]) -> Any:
        """Return what was remembered, while it still stands there; None: nothing does."""


#: Set while a message is read, so that no ``Task.deserialize`` gets around it.
import_guard: ContextVar[ImportGuard | None] = ContextVar("alligator_import_guard", default=None)


def determine_module(func: Callable[..., Any]) -> str:
    """Return the dotted path of the module that a function comes from.

    ::

        >>> from random import choice
        >>> determine_module(choice)
        'random'
    """
    return func.__module__


def determine_name(func: Callable[..., Any]) -> str:
    """Return the bare name of a function (``'choice'`` for ``random.choice``)."""
    return func.__name__


def import_module(module_name: str) -> ModuleType:
    """Import a module by its dotted path and return it.

    :raises UnknownModuleError: there is no such module.
    :raises ImportFailed: there is, and importing it raised an error, which is chained. (It is
        an UnknownModuleError, too.)
    :raises NotAllowed: a message is being read, and nothing of that module may run.
    """
    if guard := import_guard.get():
        _check_length(module_name)
        guard.before_module(module_name)
    return _load(module_name)


def _check_length(name: str) -> None:
    # Importing takes time with the square of the parts of a name.
    if len(name) > LONGEST_NAME:
        message = f"{shorten(name)!r} is longer than the {LONGEST_NAME} characters of any name."
        raise UnknownCallableError(message)


def _load(module_name: str) -> ModuleType:
    token = import_guard.set(None)  # the module's own code is not the message's
    try:
        return importlib.import_module(module_name)
    except (LeaveNow, KeyboardInterrupt):
        raise
    except BaseException as err:
        # Anything may go wrong in the body of a module; to the caller it is a module
        # that cannot be used, for now or for good.
        kind = UnknownModuleError if _is_missing(module_name, err) else ImportFailed
        message = f"Module {shorten(module_name)!r} cannot be imported: "
        message += with_stop(describe_error(err))
        if kind is UnknownModuleError and not current_directory():
            message += f" {NO_DIRECTORY}"
        raise kind(message) from err
    finally:
        import_guard.reset(token)


def _is_missing(module_name: str, err: BaseException) -> bool:
    """Whether that module, or a package that it is in, is not there: not one that it imports."""
    missing = err.name if isinstance(err, ModuleNotFoundError) else None
    return bool(missing) and f"{module_name}.".startswith(f"{missing}.")


#: Said where code, or a file, may be missing for that reason.
NO_DIRECTORY = "The current directory was deleted; start it in one that exists."


def current_directory() -> str:
    """Return the path of the current directory; '': it was deleted, or cannot be reached."""
    try:
        return os.getcwd()  # noqa: PTH109 - as the interpreter writes it
    except OSError:
        return ""


def import_attr(module_name: str, attr_name: str) -> Any:
    """Import a module and return one of its attributes.

    :param attr_name: the attribute; dots reach into classes (``'Mailer.send'``).
    :raises UnknownModuleError: there is no such module.
    :raises ImportFailed: importing the module, or asking it for the attribute, raised an error.
    :raises UnknownCallableError: the module has no such attribute.
    :raises NotAllowed: a message is being read, and may not name it; see
        :mod:`alligator.security`.
    """
    guard = import_guard.get()
    if guard:
        _check_length(f"{module_name}.{attr_name}")
        if (stand_in := guard.stand_in(module_name, attr_name)) is not None:
            return stand_in
        guard.before_import(module_name, attr_name)
    found: Any = _load(module_name)
    for index, part in enumerate(attr_name.split(".")):
        if guard and index:
            guard.on_the_way(module_name, attr_name, found)
        try:
            found = getattr(found, part)
        except (LeaveNow, KeyboardInterrupt):
            raise
        except AttributeError as err:
            message = f"Module {shorten(module_name)!r} has no {shorten(attr_name)!r}."
            raise UnknownCallableError(message) from err
        except BaseException as err:  # a module may have a __getattr__, and that its own ideas
            asked = f"Module {shorten(module_name)!r}, asked for {shorten(attr_name)!r}, raised"
            raise ImportFailed(f"{asked} {with_stop(describe_error(err))}") from err
    if guard:
        guard.after_import(module_name, attr_name, found)
    return found


def describe_error(err: BaseException) -> str:
    """Return ``'ValueError: too much'`` on one line, cut to a length fit for a log."""
    name = type(err).__name__
    try:
        text = str(err)
        return shorten(f"{name}: {text}" if text else name, 500)
    except LeaveNow:
        raise
    except BaseException:  # a broken __str__ must not hide which error it was
        return f"{name}: (its text cannot be shown)"


def describe_traceback(err: BaseException) -> str:
    """Return the traceback of an error, with those of its causes, as Python prints it."""
    try:
        return "".join(traceback.format_exception(err))
    except LeaveNow:
        raise
    except BaseException:  # its text, notes or details may be anything
        frames = "".join(traceback.format_tb(err.__traceback__))
        return f"{frames}{type(err).__name__} (the rest cannot be shown)\n"


def shorten(text: str, limit: int = 120) -> str:
    """Return ``text`` free of control characters, and then cut to ``limit`` characters.

    For text that comes from a message and goes into a log line or an error.
    """
    shown = escape(text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def end_of(text: str, limit: int) -> str:
    """Return the last ``limit`` characters: the end of a traceback says most."""
    return text if len(text) <= limit else "…" + text[-limit:]


def escape(text: str) -> str:
    """Return ``text`` with control characters, and what else cannot be shown, written out."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


#: What every option in seconds may be given as.
Seconds = float | timedelta


def in_seconds(value: Any) -> float:
    """Return the seconds of a number or of a timedelta; NaN: it is neither."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    try:
        return math.nan if isinstance(value, bool | str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def with_stop(text: str) -> str:
    """Return text with a full stop behind it, unless it ends a sentence as it is."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


#: A random digit with the two bits before the rest that say which kind of UUID it is.
_VARIANT = {f"{digit:x}": f"{digit & 3 | 8:x}" for digit in range(16)}


class _TaskIds:
    """Ids that sort by creation: UUID version 7, RFC 9562 section 6.2, method 1 (counter)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0
        self._used = 0
        self._random = ""  # hexadecimal digits; one call of the system serves for many ids

    def next(self) -> str:
        # 48 bits of milliseconds and 12 of a counter, which spills into the next
        # millisecond when it runs over, so that order holds within one process.
        stamp = int(time.time() * 1000) << 12
        with self._lock:
            if stamp <= self._last:
                stamp = self._last + 1
            self._last = stamp
            if self._used == len(self._random):
                self._random, self._used = os.urandom(2048).hex(), 0
            start = self._used
            self._used = start + 16
            tail = self._random[start : start + 16]
        head = f"{stamp:015x}"
        variant = _VARIANT[tail[0]]
        return f"{head[:8]}-{head[8:12]}-7{head[12:]}-{variant}{tail[1:4]}-{tail[4:]}"


_task_ids = _TaskIds()
os.register_at_fork(after_in_child=_task_ids.__init__)  # type: ignore[misc]


def new_task_id() -> str:
    """Return a new task id: unique, random in its tail, and sorting by creation time."""
    return _task_ids.next()


class OwnId(str):
    """An id of the user's own that looks like one of Alligator's making."""

    __slots__ = ()


def is_own_id(task_id: str) -> bool:
    """Whether an id is the user's own, so that it may be pushed again, or to several queues.

    One of Alligator's making, a UUID of version 7, is pushed once.
    """
    made = task_id[14:15] == "7" and len(task_id) == 36 and task_id[8:24:5] == "----"
    return not made or type(task_id) is OwnId
