"""The fields of a message, read as strictly as its JSON."""

from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Any

from alligator.backends.base import Data
from alligator.common import strict_json
from alligator.common.importing import import_guard
from alligator.common.text import describe_error, shorten
from alligator.exceptions import BadPayload, InvalidTask
from alligator.security.signing import body_of
from alligator.tasks.functions import import_callable, split_name


class Fields:
    """A JSON object from a queue, read field by field."""

    __slots__ = ("fields",)

    def __init__(self, fields: Any) -> None:
        if type(fields) is not dict and not isinstance(fields, Mapping):
            raise BadPayload(f"The message is a JSON {type(fields).__name__}, not an object.")
        self.fields = fields

    def read(self, name: str, kind: type | UnionType, *default: Any) -> Any:
        """Return a field of that type, or the default where it is absent or null."""
        value = self.fields.get(name)
        if type(value) is kind:  # as nearly always
            return value
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

    def function(self, *, plain: bool = False) -> Callable[..., Any]:
        """Import the function that ``module`` and ``callable`` name."""
        return function(self.read("module", str), self.read("callable", str), plain=plain)


def function(module: str, name: str, *, plain: bool = False) -> Callable[..., Any]:
    """Import the function that a message names; one that has passed is not looked at again."""
    guard, key = import_guard.get(), (module, name, plain)
    if guard is not None and (known := guard.recall(key)) is not None:
        return known  # type: ignore[no-any-return]
    try:
        split_name(f"{module}:{name}")
    except InvalidTask as err:
        raise BadPayload(describe_error(err)) from err
    found = import_callable(module, name, plain=plain)
    if guard is not None:
        guard.remember(key, found)
    return found


def fields_of(data: Data) -> dict[str, Any]:
    """Return the fields of a message, unchecked; none where it is no JSON object."""
    try:
        fields = strict_json.loads(body_of(data))
    except BadPayload:
        return {}
    return fields if isinstance(fields, dict) else {}


def fields_in(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an object within the fields of a message; none: an empty one."""
    inner = fields.get(name)
    return inner if isinstance(inner, dict) else {}


def is_known_later(data: Data) -> bool:
    """Whether the task of a message tells a store of its end."""
    options = fields_in(fields_of(data), "options")
    return bool(options.get("save_results") or options.get("note_end"))
