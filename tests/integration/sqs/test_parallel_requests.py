"""Test parallel requests to SQS: their number, their order, and failures of single ones."""

import threading
import uuid

import pytest

from alligator.backends.base import Message
from alligator.backends.sqs.connection import MOST, run_all
from alligator.backends.sqs_backend import Client
from alligator.exceptions import ConnectionLost
from tests.support.servers.sqs import make_queue


@pytest.fixture
def client(sqs_dsn):
    client = Client(sqs_dsn)
    yield client
    client.close()


def new_queue(client, suffix=""):
    name = f"q-{uuid.uuid4().hex[:12]}{suffix}"
    make_queue(client.conn, name)
    return name


def requests(client, operation):
    """Return a list that fills with the parameters of each request."""
    seen = []
    event = f"before-parameter-build.sqs.{operation}"
    client.conn.meta.events.register(event, lambda params, **_: seen.append(params))
    return seen


def fail_from(client, monkeypatch, operation, count):
    """Let the request of that number and all later ones fail; return how many were made."""
    call, made, lock = getattr(client.conn, operation), [], threading.Lock()

    def failing(**params):
        with lock:
            made.append(params)
            failed = len(made) >= count
        if failed:
            raise ConnectionLost("cut")
        return call(**params)

    monkeypatch.setattr(client.conn, operation, failing)
    return made


def test_so_many_at_a_time_and_results_in_order():
    together = threading.Barrier(MOST)
    most, now, lock = 0, 0, threading.Lock()

    def request(item):
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        together.wait(30)  # breaks unless that many are under way
        with lock:
            now -= 1
        return item

    assert run_all(request, range(3 * MOST)) == list(range(3 * MOST))
    assert most == MOST
    assert run_all(request, []) == []


@pytest.mark.parametrize("in_order", [True, False])
def test_after_a_failure_none_is_begun(in_order):
    made = []

    def request(item):
        made.append(item)
        raise ConnectionLost("cut")

    results = run_all(request, range(100), in_order=in_order)
    assert len(results) == 100
    assert all(isinstance(each, ConnectionLost) for each in results)
    assert made == [0] if in_order else len(made) <= MOST


def test_what_is_no_error_of_ours_is_raised():
    with pytest.raises(ZeroDivisionError):
        run_all(lambda item: 1 // item, [1, 0, 1])


def test_three_requests_for_ten_tasks(client):
    queue = new_queue(client)
    names = ("SendMessageBatch", "ReceiveMessage", "DeleteMessageBatch")
    seen = [requests(client, each) for each in names]
    client.push_many(queue, [Message("", f"{n}") for n in range(100)])
    taken = client.reserve([queue], 100).deliveries
    assert client.extend(taken, 60.0) == []
    found, refused = client.reserve([queue], 100, acks=taken)
    assert (len(taken), found, refused) == (100, [], [])
    assert [len(each) for each in seen] == [10, 11, 10]
    assert {len(each["Entries"]) for each in seen[0] + seen[2]} == {10}


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 25, 35])
def test_no_more_requests_in_vain_than_told(client, count):
    queue = new_queue(client)
    client.push_many(queue, [Message("", f"{n}") for n in range(count)])
    seen = requests(client, "ReceiveMessage")
    assert len(client.reserve([queue], 100).deliveries) == count
    needed = count // 10 + 1
    assert needed <= len(seen) <= needed + MOST - 1
    assert count >= 10 or len(seen) == 1


def test_a_push_that_fails_half_way_leaves_what_was_sent(client, monkeypatch):
    queue = new_queue(client)
    client.push(queue, "", "first")
    made = fail_from(client, monkeypatch, "send_message_batch", 3)
    with pytest.raises(ConnectionLost):
        client.push_many(queue, [Message("", f"{n}") for n in range(500)])
    assert len(made) <= 2 + MOST
    assert len(client.reserve([queue], 100).deliveries) == 21


def test_a_fifo_queue_is_sent_to_in_order_and_nothing_after_a_failure(client, monkeypatch):
    queue = new_queue(client, ".fifo")
    made = fail_from(client, monkeypatch, "send_message_batch", 3)
    with pytest.raises(ConnectionLost):
        client.push_many(queue, [Message("", f"{n:03}") for n in range(100)])
    assert len(made) == 3
    found = []
    while taken := client.reserve([queue], 100).deliveries:
        found += [each.data for each in taken]
        assert client.ack(taken) == []
    assert found == [f"{n:03}" for n in range(20)]


def test_what_was_received_before_a_failure_is_kept(client, monkeypatch):
    queue = new_queue(client)
    client.push_many(queue, [Message("", f"{n}") for n in range(100)])
    fail_from(client, monkeypatch, "receive_message", 3)
    taken = client.reserve([queue], 100).deliveries
    assert len(taken) == 20
    with pytest.raises(ConnectionLost):
        client.reserve([queue], 100)
    assert client.ack(taken) == []


def test_acks_that_failed_half_way_may_be_repeated(client, monkeypatch):
    queue = new_queue(client)
    client.push_many(queue, [Message("", f"{n}") for n in range(60)])
    taken = client.reserve([queue], 60).deliveries
    with monkeypatch.context() as patch:
        fail_from(client, patch, "delete_message_batch", 2)
        with pytest.raises(ConnectionLost):
            client.ack(taken)
    assert client.ack(taken) == []
    stats = client.stats(queue)
    assert (stats.waiting, stats.running) == (0, 0)
