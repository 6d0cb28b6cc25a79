"""One SQLite file shared by processes: opened, locked fairly, reopened after a fork.

SQLite's own waiting for a lock is a lottery in which a process can lose for good, so
writers queue up first: threads at a lock, processes at an ``flock`` on a file of its own.
(Never on the database: closing any descriptor of that drops SQLite's own locks.)
"""

import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from alligator.backends import sqlite_fork
from alligator.backends.dsn import mask_password, unknown_parameter
from alligator.backends.sqlite_pushes import Line
from alligator.backends.sqlite_room import TAKES, Need, Room
from alligator.backends.sqlite_schema import SCHEMA, Identity, Step
from alligator.clock import Clock
from alligator.exceptions import (
    AlligatorException,
    ConnectionLost,
    InvalidDSN,
    InvalidTask,
    QueueFull,
)
from alligator.utils import NO_DIRECTORY, current_directory, describe_error, shorten, with_stop

try:
    import fcntl
except ImportError:  # not a Unix: SQLite's own waiting has to do
    fcntl = None  # type: ignore[assignment]

#: How long SQLite itself waits for a lock, in seconds; only checkpoints and strangers hold it.
_BUSY_TIMEOUT = 10.0

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
)

#: What other libraries take as a parameter → what to write here.
_HINTS = {
    **dict.fromkeys(
        ("timeout", "busy_timeout", "_busy_timeout"),
        "leave it out: whoever finds the file locked waits for up to 10 seconds.",
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
        self.lock_path = path.with_name(path.name + ".lock")
        self.commits = 0  # ours, which the version of the database does not show to ourselves
        self.opened = 0  # how often: the file may have become another
        self.lock = threading.RLock()
        self.line = Line()  # of pushes
        self._synchronous = synchronous
        self._room = Room(path)
        self._pid = 0
        self._inode = 0
        self.identity: Identity = (0, 0)  # of the file that is open
        self._connection: sqlite3.Connection | None = None
        self._lock_file = -1
        self._writing = False
        sqlite_fork.register(self)

    @property
    def connection(self) -> sqlite3.Connection:
        """The open connection; opens one, with its tables, where there is none.

        :raises ConnectionLost: the file cannot be opened, or is no database.
        """
        with self.lock:
            return self._connected()

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and self._pid == os.getpid() and not self._moved():
            return self._connection
        self.close()  # also what a failure may have left open
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
        # No link that somebody put there: it would have us make a file anywhere.
        flags = os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
        self._lock_file = os.open(self.lock_path, flags, 0o600)
        self.opened += 1
        self._pid = os.getpid()
        self._inode = self.path.stat().st_ino
        try:
            self._connection = sqlite3.connect(
                self.path,
                timeout=_BUSY_TIMEOUT,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
            self._connection.execute(f"PRAGMA synchronous={self._synchronous}")
            self._connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT}")
            try:
                self._take_turn()
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.executescript(SCHEMA)
                (number,) = self._connection.execute(
                    "SELECT n FROM alligator_counters WHERE queue = '' AND state = -3"
                ).fetchone()
                self.identity = (number, self._inode)
            finally:
                self._end_turn()
        except BaseException:
            self.close()
            raise

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
        if fcntl is not None:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX)

    def _end_turn(self) -> None:
        if fcntl is not None:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    @contextmanager
    def transaction(
        self, clock: Clock, need: Need = TAKES, on_news: Callable[[int], None] | None = None
    ) -> Iterator[Step]:
        """Write in here: all of it, or on any exception nothing.

        :param need: the room that this takes on the disk.
        :param on_news: told afterwards how many tasks there are to take, if there are.
        :raises ConnectionLost, QueueFull, InvalidTask: instead of any error of SQLite's.
        """
        with self.lock:
            if self._writing:  # a signal handler, say: what it interrupted must stay whole
                raise ConnectionLost(f"This thread is in the middle of writing to {self.path}.")
            connection = self._connected()
            try:
                try:  # taken inside, so that an interrupt at any point undoes it
                    self._writing = True
                    self._take_turn()
                    self._room.make(connection, need)
                    connection.execute("BEGIN IMMEDIATE")
                    step = Step(connection, clock.time(), self.identity)
                    yield step
                    step.finish()
                    connection.execute("COMMIT")
                    self.commits += 1
                except BaseException:
                    self._roll_back(connection)
                    raise
                finally:
                    self._writing = False
                    self._end_turn()
            except _DRIVER_ERRORS as err:
                raise self._translated(err) from err
        if step.news and on_news:
            on_news(step.news)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read in here; every statement sees what was committed before it."""
        with self.lock:
            connection = self._connected()
            try:
                yield connection
            except _DRIVER_ERRORS as err:
                raise self._translated(err) from err

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            with suppress(sqlite3.Error):
                connection.close()
            self._connection = None

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
            self.close()
        return ConnectionLost(f"SQLite file {self.path} cannot be used: {with_stop(str(err))}")

    def close(self) -> None:
        """Close the connection of this process, if any; the next use opens it again."""
        with self.lock:
            connection, lock_file = self._connection, self._lock_file
            self._connection, self._lock_file = None, -1
            if lock_file >= 0:
                os.close(lock_file)
            if connection is None:
                return
            if self._pid == os.getpid():
                with suppress(sqlite3.Error):
                    connection.close()
            else:
                sqlite_fork.abandon(connection)

    def close_for_fork(self) -> None:
        """Close, unless this very thread is in the middle of a transaction."""
        if not self._writing:
            self.close()

    def renew(self) -> None:
        """In the child of a fork: give up what is the parent's, whichever thread held it."""
        self.lock = threading.RLock()
        self.line = Line()
        self._writing = False
        self.close()  # no connection of the parent, but the descriptor of the lock
