"""Serve the dashboard alone, without an application around it: with cheroot, in threads.

Cheroot is what CherryPy is built on: it is maintained, pure Python, bounded in what it reads of a
request, and ends in order.
"""

import errno
import ipaddress
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from alligator.common.text import shorten
from alligator.exceptions import InvalidTask
from alligator.web.access import HEADERS
from alligator.web.dashboard import Dashboard
from alligator.web.http.messages import MAX_BODY
from alligator.workers.signals import Handlers

try:
    from cheroot import wsgi
except ImportError as err:
    raise ImportError(
        "Package 'cheroot' is not installed; pip install 'alligator[dashboard]' brings it."
    ) from err

log = logging.getLogger(__name__)

#: Requests that are answered at a time.
THREADS = 8

#: The most bytes of the head of a request.
_MAX_HEAD = 64_000


class Server:
    """Serves a dashboard until it is told to stop.

    :param host: the address to listen at; ``'0.0.0.0'`` and ``'::'``: all of them.
    :param port: 0: one that is free.
    :param prefix: the path at which a proxy shows it, such as ``'/queues'``; the proxy passes the
        whole path on.
    :param host_names: the names by which browsers may ask for it; None: any. See
        :class:`KnownHosts`.
    :raises InvalidTask: it cannot listen there.
    """

    def __init__(
        self,
        dashboard: Dashboard,
        host: str = "127.0.0.1",
        port: int = 8023,
        *,
        prefix: str = "",
        host_names: Collection[str] | None = None,
    ) -> None:
        self._prefix = quote("/".join(("", *filter(None, prefix.split("/")))))
        self._dashboard = dashboard
        application = dashboard.wsgi
        if self._prefix:
            application = Below(unquote(self._prefix, "latin-1"), application)
        if host_names is not None:
            application = KnownHosts(host_names, application)
        self._server = _Cheroot((host, port), application, THREADS, server_name="alligator")
        self._server.max_request_header_size = _MAX_HEAD
        self._server.max_request_body_size = 2 * MAX_BODY
        try:
            self._server.prepare()
        except (OSError, OverflowError, UnicodeError) as err:
            raise InvalidTask(_no_socket(host, port, str(err))) from err
        self._host = host

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        port = self._server.socket.getsockname()[1]
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self._host, self._host)  # noqa: S104 - a wildcard is no address
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        return f"http://{host}:{port}{self._prefix}/"

    def run(self, when_ready: Callable[[], object] = lambda: None) -> None:
        """Serve until SIGINT or SIGTERM, and then end what is being answered.

        Meanwhile, it records once a minute how full the queues are.

        :param when_ready: called once a signal would end it in order.
        """
        stops: list[int] = []
        serving = threading.Thread(target=self._server.serve, name="dashboard", daemon=True)
        with Handlers(stops.append), self._dashboard.recording():
            serving.start()
            when_ready()
            while serving.is_alive() and not stops:
                serving.join(0.2)  # a signal does not end it
        self.close()
        serving.join(5)

    def close(self) -> None:
        """Stop listening, and end the threads."""
        self._server.stop()


class _Cheroot(wsgi.Server):
    """Logs what it would print."""

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """Log a message about a request that could not be served."""
        log.log(max(level, logging.INFO), "%s", shorten(msg, 1000), exc_info=traceback)


class Below:
    """Shows an application below a path, as a proxy passes it on.

    :param prefix: as WSGI has it, with each byte as one character.
    """

    def __init__(self, prefix: str, application: Callable[..., Any]) -> None:
        self._prefix, self._application = prefix, application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """Answer one request."""
        path = environ.get("PATH_INFO", "")
        if path == self._prefix or path.startswith(f"{self._prefix}/"):
            rest = path[len(self._prefix) :]
            inner = {**environ, "SCRIPT_NAME": self._prefix, "PATH_INFO": rest}
            return self._application(inner, start_response)
        there = quote(self._prefix, encoding="latin-1")
        text = f"The dashboard is at {there}/ here.\n"
        headers = (("Location", f"{there}/"),) if path in ("", "/") else ()
        return _answer(start_response, "302 Found" if headers else "404 Not Found", text, headers)


class KnownHosts:
    """Refuses a request for a host by a name that is not its own.

    A foreign page may let its own name point to 127.0.0.1, and so read what listens only there
    (DNS rebinding). An address and ``localhost`` cannot be pointed elsewhere.
    """

    def __init__(self, names: Collection[str], application: Callable[..., Any]) -> None:
        self._names = {name.lower() for name in names}
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        """Answer one request."""
        name = host_name(environ.get("HTTP_HOST", ""))
        if is_address(name) or name == "localhost" or name in self._names:
            return self._application(environ, start_response)
        text = (
            f"This dashboard has no host name {shorten(name, 100)!r}. If it shall have it, start "
            "it with --allow-host, or with a password in ALLIGATOR_DASHBOARD_AUTH.\n"
        )
        return _answer(start_response, "403 Forbidden", text)


def host_name(host: str) -> str:
    """Return the name, or the address, in a ``Host`` header, in small letters."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_address(host: str) -> bool:
    """Whether a host is an IP address, and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens at a host."""
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def _answer(
    start_response: Callable[..., Any],
    status: str,
    text: str,
    headers: Iterable[tuple[str, str]] = (),
) -> list[bytes]:
    body = text.encode()
    start_response(
        status,
        [
            *HEADERS,
            *headers,
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
        ],
    )
    return [body]


def _no_socket(host: str, port: int, text: str) -> str:
    where = f"{shorten(host, 100)} port {port}"
    if os.strerror(errno.EADDRINUSE) in text:
        return f"Something listens at {where} already; choose another with --port."
    if os.strerror(errno.EACCES) in text:
        return f"You may not listen at {where}; choose a --port from 1024 up."
    if os.strerror(errno.EADDRNOTAVAIL) in text:
        return f"This machine has no address {shorten(host, 100)}; choose another --host."
    return f"Nothing can listen at {where}: {shorten(text, 300)}"
