"""Copy a SQLite file that is in use, as it stood at one moment."""

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from alligator.backends.sqlite.database import Database
from alligator.common.text import with_stop
from alligator.exceptions import ConnectionLost, InvalidTask, QueueNotFound


def backup(database: Database, target: Path) -> None:
    """Copy the database to a new file; see ``Client.backup``."""
    if not target.parent.is_dir():
        raise QueueNotFound(f"Folder {target.parent} does not exist; create it first.")
    if os.path.lexists(target):
        raise InvalidTask(f"{target} is there already, and a backup overwrites nothing.")
    # It gets its name once it is complete and on the disk.
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        try:
            with closing(database.connect_beside()) as connection:
                connection.execute("VACUUM INTO ?", (str(partial),))
            _sync(partial)
            _link(partial, target)
        finally:
            for suffix in ("", "-journal", "-wal", "-shm"):
                Path(f"{partial}{suffix}").unlink(missing_ok=True)
        with suppress(OSError):  # not every system can
            _sync(target.parent)
    except FileExistsError as err:
        raise InvalidTask(f"{err.filename2 or err.filename} is there already.") from err
    except (sqlite3.Error, OSError) as err:
        raise ConnectionLost(f"No backup was made as {target}: {with_stop(str(err))}") from err


def _link(partial: Path, target: Path) -> None:
    try:
        os.link(partial, target)  # unlike a rename, it replaces nothing
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(target):
            raise FileExistsError(17, "it has just been made", str(target)) from None
        partial.rename(target)


def _sync(path: Path) -> None:
    # Windows flushes only what may be written.
    number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)
