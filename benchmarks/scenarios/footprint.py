"""Measure the commands, CPU and memory of an idle worker, and the time of an import."""

import contextlib
import socket
import time

from benchmarks.catalog import Library
from benchmarks.environment import LibraryEnvironment
from benchmarks.scenarios import Figures, Scale

#: Seconds that a worker gets to come to rest after its first tasks.
REST = 2.0


def idle(library: Library, scale: Scale) -> Figures:
    """Return redis commands/s of an idle worker (with those in scripts, too), CPU and memory."""
    with LibraryEnvironment(library) as environment:
        worker = environment.worker()
        environment.warm(worker, 100)
        time.sleep(REST)
        calls, cpu, started = _calls(environment), worker.cpu_seconds(), time.monotonic()
        sent = _sent(environment, scale.idle)
        took = time.monotonic() - started
        return {
            "sent": sent / took,
            "commands": (_calls(environment) - calls) / took,
            "cpu_percent": (worker.cpu_seconds() - cpu) / took * 100,
            "rss_mb": worker.rss_mb(),
        }


def _sent(environment: LibraryEnvironment, seconds: float) -> int:
    """Return the commands that reach the server in that time, as its MONITOR shows them."""
    assert environment.server is not None
    with socket.create_connection(("127.0.0.1", environment.server.port)) as monitor:
        monitor.sendall(b"MONITOR\r\n")
        time.sleep(seconds)
        monitor.setblocking(False)
        shown = b""
        with contextlib.suppress(BlockingIOError):
            while part := monitor.recv(65536):
                shown += part
    lines = shown.split(b"\r\n")[1:]  # the first answers us
    return sum(1 for line in lines if line and b" lua] " not in line)


def _calls(environment: LibraryEnvironment) -> int:
    """Return the commands that the server has run, without those of this call."""
    ours = ("cmdstat_info", "cmdstat_monitor", "cmdstat_client|setinfo", "cmdstat_hello")
    found = environment.info("commandstats").items()
    return sum(stat["calls"] for name, stat in found if name not in ours)


def imports(library: Library, scale: Scale) -> Figures:
    """Return the milliseconds of the import in a new interpreter: the median of five."""
    with LibraryEnvironment(library) as environment:
        took = sorted(environment.producer("import_ms") for _ in range(5))
    return {"ms": took[2]}
