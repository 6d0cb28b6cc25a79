"""Test the round trips of a task against docs/backends.rst; SQS charges for each."""

import re
import uuid
from urllib.parse import unquote

import pytest

from alligator import Gator
from alligator.backends.base import Message
from tests.support import ROOT
from tests.support.servers.round_trips import RoundTrips

DOCS = ROOT / "docs" / "backends.rst"
FEW = 20

#: How many are pushed and drained by the hundred: fewer on a slow emulator.
MANY = {"locmem": 1000, "sqlite": 1000, "redis": 1000, "beanstalk": 1000, "sqs": 100}


def documented(backend):
    """Return the row of the table for a backend, as numbers."""
    table = DOCS.read_text().split("Round trips per task\n===")[1].split("\nlocmem\n===")[0]
    rows = [re.findall(r"- (\S+)$", row, re.MULTILINE) for row in table.split("   * ")]
    (found,) = [row[1:] for row in rows if row and row[0] == backend]
    return [float(each) for each in found]


@pytest.fixture(params=MANY)
def backend(request):
    return request.param


@pytest.fixture
def client(backend, request):
    dsn = "locmem://" if backend == "locmem" else request.getfixturevalue(f"{backend}_dsn")
    gator = Gator(dsn, f"turns-{uuid.uuid4().hex[:12]}")
    if backend == "sqs":
        gator.client.conn.create_queue(QueueName=gator.queue_name)
        gator.client.conn.create_queue(QueueName=f"{gator.queue_name}-dead")
    yield gator.client, gator.queue_name
    gator.client.drop_all(gator.queue_name)
    gator.close()


def turns_of(monkeypatch, client):
    found = re.findall(r":(\d+)", unquote(client.conn_string))
    return RoundTrips(monkeypatch, int(found[0]) if found else -1)


def messages(count):
    return [Message(uuid.uuid4().hex, "x" * 100) for _ in range(count)]


def drain(client, queue, limit):
    """Do as a worker does whose tasks are short; return how many came."""
    done, came = [], 0
    while done or not came:
        done, refused = client.reserve([queue], limit, acks=done)
        assert refused == []
        came += len(done)
    return came


def test_round_trips(backend, client, monkeypatch):
    client, queue = client
    for name in ("first", "second"):  # which connect, and learn what there is to know
        client.push(queue, name, "x")
    assert drain(client, queue, 1) == 2
    turns = turns_of(monkeypatch, client)

    def cost(count, *, looks=0):
        spent, turns.count = max(0, turns.count - looks), 0
        return round(spent / count, 2)

    for each in messages(FEW):
        client.push(queue, each.task_id, each.data)
    one_by_one = cost(FEW)
    assert drain(client, queue, 1) == FEW
    at_1 = cost(FEW, looks=1)  # the last look finds nothing
    for _ in range(0, MANY[backend], 100):
        client.push_many(queue, messages(100))
    batched = cost(MANY[backend])
    assert drain(client, queue, 100) == MANY[backend]
    at_100 = cost(MANY[backend], looks=1)
    assert [one_by_one, batched, at_1, at_100] == documented(backend)
