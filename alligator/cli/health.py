"""Tell whether a worker of this host lives, for the health check of a container."""

import argparse
import socket
import sys
from collections.abc import Sequence

from alligator.backends.base import Client, time_on
from alligator.backends.store import Store
from alligator.cli.source import queues_of
from alligator.common.clock import Clock
from alligator.common.text import describe_error
from alligator.exceptions import AlligatorException, InvalidTask
from alligator.gator import Gator


def health(gator: Gator, arguments: argparse.Namespace) -> int:
    """Return 0 if a worker of this host was seen lately; else 1.

    Docker knows no other codes. If it is not known, return 1, or 0 with ``--or-unknown``: to
    restart workers because their server is away would only break off what they run.
    """
    if gator.store is None:
        raise InvalidTask("Only a store knows which workers live; name it with --store.")
    names, host = queues_of(gator, arguments), socket.gethostname()
    try:
        ago = seen_ago(gator.store, names, host, gator.clock)
    except AlligatorException as err:
        print(f"latergator.py: it is not known: {describe_error(err)}", file=sys.stderr)
        return 0 if arguments.or_unknown else 1
    if ago is None or ago > arguments.within:
        when = "not seen in the last 90 s" if ago is None else f"last seen {ago:.0f} s ago"
        print(f"no worker of {host} lives for {', '.join(names)}: {when}")
        return 1
    print(f"a worker of {host} was seen {ago:.0f} s ago")
    return 0


def seen_ago(store: Store, queue_names: Sequence[str], host: str, clock: Clock) -> float | None:
    """Return how many seconds ago a live worker of a host was last seen; None: there is none.

    :param queue_names: it serves one of these.
    """
    seen = [
        each.seen
        for name in queue_names
        for each in store.workers(name)
        if each.name.rpartition(":")[0].rpartition(":")[0] == host
    ]
    if not seen:
        return None
    home = store.home
    now = time_on(home, queue_names[0], clock) if isinstance(home, Client) else clock.time()
    return max(0.0, now - max(seen))
