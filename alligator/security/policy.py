"""Decide which functions a message may name.

A sender that can write to a queue names the functions that a worker calls. So a policy checks the
names:

1. The *written* name is checked before anything is imported.
2. The imported object must be a function. It is checked again under its *own* module and
   qualified name, so that a module's imports do not pass for its own functions.

``Policy(allowed=[...])`` runs only functions that the list names. Without a list any importable
function runs, as documented since 0.x, except those on a blocklist of the known ways to run code
or touch files. The blocklist is best effort; an allowlist and signatures protect.
"""

import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from alligator.common.text import shorten
from alligator.exceptions import InvalidTask, NotAllowed
from alligator.security.blocklist import blocked_by, known_as

_MOST_FOUND = 4096

_ENTRY = re.compile(r"[^\W\d][\w]*(\.[^\W\d]\w*)*(\.[\w*.]*\*[\w*.]*)?|\*")


class Policy:
    """The functions that may run.

    :param allowed: names such as ``'myapp.tasks.resize'``, ``'myapp.mail:Mailer.send'``, or
        with a ``*`` for all names there and below: ``'myapp.tasks.*'``. None: no list.
    :raises InvalidTask: an entry is no such name.
    """

    def __init__(self, allowed: Sequence[str] | None = None) -> None:
        self.allowed: tuple[str, ...] | None = None if allowed is None else tuple(_entries(allowed))
        self._exact = frozenset(each for each in self.allowed or () if "*" not in each)
        self._patterns = [
            (each.partition("*")[0], re.compile(re.escape(each).replace(r"\*", ".*")))
            for each in self.allowed or ()
            if "*" in each
        ]
        # A name that passed is remembered; a refusal raises, so it is not.
        self.check_name: Callable[[str, str], None] = lru_cache(4096)(self._check_name)
        self.check_function: Callable[[Any, str], None] = lru_cache(4096)(self._check_function)
        self.found: dict[tuple[str, str, bool], Any] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'any' if self.allowed is None else list(self.allowed)}>"

    def _check_name(self, module: str, name: str) -> None:
        """Refuse a name that is written in a message.

        :raises NotAllowed: before anything is imported.
        """
        written = f"{module}.{name}"
        if written in self._exact:
            return
        if any(part.startswith("_") for part in name.split(".")):
            raise _refusal(written, "its name begins with an underscore")
        _check_no_program(module, written)
        self._check_listed(module, name, written)

    def check_module(self, module: str) -> None:
        """Refuse a module that has no function that may run.

        :raises NotAllowed: before it is imported.
        """
        _check_no_program(module, module)
        if self.allowed is None:
            self._check_listed(module, "x", module)
        elif not (
            any(each.startswith(f"{module}.") for each in self._exact)
            or any(
                head.startswith(f"{module}.") or pattern.fullmatch(f"{module}.x")
                for head, pattern in self._patterns
            )
        ):
            raise _refusal(module, "it is not in the list 'allowed'")

    def check_found(self, found: Any, written: str) -> None:
        """Refuse an imported object that may not be called; one that is not callable passes.

        :param written: the name in the message.
        :raises NotAllowed: a class, a partial, or a function whose own name is not allowed.
        """
        if callable(found):
            try:
                self.check_function(found, written)
            except TypeError as err:  # unhashable, so surely not a function
                raise _refusal(written, f"it is a {type(found).__name__}") from err

    def _check_function(self, found: Any, written: str) -> None:
        for module, name in _own_names(found, written):
            own = f"{module}.{name}"
            # An entry that names exactly this function allows it, wherever it is defined; but
            # not a function on the blocklist, which the entry does not name.
            self._check_listed(module, name, own, listed=written in self._exact)
        if written not in self._exact and _needs_self(found):
            raise _refusal(
                written or repr(found), "it is a method, and JSON cannot carry its object"
            )

    def _check_listed(self, module: str, name: str, shown: str, *, listed: bool = False) -> None:
        names = {f"{known}.{name}" for known in known_as(module)}
        if names & self._exact:
            return
        matching = [
            head
            for head, pattern in self._patterns
            if any(pattern.fullmatch(each) for each in names)
        ]
        if root := blocked_by(module, name):
            roots = {root, *known_as(root)}
            if not any(head.startswith(f"{each}.") for head in matching for each in roots):
                raise _refusal(
                    shown, f"a function in {root!r} runs only if 'allowed' names the module"
                )
        if self.allowed is not None and not matching and not listed:
            raise _refusal(shown, "it is not in the list 'allowed'")


class Reading:
    """The import guard for one message: its policy, and the objects that passed so far."""

    __slots__ = ("_passed", "policy")

    def __init__(self, policy: Policy) -> None:
        self.policy: Policy = policy
        self._passed: list[Any] = []

    def stand_in(self, module: str, name: str) -> None:
        """Return None: the attribute is to be imported."""

    def before_module(self, module: str) -> None:
        """Check the name of a module."""
        self.policy.check_module(module)

    def before_import(self, module: str, name: str) -> None:
        """Check the name of an attribute."""
        self.policy.check_name(module, name)

    def on_the_way(self, module: str, name: str, owner: Any) -> None:
        """Refuse any object between a module and its attribute but a class."""
        if not isinstance(owner, type):
            raise _refusal(
                f"{module}.{name}", f"it is reached through a {type(owner).__name__}, not a class"
            )

    def after_import(self, module: str, name: str, found: Any) -> None:
        """Check the attribute itself."""
        self.policy.check_found(found, f"{module}.{name}")
        self._passed.append(found)

    def remember(self, key: tuple[str, str, bool], found: Any) -> None:
        """Remember an object that was imported and passed."""
        if len(self.policy.found) >= _MOST_FOUND:
            self.policy.found.clear()
        self.policy.found[key] = found

    def recall(self, key: tuple[str, str, bool]) -> Any:
        """Return an object that passed before, unless its module has another by that name now."""
        found = self.policy.found.get(key)
        if found is None:
            return None
        if getattr(sys.modules.get(key[0]), "__dict__", {}).get(key[1]) is not found:
            return None
        self._passed.append(found)
        return found

    def check(self, function: Any) -> None:
        """Refuse a function that a task got in another way than by its name."""
        for each in self._passed:
            if function is each:
                return
        while type(function).__name__ == "partial" and callable(getattr(function, "func", None)):
            function = function.func
        if function is not None and not any(function is each for each in self._passed):
            self.policy.check_found(function, "")


def _check_no_program(module: str, written: str) -> None:
    # An import of a package's __main__, or a module below it, runs it; its __init__, twice.
    if module != "__main__" and any(
        part.startswith("__") and part.endswith("__") for part in module.split(".")
    ):
        raise _refusal(written, "its module is a program")


def _needs_self(found: Any) -> bool:
    """Return whether it is a method, which needs an object of its class."""
    if isinstance(found, types.MethodDescriptorType | types.WrapperDescriptorType):
        return True
    if not isinstance(found, types.FunctionType) or "." not in found.__qualname__:
        return False
    owner: Any = sys.modules.get(found.__module__)
    *path, name = found.__qualname__.split(".")
    for part in path:
        owner = inspect.getattr_static(owner, part, None)
    return isinstance(owner, type) and inspect.getattr_static(owner, name, None) is found


def _own_names(found: Any, written: str) -> Iterator[tuple[str, str]]:
    """Yield the module and qualified name of a function, and of each function that it wraps."""
    for _ in range(20):
        if isinstance(found, types.MethodType):
            found = found.__func__
            continue
        module, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
        if module is None and (owner := _owner(found)) is not None:
            module = owner.__module__
        if isinstance(found, type) or not isinstance(module, str) or not isinstance(name, str):
            shown = written or repr(found)
            raise _refusal(shown, f"it is no function but a {type(found).__name__}")
        yield module, name
        if isinstance(found, types.FunctionType) or not hasattr(found, "__wrapped__"):
            return
        found = found.__wrapped__


def _owner(found: Any) -> Any:
    """Return the class that defines a method written in C."""
    owner = getattr(found, "__objclass__", None) or getattr(found, "__self__", None)
    if owner is None:
        return None
    owners: list[type] = list(type(owner).__mro__)
    if isinstance(owner, type):
        owners = [*owner.__mro__, *owners]
    name = getattr(found, "__name__", "")
    return next((each for each in owners if name in vars(each)), owners[0])


def _entries(allowed: Sequence[str]) -> Iterator[str]:
    if isinstance(allowed, str | bytes):
        raise InvalidTask(f"allowed={allowed!r} is not a list; give [{allowed!r}].")
    for each in allowed:
        entry = each.replace(":", ".", 1) if isinstance(each, str) else ""
        if not _ENTRY.fullmatch(entry) or ("." not in entry and entry != "*"):
            raise InvalidTask(
                f"allowed has {each!r}, which is not 'package.module.function' or 'package.*'."
            )
        yield entry


def _refusal(name: str, why: str) -> NotAllowed:
    return NotAllowed(f"{shorten(name)!r} may not run here: {why}.")
