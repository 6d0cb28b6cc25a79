"""Serve the dashboard as a view of Django."""

import re
from collections.abc import Callable
from typing import Any

from alligator.web.http.messages import Request, Response

#: A converter in a path of Django, such as ``<int:year>``; no named group of a regular expression.
_CONVERTER = re.compile(r"(?<!\?P)<[^>]*>")


def serve(
    handle: Callable[[Request], Response],
    request: Any,
    path: str | None = None,
    **_captured: object,
) -> Any:
    """Answer one request of Django.

    :param path: the part of the path below the dashboard, as the pattern of the URL found it. None,
        as with ``re_path('^queues/', …)``: it is what follows the match.
    """
    from django.http import HttpResponse

    matched = request.resolver_match
    if path is None:
        path = _rest(request.path_info, matched.route if matched is not None else "")
    root = request.path[: len(request.path) - len(path)].rstrip("/")
    headers = {name.lower(): value for name, value in request.headers.items()}
    found = handle(
        Request(
            request.method.upper(),
            "/" + path.lstrip("/"),
            request.META.get("QUERY_STRING", ""),
            headers,
            _body(request),
            root,
            request,
        )
    )
    response = HttpResponse(found.body, status=found.status)
    for name, value in found.headers:
        response[name] = value
    return response


def _body(request: Any) -> bytes:
    """Return what was sent; nothing, if Django has parsed it as something that no page sends."""
    from django.http import RawPostDataException

    try:
        return bytes(request.body)
    except RawPostDataException:
        return b""


def _rest(path: str, route: str) -> str:
    path = path.lstrip("/")
    match = re.match(_CONVERTER.sub("[^/]+", route), path) if route else None
    return path[match.end() :] if match else path
