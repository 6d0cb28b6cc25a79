"""Serve the metrics of a worker, or of all worker processes of a supervisor, over HTTP.

The processes share a directory, as the multi-process mode of ``prometheus_client`` has it: each
writes its metrics, those of your own code as well, to files there, and the process that serves
reads them. So what a process counted stays when it is killed.

A process names its files by a number that no live process has, and goes on where the one before
stopped. So there are as many files as there were processes at a time, and not one for each that
ever ran.
"""

import logging
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from alligator.common import after_fork
from alligator.contrib.prometheus.collector import GatorCollector
from alligator.contrib.prometheus.middleware import PrometheusMiddleware
from alligator.exceptions import AlligatorException
from alligator.gator import Gator, reconfigure

try:
    import fcntl
except ImportError as err:  # Windows
    raise AlligatorException(
        "--metrics-port is not supported on this system, which has no fcntl; serve the metrics in "
        "a program of your own by alligator.contrib.prometheus.PrometheusMiddleware."
    ) from err

#: Names the directory, to ``prometheus_client``.
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

#: Seconds that a connection may say nothing.
_PATIENCE = 10.0

#: Bytes that a file takes from the start: on a full disk, a process that writes would be killed.
#: This is enough for the metrics of Alligator, with long names.
_ROOM = {"counter": 1 << 20, "histogram": 4 << 20}

#: Seconds until the thread that serves sees that it is to stop.
_LOOK = 0.1

_PREFIX = "alligator_metrics_"

#: A file in the directory that is locked for as long as its owner lives.
_OWNER = "owner.lock"


class Exporter:
    """Answers on one port with the metrics of all processes that share its directory.

    :param port: 0: any that is free.
    :raises AlligatorException: the port cannot be used, or the directory not be made.
    """

    def __init__(self, host: str, port: int) -> None:
        self._pid = os.getpid()
        try:
            _remove_abandoned()
            self.folder: str = tempfile.mkdtemp(prefix=_PREFIX)
            self._own()
        except OSError as err:
            raise AlligatorException(f"No directory for metrics can be made: {err}") from err
        self.registry: CollectorRegistry = CollectorRegistry()
        try:
            MultiProcessCollector(self.registry, self.folder)  # type: ignore[no-untyped-call]
            self._server = _listen(host, port)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self._server.set_app(make_wsgi_app(self.registry))
        self._server_thread = threading.Thread(
            target=self._server.serve_forever,
            args=(_LOOK,),
            name="alligator-metrics-http",
            daemon=True,
        )
        self._before: tuple[str | None, Any] = os.environ.get(VARIABLE), values.ValueClass
        after_fork.renew_in_children(self)

    def _own(self) -> None:
        # Under another name, until it is locked: else another process would take it for abandoned.
        made, named = (Path(self.folder, name) for name in ("made", _OWNER))
        self._lock = os.open(made, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        made.rename(named)

    @property
    def url(self) -> str:
        """Where the metrics are."""
        host, port = self._server.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else host
        return f"http://{shown!s}:{port}/metrics"

    def __enter__(self) -> Self:
        self._server_thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if os.getpid() != self._pid:
            return  # a forked child: it serves nothing
        self._server.shutdown()
        self._server.server_close()
        os.close(self._lock)
        variable, values.ValueClass = self._before
        if variable is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = variable
        shutil.rmtree(self.folder, ignore_errors=True)

    def renew(self) -> None:
        """In a forked child, let go of the port: the child may outlive this process."""
        self._server.socket.close()

    def share(self) -> None:
        """Let the processes that are started from now on write to the directory, and not this."""
        os.environ[VARIABLE] = self.folder
        values.ValueClass = values.MutexValue

    def measure(self, gator: Gator, log: logging.Logger) -> None:
        """Tell of the queues and workers of a Gator, too, and log where."""
        self.registry.register(GatorCollector(gator))
        log.info("Metrics are at %s", self.url)


def write_metrics() -> None:
    """Let this process write its metrics to the directory that the environment names.

    Call it before the code of the application is imported, which may make metrics.

    :raises AlligatorException: that directory cannot be written.
    """
    folder = os.environ.get(VARIABLE, "")
    try:
        number = _Number(folder)
    except OSError as err:
        raise AlligatorException(f"Metrics cannot be written to {folder}: {err}") from err
    values.ValueClass = values.MultiProcessValue(number)  # type: ignore[no-untyped-call]


def count_tasks(gator: Gator) -> None:
    """Have the tasks of a Gator counted, unless its application has seen to that."""
    if not any(isinstance(each, PrometheusMiddleware) for each in gator.middleware):
        # A registry of its own: the application may have a metric of the same name.
        made = PrometheusMiddleware(CollectorRegistry())
        reconfigure(gator, middleware=[made])
        if (share := getattr(gator, "share_middleware", None)) is not None:
            share(made)  # with Django, tasks push by other Gators than their worker's


class _Number:
    """Returns the number of this process in the directory: the lowest that no other one has.

    A process has it for as long as it lives, and as its forked children live.

    :raises OSError: the directory cannot be written, or the disk is full.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._take()

    def __call__(self) -> str:
        if os.getpid() != self._pid:
            self._take()  # a forked child
        return self._name

    def _take(self) -> None:
        for number in count():
            # Never closed: it is locked for as long as this process lives.
            file = os.open(self._folder / f"{number}.lock", os.O_CREAT | os.O_RDWR, 0o600)
            if _lock(file):
                break
            os.close(file)
        self._pid, self._name = os.getpid(), str(number)
        # The process that had it before is dead, and so are its live gauges.
        mark_process_dead(self._name, str(self._folder))  # type: ignore[no-untyped-call]
        for kind, size in _ROOM.items():
            self._make_room(self._folder / f"{kind}_{self._name}.db", size)

    def _make_room(self, path: Path, size: int) -> None:
        if not path.exists() and hasattr(os, "posix_fallocate"):
            file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
            try:
                os.posix_fallocate(file, 0, size)
            finally:
                os.close(file)


def _lock(file: int) -> bool:
    """Lock a file; return False if another process has done so."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_abandoned() -> None:
    """Remove the directories of processes that were killed, once no other process uses them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it is of another user, or is gone, or is being made
            if folder.lstat().st_uid == os.getuid() and _is_abandoned(folder):
                shutil.rmtree(folder)


def _is_abandoned(folder: Path) -> bool:
    files = list[int]()
    try:
        for path in (folder / _OWNER, *folder.glob("*.lock")):
            files.append(os.open(path, os.O_RDWR | os.O_NOFOLLOW))
        return all(_lock(each) for each in files[1:])
    finally:
        for each in files:
            os.close(each)


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Log nothing: each scrape would be a line."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Bind the port, and do not ask for the name of the host, which may take long."""
        TCPServer.server_bind(self)
        host, self.server_port = self.server_address[:2]
        self.server_name = str(host)
        self.setup_environ()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that went away."""


def _listen(host: str, port: int) -> _Server:
    """Return a server that is bound to a port, and serves nothing yet.

    :raises AlligatorException: it cannot be bound.
    """
    try:
        family, *_, address = _addresses(host, port)[0]

        class Server(_Server):
            address_family = family

        return Server(address[:2], _Handler)
    except OSError as err:
        reason = (err.strerror or str(err)).lower()
        raise AlligatorException(
            f"Metrics cannot be served on {host}, port {port}: {reason}; choose another one with "
            "--metrics-port."
        ) from err


def _addresses(host: str, port: int) -> Sequence[Any]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
