"""The connections of one client to beanstalkd, shared by its threads.

A reserved job belongs to the connection that reserved it. So there are several: one that
holds jobs never blocks in a wait, that heartbeats and acks may get through.
"""

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator

from alligator.backends.beanstalk_connection import Connection, Lease

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
        with self._lock:
            spare = 0
            for each in list(self._connections):
                if not each.lock.acquire(blocking=False):
                    continue
                if not each.alive():
                    self._connections.remove(each)
                elif not (holds := each.holds()) and spare >= _SPARE:
                    each.drop()
                    self._connections.remove(each)
                else:
                    spare += not holds
                    if chosen is None and not (holding_none and holds):
                        chosen = each
                        continue  # still locked
                each.lock.release()
            if chosen is not None:
                return chosen
            chosen = Connection(self.address)
            chosen.lock.acquire()
            self._connections.append(chosen)
            self.largest = None  # the server may be another one now
        try:
            chosen.connect()
        except BaseException:
            chosen.drop()
            with self._lock, contextlib.suppress(ValueError):
                self._connections.remove(chosen)
            chosen.lock.release()
            raise
        return chosen

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
