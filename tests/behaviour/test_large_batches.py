"""Test batches and queues so large that one step for all would block the other clients."""

import time
import uuid
from contextlib import contextmanager

import pytest

from alligator import Gator
from alligator.backends.base import BATCH, BATCH_SIZE, Message, Reason
from alligator.backends.locmem_backend import Client as LocmemClient
from alligator.backends.redis.connection import Connections
from alligator.backends.redis_backend import Client as RedisClient
from alligator.backends.sqlite.database import Database
from alligator.backends.sqlite_backend import Client as SqliteClient
from alligator.backends.store import Child, Parent, record_key
from alligator.constants import CANCELED, FAILED
from alligator.exceptions import ConnectionLost, InvalidTask
from tests.support import jobs

CLIENTS = {"redis": RedisClient, "sqlite": SqliteClient, "locmem": LocmemClient}


@pytest.fixture(params=["redis", "sqlite"])
def backend(request):
    return request.param


@pytest.fixture
def client(backend, request):
    found = CLIENTS[backend](request.getfixturevalue(f"{backend}_dsn"))
    yield found
    found.drop_all("big")
    found.drop_all("other")
    found.close()


@pytest.fixture
def steps(monkeypatch, backend):
    """The times that others had to wait for: of scripts, and of transactions."""
    took = []
    if backend == "redis":
        run = Connections.run

        def timed(*args):
            began = time.monotonic()
            try:
                return run(*args)
            finally:
                took.append(time.monotonic() - began)

        monkeypatch.setattr(Connections, "run", timed)
    else:
        transaction = Database.transaction

        @contextmanager
        def timed(*args):
            with transaction(*args) as step:
                began = time.monotonic()
                yield step
            took.append(time.monotonic() - began)

        monkeypatch.setattr(Database, "transaction", timed)
    return took


def messages(count, data="x" * 50):
    return [Message(f"{number:05}", data) for number in range(count)]


def bury(client, count, queue="big"):
    client.push_many(queue, messages(count))
    while found := client.reserve([queue], 500).deliveries:
        for each in found:
            client.bury(each, None, Reason("buried"))


def test_a_large_batch_goes_in_steps_and_in_order(client, steps):
    ids = client.push_many("big", messages(3 * BATCH + 1))
    assert len(steps) == 4
    assert ids == [each.task_id for each in messages(3 * BATCH + 1)]
    assert all(client.lost_nothing_since("big", each.position) for each in ids[:: BATCH // 2])
    found = []
    while deliveries := client.reserve(["big"], 1000).deliveries:
        found += [each.task_id for each in deliveries]
    assert found == ids


def test_so_does_one_of_much_data(client, steps):
    client.push_many("big", messages(9, "x" * (BATCH_SIZE // 8)))
    assert len(steps) == 2
    steps.clear()
    client.push_many("big", [])
    client.push_many("big", messages(BATCH))
    assert len(steps) == 1


@pytest.mark.parametrize("options", [{"priority": 3}, {"delay_by": 3600}])
def test_so_do_tasks_with_options(client, steps, options):
    gator = Gator(client.conn_string, "big")
    gator.task(jobs.note)  # a first push is another script
    steps.clear()
    with gator.batch(**options) as batch:
        for number in range(BATCH + 1):
            batch.task(jobs.note, number)
    assert len(steps) == 2
    assert gator.len() == BATCH + 2
    gator.close()


@pytest.mark.parametrize("failing", [0, 2])
def test_an_error_says_how_many_are_queued(client, failing, monkeypatch, backend):
    client.push("other", "1", "x")
    where, name = (Connections, "run") if backend == "redis" else (Database, "transaction")
    work, calls = getattr(where, name), []

    def fail(*args):
        calls.append(1)
        if len(calls) > failing:
            raise ConnectionLost("The server is away")
        return work(*args)

    with monkeypatch.context() as patch:
        patch.setattr(where, name, fail)
        with pytest.raises(ConnectionLost, match=r"^The server is away") as caught:
            client.push_many("big", messages(4 * BATCH))
    assert caught.value.queued == client.len("big") == failing * BATCH
    said = f"The server is away. Of {4 * BATCH} tasks the first {failing * BATCH} are queued."
    assert (str(caught.value) == said) is bool(failing)
    assert len(client.push_many("big", messages(4 * BATCH))) == 4 * BATCH
    assert client.len("big") == 4 * BATCH


def test_one_that_cannot_be_stored_at_all(client, backend):
    """On redis that is found out before anything is sent."""
    batch = [*messages(BATCH + 5), Message("bad", "\ud800")]
    with pytest.raises(InvalidTask) as caught:
        client.push_many("big", batch)
    assert caught.value.queued == client.len("big") == (0 if backend == "redis" else BATCH)


def test_the_dead_are_revived_listed_and_purged_in_steps(client, steps):
    bury(client, 1200)
    client.push("big", "00007", "in use")
    steps.clear()
    assert client.revive("big") == 1199
    assert len(steps) > 1
    assert client.len("big") == 1200
    assert [each.task_id for each in client.dead("big")] == ["00007"]
    bury(client, 1100)
    letters = client.dead("big", 5000)
    assert len({each.task_id for each in letters}) == len(letters) == client.stats("big").dead
    assert [each.died_at for each in letters] == sorted((e.died_at for e in letters), reverse=True)
    assert len(client.dead("big", 7)) == 7
    steps.clear()
    assert client.purge_dead("big") == len(letters)
    assert len(steps) > 1
    assert client.stats("big").dead == 0


def test_a_large_queue_is_dropped_in_steps(client, steps, backend):
    bury(client, 1100)
    client.push_many("big", messages(2100))
    (before,) = client.push_many("big", [Message("late", "x", time.time() + 3600)])
    client.reserve(["big"], 10)
    steps.clear()
    client.drop_all("big")
    assert len(steps) > (0 if backend == "redis" else 3)  # there it is one, and takes no time
    stats = client.stats("big")
    assert (stats.waiting, stats.delayed, stats.running, stats.dead) == (0, 0, 0, 0)
    assert client.dead("big") == []
    assert client.lost_nothing_since("big", before.position) is False
    assert client.reserve(["big"]).deliveries == []


@pytest.mark.parametrize("ours", [1500, 10])
def test_with_a_large_queue_go_its_children_and_those_who_waited_for_it(client, steps, ours):
    client.push_many("other", messages(ours))
    client.push_many("big", messages(ours))
    store = client.store
    held = [
        Child("big", Message(f"ours {number}", "x"), (Parent(f"{number:05}", ("other",)),))
        for number in range(ours)
    ]
    store.hold(client, held)
    held = [
        Child("other", Message(f"theirs {number}", "x"), (Parent(f"{number:05}", ("big",)),))
        for number in range(ours)
    ]
    store.hold(client, held)
    assert (client.stats("big").held, client.stats("other").held) == (ours, ours)
    steps.clear()
    client.drop_all("big")
    assert (len(steps) > 3) is (ours > 1000)
    assert (client.stats("big").held, client.stats("other").held) == (0, 0)
    for number in (0, ours - 1):
        found = store.record(record_key("other", f"theirs {number}"))
        assert found.state == CANCELED
        assert "its queue was emptied" in found.error
    assert client.len("other") == ours
    assert client.len("big") == 0
    assert client.find("big", "ours 0") is None
    while found := client.reserve(["other"], 500).deliveries:
        client.ack(found)
    assert client.len("big") == 0, "no child was released"
    assert client.reserve(["big"]).deliveries == []


def test_in_memory_a_batch_of_any_size_is_one():
    client = LocmemClient(f"locmem://{uuid.uuid4().hex}")
    assert len(client.push_many("big", messages(3 * BATCH))) == 3 * BATCH
    assert client.len("big") == 3 * BATCH
    bury(client, 20)
    assert client.dead("big")[0].error == "buried"
    assert client.find("big", "00001").state == FAILED
