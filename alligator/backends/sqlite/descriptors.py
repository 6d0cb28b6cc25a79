"""The numbers of the files that SQLite has open, in case that somebody else closes them.

Code that makes a daemon of its process closes all descriptors that it finds, SQLite's among them.
SQLite would not notice, and go on under the same numbers, which others may have been given
meanwhile: it would write into their files. So it is looked at, before every use, whether the
number of the file for locks still leads there. It is opened right before the database, and so the
first to be closed with its neighbours. Where it does not:

* those that are free are taken by ``/dev/null``, read-only, so that SQLite can be made to close its
  connection, and neither writes nor deletes anything as it does;
* as long as somebody else has one of them, SQLite is not let near it.
"""

import os
from pathlib import Path

from alligator.common.descriptors import FileId, close_if, identity, identity_of, open_numbers

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]


class Descriptors:
    """Those of the database, its log and its index that one connection has open."""

    def __init__(self) -> None:
        self._known: dict[int, FileId] = {}
        self._ours: set[int] = set()  # numbers where /dev/null is, put there by us

    def note(self, database: Path, before: set[int]) -> None:
        """Find those that were opened since; ``before`` is what was open then."""
        files = {identity_of(f"{database}{suffix}") for suffix in ("", "-wal", "-shm")}
        now = {each: identity(each) for each in open_numbers() - before}
        self._known = {
            each: what for each, what in now.items() if what is not None and what in files
        }

    def take_over(self, closed: "Descriptors") -> None:
        """Know those that SQLite keeps open, once a connection is closed, for one that remains.

        To close one would drop the locks that others of this process have on the file.
        """
        kept = {each: what for each, what in closed._known.items() if identity(each) == what}
        self._known = self._known | kept

    def hold(self) -> bool:
        """Whether all numbers lead to where they did."""
        return all(identity(each) == known for each, known in self._known.items())

    def disarm(self) -> int | None:
        """Let SQLite close the connection without harm; return a number that is somebody else's.

        None: there is no such number, and it can be closed; then :meth:`clear` this.
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
        """The connection is closed."""
        null = identity_of(os.devnull)
        for each in self._ours:  # of which SQLite did not know
            close_if(each, null)
        self.__init__()  # type: ignore[misc]
