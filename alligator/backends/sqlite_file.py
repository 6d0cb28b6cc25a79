"""One SQLite file shared by processes: opened, locked fairly, reopened after a fork.

SQLite's own waiting for a lock is a lottery in which a process can lose for good, so
writers queue up first: threads at a lock, processes at an ``flock`` on a file of its own.
(Never on the database: closing any descriptor of that drops SQLite's own locks.)
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qsl

from alligator.exceptions import AlligatorException, ConnectionLost, InvalidDSN, QueueFull

try:
    import fcntl
except ImportError:  # not a Unix: SQLite's own waiting has to do
    fcntl = None  # type: ignore[assignment]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS tasks (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    task_id TEXT NOT NULL,
    data NOT NULL,
    state INTEGER NOT NULL,         -- WAITING, DELAYED, RUNNING of alligator.constants
    priority INTEGER NOT NULL,
    place INTEGER NOT NULL,         -- order among its like; negative: a delay that ended
    due REAL NOT NULL,              -- 0: now
    pushed_at REAL NOT NULL,
    ticket INTEGER NOT NULL DEFAULT 0,  -- of the lease
    attempt INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0,
    lease_ends REAL NOT NULL DEFAULT 0,
    next_data,                      -- pushed under this id while it ran
    next_due REAL,
    next_priority INTEGER,
    UNIQUE (queue, task_id)
);
CREATE INDEX IF NOT EXISTS tasks_ready ON tasks (queue, priority DESC, place) WHERE state = 0;
CREATE INDEX IF NOT EXISTS tasks_due ON tasks (queue, due) WHERE state = 3;
CREATE INDEX IF NOT EXISTS tasks_leased ON tasks (queue, lease_ends) WHERE state = 6;
CREATE TABLE IF NOT EXISTS dead (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    task_id TEXT NOT NULL,
    data NOT NULL,
    error TEXT NOT NULL,
    traceback TEXT NOT NULL,
    died_at REAL NOT NULL,
    attempts INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    UNIQUE (queue, task_id)
);
-- How many tasks of a queue are in a state: counting rows takes 20 ms in a million.
CREATE TABLE IF NOT EXISTS counts (
    queue TEXT NOT NULL, state INTEGER NOT NULL, n INTEGER NOT NULL,
    PRIMARY KEY (queue, state)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tickets (one INTEGER PRIMARY KEY CHECK (one = 1), n INTEGER NOT NULL);
INSERT OR IGNORE INTO tickets VALUES (1, 0);
CREATE TRIGGER IF NOT EXISTS count_in AFTER INSERT ON tasks BEGIN
    INSERT INTO counts VALUES (NEW.queue, NEW.state, 1)
        ON CONFLICT (queue, state) DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER IF NOT EXISTS count_out AFTER DELETE ON tasks BEGIN
    UPDATE counts SET n = n - 1 WHERE queue = OLD.queue AND state = OLD.state;
END;
CREATE TRIGGER IF NOT EXISTS count_moved AFTER UPDATE OF state ON tasks
WHEN OLD.state <> NEW.state BEGIN
    UPDATE counts SET n = n - 1 WHERE queue = OLD.queue AND state = OLD.state;
    INSERT INTO counts VALUES (NEW.queue, NEW.state, 1)
        ON CONFLICT (queue, state) DO UPDATE SET n = n + 1;
END;
"""

#: How long SQLite itself waits for a lock, in seconds; only checkpoints and strangers hold it.
_BUSY_TIMEOUT = 10.0


def parse_file_dsn(conn_string: str) -> tuple[Path, str]:
    """Return the absolute path and the ``synchronous`` level of ``sqlite://path?synchronous=``.

    The path is what follows ``//``: ``sqlite:///tmp/q.db`` is absolute, ``sqlite://q.db``
    relative to the current directory.

    :raises InvalidDSN: no path, ``:memory:``, or an unknown parameter.
    """
    path, _, query = conn_string.partition("://")[2].partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    level = options.pop("synchronous", "NORMAL").upper()
    if options or level not in ("NORMAL", "FULL"):
        raise InvalidDSN(
            f"DSN {conn_string!r}: the one parameter is synchronous=NORMAL or synchronous=FULL."
        )
    if path.strip("/") in ("", ":memory:"):
        raise InvalidDSN(
            f"DSN {conn_string!r} names no file; for queues in memory there is locmem://."
        )
    return Path(path).absolute(), level


class SqliteFile:
    """The connection of this process to the file. Its methods may be called by any thread."""

    def __init__(self, path: Path, synchronous: str) -> None:
        self.path = path
        self._synchronous = synchronous
        self._lock = threading.RLock()
        self._pid = 0
        self._connection: sqlite3.Connection | None = None
        self._lock_file = -1
        self._abandoned: list[object] = []  # of the parent: not ours to close

    @property
    def connection(self) -> sqlite3.Connection:
        """The open connection; opens one, with its tables, where there is none.

        :raises ConnectionLost: the file cannot be opened, or is no database.
        """
        with self._lock:
            if self._pid != os.getpid():
                self._abandoned.append(self._connection)
                self._connection, self._lock_file = None, -1
            if self._connection is None:
                with self.translated():
                    self._connection = self._open()
            return self._connection

    def renew_lock(self) -> None:
        """After a fork: a thread of the parent may have held the lock."""
        self._lock = threading.RLock()

    def _open(self) -> sqlite3.Connection:
        if not self.path.parent.is_dir():
            raise ConnectionLost(f"Folder {self.path.parent} does not exist; create it first.")
        for name in (self.path, self.lock_path):  # SQLite gives its own files the same mode
            # Only a file that is new: to close one that another connection of this process
            # has open would drop SQLite's locks, and another process could then delete the log.
            with suppress(FileExistsError):
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(
            self.path,
            timeout=_BUSY_TIMEOUT,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
        try:
            self._lock_file = os.open(self.lock_path, os.O_RDWR | os.O_CLOEXEC)
            self._pid = os.getpid()
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            with self._locked():
                connection.execute("PRAGMA journal_mode=WAL")
                connection.executescript(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection

    @property
    def lock_path(self) -> Path:
        """The file that writers queue up at."""
        return self.path.with_name(self.path.name + ".lock")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if fcntl is None:
            yield
            return
        fcntl.flock(self._lock_file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write in here: all of it, or on any exception nothing.

        :raises ConnectionLost, QueueFull: see :meth:`translated`.
        """
        with self._lock:
            connection = self.connection
            with self.translated(), self._locked():
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):
                        if connection.in_transaction:
                            connection.execute("ROLLBACK")
                    raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read in here; every statement sees what was committed before it."""
        with self._lock, self.translated():
            yield self.connection

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn SQLite's errors into Alligator's."""
        try:
            yield
        except AlligatorException:
            raise
        except (sqlite3.Error, OSError) as err:
            if "full" in str(err) or "No space" in str(err):
                raise QueueFull(f"There is no room for {self.path}: {err}.") from err
            raise ConnectionLost(f"SQLite file {self.path} cannot be used: {err}.") from err

    def close(self) -> None:
        """Close the connection of this process, if any."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
                os.close(self._lock_file)
            self._connection, self._lock_file, self._pid = None, -1, 0
