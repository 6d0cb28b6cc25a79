"""Serve the dashboard by WSGI (PEP 3333)."""

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from alligator.web.http.messages import MAX_BODY, Request, Response

Handler = Callable[[Request], Response]
StartResponse = Callable[..., Any]


def serve(
    handle: Handler, environ: dict[str, Any], start_response: StartResponse
) -> Iterable[bytes]:
    """Answer one request."""
    response = handle(request_of(environ))
    phrase = HTTPStatus(response.status).phrase
    start_response(f"{response.status} {phrase}", list(response.headers))
    return [response.body]


def request_of(environ: dict[str, Any]) -> Request:
    """Return the request of an environ. WSGI decodes bytes as Latin-1; here they become UTF-8."""
    headers = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_") or name in ("CONTENT_TYPE", "CONTENT_LENGTH")
    }
    return Request(
        environ["REQUEST_METHOD"].upper(),
        "/" + _text(environ.get("PATH_INFO", "")).lstrip("/"),
        environ.get("QUERY_STRING", ""),
        headers,
        _body(environ),
        _text(environ.get("SCRIPT_NAME", "")).rstrip("/"),
        environ,
    )


def _text(value: str) -> str:
    return value.encode("latin-1", "replace").decode("utf-8", "replace")


def _body(environ: dict[str, Any]) -> bytes:
    length = environ.get("CONTENT_LENGTH") or "0"
    size = min(int(length), MAX_BODY + 1) if length.isdecimal() else 0
    return environ["wsgi.input"].read(size) if size else b""
