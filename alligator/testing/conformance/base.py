"""Share between the suites: clients on one server, an empty queue for each test, and helpers."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest

from alligator.backends.base import Client, Data, Delivery


class Contract:
    """What every suite needs. A test finds its client as ``client``, its queue as ``queue``."""

    def make_client(self) -> Client:
        """Return a new client; all clients that one test makes share one server."""
        raise NotImplementedError

    def make_queue(self) -> str:
        """Return the name of an empty queue that no other test uses."""
        return f"contract-{uuid.uuid4().hex[:12]}"

    @pytest.fixture
    def server(self) -> Any:
        """Override it to have a server up from before the first client until after the last."""

    @pytest.fixture(autouse=True)
    def _prepared(self, server: Any) -> Iterator[None]:
        with self.prepared():
            yield

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Make the client and the queue of one test; then empty it and close what was opened."""
        self.clients: list[Client] = []
        self.client: Client = self.another_client()
        self.queue: str = self.make_queue()
        try:
            yield
            self.client.drop_all(self.queue)
        finally:
            for client in self.clients:
                client.close()

    # -- Helpers for the tests. -----------------------------------------------------------

    def another_client(self) -> Client:
        """Return another client on the same server, closed after the test."""
        client = self.make_client()
        self.clients.append(client)
        return client

    def eventually(self, check: Callable[[], bool], what: str, within: float = 30.0) -> None:
        """Poll until ``check`` is true."""
        deadline = time.monotonic() + within
        while not check():
            assert time.monotonic() < deadline, f"not within {within} s: {what}"
            time.sleep(0.02)


class ClientContract(Contract):
    """What the parts of :class:`alligator.testing.BackendContract` share."""

    #: The shortest lease the backend keeps properly, in seconds.
    short_lease: ClassVar[float] = 0.3

    #: Whether order within a priority is kept; a distributed queue may not promise it.
    keeps_order: ClassVar[bool] = True

    #: Whether a waiting task can be replaced, counted exactly, and looked at at once.
    has_exact_counts: ClassVar[bool] = True

    # -- Helpers for the tests. -----------------------------------------------------------

    def supports(self, *what: str) -> bool:
        """Whether the backend supports all of these."""
        return self.client.supports >= set(what)

    def needs(self, *what: str, exact: bool = False) -> None:
        """Skip the test unless the backend supports these (``exact``: and counts exactly)."""
        if missing := set(what) - self.client.supports:
            pytest.skip(f"this backend does not support {sorted(missing)}")
        if exact and not self.has_exact_counts:
            pytest.skip("this backend does not count exactly")

    def push(self, *data: Data, **options: Any) -> list[str]:
        """Push tasks with ids made from their data and return the ids on the queue."""
        ids = []
        for each in data:
            text = each if isinstance(each, str) else each.hex()
            ids.append(self.client.push(self.queue, f"id-{text}"[:60], each, **options))
        return ids

    def reserve(self, limit: int = 1, lease: float = 30.0, **options: Any) -> list[Delivery]:
        """Reserve from the test's queue, patient with backends that need a moment."""
        wait = options.pop("wait", 0.0 if self.has_exact_counts else 2.0)
        return self.client.reserve([self.queue], limit, lease, wait, **options).deliveries

    def reserve_one(self, lease: float = 30.0, **options: Any) -> Delivery:
        """Reserve exactly one task that must be there."""
        deliveries = self.reserve(1, lease, **options)
        assert len(deliveries) == 1, f"one task was expected, got {deliveries}"
        return deliveries[0]

    def reserve_soon(self, lease: float = 30.0) -> Delivery:
        """Reserve one task that has to appear after a short lease; a busy machine may be late."""
        return self.reserve_one(lease, wait=self.short_lease + 15)

    def reserve_due(self, due: float) -> Delivery:
        """Reserve one task that has to appear soon after ``due``, and not before."""
        found = self.client.reserve([self.queue]).deliveries
        delivery = found[0] if found else self.reserve_soon()
        assert time.time() >= due - 0.01
        return delivery

    def lease_ends_soon(self, delivery: Delivery) -> None:
        """Let a lease that was long enough for a busy machine end after a short one."""
        assert self.client.extend([delivery], self.short_lease) == []

    def drain(self) -> list[Data]:
        """Reserve and ack everything that waits; return the data in order of delivery."""
        found = []
        while deliveries := self.reserve(1):
            found.append(deliveries[0].data)
            assert self.client.ack(deliveries) == []
        return found
