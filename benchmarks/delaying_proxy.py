"""Forward TCP to a port on loopback, each piece some milliseconds late, either way.

``python -m benchmarks.delaying_proxy PORT SECONDS`` prints the port that it listens on. It is a
process of its own, so that it takes no time of what is measured.
"""

import asyncio
import sys


class _Side(asyncio.Protocol):
    """One end of a connection; what arrives here leaves at the other end."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.other: _Side | None = None
        self.transport: asyncio.Transport | None = None
        self.early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        for each in self.early:
            transport.write(each)

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(self.delay, self._forward, data)

    def _forward(self, data: bytes) -> None:
        assert self.other is not None
        if self.other.transport is None:
            self.other.early.append(data)
        else:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


async def serve(port: int, delay: float) -> None:
    """Forward until this process is ended."""
    loop = asyncio.get_running_loop()

    def accept() -> _Side:
        near, far = _Side(delay), _Side(delay)
        near.other, far.other = far, near
        near.connecting = loop.create_task(  # type: ignore[attr-defined]
            loop.create_connection(lambda: far, "127.0.0.1", port)
        )
        return near

    server = await loop.create_server(accept, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
