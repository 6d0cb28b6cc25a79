"""Find out which servers a test needs, from its fixtures, its parameters and its code.

No test has to say so itself: ``pytest -m "not server"`` runs what needs none, ``-m redis`` what
needs a redis. A browser counts as a server. A server that is started for a test without its marker
is refused, so what is found here is whole (``check``).
"""

import inspect
import types
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

#: What stands for a server, as a parameter or in front of ``_dsn``; none: it needs no server.
KINDS = {
    "locmem": "",
    "sqlite": "",
    "redis": "redis",
    "cluster": "redis",
    "valkey": "redis",
    "beanstalk": "beanstalk",
    "sqs": "sqs",
}
KINDS_OF_FIXTURES = {f"{name}_dsn": kind for name, kind in KINDS.items()}
#: The modules that start them.
STARTERS = {f"tests.support.servers.{kind}": kind for kind in ("redis", "beanstalk", "sqs")}
STARTERS["tests.support.browser"] = "browser"
#: Whose functions are looked into.
OURS = ("tests.", "chaos.", "benchmarks.")

#: The markers of the test that runs now; None: none does.
current: frozenset[str] | None = None


def check(kind: str) -> None:
    """Refuse to start a server for a test that does not have its marker.

    :raises RuntimeError: it has not.
    """
    if current is not None and not {kind, "server"} <= current:
        raise RuntimeError(
            f"the test that starts this server is not marked {kind!r}: tests/support/markers.py "
            f"could not see that it needs one; put @pytest.mark.{kind} on it"
        )


def mark(item: pytest.Item) -> None:
    """Put on the markers of the servers that a test needs, and ``server`` if it needs any."""
    if isinstance(item, pytest.Function):
        for name in sorted(_needs(item)):
            item.add_marker(name)
    if any(item.get_closest_marker(kind) for kind in STARTERS.values()):
        item.add_marker("server")


def _needs(item: pytest.Function) -> set[str]:
    params = item.callspec.params if hasattr(item, "callspec") else {}
    needs = {kind for value in params.values() for kind in _told(value) or ()}
    direct = {name for each in item.iter_markers("parametrize") for name in _names(each.args[0])}
    if not any(_told(params[name]) for name in direct & set(params)):
        needs |= _needs_of(item.function)
    for name, found in item._fixtureinfo.name2fixturedefs.items():
        if name in KINDS_OF_FIXTURES:
            needs.add(KINDS_OF_FIXTURES[name])
        elif not _told(params.get(name)):
            needs = needs.union(*(_needs_of(each.func) for each in found))
            if not any(_told(value) for value in params.values()):
                needs = needs.union(*(_named(each.func) for each in found))
    return needs - {""}


def _names(told: Any) -> list[str]:
    return told.replace(",", " ").split() if isinstance(told, str) else list(told)


def _told(value: object) -> list[str] | None:
    """Return the servers that a parameter names; None: it names no backend."""
    names = (
        [name.removesuffix("_dsn") for name in value.split("+")] if isinstance(value, str) else [""]
    )
    return [KINDS[name] for name in names] if all(name in KINDS for name in names) else None


def _named(fixture: Any) -> set[str]:
    """Return the servers that a fixture names, as in ``made(request, "beanstalk")``."""
    code = getattr(inspect.unwrap(fixture), "__code__", None)
    return {kind for const in (code.co_consts if code else ()) for kind in _told(const) or ()}


@cache
def _needs_of(function: Any) -> frozenset[str]:
    """Return the servers that a function may start, by itself or by what it calls."""
    found: set[str] = set()
    seen: set[Any] = set()
    open_ends = [function]
    while open_ends:
        each = open_ends.pop()
        each = inspect.unwrap(each)
        if each in seen:
            continue
        seen.add(each)
        if isinstance(each, type):
            open_ends += [part for part in vars(each).values() if _is_function(part)]
            continue
        for code in _codes(each.__code__):
            found.update(
                KINDS_OF_FIXTURES[const]
                for const in code.co_consts
                if isinstance(const, str) and const in KINDS_OF_FIXTURES
            )
            found |= set(_imported(code))
            for name in code.co_names:
                value = each.__globals__.get(name)
                where = value.__name__ if isinstance(value, types.ModuleType) else ""
                where = where or getattr(value, "__module__", None) or ""
                if where in STARTERS:
                    found.add(STARTERS[where])
                elif where.startswith(OURS) and (_is_function(value) or isinstance(value, type)):
                    open_ends.append(value)
    return frozenset(found)


def _is_function(value: object) -> bool:
    return callable(value) and isinstance(inspect.unwrap(value), types.FunctionType)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from _codes(each)


def _imported(code: types.CodeType) -> Iterator[str]:
    """Yield the servers whose modules are imported where they are used."""
    for name in code.co_names:
        if name in STARTERS:
            yield STARTERS[name]
    if "tests.support.servers" in code.co_names:
        wanted = {f"tests.support.servers.{name}" for name in code.co_names}
        yield from (kind for name, kind in STARTERS.items() if name in wanted)
