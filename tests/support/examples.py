"""Start the example applications as their READMEs say, and stop them as Ctrl-C does."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import ROOT


def start(folder: Path, *command: str, **environment: str) -> subprocess.Popen:
    """Start Python in the folder of an example; what it prints can be read."""
    path = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, **path, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


class Running:
    """An example that runs.

    ``address`` is where it listens; once it was stopped, ``code`` is its exit code, and ``said``
    what it printed from then on.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.code, self.said = -1, ""


@contextmanager
def running(folder: Path, announced: str, **environment: str) -> Iterator[Running]:
    """Run ``start.py`` of an example until the end of the block.

    :param announced: a pattern for the line that it prints once it listens; its group is the
        address.
    """
    process = start(folder, "start.py", "--port=0", **environment)
    try:
        lines = (re.search(announced, line) for line in process.stdout)
        found = Running(next(filter(None, lines))[1])
        yield found
        process.send_signal(signal.SIGINT)
        found.said, _ = process.communicate(timeout=40)
        found.code = process.returncode
    finally:
        process.kill()
        process.wait()
