"""Read the setting ``ALLIGATOR``: what a project says of its Gators."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from alligator.backends.dsn import mask_password
from alligator.common.text import shorten
from alligator.constants import ALL
from alligator.exceptions import AlligatorException

#: The alias of a flat setting.
DEFAULT = "default"

_EXAMPLE = "ALLIGATOR = {'DSN': 'redis://localhost:6379/0'}"


class InvalidSettings(AlligatorException, ImproperlyConfigured):  # type: ignore[misc]
    """``settings.ALLIGATOR`` says what cannot be; or an alias is not among it.

    :ivar key: the key that is wrong, if one is.
    :ivar near: the known one that it resembles; else empty.
    """

    def __init__(self, message: str, key: str = "", near: str = "") -> None:
        super().__init__(message)
        self.key: str = key
        self.near: str = near


@dataclass(frozen=True)
class GatorSettings:
    """What the setting says of one Gator; dotted paths are not imported yet."""

    alias: str
    dsn: str
    queues: tuple[str, ...] = ()  # that workers serve; (): the Gator's queue alone
    queue: str = ALL
    options: Mapping[str, Any] = field(default_factory=dict)
    store: str | None = None
    allowed: Sequence[str] | None = None
    secret_keys: Sequence[str | bytes] | None = None
    middleware: Sequence[Any] = ()
    task_class: str | type | None = None
    backend_class: Any = None
    activity: bool = True
    show_arguments: Callable[..., str] | str | bool = True
    async_threads: int | None = None  # None: as many as a Gator has by default
    warn_in_loop: bool = True
    using: str = DEFAULT  # the alias of the database whose transaction ``on_commit`` waits for
    warn_in_transaction: bool | None = None  # None: while DEBUG is on

    @property
    def served(self) -> tuple[str, ...]:
        """The queues that a worker serves if its command line names none."""
        return self.queues or (self.queue,)


def parse(value: Any) -> dict[str, GatorSettings]:
    """Return what the setting ``ALLIGATOR`` says, by alias.

    ::

        parse({'DSN': 'locmem://'})['default'].dsn
        parse({'default': {'DSN': 'locmem://'}, 'mail': {'DSN': 'locmem://mail'}})

    :param value: the settings of one Gator, which is then ``'default'``; or those of each alias.
    :raises InvalidSettings: in one line: which key is wrong, and what to write instead.
    """
    if not isinstance(value, Mapping):
        raise InvalidSettings(f"ALLIGATOR is {_shown(value)}, not a dictionary; write {_EXAMPLE}.")
    if not value:
        raise InvalidSettings(f"ALLIGATOR is empty; write {_EXAMPLE}.")
    if _is_flat(value):
        return {DEFAULT: _one(DEFAULT, value, "ALLIGATOR")}
    found = {}
    for alias, one in value.items():
        if not isinstance(alias, str) or not alias.isidentifier():
            raise InvalidSettings(
                f"ALLIGATOR has the alias {_shown(alias)}; an alias is a name such as 'default'."
            )
        found[alias] = _one(alias, one, f"ALLIGATOR[{alias!r}]")
    return found


def _is_flat(value: Mapping[Any, Any]) -> bool:
    return any(key in _KEYS or not isinstance(one, Mapping) for key, one in value.items())


def _one(alias: str, value: Mapping[str, Any], where: str) -> GatorSettings:
    for key in value:
        if key not in _KEYS:
            raise _unknown(key, value[key], where)
    if "DSN" not in value:
        raise InvalidSettings(f"{where} has no 'DSN', such as {_EXAMPLE}.", "DSN")
    found: dict[str, Any] = {"alias": alias}
    for key, given in value.items():
        name, check = _KEYS[key]
        if check is not None:
            given = check(f"{where}[{key!r}]", key, given)
        if name:
            found[name] = given
    if "queue" not in found and found.get("queues"):
        found["queue"] = found["queues"][0]
    found["options"] = dict(found.get("options") or {})
    if "ON_COMMIT" in value and "on_commit" in found["options"]:
        raise InvalidSettings(f"{where} has both 'ON_COMMIT' and OPTIONS['on_commit']; give one.")
    if value.get("ON_COMMIT"):
        found["options"]["on_commit"] = value["ON_COMMIT"]
    return GatorSettings(**found)


def _unknown(key: Any, given: Any, where: str) -> InvalidSettings:
    near = get_close_matches(str(key).upper(), _KEYS, 1, 0.5)
    if isinstance(given, str) and "://" in given and where == "ALLIGATOR" and not near:
        hint = f"Write {{{key!r}: {{'DSN': …}}}} for an alias of that name."
    else:
        hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(_KEYS)}."
    return InvalidSettings(
        f"{where} has the unknown key {_shown(key)}. {hint}", str(key), near[0] if near else ""
    )


def _shown(value: Any) -> str:
    """Return a value as an error shows it: short, and without a password."""
    if isinstance(value, str):
        return shorten(repr(mask_password(value)), 60)
    is_plain = not value or isinstance(value, int | float)
    return repr(value) if is_plain else f"a {type(value).__name__}"


def _dsn(where: str, key: str, value: Any) -> str:
    if not isinstance(value, str) or "://" not in value:
        raise InvalidSettings(
            f"{where} is {_shown(value)}, and no DSN such as 'redis://localhost:6379/0'.", key
        )
    return value


def _optional_dsn(where: str, key: str, value: Any) -> str | None:
    return None if value is None else _dsn(where, key, value)


def _text(where: str, key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidSettings(f"{where} is {_shown(value)}, and not text.", key)
    return value


def _texts(where: str, key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise InvalidSettings(f"{where} is {_shown(value)}, and no list of text.", key)
    return tuple(value)


def _optional_texts(where: str, key: str, value: Any) -> tuple[str, ...] | None:
    return None if value is None else _texts(where, key, value)


def _keys(where: str, key: str, value: Any) -> list[str | bytes] | None:
    """Return secret keys; their error shows none of them."""
    if value is None:
        return None
    fits = isinstance(value, list | tuple) and all(isinstance(one, str | bytes) for one in value)
    if not fits or not value:
        raise InvalidSettings(f"{where} is no list of keys: [new, old].", key)
    return list(value)


def _list(where: str, key: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise InvalidSettings(
            f"{where} is {_shown(value)}, and no list of dotted paths, or of objects.", key
        )
    return tuple(value)


def _mapping(where: str, key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidSettings(f"{where} is {_shown(value)}, and no dictionary.", key)
    return value


def _flag(where: str, key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidSettings(f"{where} is {_shown(value)}, and neither True nor False.", key)
    return value


def _on_commit(where: str, key: str, value: Any) -> bool | str:
    if not isinstance(value, bool | str) or value == "":
        raise InvalidSettings(
            f"{where} is {_shown(value)}; it is True, False, or the alias of a database.", key
        )
    return value


def _path_or_object(where: str, key: str, value: Any) -> Any:
    if value is None or isinstance(value, bool) or callable(value):
        return value
    if not isinstance(value, str) or "." not in value:
        raise InvalidSettings(
            f"{where} is {_shown(value)}, and no dotted path such as 'myapp.alligator.Name'.", key
        )
    return value


#: Each key: the field that it sets, empty if it is read elsewhere, and its check.
_KEYS: dict[str, tuple[str, Callable[[str, str, Any], Any] | None]] = {
    "DSN": ("dsn", _dsn),
    "QUEUES": ("queues", _texts),
    "QUEUE": ("queue", _text),
    "OPTIONS": ("options", _mapping),
    "ON_COMMIT": ("", _on_commit),
    "USING": ("using", _text),
    "WARN_IN_TRANSACTION": ("warn_in_transaction", _flag),
    "STORE": ("store", _optional_dsn),
    "ALLOWED": ("allowed", _optional_texts),
    "SECRET_KEYS": ("secret_keys", _keys),
    "MIDDLEWARE": ("middleware", _list),
    "TASK_CLASS": ("task_class", _path_or_object),
    "BACKEND_CLASS": ("backend_class", _path_or_object),
    "ACTIVITY": ("activity", _flag),
    "SHOW_ARGUMENTS": ("show_arguments", _path_or_object),
    "ASYNC_THREADS": ("async_threads", None),
    "WARN_IN_LOOP": ("warn_in_loop", _flag),
}

#: The known keys, in the order in which they are documented.
KEYS = tuple(_KEYS)
