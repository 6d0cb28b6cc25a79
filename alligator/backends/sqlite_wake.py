"""Waking idle workers of other processes: a FIFO beside the file, and a look at its version.

Whoever pushes writes a byte, and a reader that waits is woken within a fraction of a
millisecond. Where there are no FIFOs, the version counter of the database is asked often.
"""

import os
import select
import stat
import time
from collections.abc import Callable
from pathlib import Path

_SLICE = 0.2  # seconds between two looks at `stop`
_POLL = 0.01  # the same where nobody can be woken


class Wake:
    """The FIFO ``<file>.wake``. Each waiting call opens it anew, so nothing outlives a fork."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".wake")

    def call(self) -> None:
        """Wake one waiting reader, if there is any."""
        try:
            fifo = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (OSError, AttributeError):
            return  # nobody reads, or there are no FIFOs here
        try:
            if self._is_ours(fifo):
                os.write(fifo, b"!")
        except OSError:
            return  # it is full of wake-up calls already
        finally:
            os.close(fifo)

    def wait(
        self, until: float, seen: object, version: Callable[[], object], stop: Callable[[], bool]
    ) -> None:
        """Block until called, ``version()`` is not ``seen``, ``stop()``, or monotonic ``until``.

        ``seen`` is from before the caller found nothing to do, so that no push falls between.
        """
        fifo = self._open()
        try:
            if version() != seen:  # pushed before the FIFO was open
                return
            while (rest := until - time.monotonic()) > 0 and not stop():
                if fifo is None:
                    time.sleep(min(rest, _POLL))
                elif self._called(fifo, min(rest, _SLICE)):
                    return
                if version() != seen:
                    return
        finally:
            if fifo is not None:
                os.close(fifo)

    def _called(self, fifo: int, timeout: float) -> bool:
        if not select.select([fifo], [], [], timeout)[0]:
            return False
        try:
            return bool(os.read(fifo, 1))  # one byte: the others are for others
        except BlockingIOError:
            return False  # another reader was faster

    def _open(self) -> int | None:
        try:
            if not self._path.exists():
                os.mkfifo(self._path, 0o600)
        except FileExistsError:
            pass  # another process was faster
        except (OSError, AttributeError):
            return None
        try:
            # For writing too, so that select does not report an end of file without writers.
            fifo = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        if self._is_ours(fifo):
            return fifo
        os.close(fifo)
        return None

    @staticmethod
    def _is_ours(fifo: int) -> bool:
        # A file planted by somebody else could hold up or mislead a worker.
        found = os.fstat(fifo)
        return stat.S_ISFIFO(found.st_mode) and found.st_uid == os.geteuid()
