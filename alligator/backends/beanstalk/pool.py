"""The connections of one client to beanstalkd, shared by its threads.

A reserved job belongs to the connection that reserved it. So there are several: one that
holds jobs never blocks in a wait, that heartbeats and acks may get through.

One that was unused for long is not trusted: see ``keepalive``. It is closed, unless it holds jobs;
then it is left to its leases, and others get another.
"""

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TypeVar

from alligator.backends import keepalive
from alligator.backends.beanstalk.connection import Connection, Lease
from alligator.backends.beanstalk.socket import is_cut
from alligator.exceptions import ConnectionLost

T = TypeVar("T")

_SPARE = 4  # connections kept open with nothing to do


class Pool:
    """The connections of one client."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.listing = threading.Lock()  # held by the thread that looks at dead letters
        self._lock = threading.Lock()
        self._connections: list[Connection] = []
        #: The largest job, as far as is known since the last new connection.
        self.largest: int | None = None
        _pools.add(self)

    @contextlib.contextmanager
    def connection(self, *, holding_none: bool = False) -> Iterator[Connection]:
        """Lend a connection that no other thread speaks on; the first one that fits.

        :param holding_none: one without reserved jobs, so that it may block.
        """
        chosen = self._checkout(holding_none)
        try:
            yield chosen
        finally:
            chosen.lock.release()

    def ask(self, question: Callable[[Connection], T], *, holding_none: bool = False) -> T:
        """Ask over a connection, and once more over a new one where that breaks meanwhile.

        :param question: what does no harm, and replies the same, when it is done twice.
        """
        chosen = self._checkout(holding_none)
        try:
            return question(chosen)
        except ConnectionLost as err:
            if not is_cut(err):
                raise
        finally:
            chosen.lock.release()
        chosen = self._new()
        try:
            return question(chosen)
        finally:
            chosen.lock.release()

    @contextlib.contextmanager
    def connection_of(self, lease: Lease) -> Iterator[Connection]:
        """Lend the connection that a lease was made on, or another if it was lost."""
        own = lease.connection
        with own.lock:
            if own.alive():
                yield own
                return
        with self.connection() as other:
            yield other

    def _checkout(self, holding_none: bool) -> Connection:
        chosen: Connection | None = None
        long_ago = time.monotonic() - keepalive.RENEW_AFTER
        with self._lock:
            spare = 0
            for each in list(self._connections):
                if not each.lock.acquire(blocking=False):
                    continue
                stale = each.used < long_ago
                if not each.alive():
                    self._connections.remove(each)
                elif not (holds := each.holds()) and (stale or spare >= _SPARE):
                    each.drop()
                    self._connections.remove(each)
                else:
                    spare += not holds
                    if chosen is None and not (holds and (holding_none or stale)):
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
            self.largest = None  # the server may be another one now
        try:
            new.connect()
        except BaseException:
            new.drop()
            with self._lock, contextlib.suppress(ValueError):
                self._connections.remove(new)
            new.lock.release()
            raise
        return new

    def all(self) -> list[Connection]:
        """Return every connection there is, to be locked one at a time."""
        with self._lock:
            return list(self._connections)

    def close(self) -> None:
        """Close them all; what they held goes back."""
        with self._lock:
            connections, self._connections = self._connections, []
        for each in connections:
            with each.lock:
                each.drop()

    def forget(self) -> None:
        """Begin anew in a forked child."""
        self.listing, self._lock = threading.Lock(), threading.Lock()
        connections, self._connections = self._connections, []
        for each in connections:
            each.abandon()


_pools: "weakref.WeakSet[Pool]" = weakref.WeakSet()


def _after_fork() -> None:
    for pool in list(_pools):
        pool.forget()


os.register_at_fork(after_in_child=_after_fork)
