"""Start an emulator of SQS that speaks its protocol over HTTP: moto's server."""

import functools
import http.server
import json
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

import botocore.loaders
import pytest

from tests.support.servers.process import Server, accepts, free_port

#: What boto3 must find to talk to an emulator, which takes any.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_EC2_METADATA_DISABLED": "true",
}

# moto's queues have no locks: with a thread switch in the middle of a receive, it would hand
# out one message twice. A long switch interval leaves switches to where a thread waits.
_RUN = "import sys; sys.setswitchinterval(5); from moto.server import main; main(sys.argv[1:])"


class MotoServer(Server):
    """Queues in memory, of any name, once they are made."""

    def __init__(self, folder: Path) -> None:
        pytest.importorskip("moto.server")
        self.port = free_port()
        argv = [sys.executable, "-c", _RUN, "-H", "127.0.0.1", "-p", str(self.port)]
        super().__init__("sqs", argv, lambda: accepts(self.port), folder)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def dsn(self) -> str:
        """Where it is, for a client."""
        return f"sqs://us-west-2/?endpoint_url={quote(self.url, safe='')}"


_loader = functools.lru_cache(botocore.loaders.create_loader)


def use_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set credentials, and read boto3's descriptions of AWS once rather than per client."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("botocore.session.create_loader", _loader)


def make_queue(conn: Any, name: str, **attributes: str) -> str:
    """Create a queue and return its URL."""
    if name.endswith(".fifo"):
        attributes["FifoQueue"] = "true"
    return conn.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]


class ThrottlingProxy:
    """Passes requests on to the emulator, but refuses ``throttled`` operations as SQS does."""

    def __init__(self, behind: str) -> None:
        self.throttled: set[str] = set()
        self.refused = 0
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
                if operation in proxy.throttled:
                    proxy.refused += 1
                    said = {"__type": "com.amazonaws.sqs#RequestThrottled", "message": "Slower."}
                    error = {"x-amzn-query-error": "RequestThrottled;Sender"}
                    self._answer(400, error, json.dumps(said).encode())
                    return
                request = urllib.request.Request(behind + self.path, body, dict(self.headers))
                try:
                    with urllib.request.urlopen(request, timeout=30) as reply:
                        self._answer(reply.status, {}, reply.read())
                except urllib.error.HTTPError as err:
                    self._answer(err.code, {}, err.read())

            def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, text in headers.items():
                    self.send_header(name, text)
                self.send_header("Content-Type", "application/x-amz-json-1.0")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def dsn(self) -> str:
        """Where it is, for a client."""
        url = f"http://127.0.0.1:{self._server.server_port}"
        return f"sqs://us-west-2/?endpoint_url={quote(url, safe='')}"

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
