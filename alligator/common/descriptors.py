"""Descriptors by what is behind them: code of a task may have closed those of others.

Code that makes a daemon of its process closes all that it finds. The number is then free, and may
be given to a file of somebody else's, which is not to be read, written or closed.
"""

import os
from contextlib import suppress

#: What is behind a descriptor: device and number of the file.
FileId = tuple[int, int]


def identity(descriptor: int) -> FileId | None:
    """Return what is behind a descriptor; None: it is closed."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def identity_of(path: str) -> FileId | None:
    """The same of a file."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino


def close_if(descriptor: int, known: FileId | None) -> None:
    """Close a descriptor unless it has become somebody else's."""
    if known is not None and identity(descriptor) == known:
        with suppress(OSError):
            os.close(descriptor)


def open_numbers() -> set[int]:
    """Return the descriptors of this process; none where the system does not tell."""
    try:
        found = [int(each) for each in os.listdir("/dev/fd")]  # noqa: PTH208 - names will do
    except OSError:
        return set()
    return {each for each in found if identity(each) is not None}  # that of the list is closed
