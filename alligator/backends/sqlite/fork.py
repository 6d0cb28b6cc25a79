"""Open SQLite files and forks: the two do not mix, so files are closed before a fork.

SQLite keeps its locks per process *and* in memory. A child inherits the memory without
the locks; a connection of its own to the same file would rely on locks that nobody holds,
and once another process closes the file the log goes, with what the child wrote to it.
"""

import os
import threading
import weakref
from contextlib import suppress
from typing import Any, Protocol

#: Seconds to wait for a thread that is writing. Then the fork goes on all the same.
_PATIENCE = 5.0


class Forkable(Protocol):
    """What is closed before a fork."""

    lock: Any  # an RLock

    def close_for_fork(self) -> None:
        """Close what may be closed now."""

    def renew(self) -> None:
        """Start afresh in the child."""


_registry_lock = threading.RLock()
# No WeakSet: its callbacks would swallow the exception of a timeout that comes up in them.
_files: "list[weakref.ref[Forkable]]" = []
_held: list[Forkable] = []
_kept: list[object] = []  # never to be closed here, nor by a collector


def register(file: Forkable) -> None:
    """Close this one before every fork from now on."""
    with _registry_lock:
        _files[:] = [*(each for each in _files if each() is not None), weakref.ref(file)]


def registered() -> list[Forkable]:
    """Return those that are still in use."""
    return [file for each in list(_files) if (file := each()) is not None]


def abandon(connection: object) -> None:
    """Keep a connection of the parent's from being closed in this process."""
    keep_for_ever(connection)


def keep_for_ever(connection: object) -> None:
    """Keep a connection from being closed, unless by a call; also as the interpreter ends."""
    if not any(each is connection for each in _kept):
        _kept.append(connection)
        with suppress(ImportError):
            import ctypes  # not before it is needed: it takes a while

            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _before() -> None:
    _registry_lock.acquire()
    for file in sorted(registered(), key=id):  # one order for all, so that none waits in a circle
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
    for file in registered():
        file.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
    )
