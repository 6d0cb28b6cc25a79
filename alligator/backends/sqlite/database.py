"""Share one SQLite file between processes: open it, lock it fairly, close it around a fork.

SQLite's own waiting for a lock is a lottery that a process can lose for good. So writers queue up
first: threads at a lock, processes at an ``flock`` on a file beside the database. (Never on the
database: closing any descriptor of it drops SQLite's own locks.) No writer waits for ever; see
:mod:`alligator.backends.sqlite.lock`.

SQLite keeps its locks per process *and* in memory. A child of a fork inherits the memory without
the locks. A connection of its own to the same file would rely on locks that no process holds; once
another process closes the file, the log goes, with what the child wrote to it. So the files are
closed before a fork.
"""

import atexit
import errno
import os
import random
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alligator.backends.sqlite.closed_descriptors import Descriptors
from alligator.backends.sqlite.disk_reserve import TAKES, DiskSpace, Need
from alligator.backends.sqlite.group_commit import GroupCommit
from alligator.backends.sqlite.lock import (
    Holder,
    ThreadLock,
    close_generator,
    lock_file,
    name_of_lock,
    runs,
)
from alligator.backends.sqlite.schema import make_tables
from alligator.backends.sqlite.transaction import Identity, Transaction
from alligator.backends.sqlite.wakeup import Wakeup
from alligator.common.after_fork import at_fork
from alligator.common.clock import Clock
from alligator.common.descriptors import FileId, close_if, identity, open_numbers
from alligator.common.text import with_stop
from alligator.exceptions import AlligatorException, ConnectionLost, InvalidTask, QueueFull

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

_AT_ONCE = 0 if fcntl is None else fcntl.LOCK_EX | fcntl.LOCK_NB

#: Seconds that SQLite itself waits for a lock; only checkpoints and other programs hold it.
_BUSY_TIMEOUT = 10.0

#: Seconds to wait for another thread that uses a connection which is to be closed; and before a
#: fork, which goes on after that all the same.
_PATIENCE, _PATIENCE_TO_FORK = 1.0, 5.0

#: A commit wakes at most so many workers, which wake more if they leave work.
_CALLS = 8

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


class Database:
    """The connection of this process to the file. Its methods may be called by any thread.

    :param synchronous: the level: NORMAL or FULL.
    :param clock: for the time of a transaction.
    """

    def __init__(self, path: Path, synchronous: str, clock: Clock) -> None:
        self.path = path
        self.clock = clock
        self.wakeup = Wakeup(path)
        self._name = str(path)
        self.lock_path = name_of_lock(path)
        self.commits = 0  # of this process, which the version of the database does not show to it
        self.opened = 0  # how often: the file may have become another
        self.lock = ThreadLock(path)
        self.pushes = GroupCommit()
        self._synchronous = synchronous
        self._disk = DiskSpace(path)
        self._pid = 0
        self._inode = 0
        self.identity: Identity = (0, 0)  # of the file that is open
        self._connection: sqlite3.Connection | None = None
        self._lock_file = -1
        self._lock_identity: FileId | None = None
        self._mark = random.randrange(1 << 40, 1 << 42)  # noqa: S311 - to know the lock file again
        self._descriptors = Descriptors()
        self._writing: Holder | None = None
        with _registry_lock:
            _databases[:] = [
                *(each for each in _databases if each() is not None),
                weakref.ref(self),
            ]

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
        # If the file was deleted or replaced, tasks put into the old one would be lost.
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
                self._use_log()
                make_tables(self._connection)
                (number,) = self._connection.execute(
                    "SELECT n FROM alligator_counters WHERE queue = '' AND state = -3"
                ).fetchone()
                self.identity = (number, self._inode)
                self._descriptors.find(self.path, before)
            finally:
                if fcntl is not None and self._lock_file >= 0:
                    fcntl.flock(self._lock_file, fcntl.LOCK_UN)
        except BaseException:
            self._close()
            raise

    def _use_log(self) -> None:
        """Set the file to write-ahead logging.

        SQLite does not wait for the lock that this needs. Where turns cannot be taken by a lock
        file, two processes that open a new file meet there.
        """
        assert self._connection is not None
        until = time.monotonic() + _BUSY_TIMEOUT
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as err:
                if "locked" not in str(err) or time.monotonic() > until:
                    raise
                time.sleep(0.01)
            else:
                return

    def _open_lock_file(self) -> None:
        # No link that another user put there: it could make us create a file anywhere.
        flags = os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
        self._lock_file = os.open(self.lock_path, flags, 0o600)
        self._lock_identity = identity(self._lock_file)
        os.lseek(self._lock_file, self._mark, os.SEEK_SET)

    def _holds_lock_file(self) -> bool:
        # By our position in it, which is beyond its end: that costs a third of a stat.
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
            # Other code closed it. With the database open, that was closed as well, most likely:
            # the lock file would take its number, and SQLite for the database.
            if err.errno != errno.EBADF or self._connection is not None:
                raise
            self._open_lock_file()
            lock_file(self._lock_file, self.path, self._look_at_others)

    def _look_at_others(self) -> None:
        # Other connections of this process: one may have left a transaction open, on which we wait.
        for other in self._others():
            writer = other._writing
            if writer is not None and not runs(writer[0]):
                close_generator(writer)

    @contextmanager
    def transaction(self, need: Need = TAKES) -> Iterator[Transaction]:
        """Write in here: all of it, or on any exception nothing. Then wake workers for what is new.

        :param need: the room that this takes on the disk.
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
                    except OSError:  # another writer has it
                        self._take_turn()
                    self._disk.ensure(connection, need)
                    connection.execute("BEGIN IMMEDIATE")
                    tx = Transaction(connection, self.clock.time(), self.identity)
                    yield tx
                    tx.finish()
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
        if tx.news:
            self.wakeup.call(min(tx.news, _CALLS))

    def _end_abandoned(self, writer: Holder, *, nested: bool) -> None:
        """Undo a transaction that an exception left open on the way into or out of the ``with``.

        As long as its traceback is kept, the generators that it went through do not close.

        :raises ConnectionLost: the transaction is not over: this is a signal handler, say.
        """
        if nested and runs(writer[0]):
            raise ConnectionLost(f"This thread is in the middle of writing to {self.path}.")
        close_generator(writer)

    def version(self) -> tuple[int, int, int]:
        """Return another value after each commit, of whichever process."""
        with self.reading() as connection:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            return version, self.commits, self.opened

    def connect_beside(self) -> sqlite3.Connection:
        """Return another connection, for a long read that blocks no writer. Close it after use."""
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
            if taken and taken[0]:  # in no function of ours: see lock.py
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
        if code == sqlite3.SQLITE_IOERR and self._disk.is_used_up():
            self.close()  # there is no room for the files that SQLite keeps beside the database
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
        """Close it, with the lock of threads taken.

        :raises ConnectionLost: descriptors of it lead to other files now.
        """
        number, self._lock_file = self._lock_file, -1
        close_if(number, self._lock_identity)  # first: it may have a number that was SQLite's
        if self._connection is not None and self._pid != os.getpid():
            _keep_open(self._connection)
            self._connection, self._descriptors = None, Descriptors()
        elif self._descriptors.intact():
            self._close_connection()
        else:
            self._close_lost()

    def _close_connection(self) -> None:
        connection, self._connection = self._connection, None
        descriptors, self._descriptors = self._descriptors, Descriptors()
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()
        for other in self._others():
            other._descriptors.take_over(descriptors)
            break

    def _others(self) -> "Iterator[Database]":
        """Yield the others that have a connection of this process to the same file."""
        for other in _alive():
            if other is self or other.path != self.path or other._pid != os.getpid():
                continue
            if other._connection is not None:
                yield other

    def _close_lost(self) -> None:
        # With all others, since the connections of a process share what SQLite knows of a file.
        self._disarm()
        for other in self._others():
            other._close_beside()
        descriptors = self._descriptors
        self._close_connection()
        descriptors.clear()

    def _disarm(self) -> None:
        number = self._descriptors.disarm()
        if number is not None:
            _keep_open(self._connection)
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
        """Give up the parent's connection and locks, in the child of a fork."""
        self.lock = ThreadLock(self.path)
        self.pushes = GroupCommit()
        self._writing = None
        self._close()  # keeps the parent's connection open, and closes the lock file

    def __del__(self) -> None:
        with suppress(Exception):
            self._close()


def _target(number: int) -> str:
    try:
        return ascii(os.readlink(f"/dev/fd/{number}"))  # noqa: PTH115
    except OSError:
        return "another file"


_registry_lock = threading.RLock()
# No WeakSet: its callbacks would swallow the exception of a timeout that comes up in them.
_databases: list[weakref.ref[Database]] = []
_locked: list[Database] = []  # for a fork
_kept_open: list[object] = []  # never to be closed here, nor by a collector


def _alive() -> list[Database]:
    return [found for each in list(_databases) if (found := each()) is not None]


def _keep_open(connection: object) -> None:
    """Keep a connection from being closed, unless by a call; also as the interpreter ends."""
    if not any(each is connection for each in _kept_open):
        _kept_open.append(connection)
        with suppress(ImportError):
            import ctypes  # not before it is needed: it takes a while

            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def _before_fork() -> None:
    _registry_lock.acquire()
    for each in sorted(
        _alive(), key=id
    ):  # one order for all threads, so that none wait in a circle
        if each.lock.acquire(timeout=_PATIENCE_TO_FORK):
            _locked.append(each)
            each.close_for_fork()


def _after_fork_in_parent() -> None:
    while _locked:
        _locked.pop().lock.release()
    _registry_lock.release()


def _after_fork_in_child() -> None:
    global _registry_lock
    _registry_lock = threading.RLock()
    _locked.clear()
    for each in _alive():
        each.renew()


at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)


@atexit.register
def _close_all() -> None:
    for each in _alive():
        if each.lock.acquire(timeout=_PATIENCE):
            try:
                each.close_for_fork()
            finally:
                each.lock.release()
