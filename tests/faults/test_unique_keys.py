"""Test unique keys where replies get lost, tasks vanish, and processes race for one key."""

import multiprocessing
import os
import uuid
from urllib.parse import urlsplit

import pytest

from alligator.backends import client_class
from alligator.backends.base import Controls, Duplicate, Message, Reason, controlled
from alligator.common.ids import new_task_id
from tests.support.servers.proxy import Proxy


def unique(task_id, key="k", data="data", **controls):
    message = Message(task_id, data)
    return controlled(message, Controls(unique_key=key, **controls))


def debounced(task_id, key="k"):
    options = {"unique_until_start": True, "debounce": 60.0, "debounce_max": 600.0}
    message = unique(task_id, key, f"{task_id} as {task_id}", **options)
    message.data_for = lambda other: f"{task_id} as {other}"
    return message


@pytest.fixture
def queue():
    return f"unique-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def road(redis_dsn, queue):
    """A client whose replies can get lost, and one beside it."""
    address = urlsplit(redis_dsn)
    with Proxy(address.port) as proxy:
        kind = client_class(redis_dsn)
        client = kind(redis_dsn.replace(f":{address.port}/", f":{proxy.port}/"))
        client.push(queue, new_task_id(), "the first asks more")
        client.drop_all(queue)
        beside = kind(redis_dsn)
        yield proxy, client, beside
        beside.drop_all(queue)
        client.close()
        beside.close()


def test_a_push_whose_reply_got_lost(road, queue):
    """The repeat finds its own task, and takes it for no duplicate."""
    proxy, client, beside = road
    ids = [new_task_id() for _ in range(5)]
    proxy.lose_next()
    (found,) = client.push_many(queue, [unique(ids[0])])
    assert (type(found) is Duplicate, found, beside.len(queue)) == (False, ids[0], 1)
    proxy.lose_next()
    (found,) = client.push_many(queue, [unique(ids[1])])
    assert (type(found), found, beside.len(queue)) == (Duplicate, ids[0], 1)
    proxy.lose_next()
    batch = [unique(ids[2]), unique(ids[3], "other"), unique(ids[4], "other"), Message("own", "d")]
    found = client.push_many(queue, batch)
    assert found == [ids[0], ids[3], ids[3], "own"]
    assert [type(each) is Duplicate for each in found] == [True, False, True, False]
    assert (proxy.broken, beside.len(queue)) == (3, 3)


def test_a_debounced_push_whose_reply_got_lost(road, queue):
    proxy, client, beside = road
    first, second = new_task_id(), new_task_id()
    for task_id in (first, second, second):
        proxy.lose_next()
        (found,) = client.push_many(queue, [debounced(task_id)])
        assert (found, type(found) is Duplicate) == (first, task_id != first)
        assert beside.peek(queue, first) == f"{task_id} as {first}"
    assert (proxy.broken, beside.len(queue)) == (3, 1)


def test_the_pending_task_starts_between_two_steps_of_a_debounced_push(road, queue, monkeypatch):
    """The data that were made for it are not used: the push queues its own task."""
    _, client, beside = road
    first, second = new_task_id(), new_task_id()
    client.push_many(queue, [debounced(first)])
    late = debounced(second)

    def data_for(task_id):
        beside.reserve([queue], task_id=first)
        return f"{second} as {task_id}"

    late.data_for = data_for
    (found,) = client.push_many(queue, [late])
    assert (type(found) is Duplicate, found) == (False, second)
    assert client.peek(queue, second) == f"{second} as {second}"
    assert client.peek(queue, first) == f"{first} as {first}"


@pytest.mark.parametrize("backend", ["sqlite", "redis"])
def test_a_task_that_vanished_frees_its_key(backend, request, queue):
    """As a worker of version 1.1 ends it, which knows of no keys."""
    dsn = request.getfixturevalue(f"{backend}_dsn")
    client = client_class(dsn)(dsn)
    for task_id in ("generated", "x"):
        task_id = new_task_id() if task_id == "generated" else task_id
        client.push_many(queue, [unique(task_id)])
        if backend == "redis":
            raw = bytes.fromhex("ff" + task_id.replace("-", "")) if len(task_id) > 1 else b"x"
            client.conn.zrem(f"alligator:{{{queue}}}:ready", raw)
            client.conn.hdel(f"alligator:{{{queue}}}:data", raw)
        else:
            with client.database.transaction() as tx:
                tx.execute("DELETE FROM alligator_tasks WHERE queue = ?", (queue,))
                tx.forget_counts(queue)
        (found,) = client.push_many(queue, [unique("other")])
        assert type(found) is not Duplicate
        assert client.get(queue, "other") == "data"
    client.drop_all(queue)
    client.close()


def test_nothing_is_left_on_redis_when_all_is_done(redis_dsn, queue):
    client = client_class(redis_dsn)(redis_dsn)
    controls = f"alligator:{{{queue}}}:controls"
    for until_start in (False, True):
        ids = [new_task_id() for _ in range(6)]
        client.push_many(
            queue, [unique(each, f"k{each}", unique_until_start=until_start) for each in ids]
        )
        client.push_many(queue, [unique("x", "a"), debounced("y", "b")])
        assert client.conn.hlen(controls) == 2 * 8
        client.get(queue, "x")
        client.get(queue, "y")
        one, two, three, *rest = client.reserve([queue], 6).deliveries
        client.bury(one, None, Reason("no"))
        client.release(two, "again")
        client.ack([three])
        (again,) = client.reserve([queue], 1, acks=rest).deliveries
        client.ack([again])
        assert client.conn.exists(controls) == 0
        client.revive(queue)
        assert client.conn.hlen(controls) == 2
        client.drop_all(queue)
        assert client.conn.exists(controls) == 0
    client.close()


def race(dsn, queue, start, results):
    client = client_class(dsn)(dsn)
    for key in "abc":
        start.wait(60)
        (found,) = client.push_many(queue, [unique(new_task_id(), key)])
        results.put((key, str(found), type(found) is Duplicate))
    client.close()
    results.close()
    results.join_thread()
    os._exit(0)


@pytest.mark.parametrize("backend", ["sqlite", "redis"])
def test_of_eight_processes_one_queues_its_task(backend, request, queue):
    dsn = request.getfixturevalue(f"{backend}_dsn")
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(8), context.Queue()
    racers = [context.Process(target=race, args=(dsn, queue, start, results)) for _ in range(8)]
    for each in racers:
        each.start()
    found = [results.get(timeout=60) for _ in range(24)]
    for each in racers:
        each.join(30)
    for key in "abc":
        ids = {task_id for name, task_id, _ in found if name == key}
        queued = [task_id for name, task_id, again in found if name == key and not again]
        assert (len(ids), len(queued)) == (1, 1)
    client = client_class(dsn)(dsn)
    assert client.len(queue) == 3
    client.drop_all(queue)
    client.close()
