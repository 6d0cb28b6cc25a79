"""Reserve disk space: pushes fail early, so that consumers can still drain a full queue.

To reserve and to ack a task writes, too: to the log beside the database, which is copied into the
database later. On a disk that pushes have filled to the last byte neither could grow. The log could
not be written, nor emptied: no task would move until the operator makes room.
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from alligator.backends.base import Data, Message, Reason
from alligator.exceptions import QueueFull

#: Bytes of the disk that pushes leave free, and that dead letters leave free.
_LEFT_BY_PUSHES = 4 << 20
_LEFT_BY_DEAD_LETTERS = _LEFT_BY_PUSHES // 2

#: The largest log, in bytes, that stays as long as it is when it is emptied.
_KEPT = 256 << 10

#: With so many bytes to spare, the free space is not read again for a moment (seconds).
_PLENTY = 256 << 20
_MOMENT = 0.005

#: What a row takes beyond its data, in bytes, indices included; rather too much.
_ROW = 1024

#: Free pages of the database that a push may need whatever its size, in bytes.
_PAGES = 64 << 10

#: Milliseconds to wait for readers before the log is emptied: they take less than one.
_PATIENCE = 100


class Need(NamedTuple):
    """Bytes to be written, and bytes of the disk to leave free; 0, 0: it only takes tasks."""

    size: int = 0
    left: int = 0


TAKES = Need()


def for_push(messages: Iterable[Message]) -> Need:
    """Return what it takes to push these."""
    return Need(sum(_ROW + _length(each.data) for each in messages), _LEFT_BY_PUSHES)


def for_dead_letter(data: Data | None, reason: Reason) -> Need:
    """Return what it takes to bury a task."""
    size = _ROW + _length(data) + len(reason.error) + len(reason.traceback)
    return Need(size, _LEFT_BY_DEAD_LETTERS)


def for_record(*texts: str | None) -> Need:
    """Return the bytes that recording an outcome takes; a short outcome always fits."""
    size = sum(map(_length, texts))
    return Need(_ROW + size, _LEFT_BY_DEAD_LETTERS) if size > _ROW else TAKES


def _length(data: object) -> int:
    return len(data) if isinstance(data, str | bytes) else 0


class DiskSpace:
    """The free space on the disk of a database. Only the process that may write asks it."""

    def __init__(self, database: Path) -> None:
        self._database, self._log = str(database), f"{database}-wal"
        self._plenty_until = 0.0

    def ensure(self, connection: sqlite3.Connection, need: Need) -> None:
        """Make sure that the log can be copied into the database, with some room left.

        :raises QueueFull: there is not enough room. A call that only takes tasks goes on in any
            case: that makes room in the end.
        """
        if need.size < _PLENTY and time.monotonic() < self._plenty_until:
            return
        if self._suffices(connection, need):
            return
        log = self._log_size()
        if not need.left:
            # A small log keeps its place on the disk: if others take the last byte of that, it
            # is all there is to go on with.
            self._empty_log(connection, "TRUNCATE" if log > _KEPT else "RESTART")
            return
        if self._spare() + 2 * log >= need.left // 2:
            self._empty_log(connection, "TRUNCATE")
            if self._suffices(connection, need):
                return
        raise QueueFull(
            f"There is no room for {self._database}: the last {need.left >> 20} MB of its "
            "disk are kept to work off what is queued."
        )

    def is_used_up(self) -> bool:
        """Whether the disk has no room left at all."""
        return self._free() < _PAGES

    def _suffices(self, connection: sqlite3.Connection, need: Need) -> bool:
        spare = self._spare()
        if spare > 2 * _PLENTY:
            self._plenty_until = time.monotonic() + _MOMENT
        if spare >= _LEFT_BY_PUSHES + 2 * need.size:  # once in the log, once in the database
            return True
        pages, unused, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        if not need.left:  # then all that the log may ever need is room of its own
            return spare >= 0 and pages * size <= os.stat(self._database).st_size  # noqa: PTH116
        if spare >= need.left + 2 * need.size:
            return True
        grows = unused * size < 2 * need.size + _PAGES
        return not grows and spare >= need.left // 2 + need.size

    def _spare(self) -> float:
        """Return the free bytes, less what the log takes when it is copied."""
        return self._free() - self._log_size()

    def _free(self) -> float:
        try:
            if not hasattr(os, "statvfs"):  # on Windows
                return shutil.disk_usage(self._database).free
            disk = os.statvfs(self._database)
            return disk.f_bavail * disk.f_frsize
        except OSError:
            return float("inf")  # unknown; SQLite will fail if need be

    def _log_size(self) -> int:
        try:
            return os.stat(self._log).st_size  # noqa: PTH116
        except FileNotFoundError:
            return 0

    def _empty_log(self, connection: sqlite3.Connection, how: str) -> None:
        (before,) = connection.execute("PRAGMA busy_timeout").fetchone()
        connection.execute(f"PRAGMA busy_timeout={_PATIENCE}")
        try:
            with suppress(sqlite3.Error):  # the next write fails, then
                connection.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
        finally:
            connection.execute(f"PRAGMA busy_timeout={before}")
