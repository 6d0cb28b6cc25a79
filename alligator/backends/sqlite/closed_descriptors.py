"""Know the descriptors that SQLite has open, in case other code closes them.

Code that makes a daemon of its process closes all descriptors that it finds, SQLite's among them.
SQLite would not notice, and would use the same numbers again, which may lead to other files by
then: it would write into those. So the database checks before every use whether the descriptor of
the lock file still leads there. That one is opened right before the database, so it is closed
together with its neighbours. If it leads elsewhere:

* ``/dev/null`` takes the numbers that are free, read-only. So SQLite can be made to close its
  connection, and neither writes nor deletes anything as it does;
* as long as one of them leads to another file, SQLite is not called.
"""

import os
from pathlib import Path

from alligator.common.descriptors import (
    FileId,
    close_if,
    identity,
    identity_of,
    open_numbers,
)

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]


class Descriptors:
    """The descriptors of one connection: of the database, its log and its index."""

    def __init__(self) -> None:
        self._known: dict[int, FileId] = {}
        self._ours: set[int] = set()  # numbers where /dev/null is, put there by us

    def find(self, database: Path, before: set[int]) -> None:
        """Find the descriptors that are open now and are not in ``before``."""
        files = {identity_of(f"{database}{suffix}") for suffix in ("", "-wal", "-shm")}
        now = {each: identity(each) for each in open_numbers() - before}
        self._known = {
            each: what for each, what in now.items() if what is not None and what in files
        }

    def take_over(self, closed: "Descriptors") -> None:
        """Add the descriptors that SQLite keeps open after it closed a connection.

        To close one would drop the locks that other connections of this process have on the file.
        """
        kept = {each: what for each, what in closed._known.items() if identity(each) == what}
        self._known = self._known | kept

    def intact(self) -> bool:
        """Return whether all descriptors lead to the same files as before."""
        return all(identity(each) == known for each, known in self._known.items())

    def disarm(self) -> int | None:
        """Prepare to close the connection; return a descriptor that leads to another file now.

        None: there is no such descriptor, and SQLite can close it; then :meth:`clear` this.
        """
        if fcntl is None:
            return next(iter(self._known), None)
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self._disarm(null)
        finally:
            os.close(null)

    def _disarm(self, null: int) -> int | None:
        taken: int | None = None
        for each, known in self._known.items():
            found = identity(each)
            if found is None:
                got = fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, each)  # this one, or a higher one
                if got == each:
                    self._ours.add(each)
                else:
                    os.close(got)
                    taken = each
            elif found != known and not (each in self._ours and found == identity(null)):
                taken = each
        if taken is None:
            for each in self._known.keys() - self._ours:
                os.dup2(null, each, inheritable=False)
                self._ours.add(each)
        return taken

    def clear(self) -> None:
        """Forget the connection, which is closed."""
        null = identity_of(os.devnull)
        for each in self._ours:  # of which SQLite did not know
            close_if(each, null)
        self.__init__()  # type: ignore[misc]
