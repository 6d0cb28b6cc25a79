"""Show the arguments of tasks: bounded, secrets masked, and without a call of the user's code.

Only values of the types that JSON has are shown, so no ``__repr__`` of the user runs, and the work
depends on what is shown, not on how large the arguments are.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FunctionType, MethodType
from typing import Any

from alligator.common.text import escape
from alligator.exceptions import LeaveNow

#: Characters of the positional arguments that are shown, and of the named ones.
LONGEST = 200

#: Characters of a result that are shown.
LONGEST_RESULT = 1000

#: What is shown for a secret.
MASK = "***"

#: What is shown for arguments that ``Gator(show_arguments=…)`` hides.
NOT_SHOWN = "(hidden)"

_CANNOT = "(cannot be shown)"

_DEEPEST = 6
_LONGEST_NAME = 200
_LARGEST_BITS = 512  # of an int that is shown in full

#: Names that hold one of these words, or have one of these parts, are those of secrets.
_SECRET_WORDS = frozenset(
    [
        "apikey",
        "auth",
        "authentication",
        "authorization",
        "bearer",
        "cookie",
        "cookies",
        "credential",
        "credentials",
        "cvc",
        "cvv",
        "jwt",
        "key",
        "keys",
        "otp",
        "passcode",
        "passphrase",
        "passwd",
        "password",
        "passwords",
        "pin",
        "pwd",
        "secret",
        "secrets",
        "sessionid",
        "signature",
        "ssn",
        "token",
        "tokens",
    ]
)
_SECRET_PARTS = re.compile(
    "passw|passphrase|secret|token|credential|apikey|authoriz|(access|private)key"
)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

#: The password in a URL, such as a DSN.
_IN_URL = re.compile(r"(://[^/?#\s:@]*:)[^/?#\s]*@")

Show = Callable[[Any], str]


def is_secret(name: str) -> bool:
    """Return whether values under a name are masked: password, apiKey, auth_token and the like."""
    name = name[:_LONGEST_NAME]
    if _SECRET_PARTS.search(name.lower()):
        return True
    return not _SECRET_WORDS.isdisjoint(each.lower() for each in _WORDS.findall(name))


def parameter_names(func: Any) -> tuple[str, ...]:
    """Return the names of a function's positional parameters; () if they are not known for sure.

    It reads the code object alone. A decorated function is known by ``functools.wraps``.
    """
    skip = 0
    for _ in range(10):
        if type(func) is MethodType:
            func, skip = func.__func__, 1
        if type(func) is not FunctionType:
            return ()
        inner = func.__dict__.get("__wrapped__")
        if inner is None:
            code = func.__code__
            return tuple(code.co_varnames[skip : code.co_argcount])
        func = inner
    return ()


def show_call(
    args: Any, kwargs: Any, names: Sequence[str] = (), limit: int = LONGEST
) -> tuple[str, str]:
    """Return positional and named arguments as Python would write them, bounded and masked.

    ::

        show_call([1, 'x'], {'password': 'y'})  # ("1, 'x'", "password='***'")

    :param names: those of the positional parameters, as far as they are known.
    :param limit: characters of each of the two.
    """
    return (
        _shown(lambda text: text.items(_masked(args, names)), limit),
        _shown(lambda text: text.named(kwargs), limit),
    )


def show_task(task: Any, show: Show | bool | None, names: Sequence[str] = ()) -> tuple[str, str]:
    """Return the arguments of a task as two texts, as ``Gator(show_arguments=…)`` wants it.

    :param show: what was given there: a function of the task that returns a text; False: nothing
        is shown.
    """
    if show is False:
        return NOT_SHOWN, NOT_SHOWN
    if callable(show):
        try:
            shown = show(task)
            text = shown if isinstance(shown, str) else _CANNOT
        except LeaveNow:
            raise
        except BaseException:  # it is a courtesy: no error of it may change what happens to a task
            text = _CANNOT
        return _cut(escape(text[: LONGEST + 1]), LONGEST), ""
    args, kwargs = getattr(task, "func_args", ()), getattr(task, "func_kwargs", {})
    return show_call(args, kwargs, names)


def joined(args: str, kwargs: str) -> str:
    """Return both texts of a call as one."""
    return args if args == kwargs else ", ".join(each for each in (args, kwargs) if each)


def as_json(value: Any, limit: int = LONGEST_RESULT) -> str:
    """Return a value as JSON text, bounded and masked; for people, since it may be cut."""
    return _shown(lambda text: text.value(value, 0), limit, is_json=True)


def masked(value: Any, depth: int = 0) -> Any:
    """Return a JSON value with ``'***'`` for each secret in it, however long."""
    if isinstance(value, str):
        return _IN_URL.sub(rf"\1{MASK}@", value) if "://" in value else value
    if depth > _DEEPEST and isinstance(value, list | tuple | dict):
        return MASK
    if isinstance(value, list | tuple):
        return [masked(each, depth + 1) for each in value]
    if isinstance(value, dict):
        return {
            name: MASK if is_secret(str(name)) else masked(each, depth + 1)
            for name, each in value.items()
        }
    return value


def _masked(args: Any, names: Sequence[str]) -> Iterable[Any]:
    for index, each in enumerate(args):
        yield _Masked if index < len(names) and is_secret(names[index]) else each


def _shown(write: Callable[["_Text"], None], limit: int, *, is_json: bool = False) -> str:
    text = _Text(limit, is_json=is_json)
    try:
        write(text)
    except _FullError:
        pass
    except Exception:  # such as a dictionary that another thread changes meanwhile
        return _CANNOT
    return _cut("".join(text.parts), limit)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


class _FullError(Exception):
    """There is no room for more."""


class _Masked:
    """Stands for a secret."""


class _Text:
    """A text that takes so many characters, and then raises."""

    def __init__(self, limit: int, *, is_json: bool) -> None:
        self.parts: list[str] = []
        self.left = limit
        self.is_json = is_json

    def add(self, text: str) -> None:
        self.parts.append(text)
        self.left -= len(text)
        if self.left < 0:
            raise _FullError

    def value(self, value: Any, depth: int) -> None:
        kind = type(value)
        if kind is str:
            self.add(self.quoted(value))
        elif value is _Masked:
            self.add(self.quoted(MASK))
        elif value is None or kind is bool:
            self.add(json.dumps(value) if self.is_json else repr(value))
        elif kind is int:
            bits = value.bit_length()
            self.add(repr(value) if bits <= _LARGEST_BITS else f"<int of {bits} bits>")
        elif kind is float:
            self.add(repr(value))
        elif kind in (list, tuple, dict) and depth >= _DEEPEST:
            self.add("…")
        elif kind is dict:
            self.add("{")
            self.pairs(value, depth)
            self.add("}")
        elif kind is list or kind is tuple:
            as_tuple = kind is tuple and not self.is_json
            self.add("(" if as_tuple else "[")
            self.items(value, depth + 1)
            self.add(")" if as_tuple else "]")
        else:
            self.add(f"<{kind.__name__[:_LONGEST_NAME]}>")

    def items(self, values: Iterable[Any], depth: int = 1) -> None:
        for index, each in enumerate(values):
            if index:
                self.add(", ")
            self.value(each, depth)

    def pairs(self, values: Mapping[Any, Any], depth: int) -> None:
        for index, (name, each) in enumerate(values.items()):
            if index:
                self.add(", ")
            self.value(name, depth + 1)
            self.add(": ")
            secret = type(name) is str and is_secret(name)
            self.value(_Masked if secret else each, depth + 1)

    def named(self, values: Mapping[Any, Any]) -> None:
        for index, (name, each) in enumerate(values.items()):
            if index:
                self.add(", ")
            name = str(name)[:_LONGEST_NAME]
            self.add(f"{escape(name)}=")
            self.value(_Masked if is_secret(name) else each, 1)

    def quoted(self, value: str) -> str:
        # A password of a URL may be cut by the limit: so look at some more, and cut after it.
        part = value[: self.left + 500]
        if "://" in part:
            part = _IN_URL.sub(rf"\1{MASK}@", part)
            at = part.rfind("://")
            if len(value) > self.left + 500 and "@" not in part[at:]:
                part = part[: at + 3]
        part = part[: self.left + 1]
        return escape(json.dumps(part, ensure_ascii=False)) if self.is_json else repr(part)
