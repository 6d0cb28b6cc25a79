"""A request and a response, as every server and framework has them."""

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs

#: How text that is no text is written in URLs: bytes of an id as they came, all else as ``?``.
URL_ERRORS = "alligator.url"


def _escape_or_replace(err: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(err, UnicodeEncodeError):
        raise err
    code = ord(err.object[err.start])
    return bytes([code - 0xDC00]) if 0xDC80 <= code <= 0xDCFF else "?", err.start + 1


codecs.register_error(URL_ERRORS, _escape_or_replace)

#: The most bytes of a form that are read.
MAX_BODY = 1_000_000

#: The most fields of a query or a form.
_MAX_FIELDS = 1_000


@dataclass(frozen=True)
class Request:
    """What a browser asks for.

    :param method: in capitals.
    :param path: below the place where the dashboard is mounted, decoded, with a slash at its start.
    :param root: the path at which it is mounted, without a slash at its end.
    :param headers: by their names in small letters.
    :param original: what the framework calls a request (an environ, a scope, a ``HttpRequest``);
        for ``resolve_access``.
    """

    method: str
    path: str
    query_string: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    root: str = ""
    original: Any = None

    @cached_property
    def query(self) -> dict[str, list[str]]:
        """The fields of the query, each with all its values."""
        return _fields(self.query_string)

    @cached_property
    def form(self) -> dict[str, list[str]]:
        """The fields of a form that was sent; none, if something else was."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            return {}
        return _fields(self.body.decode("utf-8", "surrogateescape"))

    def first(self, name: str, default: str = "") -> str:
        """Return the first value of a field of the query."""
        return self.query.get(name, [default])[0]


@dataclass(frozen=True)
class Response:
    """What a browser gets."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


def _fields(text: str) -> dict[str, list[str]]:
    try:
        return parse_qs(
            text, keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="surrogateescape"
        )
    except ValueError:  # too many of them
        return {}
