"""Tell whether a descriptor still is the same file, and whether it has something to read.

A task may have closed it: code that makes a daemon of its process closes every descriptor. The
system may then give the number to a file of other code, which Alligator must not read, write or
close.
"""

import os
import select
import socket
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: The lowest number of what :func:`moved_up` has moved.
_HIGH = 900

#: The file of a descriptor: its device and its inode.
FileId = tuple[int, int]

_sockets: dict[int, weakref.ref[socket.socket]] = {}


class HasDescriptor(Protocol):
    """A socket, or another object that has a descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""


def identity(descriptor: int) -> FileId | None:
    """Return the file of a descriptor; None: it is closed."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def identity_of(path: str) -> FileId | None:
    """Return the identity of the file at a path; None: there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino


def moved_up(descriptor: int) -> int:
    """Move a descriptor that the process keeps to a high number; return that.

    The system gives the lowest free number to what is opened next. So after other code has closed
    all descriptors, this takes no number that belonged to another file, and seldom another this.
    """
    if fcntl is None:
        return descriptor
    try:
        high = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    except OSError:  # the process may not open so many
        return descriptor
    os.close(descriptor)
    return high


def close_if(descriptor: int, known: FileId | None) -> None:
    """Close a descriptor if it still is that file."""
    if known is not None and identity(descriptor) == known:
        with suppress(OSError):
            os.close(descriptor)


def open_numbers() -> set[int]:
    """Return the open descriptors of this process; an empty set if the system has no list."""
    try:
        found = [int(each) for each in os.listdir("/dev/fd")]  # noqa: PTH208 - names will do
    except OSError:
        return set()
    return {each for each in found if identity(each) is not None}  # that of the list is closed


def note_socket(connected: socket.socket) -> None:
    """Note a socket that has just connected; an older one of the same number becomes unusable.

    If other code has closed the older one, the system may give its number to the new one. Both
    would then lead to the same server, and each read replies of the other. Without its number, the
    older one fails at its next use, as a broken connection does, and closes nothing.
    """
    number = connected.fileno()
    known = _sockets.get(number)
    older = known() if known else None
    _sockets[number] = weakref.ref(connected)
    if older is not None and older is not connected and older.fileno() == number:
        older.detach()


def readable(things: "Sequence[int | HasDescriptor]", seconds: float) -> bool:
    """Wait until one has data, or its end, to read; return whether one has.

    On Windows they must be sockets.
    """
    if not hasattr(select, "poll"):  # on Windows
        return bool(select.select(things, (), (), seconds)[0])
    poll = select.poll()  # unlike select(), it takes descriptors from 1024 up
    for each in things:
        poll.register(each, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
