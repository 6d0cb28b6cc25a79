"""Start one server process on loopback, wait until it is ready, and stop it by its own handle."""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support import markers


def free_port() -> int:
    """Return a TCP port on which no process listens now.

    It is below the ports that the system gives to outgoing connections, so that none of them takes
    it before a server does; and random, so that no other process of the tests chooses it too.
    """
    chance = random.SystemRandom()  # hypothesis makes all others repeat themselves
    while True:
        port = chance.randrange(15_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def accepts(port: int) -> bool:
    """Whether something answers on that port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def need(program: str) -> str:
    """Return the path of a program; skip on a laptop that lacks it, fail in CI."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        lack(f"{program} is not installed; 'make servers' installs it")
    return path


def lack(message: str) -> NoReturn:
    """Skip a test on a laptop that lacks something, fail it in CI."""
    pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)


class Server:
    """A server under test. ``ready`` is polled until true, at most ``within`` seconds.

    :param kind: the marker of the tests that need it.
    """

    def __init__(
        self, kind: str, argv: Sequence[str], ready: Callable[[], bool], folder: Path
    ) -> None:
        self.kind = kind
        self.argv, self.ready, self.folder = list(argv), ready, folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, within: float = 60.0) -> "Server":
        """Start it and wait until it answers."""
        markers.check(self.kind)
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(self.argv, stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + within
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / "server.log").read_text(errors="replace")[-2000:]
                self.stop()
                raise RuntimeError(f"{self.argv[0]} did not come up:\n{said}")
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """Ask it to end, then make it."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
