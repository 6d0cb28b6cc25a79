"""Test many beanstalkd commands in one write: refused, cut short, overtaken, or too many."""

import io
import threading
import uuid

import greenstalk
import pytest

from alligator.backends.base import Message, Reason
from alligator.backends.beanstalk import dead_letters
from alligator.backends.beanstalk import protocol as wire
from alligator.backends.beanstalk_backend import Client
from alligator.exceptions import ConnectionLost, InvalidTask
from tests.support.helpers import eventually
from tests.support.servers.beanstalk import Beanstalkd
from tests.support.servers.proxy import Fault, Proxy


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Beanstalkd(tmp_path_factory.mktemp("beanstalkd")).start()
    yield server
    server.stop()


@pytest.fixture
def client(server):
    client = Client(server.dsn)
    yield client
    client.close()


@pytest.fixture
def queue():
    return f"q-{uuid.uuid4().hex[:12]}"


def push(client, queue, count, size=0):
    return client.push_many(queue, [Message("", f"{n}".ljust(size)) for n in range(count)])


def take_all(client, queue, limit=100):
    found = []
    while more := client.reserve([queue], limit).deliveries:
        found += more
    return found


def test_windows_are_bounded_and_lose_nothing():
    commands = [b"x" * 30_000, b"y" * 100_000, b"z", *[b"touch 1\r\n"] * 1000]
    cut = list(wire.windows(commands))
    assert [command for window in cut for command in window] == commands
    for window in cut:
        assert len(window) <= wire.MOST_COMMANDS
        assert len(window) == 1 or sum(map(len, window)) <= wire.MOST_BYTES
    assert list(wire.windows([])) == []


def test_more_than_the_buffers_of_both_sides_hold(client, queue):
    ids = push(client, queue, 400, size=60_000)
    taken = take_all(client, queue)
    assert [each.task_id for each in taken] == ids
    assert client.extend(taken, 30.0) == []
    assert client.ack(taken) == []
    assert client.stats(queue).running == client.len(queue) == 0


def test_a_put_that_is_refused_leaves_those_before_it(client, queue):
    with client._pool.connection() as connection:
        connection._largest = 10**9  # as if the server had come back with a smaller -z
    messages = [Message("", each) for each in ("1", "2", "x" * 70_000, "4", "y" * 70_000, "6")]
    with pytest.raises(InvalidTask, match="larger"):
        client.push_many(queue, messages)
    assert [each.data for each in take_all(client, queue)] == ["1", "2"]
    assert client.push(queue, "", "in step")
    assert [each.data for each in take_all(client, queue)] == ["in step"]


def test_nothing_is_put_after_a_write_with_a_refusal(client, queue):
    with client._pool.connection() as connection:
        connection._largest = 10**9
    count = client.stats(queue).waiting
    with pytest.raises(InvalidTask):
        client.push_many(queue, [Message("", "x" * 70_000)] + [Message("", "y")] * 1000)
    assert client.stats(queue).waiting == count


@pytest.mark.parametrize("after", [1, 5, 50, 500, 5_000, 13_000])
def test_cut_anywhere_everything_comes_and_is_acked(server, client, queue, after):
    """The line breaks after so many bytes of replies, three times."""
    ids, cuts = push(client, queue, 120, size=20), iter([after] * 3)
    with Proxy(server.port, lambda: Fault("cut", next(cuts, 10**9))) as proxy:
        flaky, acks, came = Client(f"beanstalk://127.0.0.1:{proxy.port}/"), [], set()
        while len(came) < len(ids) or acks or len(proxy.broken_at) < 3:
            try:
                acks, refused = flaky.reserve([queue], 50, acks=acks)
            except ConnectionLost:
                continue  # told again
            assert not refused or proxy.broken, "refused is one that was told again, or lost"
            came |= {each.task_id for each in acks}
        flaky.close()
    assert came == set(ids)
    eventually(lambda: client.stats(queue).running == 0)
    assert client.len(queue) == 0


def test_a_push_that_was_cut_is_lost_or_there(server, client, queue):
    with Proxy(server.port, lambda: Fault("cut", 3_000)) as proxy:
        flaky = Client(f"beanstalk://127.0.0.1:{proxy.port}/")
        with pytest.raises(ConnectionLost):
            push(flaky, queue, 1000)
        flaky.close()
    there = [int(each.data) for each in take_all(client, queue)]
    assert there == list(range(len(there)))


def test_the_rest_of_a_batch_is_handed_back_for_one_with_deaths(server, client, queue):
    ids = push(client, queue, 10)
    other = Client(server.dsn)
    assert other.reserve([queue], task_id=ids[4]).deliveries
    other.close()
    eventually(lambda: client.len(queue) == 10)
    batches = []
    while batch := client.reserve([queue], 100).deliveries:
        batches.append([each.task_id for each in batch])
        assert [each.deaths for each in batch] == [int(each.task_id == ids[4]) for each in batch]
        assert client.ack(batch) == []
    assert batches == [ids[:4], [ids[4]], ids[5:]]


def test_acks_and_heartbeats_of_many_where_some_are_lost(server, queue):
    client = Client(f"{server.dsn}?ttr=2")
    push(client, queue, 6)
    taken = client.reserve([queue], 6).deliveries
    eventually(lambda: client.len(queue) == 6)  # they ran out
    others = client.reserve([queue], 2).deliveries + client.reserve([queue], 1).deliveries
    gone = [each for each in taken if each.task_id in {other.task_id for other in others}]
    assert len(gone) == len(others) > 0
    assert client.extend(taken, 30.0) == gone
    assert client.ack(taken) == gone
    assert client.ack(others) == []
    assert client.stats(queue).running == client.len(queue) == 0
    client.close()


def test_acks_of_two_connections_ride_with_one_reserve(client, queue):
    push(client, queue, 40)
    held, lock = [], threading.Barrier(2)

    def hold():
        with client._pool.connection():  # a reserve meanwhile gets another connection
            lock.wait(30)
            lock.wait(30)

    held += client.reserve([queue], 10).deliveries
    thread = threading.Thread(target=hold)
    thread.start()
    lock.wait(30)
    held += client.reserve([queue], 10).deliveries
    lock.wait(30)
    thread.join()
    assert len({each.receipt.connection for each in held}) == 2
    found, refused = client.reserve([queue], 100, acks=held)
    assert (len(found), refused) == (20, [])
    assert client.ack(found) == []
    assert client.stats(queue).running == client.len(queue) == 0


def test_acks_count_though_their_line_is_gone(client, queue):
    push(client, queue, 20)
    held = client.reserve([queue], 20).deliveries
    held[0].receipt.connection._socket.raw.shutdown(2)
    eventually(lambda: client.len(queue) == 20)
    assert client.reserve([queue], 20, acks=held) == ([], [])
    assert client.len(queue) == 0


RECORD = b"""---
id: 12
tube: "7"
state: reserved
pri: 2147483641
age: 1
delay: 0
ttr: 30
time-left: 29
file: 0
reserves: 4
timeouts: 1
releases: 2
buries: 3
kicks: 0
"""


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("quoted", [False, True])
def test_a_record_is_read_whatever_its_order(turned, quoted):
    head, *lines = RECORD.splitlines(keepends=True)
    raw = b"".join([head, *(reversed(lines) if turned else lines)])
    expected = {"tube": "7", "pri": 2147483641, "age": 1, "ttr": 30}
    expected |= {"reserves": 4, "releases": 2, "buries": 3}
    assert wire.record_of(raw if quoted else raw.replace(b'"', b"")) == expected


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"RESERVED 1 5\r\nhe",
        b"RESERVED 1 2\r\nhello\r\n",
        b"OK",
        b"WHAT\r\n",
        b"\r\n",
        b"OK\r\n",
    ],
)
def test_a_reply_that_cannot_be_read(said):
    with pytest.raises((OSError, ValueError, IndexError, greenstalk.Error)):
        wire.read_answer(io.BufferedReader(io.BytesIO(said)))


def test_a_listing_sees_what_another_puts_back_at_its_end(server, client, queue, monkeypatch):
    for _ in range(4):
        client.push(queue, "", "x")
        assert client.bury(client.reserve([queue]).deliveries[0], None, Reason("no"))
    other = Client(server.dsn)
    with other._pool.connection() as connection:
        connection.watch([queue + dead_letters.SUFFIX])
        letters = [connection.reserve(0) for _ in range(2)]
        real = dead_letters.counts

        def counts(*args):
            while letters:
                connection.release(letters.pop())
            return real(*args)

        monkeypatch.setattr(dead_letters, "counts", counts)
        assert len(client.dead(queue)) == 4
    other.close()
