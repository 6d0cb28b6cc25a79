"""Serve the style sheet, the script and the mark of the dashboard."""

import hashlib
from functools import cache
from importlib.resources import files

from alligator.web.http.messages import Request, Response

#: Nothing else is served, whatever the path says.
TYPES = {
    "style.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "theme.js": "text/javascript; charset=utf-8",
    "mark.svg": "image/svg+xml",
}


def answer(request: Request) -> Response:
    """Return a file, or 404."""
    name = request.path.removeprefix("/static/")
    if name not in TYPES:
        return Response(404, b"There is no such file.\n", (("Content-Type", "text/plain"),))
    body, tag = _read(name)
    headers = (("Content-Type", TYPES[name]), ("ETag", tag), ("Cache-Control", "max-age=300"))
    if tag in request.headers.get("if-none-match", ""):
        return Response(304, b"", headers)
    return Response(200, body, headers)


@cache
def _read(name: str) -> tuple[bytes, str]:
    body = (files("alligator.web") / "static" / name).read_bytes()
    return body, f'"{hashlib.sha256(body).hexdigest()[:20]}"'


def version() -> str:
    """Return what changes with the files, for their URLs."""
    return hashlib.sha256("".join(_read(name)[1] for name in TYPES).encode()).hexdigest()[:10]
