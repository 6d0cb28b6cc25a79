"""Test reserves that redis gets before the worker needs the reply."""

import gc
import os
import threading
import time

import pytest

from alligator.backends.locmem_backend import Client as LocmemClient
from alligator.backends.redis_backend import Client
from alligator.exceptions import ConnectionLost
from tests.support.helpers import eventually
from tests.support.servers import redis as servers


@pytest.fixture
def client(own_redis):
    found = Client(own_redis.dsn)
    found.conn.flushall()
    found.reserve(["q"])  # the server knows the script from then on
    for number in range(5):
        found.push("q", str(number), f"data {number}")
    yield found
    found.close()


def ids(reserved):
    return [each.task_id for each in reserved.deliveries]


def test_it_does_what_reserve_does(client):
    done = client.reserve(["q"], 2).deliveries
    found = client.begin_reserve(["q"], 2, acks=done).read()
    assert ids(found) == ["2", "3"]
    assert [each.data for each in found.deliveries] == ["data 2", "data 3"]
    assert client.stats("q").running == 2
    late = client.begin_reserve(["q"], 2, acks=[*done, *found.deliveries]).read()
    assert (ids(late), late.refused) == (["4"], done)


def test_the_same_for_whoever_reads(client):
    ahead, found = client.begin_reserve(["q"], 3), []
    threads = [threading.Thread(target=lambda: found.append(ahead.read())) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert len(found) == 4
    assert all(each is found[0] for each in found)
    assert ids(found[0]) == ["0", "1", "2"]


def test_others_go_on_meanwhile(client):
    ahead = client.begin_reserve(["q"], 2)
    eventually(ahead.ready)
    client.push("q", "5", "data")
    assert client.stats("q").running == 2
    assert ids(client.reserve(["q"], 1)) == ["2"]
    assert ahead.ready()
    assert ids(ahead.read()) == ["0", "1"]
    assert ahead.ready()


def test_what_was_read_can_be_extended_and_handed_back(client):
    before = time.monotonic()
    ahead = client.begin_reserve(["q"], 2, 5)
    eventually(ahead.ready)
    assert before <= ahead.sent <= time.monotonic()
    first, second = ahead.read().deliveries
    assert client.extend([first], 30) == []
    assert client.release(second) is True
    assert ids(client.reserve(["q"], 5)) == ["1", "2", "3", "4"]


def test_thrown_away_it_leaves_no_reply_to_others(client):
    ahead = client.begin_reserve(["q"], 2)
    eventually(ahead.ready)
    del ahead
    gc.collect()
    assert ids(client.reserve(["q"], 9)) == ["2", "3", "4"]


def test_what_nobody_reads_comes_back_with_its_lease(client):
    client.ack(client.reserve(["q"], 3).deliveries)
    ahead = client.begin_reserve(["q"], 2, 0.3)
    eventually(ahead.ready)
    found = [client.reserve(["q"], 9, wait=20).deliveries for _ in range(2)]
    assert [[(each.task_id, each.deaths) for each in some] for some in found] == [
        [("3", 1)],
        [("4", 1)],
    ]
    assert client.ack(ahead.read().deliveries) == ahead.read().deliveries


def test_what_cannot_be_sent_ahead_is_not_done(client):
    client.push("other", "x", "data")
    done = client.reserve(["other"]).deliveries
    assert client.begin_reserve(["q", "other"], 2) is None
    assert client.begin_reserve(["q"], 2, acks=done) is None
    assert client.stats("q").running == 0
    assert client.stats("other").running == 1
    assert LocmemClient("locmem://ahead").begin_reserve(["q"]) is None


def test_a_server_that_has_forgotten_the_script(client):
    client.conn.script_flush()
    assert ids(client.begin_reserve(["q"], 2).read()) == ["0", "1"]
    assert client.stats("q").running == 2


def test_an_empty_queue_and_large_data(client):
    client.drop_all("q")
    assert client.begin_reserve(["q"], 2).read() == ([], [])
    client.push("q", "1", "x" * 1_000_000)
    client.push("q", "2", b"y" * 1_000_000)
    found = client.begin_reserve(["q"], 2).read().deliveries
    assert [each.data for each in found] == ["x" * 1_000_000, b"y" * 1_000_000]


@pytest.mark.parametrize("looks", [True, False])
def test_a_lost_connection_loses_no_task(client, looks):
    client.reserve(["other"])  # from now on the server knows the script
    ahead = client.begin_reserve(["q"], 2)
    eventually(ahead.ready)
    ahead._connection.read_response()  # it went elsewhere, and nothing follows it
    ahead._connection._sock.shutdown(2)
    if looks:
        assert ahead.ready()
    for _ in range(2):
        assert ids(ahead.read()) == ["0", "1"], "what was leased is asked for"
    assert ahead.ready()
    assert client.ack(ahead.read().deliveries) == []
    assert ids(client.reserve(["q"], 9)) == ["2", "3", "4"]


def test_a_read_that_was_broken_off_leaves_no_reply_to_others(client, monkeypatch):
    def leave():
        raise SystemExit

    ahead = client.begin_reserve(["q"], 2)
    with monkeypatch.context() as patch:
        patch.setattr(ahead._connection, "read_response", leave)
        with pytest.raises(SystemExit):
            ahead.read()
    with pytest.raises(ConnectionLost, match="not read"):
        ahead.read()
    assert ids(client.reserve(["q"], 9)) == ["2", "3", "4"]


def test_a_child_process_leaves_it_to_its_parent(client):
    ahead = client.begin_reserve(["q"], 2)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            ahead.read()
        except ConnectionLost:
            code = 0 if not ahead.ready() else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ids(ahead.read()) == ["0", "1"]


def test_a_server_out_of_reach(tmp_path):
    found = servers.start(tmp_path)
    client = Client(found.dsn)
    client.push("q", "1", "data")
    found.stop()
    with pytest.raises(ConnectionLost):
        client.begin_reserve(["q"], 2).read()
    client.close()
