"""Keep idle connections alive, and replace any that may be lost.

A firewall or a NAT forgets a connection that was idle for long, mostly without telling either end;
what is sent then vanishes. So the kernel probes our connections while they are idle, and a client
replaces one that was unused for :data:`RENEW_AFTER` seconds before it uses it. (A probe of the
client's own would cost less where the connection works, but a wait where it does not.)
"""

import socket

#: Seconds without use after which a connection is replaced by a new one.
RENEW_AFTER = 20.0

_QUIET = 15  # seconds without traffic before the first probe
_EVERY = 5  # seconds between two probes without an answer
_PROBES = 3  # after so many without an answer the connection counts as lost

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
    """Let the kernel probe a TCP connection while it is idle."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in TCP_OPTIONS.items():
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
