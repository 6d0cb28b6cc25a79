"""Name exception classes for a message, and tell whether an error is of one of these classes.

Nothing that a message names is imported.
"""

import builtins
import sys
from collections.abc import Collection
from typing import Any

from alligator.common.importing import LONGEST_NAME
from alligator.common.text import shorten
from alligator.exceptions import InvalidTask


def exception_name(option: str, given: Any) -> str:
    """Return ``'package.module.Name'`` of an exception class, or of such a name.

    :param option: the option that it is given for.
    :raises InvalidTask: it is neither.
    """
    if isinstance(given, type) and issubclass(given, BaseException):
        return _name_of(given)
    if not isinstance(given, str):
        raise InvalidTask(
            f"{option}={shorten(repr(given), 60)} is no exception class, and no name of one, "
            "'package.module.Name'."
        )
    name = given.replace(":", ".")
    found = getattr(builtins, name, None)
    if isinstance(found, type) and issubclass(found, BaseException):
        return _name_of(found)
    parts = name.split(".")
    named = all(part.isidentifier() or part == "<locals>" for part in parts)
    if len(name) > LONGEST_NAME or len(parts) < 2 or not named:
        raise InvalidTask(
            f"{option}={shorten(repr(given), 60)} is no name of an exception class: give "
            "'package.module.Name', or the class."
        )
    return name


def _name_of(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def is_named(error: BaseException, names: Collection[str]) -> bool:
    """Return whether the class of an error, or a class that it derives from, is named.

    ``'requests.Timeout'`` names ``requests.exceptions.Timeout``, too, once that is loaded.
    """
    kinds = type(error).__mro__
    if any(_name_of(kind) in names for kind in kinds):
        return True
    return any(_loaded(name) in kinds for name in names)


def _loaded(name: str) -> Any:
    """Return what a loaded module has by a dotted name; None: nothing. Run none of its code."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        found: Any = sys.modules.get(".".join(parts[:end]))
        if found is not None:
            for part in parts[end:]:
                found = getattr(found, "__dict__", {}).get(part)
            return found
    return None
