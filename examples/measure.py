"""The task of the demo: compress a file, and note down how large it is with and without."""

import os
import zlib
from pathlib import Path


def measure(path: str, report: str) -> None:
    """Compress one Python file and append a line on it to the report.

    :raises UnicodeDecodeError: it is not UTF-8, so no Python source.
    :raises FileNotFoundError: it is gone.
    """
    raw = Path(path).read_bytes()
    raw.decode("utf-8")
    packed = len(zlib.compress(raw, 6))
    note(report, f"done\t{len(raw)}\t{packed}\t{os.getpid()}\t{path}")


def note_failure(task: object, err: Exception) -> None:
    """Append a line on a failed try; the hook ``on_error`` of every task."""
    path, report = task.func_args  # type: ignore[attr-defined]
    note(report, f"failed\t0\t0\t{os.getpid()}\t{path}")


def note(report: str, line: str) -> None:
    """Append one line in one write, so that lines of several processes do not mix."""
    descriptor = os.open(report, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode("utf-8", "surrogateescape"))
    finally:
        os.close(descriptor)
