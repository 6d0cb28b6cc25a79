"""Format the table that ``make chaos`` prints."""

import platform
import shutil
import sqlite3
import subprocess
import sys
from datetime import date
from importlib.metadata import version

import alligator
from chaos.rows import Row

_COLUMNS = (
    ("loop", 24),
    ("backend", 10),
    ("faults", 7),
    ("ack'd", 7),
    ("done", 7),
    ("lost", 5),
    ("dup", 5),
    ("unexp", 6),
    ("buried", 7),
    ("recovery p50 / max", 19),
    ("time", 7),
    ("note", 0),
)
HEADER = "".join(name.ljust(width) for name, width in _COLUMNS)


def line(row: Row) -> str:
    """Return a row as one line, and what is wrong below it."""
    recovery = f"{row.recovery_p50:.2f} / {row.recovery_max:.2f} s" if row.recovery else "-"
    lost = f"{row.lost}+{row.lost_by_server}" if row.lost_by_server else row.lost
    cells = [row.loop, row.backend, row.faults, row.acknowledged, row.completed, lost]
    cells += [
        row.duplicated,
        row.unexpected,
        row.buried,
        recovery,
        f"{row.seconds:.0f} s",
        row.note,
    ]
    text = "".join(str(cell).ljust(width) for cell, (_, width) in zip(cells, _COLUMNS, strict=True))
    return "\n".join([text.rstrip(), *(f"    WRONG: {each}" for each in row.wrong)])


def versions() -> str:
    """Return the versions of all programs that ran, and the date."""
    parts = [f"Alligator {alligator.version()}", f"Python {platform.python_version()}"]
    parts += [_said("redis-server", "--version"), _said("beanstalkd", "-v")]
    parts += [f"SQLite {sqlite3.sqlite_version}", f"moto {version('moto')}"]
    parts += [f"{platform.system()} {platform.release()}", date.today().isoformat()]
    return " · ".join(part for part in parts if part)


def _said(program: str, flag: str) -> str:
    path = shutil.which(program, path="/usr/bin:/usr/local/bin:/usr/sbin:/opt/homebrew/bin")
    if path is None:
        return ""
    words = subprocess.run([path, flag], capture_output=True, text=True).stdout.split()
    number = next((word for word in words if word.lstrip("v=")[:1].isdigit()), "")
    return f"{program} {number.removeprefix('v=')}"


if __name__ == "__main__":
    sys.stdout.write(versions() + "\n")
