"""Find out how a SQLite file is kept, and what of that may lose tasks."""

import os
import shutil
import sqlite3
import stat
from pathlib import Path

from alligator.backends.base import Finding
from alligator.backends.sqlite.database import Database

#: Free bytes of the disk below which there is a warning.
_FEW_BYTES = 256 << 20

#: Bytes up to which a file is read whole, to look for damage.
_LARGEST_CHECKED = 1 << 30


def all_findings(database: Database) -> list[Finding]:
    """Return all that :meth:`Client.examine` has to say."""
    with database.reading() as connection:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        (level,) = connection.execute("PRAGMA synchronous").fetchone()
        tables = {
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'alligator_%'"
            )
        }
    return [
        Finding("version", f"SQLite {sqlite3.sqlite_version}"),
        _persistence(str(mode), int(level)),
        Finding("schema", f"its {len(tables)} tables are there"),
        _damage(database),
        *_permissions(database.path),
        _disk(database.path),
        Finding("clock", "the clock of this machine counts"),
    ]


def _persistence(mode: str, level: int) -> Finding:
    if mode != "wal":
        text = f"the file is in journal mode {mode}, not WAL, so readers and writers wait"
        advice = "move it to a disk of this machine: network file systems allow no WAL"
        return Finding("persistence", text, advice, must_change=True)
    if level >= 2:
        return Finding("persistence", "each commit is flushed to the disk (synchronous=FULL)")
    return Finding(
        "persistence",
        "commits survive a crash of the program; a power cut may lose the last ones",
        "add ?synchronous=FULL to the DSN if that matters; it costs a flush for each commit",
    )


def _damage(database: Database) -> Finding:
    if database.path.stat().st_size > _LARGEST_CHECKED:
        return Finding("integrity", "the file is too large to be read whole here")
    connection = database.connect_beside()
    try:
        (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    finally:
        connection.close()
    if answer == "ok":
        return Finding("integrity", "the file is not damaged")
    text = f"the file is damaged: {answer}"
    return Finding("integrity", text, "restore it from a backup", must_change=True)


def _permissions(path: Path) -> list[Finding]:
    about = path.stat()
    mode = stat.S_IMODE(about.st_mode)
    found = [Finding("permissions", f"this user may read and write the file (mode {mode:04o})")]
    if mode & 0o077:
        text = f"other users have rights on the file (mode {mode:04o})"
        advice = "run chmod 600 on it, unless they are meant to: who can write to it can run code"
        found = [Finding("permissions", text, advice)]
    if hasattr(os, "geteuid") and about.st_uid != os.geteuid():
        text = "the file belongs to another user"
        advice = "run workers and producers as one user, or see that both may write to the file"
        found.append(Finding("permissions", text, advice))
    return found


def _disk(path: Path) -> Finding:
    free = shutil.disk_usage(path.parent).free
    text = f"{free / (1 << 20):,.0f} MiB are free on the disk"
    if free < _FEW_BYTES:
        return Finding("disk", text, "make room: on a full disk no task is taken", must_change=True)
    return Finding("disk", text)
