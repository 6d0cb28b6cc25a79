"""Time the four steps that every task takes: serialize and deserialize, reserve and ack."""

import itertools

import pytest

from alligator import Gator, Task
from alligator.backends.base import Message
from benchmarks.tasks import tick
from tests.support.servers import redis as redis_servers

#: Tasks per reserve and per ack.
BATCH = 32

pytest.importorskip("pytest_benchmark")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = redis_servers.start(tmp_path_factory.mktemp("redis"))
    yield started
    started.stop()


@pytest.fixture(params=["locmem", "sqlite", "redis"])
def client(request, tmp_path):
    dsns = {
        "locmem": lambda: "locmem://micro",
        "sqlite": lambda: f"sqlite://{tmp_path}/queue.db",
        "redis": lambda: request.getfixturevalue("server").dsn,
    }
    gator = Gator(dsns[request.param]())
    gator.client.drop_all("all")
    yield gator.client
    gator.close()


def a_task() -> Task:
    task = Task()
    task.to_call(tick, 1, "abc", x=2)
    return task


def test_serialize(benchmark):
    task = a_task()
    assert benchmark(task.serialize)


def test_deserialize(benchmark):
    data = a_task().serialize()
    assert benchmark(Task.deserialize, data).func_args == (1, "abc")


def fill(client) -> None:
    numbers = itertools.count()
    client.drop_all("all")
    client.push_many(
        "all", [Message(f"{next(numbers)}", a_task().serialize()) for _ in range(BATCH)]
    )


def test_reserve(benchmark, client):
    """One round trip that leases 32 tasks."""
    found = []

    def reserve():
        found[:] = client.reserve(["all"], BATCH).deliveries

    benchmark.pedantic(reserve, setup=lambda: fill(client), rounds=100, warmup_rounds=3)
    assert len(found) == BATCH


def test_ack(benchmark, client):
    """One round trip that acknowledges 32 tasks."""
    refused = []

    def setup():
        fill(client)
        return (client.reserve(["all"], BATCH).deliveries,), {}

    def ack(deliveries):
        refused[:] = client.ack(deliveries)

    benchmark.pedantic(ack, setup=setup, rounds=100, warmup_rounds=3)
    assert not refused
