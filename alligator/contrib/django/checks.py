"""Check the setting ``ALLIGATOR`` with ``manage.py check``, without connecting to anything.

=====================  =========================================================================
``alligator.E001``     the setting is missing, or a key of it is unknown or has a wrong value
``alligator.E002``     the driver of a backend is not installed
``alligator.E003``     a Gator cannot be made: of its DSN, an option or a dotted path
``alligator.E004``     ``USING`` or ``ON_COMMIT`` names a database that ``DATABASES`` does not have
``alligator.W001``     locmem, though ``DEBUG`` is off: no worker process sees these tasks
``alligator.W002``     tasks are in the database of a cache, which a clear of the cache empties
``alligator.W003``     tasks are on the server of a cache, which may evict them
``alligator.W004``     tasks go to a queue that is not among ``QUEUES``, which workers serve
``alligator.W005``     tasks are in the file of a SQLite database of ``DATABASES``
=====================  =========================================================================
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from django.conf import settings
from django.core import checks

from alligator.contrib.django import gators
from alligator.contrib.django.settings import KEYS, GatorSettings, InvalidSettings
from alligator.exceptions import AlligatorException, InvalidDSN, MissingDriver

_HERE = {"", "localhost", "127.0.0.1", "::1"}


class _Place(NamedTuple):
    """Where a redis server is, and which of its databases is meant."""

    server: str
    database: str


def check_settings(**_given: Any) -> list[checks.CheckMessage]:
    """Return what is wrong with ``settings.ALLIGATOR``; called by ``manage.py check``."""
    try:
        aliases = gators.aliases()
    except InvalidSettings as err:
        hint = f"Known keys: {', '.join(KEYS)}." if err.key and not err.near else None
        return [checks.Error(str(err), hint=hint, id="alligator.E001")]
    return [each for alias in aliases for each in _of_one(gators.settings(alias))]


def _of_one(given: GatorSettings) -> Iterator[checks.CheckMessage]:
    about = f"ALLIGATOR, alias {given.alias!r}: "
    databases = list(getattr(settings, "DATABASES", {}) or {"default": {}})
    on_commit = given.options.get("on_commit")
    waits = on_commit if isinstance(on_commit, str) else given.using if on_commit else None
    if waits is not None and waits not in databases:
        yield checks.Error(
            f"{about}it waits for commits of database {waits!r}, which DATABASES does not have.",
            hint=f"DATABASES has: {', '.join(databases)}.",
            id="alligator.E004",
        )
        return
    try:
        gators[given.alias]
    except MissingDriver as err:
        name = given.dsn.partition("://")[0]
        yield checks.Error(
            f"{about}{err}",
            hint=f"Or use another backend than {name}://; sqlite:// needs no driver.",
            id="alligator.E002",
        )
        return
    except (AlligatorException, TypeError, ValueError) as err:
        hint = "See the backends in the documentation." if isinstance(err, InvalidDSN) else None
        yield checks.Error(f"{about}{err}", hint=hint, id="alligator.E003")
        return
    yield from _of_queues(about, given)
    yield from _of_place(about, given)


def _of_queues(about: str, given: GatorSettings) -> Iterator[checks.CheckMessage]:
    named = {"QUEUE": given.queue, "OPTIONS['queue_name']": given.options.get("queue_name")}
    for key, name in named.items():
        if given.queues and name is not None and name not in given.queues:
            yield checks.Warning(
                f"{about}{key} is {name!r}, which QUEUES does not have: manage.py latergator does "
                "not serve it.",
                hint=f"Add {name!r} to QUEUES, or choose one of: {', '.join(given.queues)}.",
                id="alligator.W004",
            )


def _of_place(about: str, given: GatorSettings) -> Iterator[checks.CheckMessage]:
    scheme = given.dsn.partition("://")[0]
    if scheme == "locmem" and not settings.DEBUG and not _is_test_run():
        yield checks.Warning(
            f"{about}locmem:// keeps tasks in the memory of this process: no worker process sees "
            "them, and they are lost when it ends.",
            hint="Use a server, such as redis://localhost:6379/0, or a file: "
            "sqlite:///var/lib/app/queue.db.",
            id="alligator.W001",
        )
    for dsn in filter(None, (given.dsn, given.store)):
        yield from _beside_caches(about, dsn)
        yield from _beside_databases(about, dsn)


def _is_test_run() -> bool:
    """Return whether Django runs tests, for which it turns DEBUG off."""
    utils = sys.modules.get("django.test.utils")
    return hasattr(getattr(utils, "_TestState", None), "saved_data")


def _beside_caches(about: str, dsn: str) -> Iterator[checks.CheckMessage]:
    own = set(_places([dsn], {}))
    for alias, cache in getattr(settings, "CACHES", {}).items():
        location, options = cache.get("LOCATION", ""), cache.get("OPTIONS") or {}
        theirs = set(_places(_urls(location), options if isinstance(options, Mapping) else {}))
        if shared := own & theirs:
            yield checks.Warning(
                f"{about}tasks are in database {min(shared).database} of {min(shared).server}, and "
                f"so is cache {alias!r}: to clear the cache deletes them, and the server may evict "
                "them.",
                hint="Give tasks a server of their own with maxmemory-policy noeviction; at least "
                "another database: redis://localhost:6379/1.",
                id="alligator.W002",
            )
        elif shared_servers := {each.server for each in own} & {each.server for each in theirs}:
            yield checks.Warning(
                f"{about}tasks are on {min(shared_servers)}, and so is cache {alias!r}: a server "
                "that evicts keys when it is full loses tasks.",
                hint="Set its maxmemory-policy to noeviction, or give tasks a server of their own; "
                "'latergator.py doctor' looks. If it is noeviction: "
                "SILENCED_SYSTEM_CHECKS = ['alligator.W003'].",
                id="alligator.W003",
            )


def _urls(location: Any) -> list[str]:
    if isinstance(location, str):
        return location.replace(";", ",").split(",")
    return [each for each in location or () if isinstance(each, str)]


def _places(urls: Iterable[str], options: Mapping[str, Any]) -> Iterator[_Place]:
    """Yield where the redis servers of these addresses are; skip what is none."""
    for url in urls:
        scheme, separator, rest = url.strip().partition("://")
        is_socket = scheme in ("unix", "redis+unix")
        if not separator or not (is_socket or scheme.startswith(("redis", "valkey"))):
            continue
        try:
            parts = urlsplit(f"//{rest}")
            query = parse_qs(parts.query)
            database = str(options.get("db") or query.get("db", [""])[0])
            if is_socket:
                yield _Place(unquote(parts.path), database or "0")
                continue
            path = parts.path.strip("/").rpartition("/")[2]  # of a sentinel: master/0
            database = database or (path if path.isdecimal() else "0")
            for host in parts.netloc.rpartition("@")[2].split(","):
                yield _Place(_server(host), database)
        except ValueError:
            continue  # a Gator, or the cache itself, says what is wrong with it


def _server(host: str) -> str:
    parts = urlsplit(f"//{host}")
    name = (parts.hostname or "").lower()
    return f"{'localhost' if name in _HERE else name}:{parts.port or 6379}"


def _beside_databases(about: str, dsn: str) -> Iterator[checks.CheckMessage]:
    scheme, _, rest = dsn.partition("://")
    if scheme != "sqlite":
        return
    own = Path(unquote(rest.partition("?")[0])).resolve()
    for alias, database in getattr(settings, "DATABASES", {}).items():
        name = database.get("NAME")
        is_file = "sqlite" in str(database.get("ENGINE", "")) and name
        if is_file and Path(str(name)).resolve() == own:
            yield checks.Warning(
                f"{about}tasks are in the file of database {alias!r}: a push inside a transaction "
                "waits for the lock of that very transaction.",
                hint=f"Use a file beside it, such as sqlite://{own.with_name('queue.db')}.",
                id="alligator.W005",
            )
