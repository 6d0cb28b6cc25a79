"""Import modules and their attributes by name, checked by a guard while a message is read."""

import importlib
import os
from collections.abc import Callable
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Protocol

from alligator.common.text import describe_error, shorten, with_stop
from alligator.exceptions import (
    ImportFailed,
    LeaveNow,
    UnknownCallableError,
    UnknownModuleError,
)

#: Characters of a module name with a function name; longer names are not imported.
LONGEST_NAME = 500


class ImportGuard(Protocol):
    """The checks of each import while a message is read."""

    def stand_in(self, module: str, name: str) -> Any:
        """Return a value to use instead of an attribute; None: import it."""

    def before_module(self, module: str) -> None:
        """Raise unless this module may be imported."""

    def before_import(self, module: str, name: str) -> None:
        """Raise unless this attribute may be imported."""

    def on_the_way(self, module: str, name: str, owner: Any) -> None:
        """Raise unless an attribute may be reached through this object."""

    def after_import(self, module: str, name: str, found: Any) -> None:
        """Raise unless this object may be returned."""

    def remember(self, key: tuple[str, str, bool], found: Any) -> None:
        """Remember the object of a key: module, name, and whether it must be a plain function."""

    def recall(self, key: tuple[str, str, bool]) -> Any:
        """Return the remembered object if its module still has it; else None."""


#: Set while a message is read, so that no ``Task.deserialize`` bypasses it.
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
    :raises ImportFailed: the import raised an error, which is chained. (It is an
        UnknownModuleError, too.)
    :raises NotAllowed: a message is being read, and no function of that module may run.
    """
    if guard := import_guard.get():
        _check_length(module_name)
        guard.before_module(module_name)
    return _load(module_name)


def _check_length(name: str) -> None:
    # The time of an import grows with the square of the number of parts of the name.
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
        # The body of a module may raise anything; to the caller the module cannot be used,
        # for now or for ever.
        kind = UnknownModuleError if _is_missing(module_name, err) else ImportFailed
        message = f"Module {shorten(module_name)!r} cannot be imported: "
        message += with_stop(describe_error(err))
        if kind is UnknownModuleError and not current_directory():
            message += f" {NO_DIRECTORY}"
        raise kind(message) from err
    finally:
        import_guard.reset(token)


def _is_missing(module_name: str, err: BaseException) -> bool:
    """Return whether the module or its package is missing, and not one that it imports."""
    missing = err.name if isinstance(err, ModuleNotFoundError) else None
    return bool(missing) and f"{module_name}.".startswith(f"{missing}.")


#: A hint for errors about missing code or files.
NO_DIRECTORY = "The current directory was deleted; start it in one that exists."


def current_directory() -> str:
    """Return the path of the current directory; '': it was deleted, or cannot be reached."""
    try:
        return os.getcwd()  # noqa: PTH109 - as the interpreter writes it
    except OSError:
        return ""


def import_attr(module_name: str, attr_name: str, adapt: Callable[[Any], Any] | None = None) -> Any:
    """Import a module and return one of its attributes.

    :param attr_name: the attribute; dots reach into classes (``'Mailer.send'``).
    :param adapt: makes of the attribute what is returned, and checked in its place.
    :raises UnknownModuleError: there is no such module.
    :raises ImportFailed: the import of the module, or the look-up of the attribute, failed.
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
        except BaseException as err:  # a module may have a __getattr__, which may raise anything
            asked = f"Module {shorten(module_name)!r}, asked for {shorten(attr_name)!r}, raised"
            raise ImportFailed(f"{asked} {with_stop(describe_error(err))}") from err
    if adapt is not None:
        found = adapt(found)
    if guard:
        guard.after_import(module_name, attr_name, found)
    return found
