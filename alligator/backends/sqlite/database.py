"""One SQLite file shared by processes: opened, locked fairly, reopened after a fork.

SQLite's own waiting for a lock is a lottery in which a process can lose for good, so
writers queue up first: threads at a lock, processes at an ``flock`` on a file of its own.
(Never on the database: closing any descriptor of that drops SQLite's own locks.) Nobody waits for
ever; see :mod:`alligator.backends.sqlite.lock`.
"""

import atexit
import errno
import os
import random
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from alligator.backends.dsn import mask_password, unknown_parameter
from alligator.backends.sqlite import fork
from alligator.backends.sqlite.descriptors import Descriptors
from alligator.backends.sqlite.disk_space import TAKES, Need, Room
from alligator.backends.sqlite.group_commit import Line
from alligator.backends.sqlite.lock import (
    Holder,
    ThreadLock,
    close_generator,
    lock_file,
    name_of_lock,
    runs,
)
from alligator.backends.sqlite.schema import SCHEMA, Identity, Step
from alligator.common.clock import Clock
from alligator.common.descriptors import FileId, close_if, identity, open_numbers
from alligator.common.importing import NO_DIRECTORY, current_directory
from alligator.common.text import describe_error, shorten, with_stop
from alligator.exceptions import (
    AlligatorException,
    ConnectionLost,
    InvalidDSN,
    InvalidTask,
    QueueFull,
)

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

_AT_ONCE = 0 if fcntl is None else fcntl.LOCK_EX | fcntl.LOCK_NB

#: How long SQLite itself waits for a lock, in seconds; only checkpoints and strangers hold it.
_BUSY_TIMEOUT = 10.0

#: How long for another thread that uses a connection which is to be closed.
_PATIENCE = 1.0

#: Pages in the log before it is copied into the database, which takes a flush: 16 MB.
_CHECKPOINT = 4000

_DRIVER_ERRORS = (sqlite3.Error, OSError, UnicodeEncodeError, OverflowError)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_BAD_VALUE = (sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH)
_BROKEN = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PROTOCOL,  # its descriptors were closed while it used them, for one
)

#: What other libraries take as a parameter → what to write here.
_HINTS = {
    **dict.fromkeys(
        ("timeout", "busy_timeout", "_busy_timeout"),
        "leave it out: whoever finds the file locked waits for up to 30 seconds.",
    ),
    **dict.fromkeys(
        ("mode", "cache", "check_same_thread", "isolation_level", "journal_mode", "_journal_mode"),
        "leave it out: the file is opened for reading and writing, by all threads, in WAL mode.",
    ),
    **dict.fromkeys(("_synchronous", "_sync", "fsync"), "write synchronous=FULL."),
}


def parse_file_dsn(conn_string: str) -> tuple[Path, str]:
    """Return the absolute path and the ``synchronous`` level of ``sqlite://path?synchronous=``.

    The path is what follows ``//``: ``sqlite:///tmp/q.db`` is absolute, ``sqlite://q.db``
    relative to the current directory. A ``?`` or ``%`` of its own is written %3F or %25.

    :raises InvalidDSN: no path, ``:memory:``, or an unknown parameter.
    """
    path, _, query = conn_string.partition("://")[2].partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    level = options.pop("synchronous", "NORMAL").upper()
    if options:
        name = next(iter(options))
        raise unknown_parameter(mask_password(conn_string), name, ("synchronous",), _HINTS)
    if level not in ("NORMAL", "FULL"):
        raise InvalidDSN(
            f"DSN {mask_password(conn_string)!r}: the one parameter is synchronous=NORMAL or "
            "synchronous=FULL."
        )
    path = unquote(path)
    if path.strip("/") in ("", ":memory:") or "\0" in path:
        raise InvalidDSN(
            f"DSN {mask_password(conn_string)!r} names no file; for queues in memory there is locmem://."
        )
    # Links are followed once, here: all names of one file must lead to one lock beside it.
    try:
        return Path(path).resolve(), level
    except OSError as err:
        where = f"DSN {mask_password(conn_string)!r}: {shorten(path)!r} cannot be followed"
        why = NO_DIRECTORY if not current_directory() else describe_error(err)
        raise InvalidDSN(f"{where}: {why}") from err


class SqliteFile:
    """The connection of this process to the file. Its methods may be called by any thread."""

    def __init__(self, path: Path, synchronous: str) -> None:
        self.path = path
        self._name = str(path)
        self.lock_path = name_of_lock(path)
        self.commits = 0  # ours, which the version of the database does not show to ourselves
        self.opened = 0  # how often: the file may have become another
        self.lock = ThreadLock(path)
        self.line = Line()  # of pushes
        self._synchronous = synchronous
        self._room = Room(path)
        self._pid = 0
        self._inode = 0
        self.identity: Identity = (0, 0)  # of the file that is open
        self._connection: sqlite3.Connection | None = None
        self._lock_file = -1
        self._lock_identity: FileId | None = None
        self._mark = random.randrange(1 << 40, 1 << 42)  # noqa: S311 - by which we know it again
        self._descriptors = Descriptors()
        self._writing: Holder | None = None
        fork.register(self)

    @property
    def connection(self) -> sqlite3.Connection:
        """The open connection; opens one, with its tables, where there is none.

        :raises ConnectionLost: the file cannot be opened, or is no database.
        """
        with self.lock:
            return self._connected()

    def _connected(self) -> sqlite3.Connection:
        if (
            self._connection is not None
            and self._pid == os.getpid()
            and not self._moved()
            and self._holds_lock_file()
        ):
            return self._connection
        self._close()  # also what a failure may have left open
        try:
            self._open()
        except _DRIVER_ERRORS as err:
            raise self._translated(err) from err
        assert self._connection is not None
        return self._connection

    def _moved(self) -> bool:
        # Somebody deleted or replaced the file: tasks put into the old one would be lost.
        try:
            return os.stat(self._name).st_ino != self._inode  # noqa: PTH116 - half the time
        except FileNotFoundError:
            return True
        except OSError:
            return False

    def _open(self) -> None:
        if not self.path.parent.is_dir():
            raise ConnectionLost(f"Folder {self.path.parent} does not exist; create it first.")
        # Only a file that is new: to close one that another connection of this process has
        # open would drop SQLite's locks, and another process could then delete the log.
        with suppress(FileExistsError):  # -wal and -shm get its mode
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL, 0o600))
        self._check_rights()
        self._open_lock_file()
        self.opened += 1
        self._pid = os.getpid()
        self._inode = self.path.stat().st_ino
        try:
            try:
                self._take_turn()
                before = open_numbers()  # no other connection to the file is opened meanwhile
                self._connection = sqlite3.connect(
                    self.path,
                    timeout=_BUSY_TIMEOUT,
                    isolation_level=None,
                    check_same_thread=False,
                    cached_statements=256,
                )
                self._connection.execute(f"PRAGMA synchronous={self._synchronous}")
                self._connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT}")
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.executescript(SCHEMA)
                (number,) = self._connection.execute(
                    "SELECT n FROM alligator_counters WHERE queue = '' AND state = -3"
                ).fetchone()
                self.identity = (number, self._inode)
                self._descriptors.note(self.path, before)
            finally:
                if fcntl is not None and self._lock_file >= 0:
                    fcntl.flock(self._lock_file, fcntl.LOCK_UN)
        except BaseException:
            self._close()
            raise

    def _open_lock_file(self) -> None:
        # No link that somebody put there: it would have us make a file anywhere.
        flags = os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
        self._lock_file = os.open(self.lock_path, flags, 0o600)
        self._lock_identity = identity(self._lock_file)
        os.lseek(self._lock_file, self._mark, os.SEEK_SET)

    def _holds_lock_file(self) -> bool:
        # By where one would go on to read there, which is nowhere; it costs a third of a look.
        try:
            return os.lseek(self._lock_file, 0, os.SEEK_CUR) == self._mark
        except OSError:
            return False

    def _check_rights(self) -> None:
        # SQLite would make a log as read-only as the file, which stays so when the file does not.
        effective = os.access in os.supports_effective_ids
        log = self.path.with_name(self.path.name + "-wal")
        if not os.access(self.path, os.R_OK | os.W_OK, effective_ids=effective):
            raise PermissionError(errno.EACCES, "this user may not write to it")
        if not log.exists() and not os.access(self.path.parent, os.W_OK, effective_ids=effective):
            raise PermissionError(
                errno.EACCES, "this user may not write to its folder, as SQLite must"
            )

    def _take_turn(self) -> None:
        try:
            lock_file(self._lock_file, self.path, self._look_at_others)
        except OSError as err:
            if err.errno != errno.EBADF:
                raise
            self._open_lock_file()  # somebody closed it
            lock_file(self._lock_file, self.path, self._look_at_others)

    def _look_at_others(self) -> None:
        # Of this process: what one of them left open may have to wait for this very call.
        for other in self._others():
            writer = other._writing
            if writer is not None and not runs(writer[0]):
                close_generator(writer)

    @contextmanager
    def transaction(
        self, clock: Clock, need: Need = TAKES, on_news: Callable[[int], None] | None = None
    ) -> Iterator[Step]:
        """Write in here: all of it, or on any exception nothing.

        :param need: the room that this takes on the disk.
        :param on_news: told afterwards how many tasks there are to take, if there are.
        :raises ConnectionLost, QueueFull, InvalidTask: instead of any error of SQLite's.
        """
        taken: list[bool] = []
        try:
            taken += self.lock.take()
            holder = sys._getframe(2), taken
            if taken[0]:
                self.lock.holder = holder
            if self._writing is not None:
                self._end_abandoned(self._writing, nested=not taken[0])
            connection = self._connected()
            try:
                try:  # taken inside, so that an interrupt at any point undoes it
                    self._writing = holder
                    try:
                        if fcntl is not None:
                            fcntl.flock(self._lock_file, _AT_ONCE)
                    except OSError:  # somebody else has it
                        self._take_turn()
                    self._room.make(connection, need)
                    connection.execute("BEGIN IMMEDIATE")
                    step = Step(connection, clock.time(), self.identity)
                    yield step
                    step.finish()
                    self.commits += 1  # before, as an interrupt may come right after
                    connection.execute("COMMIT")
                except BaseException:
                    self._roll_back(connection)
                    raise
                finally:
                    self._writing = None
                    if fcntl is not None and self._lock_file >= 0:  # and in no function of ours
                        fcntl.flock(self._lock_file, fcntl.LOCK_UN)
            except _DRIVER_ERRORS as err:
                raise self._translated(err) from err
        finally:
            if taken and taken[0]:  # likewise
                self.lock.owner, self.lock.holder = 0, None
                self.lock.free()
        if step.news and on_news:
            on_news(step.news)

    def _end_abandoned(self, writer: Holder, *, nested: bool) -> None:
        """Undo what an exception from elsewhere left open, on the way into or out of the ``with``.

        As long as somebody has its traceback, what it went through is not closed by itself.

        :raises ConnectionLost: it is not over: this is a signal handler, say.
        """
        if nested and runs(writer[0]):
            raise ConnectionLost(f"This thread is in the middle of writing to {self.path}.")
        close_generator(writer)

    def connect_beside(self) -> sqlite3.Connection:
        """Return another connection, for a long look that is in nobody's way; to be closed."""
        with self.lock:
            self._connected()
            try:
                self._take_turn()  # as for any that is opened: see _open
                connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT, isolation_level=None)
                connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            finally:
                if fcntl is not None and self._lock_file >= 0:
                    fcntl.flock(self._lock_file, fcntl.LOCK_UN)
            return connection

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read in here; every statement sees what was committed before it."""
        taken: list[bool] = []
        try:
            taken += self.lock.take()
            if taken[0]:
                self.lock.holder = sys._getframe(2), taken
            try:
                yield self._connected()
            except _DRIVER_ERRORS as err:
                raise self._translated(err) from err
        finally:
            if taken and taken[0]:  # in no function of ours: see sqlite_lock
                self.lock.owner, self.lock.holder = 0, None
                self.lock.free()

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._close()

    def _translated(self, err: Exception) -> AlligatorException:
        """Return Alligator's error for one of SQLite's; drop a connection that is broken."""
        code = (getattr(err, "sqlite_errorcode", None) or 0) & 0xFF
        full = code == sqlite3.SQLITE_FULL
        if code == sqlite3.SQLITE_IOERR and self._room.is_used_up():
            self.close()  # for want of room for what SQLite keeps beside the file
            full = True
        if full or (isinstance(err, OSError) and err.errno in _NO_ROOM):
            return QueueFull(f"There is no room for {self.path}: {with_stop(str(err))}")
        bad_binding = isinstance(err, sqlite3.Error) and "binding parameter" in str(err)
        if (
            code in _BAD_VALUE
            or bad_binding
            or isinstance(err, (UnicodeEncodeError, OverflowError, sqlite3.DataError))
        ):
            return InvalidTask(f"SQLite cannot store that: {with_stop(str(err))}")
        if code in _BROKEN:
            self._close()
        return ConnectionLost(f"SQLite file {self.path} cannot be used: {with_stop(str(err))}")

    def close(self) -> None:
        """Close the connection of this process, if any; the next use opens it again."""
        with self.lock, suppress(ConnectionLost):  # then it cannot be closed, now
            self._close()

    def _close(self) -> None:
        """Close it, holding the lock of threads.

        :raises ConnectionLost: descriptors of it are somebody else's now.
        """
        if self._connection is not None and self._pid != os.getpid():
            fork.abandon(self._connection)
            self._connection, self._descriptors = None, Descriptors()
        elif self._descriptors.hold():
            self._close_connection()
        else:
            self._close_what_is_lost()
        number, self._lock_file = self._lock_file, -1
        close_if(number, self._lock_identity)

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        descriptors, self._descriptors = self._descriptors, Descriptors()
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()
        for other in self._others():
            other._descriptors.take_over(descriptors)
            break

    def _others(self) -> "Iterator[SqliteFile]":
        """Yield those that have a connection of this process to the same file."""
        for other in fork.registered():
            if other is self or not isinstance(other, SqliteFile) or other.path != self.path:
                continue
            if other._pid == os.getpid() and other._connection is not None:
                yield other

    def _close_what_is_lost(self) -> None:
        # With all others, since SQLite shares what it knows of a file among the connections.
        self._disarm()
        for other in self._others():
            other._close_beside()
        descriptors = self._descriptors
        self._close_connection()
        descriptors.clear()

    def _disarm(self) -> None:
        number = self._descriptors.disarm()
        if number is not None:
            fork.keep_for_ever(self._connection)
            raise ConnectionLost(
                f"SQLite file {self.path} cannot be used: other code of this process closed its "
                f"descriptor {number}, which now leads to {_target(number)}. Nothing is written "
                "there. Close that, or restart this process."
            )

    def _close_beside(self) -> None:
        if self.lock.acquire(timeout=_PATIENCE):  # else the next try may succeed
            try:
                self._disarm()
                descriptors = self._descriptors
                self._close_connection()
                descriptors.clear()
            finally:
                self.lock.release()

    def close_for_fork(self) -> None:
        """Close, unless this very thread is in the middle of a transaction."""
        if not self._writing:
            with suppress(ConnectionLost):
                self._close()

    def renew(self) -> None:
        """In the child of a fork: give up what is the parent's, whichever thread held it."""
        self.lock = ThreadLock(self.path)
        self.line = Line()
        self._writing = None
        self._close()  # no connection of the parent, but the descriptor of the lock

    def __del__(self) -> None:
        with suppress(Exception):
            self._close()


def _target(number: int) -> str:
    try:
        return ascii(os.readlink(f"/dev/fd/{number}"))  # noqa: PTH115
    except OSError:
        return "another file"


@atexit.register
def _close_all() -> None:
    for each in fork.registered():
        if each.lock.acquire(timeout=_PATIENCE):
            try:
                each.close_for_fork()
            finally:
                each.lock.release()
