"""Connections that nobody used for a while: how a lost one is noticed.

A firewall or a NAT forgets a connection that was quiet for long, mostly without a word to either
end; what is sent then vanishes. So the kernel keeps ours from being quiet, and one that was
unused for :data:`RENEW_AFTER` seconds is replaced before it is used. (To ask whether it still
works costs less where it does, but a wait where it does not.)
"""

import socket

#: Seconds without use after which a connection is replaced by a new one.
RENEW_AFTER = 20.0

_QUIET = 15  # seconds without traffic before the first probe
_EVERY = 5  # seconds between two probes that nobody answered
_PROBES = 3  # so many in vain, and the connection is taken for lost

#: The options of TCP for this, by number, as far as this platform has them.
TCP_OPTIONS: dict[int, int] = {
    getattr(socket, name): value
    for name, value in (
        ("TCP_KEEPIDLE", _QUIET),
        ("TCP_KEEPALIVE", _QUIET),  # its name on macOS
        ("TCP_KEEPINTVL", _EVERY),
        ("TCP_KEEPCNT", _PROBES),
    )
    if hasattr(socket, name)
}


def keep_alive(sock: socket.socket) -> None:
    """Let the kernel probe a TCP connection while it is quiet."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in TCP_OPTIONS.items():
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
