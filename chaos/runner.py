"""Run one loop, on a backend and in a folder of its own."""

import importlib
import tempfile
import time
from pathlib import Path

from chaos.environment import open_environment
from chaos.rows import Row


def run_one(name: str, backend: str, size: int) -> Row:
    """Run one loop on a backend of its own; if the loop crashes, return a row that says so."""
    loop = importlib.import_module(f"chaos.loops.{name}")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        try:
            with open_environment(backend, Path(folder)) as environment:
                row: Row = loop.run(environment, size)
        except Exception as err:
            row = Row(name, backend, size, 0, 0, 0, 0, 0, wrong=[f"{type(err).__name__}: {err}"])
    row.seconds = row.seconds or time.monotonic() - started
    return row
