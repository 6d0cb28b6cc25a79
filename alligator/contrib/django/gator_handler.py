"""Build one Gator per alias and process from the setting ``ALLIGATOR``, at its first use."""

import threading
from collections.abc import Iterator
from copy import copy
from difflib import get_close_matches
from typing import Any, cast
from weakref import WeakSet

import django
from django.apps import apps
from django.conf import settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from alligator.common import after_fork
from alligator.contrib.django.connections import DatabaseConnections
from alligator.contrib.django.settings import GatorSettings, InvalidSettings, parse
from alligator.contrib.django.transactions import DjangoGator, WarnInTransaction
from alligator.gator import Gator, reconfigure
from alligator.tasks.middleware import AnyMiddleware
from alligator.tasks.task import GatorOptions, Task

#: Options that are functions: the settings may name them, since they cannot import them.
_HOOKS = ("on_start", "on_success", "on_error")


class GatorHandler:
    """The Gators of a project: ``gators['default']``. Threads share them.

    Reads ``settings.ALLIGATOR`` at the first use, and again after a test has overridden it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._gators: dict[str, DjangoGator] = {}
        self._settings: dict[str, GatorSettings] | None = None
        after_fork.renew_in_children(self)
        setting_changed.connect(self._on_setting_changed)

    def __getitem__(self, alias: str) -> Gator:
        """Return the Gator of an alias.

        :raises InvalidSettings: there is no such alias, or the setting is wrong.
        :raises InvalidDSN, MissingDriver: see :class:`alligator.Gator`.
        """
        try:
            return self._gators[alias]
        except KeyError:
            with self._lock:
                if alias not in self._gators:
                    self._gators[alias] = build(self.settings(alias))
                return self._gators[alias]

    def __iter__(self) -> Iterator[str]:
        return iter(self.aliases())

    def __contains__(self, alias: object) -> bool:
        return alias in self.aliases()

    def aliases(self) -> list[str]:
        """Return the aliases of the setting, in its order."""
        return list(self._read())

    def settings(self, alias: str = "default") -> GatorSettings:
        """Return what the setting says of one alias.

        :raises InvalidSettings: there is no such alias, or the setting is wrong.
        """
        known = self._read()
        if alias not in known:
            near = get_close_matches(str(alias), known, 1, 0.5)
            hint = f"Did you mean {near[0]!r}?" if near else f"It has: {', '.join(known)}."
            raise InvalidSettings(f"ALLIGATOR has no alias {alias!r:.60}. {hint}")
        return known[alias]

    def for_command_line(self, alias: str = "default") -> Gator:
        """Return a copy of the Gator of an alias, which a command line may change; set Django up.

        Tasks of the project go on using ``gators[alias]``, on its own queue.
        """
        if not apps.ready:
            django.setup()
        gator = copy(self[alias])
        assert isinstance(gator, DjangoGator)
        gator.share_middleware = add_everywhere
        return gator

    def close(self) -> None:
        """Close the connections of all Gators that were used here; the next use opens them."""
        for gator in list(self._gators.values()):
            gator.close()

    def reset(self) -> None:
        """Forget all Gators, and the setting, which is read again at the next use."""
        with self._lock:
            gone, self._gators, self._settings = self._gators, {}, None
        for gator in gone.values():
            gator.close()

    def renew(self) -> None:
        """In a forked child, make a new lock; the Gators themselves may be used after a fork."""
        self._lock = threading.RLock()

    def _read(self) -> dict[str, GatorSettings]:
        found = self._settings
        if found is None:
            found = self._settings = read_settings()
        return found

    def _on_setting_changed(self, *, setting: str, **_given: Any) -> None:
        if setting == "ALLIGATOR":
            self.reset()


def read_settings() -> dict[str, GatorSettings]:
    """Return what ``settings.ALLIGATOR`` says, by alias.

    :raises InvalidSettings: it is missing, or wrong.
    """
    if not hasattr(settings, "ALLIGATOR"):
        raise InvalidSettings(
            "The setting ALLIGATOR is missing; write ALLIGATOR = {'DSN': "
            "'redis://localhost:6379/0'} in the settings of the project."
        )
    return parse(settings.ALLIGATOR)


#: Middleware of all Gators of this process that come from settings, and these Gators.
_everywhere: list[AnyMiddleware] = []
_built: WeakSet[DjangoGator] = WeakSet()


def add_everywhere(middleware: AnyMiddleware) -> None:
    """Let all Gators of this process that come from settings have a middleware, innermost.

    One that has a middleware of this class already stays as it is.
    """
    _everywhere.append(middleware)
    for gator in list(_built):
        _add(gator, middleware)


def _add(gator: DjangoGator, middleware: AnyMiddleware) -> None:
    if not any(type(each) is type(middleware) for each in gator.middleware):
        reconfigure(gator, middleware=[middleware])


def build(given: GatorSettings) -> DjangoGator:
    """Return a new Gator of these settings.

    :raises InvalidSettings: a dotted path cannot be imported, or is not what it should be.
    """
    gator = DjangoGator(
        given.dsn,
        given.queue,
        imported(given, "TASK_CLASS", given.task_class) or Task,
        imported(given, "BACKEND_CLASS", given.backend_class),
        store=given.store,
        allowed=None if given.allowed is None else list(given.allowed),
        secret_keys=given.secret_keys,
        options=_options(given),
        middleware=_middleware(given),
        activity=given.activity,
        show_arguments=imported(given, "SHOW_ARGUMENTS", given.show_arguments),
        using=given.using,
        warn_in_loop=given.warn_in_loop,
        **({} if given.async_threads is None else {"async_threads": given.async_threads}),
    )
    _built.add(gator)
    for each in _everywhere:
        _add(gator, each)
    return gator


def imported(given: GatorSettings, key: str, value: Any) -> Any:
    """Return what a dotted path names; anything else is returned as it is.

    :raises InvalidSettings: it cannot be imported.
    """
    if not isinstance(value, str):
        return value
    try:
        return import_string(value)
    except ImportError as err:
        raise InvalidSettings(
            f"{key} of ALLIGATOR, alias {given.alias!r}, names {value!r}: {err}", key
        ) from err


def _options(given: GatorSettings) -> GatorOptions:
    options = dict(given.options)
    for name in _HOOKS:
        if name in options:
            options[name] = imported(given, f"OPTIONS[{name!r}]", options[name])
    return cast(GatorOptions, options)  # the Gator checks them


def _middleware(given: GatorSettings) -> list[Any]:
    found: list[Any] = [DatabaseConnections()]  # outermost: what is further in may use them
    warns = given.warn_in_transaction
    if settings.DEBUG if warns is None else warns:
        found.append(WarnInTransaction())
    for each in given.middleware:
        made = imported(given, "MIDDLEWARE", each)
        found.append(made() if isinstance(made, type) else made)
    return found
