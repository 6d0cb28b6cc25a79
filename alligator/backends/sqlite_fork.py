"""Open SQLite files and forks: the two do not mix, so files are closed before a fork.

SQLite keeps its locks per process *and* in memory. A child inherits the memory without
the locks; a connection of its own to the same file would rely on locks that nobody holds,
and once another process closes the file the log goes, with what the child wrote to it.
"""

import os
import threading
import weakref
from typing import Protocol

#: Seconds to wait for a thread that is writing. Then the fork goes on all the same.
_PATIENCE = 5.0


class Forkable(Protocol):
    """What is closed before a fork."""

    lock: threading.RLock

    def close_for_fork(self) -> None:
        """Close what may be closed now."""

    def renew(self) -> None:
        """Start afresh in the child."""


_registry_lock = threading.RLock()
_files: "weakref.WeakSet[Forkable]" = weakref.WeakSet()
_held: list[Forkable] = []
_abandoned: list[object] = []  # the parent's: never to be closed here, nor by a collector


def register(file: Forkable) -> None:
    """Close this one before every fork from now on."""
    with _registry_lock:
        _files.add(file)


def abandon(connection: object) -> None:
    """Keep a connection of the parent's from being closed in this process."""
    _abandoned.append(connection)


def _before() -> None:
    _registry_lock.acquire()
    for file in sorted(_files, key=id):  # one order for all, so that none waits in a circle
        if file.lock.acquire(timeout=_PATIENCE):
            _held.append(file)
            file.close_for_fork()


def _after_in_parent() -> None:
    while _held:
        _held.pop().lock.release()
    _registry_lock.release()


def _after_in_child() -> None:
    global _registry_lock
    _registry_lock = threading.RLock()
    _held.clear()
    for file in list(_files):
        file.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
