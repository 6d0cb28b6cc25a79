"""Serve the dashboard by ASGI (version 3). Each request is answered in a thread of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from alligator.web.http.messages import MAX_BODY, Request, Response

Handler = Callable[[Request], Response]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def serve(handle: Handler, scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer one request; agree to start and to end."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
        return
    if scope["type"] != "http":
        raise ValueError(f"The dashboard serves HTTP, and no {scope['type']!r}.")
    body = b""
    while len(body) <= MAX_BODY:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    response = await asyncio.to_thread(handle, request_of(scope, body))
    headers = [(name.lower().encode(), value.encode()) for name, value in response.headers]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


def request_of(scope: dict[str, Any], body: bytes) -> Request:
    """Return the request of a scope."""
    root, path = scope.get("root_path", "").rstrip("/"), scope["path"]
    headers = {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
    }
    return Request(
        scope["method"].upper(),
        "/" + _below(path, root, scope).lstrip("/"),
        scope.get("query_string", b"").decode("latin-1"),
        headers,
        body,
        root,
        scope,
    )


def _below(path: str, root: str, scope: dict[str, Any]) -> str:
    """Return the part of a path below the dashboard.

    The specification has a path include the root. A proxy that strips what it is told in front of
    an application does not: then the path begins where that application is, and what Starlette
    mounted follows.
    """
    for each in (root, root.removeprefix(scope.get("app_root_path", "").rstrip("/"))):
        if each and (path == each or path.startswith(f"{each}/")):
            return path[len(each) :]
    return path


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
