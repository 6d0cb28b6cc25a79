"""Turn a DSN into the options that redis-py is constructed with."""

import re
from dataclasses import dataclass, field
from typing import Any

from redis.backoff import NoBackoff
from redis.retry import Retry

from alligator.backends.dsn import DSN, flag, mask_password, parse_dsn, seconds
from alligator.backends.keepalive import TCP_OPTIONS
from alligator.exceptions import InvalidDSN

_COMMON = ("connect_timeout", "timeout", "client_name")
_TLS = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
_TLS_SWITCHES = ("ssl_check_hostname", "ssl_verify")
_SENTINEL = ("sentinel_username", "sentinel_password")

#: Scheme → (how to reach the server, whether over TLS).
_SCHEMES = {
    "redis": ("tcp", False),
    "rediss": ("tcp", True),
    "valkey": ("tcp", False),
    "valkeys": ("tcp", True),
    "redis+unix": ("unix", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}

_NOT_NEEDED = "leave it out: connections are opened as needed, kept alive, and closed again."
_TLS_SCHEME = "write rediss:// for TLS; a certificate is verified unless ssl_verify=false."

#: Parameters of other libraries → what to write instead.
_HINTS = {
    name: hint
    for names, hint in (
        ("ssl tls use_ssl use_tls", _TLS_SCHEME),
        ("ssl_ca_data ssl_cafile ca_certs", "write ssl_ca_certs=/path/to/a/file.pem."),
        ("socket_timeout read_timeout command_timeout", "write timeout=10 (seconds)."),
        ("socket_connect_timeout", "write connect_timeout=5 (seconds)."),
        ("user username password passwd", "write it before the host: user:password@host."),
        (
            "master master_name service_name sentinel_master",
            "write redis+sentinel://host:26379/mymaster/0.",
        ),
        ("cluster", "write redis+cluster://host1,host2."),
        ("path unix_socket_path unixsocket", "write redis+unix:///run/redis.sock?db=0."),
        ("max_connections health_check_interval socket_keepalive protocol encoding", _NOT_NEEDED),
        ("retry retry_on_timeout retry_on_error decode_responses", _NOT_NEEDED),
        ("visibility_timeout lease", "leave it out: it is the lease of a worker, --lease."),
    )
    for name in names.split()
}


def _hints(kind: str, tls: bool, query: str) -> dict[str, str]:
    """Return the hints for one way to reach a server."""
    hints = dict(_HINTS)
    if kind == "cluster":
        where = "leave it out: a cluster has only database 0."
    else:
        found = re.search(r"(?:^|&)(?:db|database|virtual_host)=/?(\d{1,6})(?:&|$)", query)
        number = found[1] if found else "0"
        places = {"sentinel": "redis+sentinel://host:26379/mymaster/", "unix": "?db="}
        where = f"write the database as {places.get(kind, 'the path: redis://host:6379/')}{number}."
    hints |= dict.fromkeys(("db", "database", "virtual_host"), where)
    verify = "write ssl_verify=false for 'none', and nothing for 'required'."
    hints |= dict.fromkeys(("ssl_cert_reqs", "cert_reqs"), verify if tls else _TLS_SCHEME)
    return dict.fromkeys((*_TLS, *_TLS_SWITCHES), _TLS_SCHEME) | hints


@dataclass(frozen=True)
class Target:
    """Where the server is."""

    kind: str  # tcp, unix, sentinel or cluster
    tls: bool
    hosts: list[tuple[str, int]]
    options: dict[str, Any] = field(repr=False)  # of every connection
    master: str = ""  # sentinel: the name of the service
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)


def parse_target(conn_string: str) -> Target:
    """Read a DSN.

    :raises InvalidDSN: it cannot be used as it is.
    """
    scheme = conn_string.partition("://")[0]
    if scheme not in _SCHEMES:
        known = ", ".join(f"{each}://" for each in _SCHEMES)
        raise InvalidDSN(
            f"DSN {mask_password(conn_string)!r} begins with none of the known schemes: {known}."
        )
    kind, tls = _SCHEMES[scheme]
    allowed = _COMMON + (_TLS + _TLS_SWITCHES if tls else ())
    allowed += {"unix": ("db",), "sentinel": _SENTINEL}.get(kind, ())
    port = 26379 if kind == "sentinel" else 6379
    hints = _hints(kind, tls, conn_string.partition("?")[2])
    dsn = parse_dsn(conn_string, port, allowed=allowed, hints=hints)
    network = _network_options(dsn, kind, tls)
    options = {**network, "username": dsn.username, "password": dsn.password}
    if "client_name" in dsn.query:
        options["client_name"] = dsn.query["client_name"]
    if kind == "sentinel":
        master, _, db = dsn.path.partition("/")
        if not master:
            raise _bad(conn_string, "names no master: redis+sentinel://host:26379/master/0")
        own = {name.removeprefix("sentinel_"): dsn.query.get(name) for name in _SENTINEL}
        options["db"] = _database(db, conn_string)
        return Target(kind, tls, dsn.hosts, options, master, {**network, **own})
    if kind == "unix":
        if not dsn.path:
            raise _bad(conn_string, "names no socket: redis+unix:///run/redis.sock?db=0")
        options["path"] = f"/{dsn.path}"
        options["db"] = _database(dsn.query.get("db", ""), conn_string)
    elif kind == "tcp":
        if len(dsn.hosts) > 1:
            raise _bad(conn_string, "names several hosts, as only sentinels and clusters have")
        options |= {"host": dsn.host, "port": dsn.port}
        options["db"] = _database(dsn.path.rstrip("/"), conn_string)
    elif dsn.path.strip("/") not in ("", "0"):
        raise _bad(conn_string, "names a database, but a cluster has only 0")
    return Target(kind, tls, dsn.hosts, options)


def _network_options(dsn: DSN, kind: str, tls: bool) -> dict[str, Any]:
    # The driver's own retries are off: to repeat a reserve whose reply got lost would lease other
    # tasks, and no worker would know of the first. RESP2 has no push messages, which would be
    # mistaken for replies.
    options: dict[str, Any] = {
        "socket_connect_timeout": seconds(dsn, "connect_timeout", 5.0),
        "socket_timeout": seconds(dsn, "timeout", 10.0),
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "driver_info": None,
    }
    if kind != "unix":
        options |= {"socket_keepalive": True, "socket_keepalive_options": TCP_OPTIONS}
    if tls:
        options |= {name: dsn.query[name] for name in _TLS if name in dsn.query}
        verify = flag(dsn, "ssl_verify", True)
        options["ssl_cert_reqs"] = "required" if verify else "none"
        options["ssl_check_hostname"] = verify and flag(dsn, "ssl_check_hostname", True)
    return options


def _database(text: str, conn_string: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise _bad(conn_string, f"names the database {text!r}, which is not a number")
    return int(text or 0)


def _bad(conn_string: str, problem: str) -> InvalidDSN:
    return InvalidDSN(f"DSN {mask_password(conn_string)!r} {problem}.")
