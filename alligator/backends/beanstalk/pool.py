"""Share the connections of one client to beanstalkd between its threads.

A reserved job belongs to the connection that reserved it. So there are several connections. One
with leases never blocks in a wait, so that heartbeats and acks get through.

A connection that was unused for long is not trusted: see ``keepalive``. The pool closes it. If it
has leases, it serves only these, and other calls get another connection.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from alligator.backends import keepalive
from alligator.backends.beanstalk.connection import Connection, Lease
from alligator.backends.beanstalk.socket import is_broken
from alligator.common.after_fork import renew_in_children
from alligator.exceptions import ConnectionLost

T = TypeVar("T")

_MOST_IDLE = 4  # connections without leases that stay open


class Pool:
    """The connections of one client."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.listing = threading.Lock()  # for the one thread that lists dead letters
        self._lock = threading.Lock()
        self._connections: list[Connection] = []
        #: The size of the largest job; None: not asked since the last new connection.
        self.largest: int | None = None
        renew_in_children(self)

    @contextlib.contextmanager
    def connection(self, *, may_block: bool = False) -> Iterator[Connection]:
        """Lend a connection that no other thread uses now; the first one that fits.

        :param may_block: lend one without leases.
        """
        chosen = self._checkout(may_block)
        try:
            yield chosen
        finally:
            chosen.lock.release()

    def run(self, command: Callable[[Connection], T], *, may_block: bool = False) -> T:
        """Run an idempotent command, and once more over a new connection if the first one breaks.

        :param command: may be done twice, with the same reply.
        :param may_block: as of :meth:`connection`.
        """
        chosen = self._checkout(may_block)
        try:
            return command(chosen)
        except ConnectionLost as err:
            if not is_broken(err):
                raise
        finally:
            chosen.lock.release()
        chosen = self._new()
        try:
            return command(chosen)
        finally:
            chosen.lock.release()

    @contextlib.contextmanager
    def connection_of(self, lease: Lease) -> Iterator[Connection]:
        """Lend the connection of a lease, or another one if that is lost."""
        own = lease.connection
        with own.lock:
            if own.is_alive():
                yield own
                return
        with self.connection() as other:
            yield other

    def _checkout(self, may_block: bool) -> Connection:
        """Return a locked connection; close stale ones, and more idle ones than enough."""
        chosen: Connection | None = None
        long_ago = time.monotonic() - keepalive.RENEW_AFTER
        with self._lock:
            idle = 0
            for each in list(self._connections):
                if not each.lock.acquire(blocking=False):
                    continue
                stale = each.last_reply < long_ago
                if not each.is_alive():
                    self._connections.remove(each)
                elif not (leased := each.has_leases()) and (stale or idle >= _MOST_IDLE):
                    each.close()
                    self._connections.remove(each)
                else:
                    idle += not leased
                    if chosen is None and not (leased and (may_block or stale)):
                        chosen = each
                        continue  # still locked
                each.lock.release()
        return chosen or self._new()

    def _new(self) -> Connection:
        """Return a new connection, locked."""
        new = Connection(self.address)
        new.lock.acquire()
        with self._lock:
            self._connections.append(new)
            self.largest = None  # this may be another server
        try:
            new.connect()
        except BaseException:
            new.close()
            with self._lock, contextlib.suppress(ValueError):
                self._connections.remove(new)
            new.lock.release()
            raise
        return new

    def all(self) -> list[Connection]:
        """Return every connection; the caller locks one at a time."""
        with self._lock:
            return list(self._connections)

    def close(self) -> None:
        """Close them all; the server releases the jobs that they had reserved."""
        with self._lock:
            connections, self._connections = self._connections, []
        for each in connections:
            with each.lock:
                each.close()

    def renew(self) -> None:
        """Start without connections in a forked child."""
        self.listing, self._lock = threading.Lock(), threading.Lock()
        connections, self._connections = self._connections, []
        for each in connections:
            each.close_inherited()
