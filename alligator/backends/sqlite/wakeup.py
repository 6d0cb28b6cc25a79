"""Wake idle workers of other processes, by a FIFO beside the file.

A producer writes a byte to it, which wakes one waiting reader within a fraction of a millisecond.
The byte says how often it may still be passed on: if that reader has no use for it (it serves
another queue), or leaves work for others, it writes the byte again for the next one. Where there
are no FIFOs, readers look often at the version of the database.
"""

import os
import select
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from alligator.common.after_fork import renew_in_children
from alligator.common.descriptors import FileId, close_if, identity

#: Seconds between two looks at everything, called or not.
_SLICE = 0.2

#: The same where there are no FIFOs.
_POLL = 0.01

#: How many readers a call may reach.
HOPS = 32


class _Readers:
    """Descriptors that threads wait on. A child of a fork closes them: it is no reader."""

    def __init__(self) -> None:
        self.open: dict[int, FileId] = {}
        renew_in_children(self)

    def renew(self) -> None:
        while self.open:
            close_if(*self.open.popitem())


_readers = _Readers()


class Wakeup:
    """The FIFO ``<file>.wake``. Each waiting call opens it again, so nothing outlives a fork."""

    def __init__(self, database: Path) -> None:
        self._path = str(database) + ".wake"

    def call(self, how_many: int = 1, hops: int = HOPS) -> None:
        """Wake so many of the waiting readers, if there are any."""
        try:
            fifo = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except (OSError, AttributeError):
            return  # there is no reader, or there are no FIFOs here
        try:
            if self._is_ours(fifo):
                os.write(fifo, bytes([hops]) * how_many)
        except OSError:
            return  # it is full of calls already
        finally:
            os.close(fifo)

    def wait(
        self,
        until: Callable[[], float],
        seen: object,
        version: Callable[[], object],
        stop: Callable[[], bool],
    ) -> int:
        """Block until called, ``version()`` is not ``seen``, ``stop()``, or the time is over.

        ``until()`` is in how many seconds that is: all three are asked at least every 0.2 s.
        ``seen`` is from before the caller found nothing to do, so that no push falls
        between. Returns how often the call may still be passed on; 0: there was none.
        """
        fifo = self._open()
        known = None if fifo is None else identity(fifo)
        try:
            if fifo is not None and known is not None:
                _readers.open[fifo] = known
            while version() == seen and not stop() and (rest := until()) > 0:
                if fifo is None:
                    time.sleep(min(rest, _POLL))
                elif hops := self._read(fifo, known, min(rest, _SLICE)):
                    return hops
            return 0
        finally:
            if fifo is not None:
                _readers.open.pop(fifo, None)
                close_if(fifo, known)

    @staticmethod
    def _read(fifo: int, known: FileId | None, timeout: float) -> int:
        waiting = select.poll()  # unlike select, it takes any descriptor
        waiting.register(fifo, select.POLLIN)
        if not waiting.poll(timeout * 1000):
            return 0
        if identity(fifo) != known:
            return (
                1  # other code closed it, and may have another file there: look, and open it again
            )
        try:
            return os.read(fifo, 1)[0]  # one byte: the others are for others
        except (OSError, IndexError):
            return 0  # another reader was faster

    def _open(self) -> int | None:
        try:
            with suppress(FileExistsError):
                os.mkfifo(self._path, 0o600)
            # For writing too, so that poll does not report an end of file without writers.
            fifo = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
        except (OSError, AttributeError):
            return None
        if self._is_ours(fifo):
            return fifo
        os.close(fifo)
        return None

    @staticmethod
    def _is_ours(fifo: int) -> bool:
        # A file planted by another user could block or mislead a worker.
        found = os.fstat(fifo)
        return stat.S_ISFIFO(found.st_mode) and found.st_uid == os.geteuid()
