"""Decide who may see the dashboard, who may act, and whether a request came from its own pages."""

import hmac
from base64 import b64decode
from collections.abc import Callable
from typing import Literal
from urllib.parse import urlsplit

from alligator.exceptions import InvalidTask
from alligator.web.http.messages import Request, Response

#: What a visitor may do; None: nothing, the dashboard is forbidden.
Access = Literal["all", "read_only"] | None

#: Nothing is loaded but what the dashboard itself serves, and no script or style stands in a page.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

#: Headers of each response. No ``Referrer-Policy: no-referrer``: a browser would then send
#: ``Origin: null`` with a form, and :func:`is_own` could not tell it from a foreign one.
HEADERS = (
    ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


def read_only(_request: Request) -> Access:
    """Let each visitor look, and none act: the default."""
    return "read_only"


def allow_actions(_request: Request) -> Access:
    """Let each visitor look and act."""
    return "all"


def resolve(resolver: Callable[[Request], Access], request: Request) -> Access:
    """Return what a visitor may do.

    :raises InvalidTask: the resolver returned something else.
    """
    found = resolver(request)
    if found not in ("all", "read_only", None):
        raise InvalidTask(
            f"resolve_access returned {found!r:.60}; return 'all', 'read_only', or None to forbid."
        )
    return found


def is_own(request: Request) -> bool:
    """Whether a request that changes something came from a page of this site.

    A browser says so in ``Sec-Fetch-Site``. Where it does not, as over plain HTTP, the host of
    ``Origin`` must be that of the request. A client that sends neither is no browser, so no foreign
    page has made it act. (The rule of Go 1.25, ``net/http.CrossOriginProtection``.)
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = request.headers.get("origin")
    if origin is None:
        return True
    try:
        host = urlsplit(origin).netloc
    except ValueError:
        return False
    return bool(host) and host == request.headers.get("host")


class BasicAuth:
    """Ask for a name and a password (RFC 7617).

    :param credentials: ``'name:password'``.
    :raises InvalidTask: they are not of that form.
    """

    def __init__(self, credentials: str) -> None:
        name, colon, password = credentials.partition(":")
        if not (name and colon and password):
            raise InvalidTask("The credentials of the dashboard are no 'name:password'.")
        self._wanted = credentials.encode()

    def refuse(self, request: Request) -> Response | None:
        """Return what asks for the password; None: the request has it."""
        kind, _, encoded = request.headers.get("authorization", "").partition(" ")
        try:
            given = b64decode(encoded.strip(), validate=True) if kind.lower() == "basic" else b""
        except ValueError:
            given = b""
        if hmac.compare_digest(given, self._wanted):
            return None
        asks = 'Basic realm="Alligator", charset="UTF-8"'
        return Response(
            401,
            b"Give the name and the password of this dashboard.\n",
            (("WWW-Authenticate", asks), ("Content-Type", "text/plain; charset=utf-8")),
        )
