"""Run a TCP proxy on loopback that breaks connections: cut, reset, delayed, or swallowed."""

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Self

_CHUNK = 65536


@dataclass(frozen=True)
class Fault:
    """What happens to one connection once ``after`` bytes of ``way`` have passed.

    ``how``: 'cut' closes it, also in the middle of a message; 'reset' does so with a RST; 'hole'
    leaves it open and lets nothing through any more, either way; 'none' leaves it alone.
    ``delay``: seconds that each piece is late.
    """

    how: str = "none"
    after: int = 0
    way: str = "replies"  # or "requests"
    delay: float = 0.0


def now_and_then(mean: int, *, holes: float = 0.0) -> Callable[[], Fault]:
    """Return a chooser: a fault after so many bytes on average, in requests and in replies.

    :param holes: the share of black holes; the rest is cut.
    """

    def choose() -> Fault:
        how = "hole" if random.random() < holes else "cut"
        way = "replies" if random.random() < 0.7 else "requests"
        return Fault(how, int(random.expovariate(1 / mean)), way)

    return choose


class Proxy:
    """Forwards to a port on loopback; each connection gets the fault that ``choose`` returns.

    ``accepted`` and ``broken`` count connections, ``broken_at`` says when (Unix seconds).
    A connection is closed at once while no server listens behind. ``before_loss`` is called when
    :meth:`lose_next` takes effect, before any peer can know.
    """

    def __init__(self, port: int, choose: Callable[[], Fault] = Fault) -> None:
        self.behind, self.choose = port, choose
        self.accepted = 0
        self.broken_at: list[float] = []
        self.before_loss: Callable[[], object] = lambda: None
        self._next: list[tuple[str, str]] = []
        self._forgotten: set[socket.socket] = set()
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def broken(self) -> int:
        """How many connections were cut or swallowed."""
        return len(self.broken_at)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        self.cut_all()

    def cut_all(self) -> None:
        """Break every connection that is open now."""
        for pair in list(self._pairs):
            for each in pair:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def forget_all(self) -> None:
        """Forget open connections, as a firewall does: nothing passes, and no peer is told."""
        for client, _ in list(self._pairs):
            self._forgotten.add(client)

    def lose_next(self, way: str = "replies", how: str = "cut") -> None:
        """Swallow the next piece of that way, and then 'cut' or 'reset' its connection."""
        self._next.append((way, how))

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                server = socket.create_connection(("127.0.0.1", self.behind), 2)
            except OSError:
                client.close()
                continue
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs.add((client, server))
            threading.Thread(target=self._serve, args=[client, server], daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        try:
            self._forward(client, server, self.choose())
        except OSError:
            pass  # one of the two has hung up
        finally:
            self._pairs.discard((client, server))
            self._forgotten.discard(client)
            client.close()
            server.close()

    def _forward(self, client: socket.socket, server: socket.socket, fault: Fault) -> None:
        left = fault.after if fault.how != "none" else None
        counted = server if fault.way == "replies" else client
        swallowing = False
        while not self._closed:
            for source in wait([client, server], 0.2):
                piece = source.recv(_CHUNK)
                if client in self._forgotten:
                    self._swallow(client, server)
                    return
                if not piece:
                    return
                if swallowing:
                    continue
                way = "requests" if source is client else "replies"
                if self._next and self._next[0][0] == way:
                    self._lose(client, self._next.pop(0)[1])
                    return
                if fault.delay:
                    time.sleep(fault.delay)
                ends = left is not None and source is counted and len(piece) >= left
                target = client if source is server else server
                target.sendall(piece[:left] if ends else piece)
                if left is not None and source is counted:
                    left -= len(piece)
                if ends:
                    self.broken_at.append(time.time())
                    swallowing = fault.how == "hole"
                    if not swallowing:
                        if fault.how == "reset":
                            _reset(client)
                        return

    def _lose(self, client: socket.socket, how: str) -> None:
        self.broken_at.append(time.time())
        self.before_loss()
        if how == "reset":
            _reset(client)

    def _swallow(self, client: socket.socket, server: socket.socket) -> None:
        """Tell neither end what the other does, not even that it has gone."""
        self.broken_at.append(time.time())
        talking = [client, server]
        while not self._closed:
            for source in wait(talking, 0.05):
                if not source.recv(_CHUNK):
                    talking.remove(source)


def _reset(sock: socket.socket) -> None:
    """Let the next close send a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
