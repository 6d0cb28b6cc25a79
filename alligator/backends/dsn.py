"""Parse and check connection strings (DSNs), and mask their passwords."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from urllib.parse import parse_qsl, unquote

from alligator.common.text import with_stop
from alligator.exceptions import InvalidDSN

# Not urlsplit, which takes one host and, in newer Pythons, no list of hosts with brackets.
_PARTS = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<netloc>[^/?]*)(?P<path>/[^?]*)?(?:\?(?P<query>.*))?"
)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_PARAMETER = re.compile(r"([?&][^=&]*=)([^&]*)")
# Instead of a port: a password, say, without its @.
_NO_PORT = re.compile(r"((?:^|,)(?:\[[^\]]*\]|[^:,\[]*):)(?!\d{0,5}(?:,|$))[^,]*")
_SHOWN = re.compile(
    r"[?&](?:connect_timeout|timeout|client_name|db|synchronous|ttr|endpoint_url|ssl_\w+)="
)


def mask_password(conn_string: str) -> str:
    """Return the DSN with ``***`` for all that is, or may be, a password.

    A malformed one is shown with less rather than more: a lone user name may be a password
    in the wrong place, an unknown parameter a misspelt one.
    """
    match = _SCHEME.match(conn_string)
    head, rest = (match[0], conn_string[match.end() :]) if match else ("", conn_string)
    if not rest.startswith("/") or not match:
        credentials, at, where = rest.rpartition("@")
        user, colon, _ = credentials.partition(":")
        if at and match and not set(user) & {"/", "?"}:
            rest = f"{user}:***@{where}" if colon else f"***@{where}"
        elif at and not match:
            rest = f"***@{where}"
        elif match and not at:
            hosts = re.match(r"(?:\[[^\]]*\]|[^/?])*", rest)
            assert hosts is not None  # it matches nothing at all, too
            rest = _NO_PORT.sub(r"\1***", hosts[0]) + rest[hosts.end() :]
    return head + _PARAMETER.sub(_mask_parameter, rest)


def _mask_parameter(found: re.Match[str]) -> str:
    shown = _SHOWN.fullmatch(found[1]) and "@" not in found[2]
    return found[0] if shown else f"{found[1]}***"


@dataclass(frozen=True, slots=True)
class DSN:
    """A connection string by its parts."""

    scheme: str
    hosts: list[tuple[str, int]]
    path: str  # without the leading slash
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    query: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def host(self) -> str:
        """The first host."""
        return self.hosts[0][0]

    @property
    def port(self) -> int:
        """The port of the first host."""
        return self.hosts[0][1]


def parse_dsn(
    conn_string: str,
    default_port: int = 0,
    default_host: str = "localhost",
    allowed: tuple[str, ...] = (),
    hints: Mapping[str, str] | None = None,
) -> DSN:
    """Parse ``scheme://user:password@host:port,host:port/path?query``.

    User and password may be percent-encoded. A missing host or port (``redis://localhost:``)
    takes the default.

    :param allowed: the query parameters that this backend knows; others are refused, so
        that a typo is not ignored.
    :param hints: what to write instead of parameters that other libraries have.
    :raises InvalidDSN: it cannot be read; the message never shows a password.
    """
    shown = mask_password(conn_string)
    parts = _PARTS.fullmatch(conn_string)
    if parts is None:
        raise InvalidDSN(f"DSN {shown!r} is not scheme://user:password@host:port/path?query.")
    if "@" in f"{parts['path']}{parts['query']}" and ":" in parts["netloc"]:
        raise InvalidDSN(
            f"DSN {shown!r} has an '@' after its hosts; percent-encode '/', '?' and '@' "
            "in a password as %2F, %3F and %40."
        )
    try:
        query = dict(_pairs(parts["query"]))
    except ValueError as err:
        raise InvalidDSN(f"DSN {shown!r} cannot be read: {with_stop(str(err))}") from None
    for name in query:
        if name not in allowed:
            raise unknown_parameter(shown, name, allowed, hints or {})
    credentials, _, addresses = parts["netloc"].rpartition("@")
    username, colon, password = credentials.partition(":")
    default = (default_host, default_port)
    hosts = [_host_port(address, default, shown) for address in addresses.split(",")]
    return DSN(
        scheme=parts["scheme"],
        hosts=hosts,
        path=unquote((parts["path"] or "").removeprefix("/")),
        username=unquote(username) or None,
        password=unquote(password) if colon else None,
        query=query,
    )


def unknown_parameter(
    shown: str, name: str, allowed: Sequence[str], hints: Mapping[str, str]
) -> InvalidDSN:
    """Return the error for a query parameter that a backend does not know.

    :param shown: the DSN, with its passwords masked.
    :param hints: as for :func:`parse_dsn`.
    """
    known = ", ".join(sorted(allowed)) or "none"
    hint = hints.get(name.lower(), "")
    if not hint and (near := get_close_matches(name.lower(), allowed, 1, 0.7)):
        hint = f"did you mean {near[0]!r}?"
    problem = f"DSN {shown!r} has the unknown parameter {name!r}; known here: {known}."
    return InvalidDSN(f"{problem} {hint[:1].upper()}{hint[1:]}".rstrip())


def _pairs(query: str | None) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []


def _host_port(address: str, default: tuple[str, int], shown: str) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[^\]]+\]|[^:]*)(?::(\d{0,5}))?", address)
    if not match or (match[2] and not 0 < int(match[2]) < 65536):
        raise InvalidDSN(f"DSN {shown!r} does not name host or host:port (1 to 65535).")
    return (match[1].strip("[]") or default[0], int(match[2]) if match[2] else default[1])


def flag(dsn: DSN, name: str, default: bool = False) -> bool:
    """Return a query parameter that is ``true`` or ``false`` (also 1/0, yes/no, on/off)."""
    text = dsn.query.get(name)
    if text is None:
        return default
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise InvalidDSN(f"DSN parameter {name}={text!r} is neither true nor false.")


def seconds(dsn: DSN, name: str, default: float) -> float:
    """Return a query parameter that is a positive number of seconds."""
    text = dsn.query.get(name)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise InvalidDSN(f"DSN parameter {name}={text!r} is not a positive number of seconds.")
    return value
