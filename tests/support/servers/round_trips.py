"""Count how often this process waits for a server: the round trips, whatever the driver."""

import socket
import threading
import weakref

import pytest

_READS = ("recv", "recv_into")
_WRITES = ("send", "sendall")


class RoundTrips:
    """Count in ``count`` how often a request was sent and then a reply read.

    It watches sockets that are connected to ``port``. Requests in one write are one round trip.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, port: int) -> None:
        self.count = 0
        self._port = port
        self._spoke: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()
        for names, note in ((_WRITES, self._wrote), (_READS, self._read)):
            for name in names:
                monkeypatch.setattr(socket.socket, name, _noting(name, note))

    def _wrote(self, sock: socket.socket) -> None:
        with self._lock:
            if sock.family == socket.AF_INET and sock.getpeername()[1] == self._port:
                self._spoke.add(sock)

    def _read(self, sock: socket.socket) -> None:
        with self._lock:
            if sock in self._spoke:
                self._spoke.discard(sock)
                self.count += 1


def _noting(name, note):
    real = getattr(socket.socket, name)

    def method(self, *args):
        note(self)
        return real(self, *args)

    return method
