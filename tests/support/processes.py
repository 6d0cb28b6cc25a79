"""Start Python processes for a test, and end them with it."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import ROOT


@contextmanager
def processes(folder: Path, **options: bool) -> Iterator[Callable[..., subprocess.Popen]]:
    """Yield a function that starts Python in a folder; kill what it started at the end.

    It takes Python's arguments, and ``out``: the file for what the process prints.

    :param folder: also where a process finds modules, beside the project's own.
    :param options: of ``subprocess.Popen``.
    """
    started = []
    path = f"{ROOT}{os.pathsep}{folder}"

    def start(*arguments: str, out: str = "out") -> subprocess.Popen:
        with (folder / out).open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
                stdout=file,
                stderr=subprocess.STDOUT,
                **options,
            )
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
            process.wait()
