"""Start the dashboard, as the command line says."""

import argparse
import os
import re
import sys
import threading
from collections.abc import Iterable

from alligator.backends.dsn import mask_password
from alligator.cli.source import check_exists, gator_of
from alligator.common.text import describe_error, shorten
from alligator.exceptions import AlligatorException, ConnectionLost, InvalidTask
from alligator.gator import Gator

#: ``name:password``. It is an environment variable, since every user of a machine can read
#: command lines.
AUTH_VARIABLE = "ALLIGATOR_DASHBOARD_AUTH"

#: What a DSN may have before it: the name under which the dashboard shows it.
_NAMED = re.compile(r"([^=/?@:]*)=(?=[a-z+]+://)")


def dashboard(arguments: argparse.Namespace) -> int:
    """Serve the dashboard until SIGINT or SIGTERM.

    :raises InvalidTask: an argument, or the environment, does not fit.
    """
    try:
        from alligator.web import Dashboard, access, server
    except ImportError as err:
        raise InvalidTask(str(err)) from err
    auth = os.environ.get(AUTH_VARIABLE)
    if auth is not None:
        name, colon, password = auth.partition(":")
        if not (name and colon and password):
            raise InvalidTask(f"{AUTH_VARIABLE} is no name:password; mend it, or unset it.")
    is_local = server.is_loopback(arguments.host)
    if arguments.allow_actions and auth is None and not is_local:
        raise InvalidTask(
            f"With --allow-actions, all who reach {shorten(arguments.host, 100)} could delete "
            f"tasks; set {AUTH_VARIABLE} to name:password, or listen at 127.0.0.1."
        )
    gators = _gators(arguments)
    shown = Dashboard(
        gators,
        resolve_access=access.allow_actions if arguments.allow_actions else access.read_only,
        basic_auth=auth,
        every=arguments.every,
    )
    found = server.Server(
        shown,
        arguments.host,
        arguments.port,
        prefix=arguments.prefix or "",
        host_names=(arguments.allow_host or ()) if auth is None and is_local else None,
    )
    if auth is None and not is_local:
        _warn(
            f"all who reach {shorten(arguments.host, 100)} can see the queues, and what is in "
            f"them; set {AUTH_VARIABLE} to name:password."
        )
    for gator in gators.values():  # beside it, since a lost host may be long in not answering
        threading.Thread(target=_warn_of_lost, args=(gator,), daemon=True).start()
    found.run(lambda: print(f"Dashboard: {found.url} (Ctrl-C ends it)", flush=True))
    for gator in gators.values():
        gator.close()
    return 0


def _gators(arguments: argparse.Namespace) -> dict[str, Gator]:
    given = [(each, None) for each in arguments.dsns] + [(None, each) for each in arguments.app]
    if not given:
        raise InvalidTask("Give a DSN such as redis://localhost:6379/0, or --app.")
    found = []
    for dsn, app in given:
        match = _NAMED.match(dsn or app)
        name, where = (match[1], (dsn or app)[match.end() :]) if match else ("", dsn or app)
        if match and not name:
            raise InvalidTask(f"{mask_password(where)} has an empty name before it.")
        source = argparse.Namespace(
            dsn=None if dsn is None else where,
            app=None if app is None else where,
            store=arguments.store if app is None else None,
            task=arguments.task,
            queue=None,
        )
        gator = gator_of(source)
        check_exists(gator)
        found.append((name, where, gator))
    names = names_of((name, where) for name, where, _ in found)
    return dict(zip(names, (gator for _, _, gator in found), strict=True))


def names_of(sources: Iterable[tuple[str, str]]) -> list[str]:
    """Return the names under which sources are shown; of one alone, what was given.

    :param sources: of each the name that was given, or ``''``, and the DSN or ``module:gator``.
    :raises InvalidTask: a name was given twice.
    """
    pairs = list(sources)
    given = [name for name, _ in pairs if name]
    if len(set(given)) < len(given):
        twice = next(name for name in given if given.count(name) > 1)
        raise InvalidTask(f"Two are named {shorten(twice, 60)!r}; give each a name of its own.")
    if len(pairs) == 1:
        return given or [""]
    found: list[str] = []
    for name, where in pairs:
        wanted = name or _readable(where)
        choices = (wanted, *(f"{wanted}-{number}" for number in range(2, len(pairs) + 2)))
        taken = {*found, *given} if not name else set()
        found.append(next(each for each in choices if each not in taken))
    return found


def _readable(where: str) -> str:
    """Return a name made of a DSN: its kind, and its file, its host or its database."""
    bare = mask_password(where).partition("?")[0]
    scheme, _, rest = bare.partition("://")
    rest = rest.rpartition("@")[2]
    if rest.startswith("/"):  # a file: its folder tells less
        rest = rest.rpartition("/")[2].removesuffix(".db").removesuffix(".sqlite3")
    words = re.findall(r"[a-z0-9]+", f"{scheme} {rest}".lower())
    return "-".join(words)[:60].rstrip("-") or "queues"


def _warn_of_lost(gator: Gator) -> None:
    """Say that a server cannot be reached; its pages say so, too, until it can."""
    try:
        gator.client.len(gator.queue_name)
    except ConnectionLost as err:
        _warn(describe_error(err))
    except AlligatorException:  # the pages say it
        pass


def _warn(text: str) -> None:
    print(f"latergator.py: warning: {shorten(text, 1000)}", file=sys.stderr, flush=True)
