"""Test the client that fails on purpose."""

import math
import random
import threading
import time
import uuid

import pytest

from alligator import CANCELED, SUCCESS, Gator
from alligator.backends.base import Reason
from alligator.backends.locmem_backend import Client
from alligator.backends.store import Store
from alligator.exceptions import ConnectionLost, QueueFull
from alligator.testing import BackendContract, FakeClock, FlakyClient, StoreContract
from alligator.testing.flaky import OPERATIONS
from tests.support import jobs


@pytest.fixture
def flaky():
    return FlakyClient(Client(f"locmem://{uuid.uuid4().hex}"))


class Contract(BackendContract):
    def make_client(self):
        return FlakyClient(Client(self.dsn))


@pytest.mark.parametrize(
    "name",
    [
        "test_push_many_keeps_order_and_returns_ids",
        "test_same_id_replaces_delay_and_priority",
        "test_acks_ride_with_reserve",
        "test_release_with_data_is_a_retry_at_the_tail",
        "test_extend_keeps_a_task",
        "test_stats",
        "test_find_and_peek",
        "test_get_takes_one_by_id",
        "test_pop_takes_for_good",
        "test_revive_one",
        "test_purge_by_age",
        "test_a_wait_ends_on_stop_and_on_time",
        "test_drop_all_drops_the_dead",
    ],
)
def test_it_does_what_the_client_inside_does(name):
    contract = Contract()
    contract.dsn = f"locmem://{uuid.uuid4().hex}"
    with contract.prepared():
        getattr(contract, name)()


def test_it_looks_like_the_client_inside():
    clock = FakeClock()
    inner = Client(f"locmem://{uuid.uuid4().hex}", clock=clock)
    inner.lease_seconds, inner.special = 2.0, "of its own"
    flaky = FlakyClient(inner)
    assert (flaky.clock, flaky.conn_string) == (clock, inner.conn_string)
    assert (flaky.in_process, flaky.idle_wait) == (True, inner.idle_wait)
    assert (flaky.lease_seconds, flaky.special) == (2.0, "of its own")
    gator = Gator(inner.conn_string, backend_class=lambda dsn: flaky)
    assert gator.client is flaky
    with pytest.raises(AttributeError):
        _ = flaky.no_such_thing


def test_a_lost_request_does_nothing_and_a_lost_reply_does(flaky):
    flaky.fail("push")
    with pytest.raises(ConnectionLost):
        flaky.push("q", "a", "1")
    assert flaky.len("q") == 0
    flaky.lose_reply("push")
    with pytest.raises(ConnectionLost):
        flaky.push("q", "a", "1")
    assert flaky.len("q") == 1
    flaky.push("q", "b", "2")
    assert flaky.calls == {"push": 3, "len": 2}
    assert flaky.failed == {"push": 2}


def test_a_call_can_be_refused_for_want_of_room(flaky):
    flaky.fail("push", error=QueueFull)
    with pytest.raises(QueueFull, match="refused on purpose"):
        flaky.push("q", "a", "1")
    assert flaky.len("q") == 0
    flaky.push("q", "a", "1")


@pytest.mark.parametrize("operation", sorted(OPERATIONS))
@pytest.mark.parametrize("plan", ["fail", "lose_reply", "down"])
def test_every_operation_can_fail(flaky, operation, plan):
    flaky.push("q", "a", "1")
    (held,) = flaky.reserve(["q"]).deliveries
    arguments = {
        "push": ["q", "b", "2"],
        "push_many": ["q", []],
        "get": ["q", "a"],
        "reserve": [["q"]],
        "ack": [[held]],
        "release": [held],
        "extend": [[held], 1.0],
        "stretch": [held, 1.0],
        "note_stop": [[held]],
        "bury": [held, None, Reason("")],
        "find": ["q", "a"],
        "lost_nothing_since": ["q", None],
        "peek": ["q", "a"],
        "durability_warning": [],
    }.get(operation, ["q"])
    if plan == "down":
        with flaky.down(operation), pytest.raises(ConnectionLost):
            getattr(flaky, operation)(*arguments)
    else:
        getattr(flaky, plan)(operation)
        with pytest.raises(ConnectionLost):
            getattr(flaky, operation)(*arguments)
    getattr(flaky, operation)(*arguments)
    assert flaky.failed == {operation: 1}


def test_so_many_times_or_until_healed(flaky):
    flaky.fail("len", times=2)
    flaky.fail("stats", times=math.inf)
    for _ in range(2):
        with pytest.raises(ConnectionLost):
            flaky.len("q")
    flaky.len("q")
    for _ in range(5):
        with pytest.raises(ConnectionLost):
            flaky.stats("q")
    flaky.heal()
    flaky.stats("q")


def test_a_probability_with_a_seed_is_repeatable():
    def run(seed):
        flaky = FlakyClient(Client("locmem://seeded"), random.Random(seed))
        flaky.fail("len", times=math.inf, probability=0.3)
        outcomes = []
        for _ in range(100):
            try:
                flaky.len("q")
                outcomes.append(True)
            except ConnectionLost:
                outcomes.append(False)
        return outcomes

    assert run(1) == run(1) != run(2)
    assert 10 < run(1).count(False) < 60


def test_an_outage_ends_with_its_block_and_breaks_off_a_wait(flaky):
    caught = []

    def wait():
        try:
            flaky.reserve(["q"], 1, 30.0, 60.0)
        except ConnectionLost as err:
            caught.append(err)

    waiting = threading.Thread(target=wait)
    waiting.start()
    deadline = time.monotonic() + 30
    while not flaky.calls["reserve"]:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    with flaky.down(), flaky.down("len"):
        waiting.join(30)
        assert len(caught) == 1
        with pytest.raises(ConnectionLost):
            flaky.push("q", "a", "1")
    flaky.push("q", "a", "1")
    with flaky.down("reserve"):
        assert flaky.len("q") == 1


@pytest.mark.parametrize("plan", ["fail", "lose_reply", "down"])
def test_a_misspelt_operation_is_refused(flaky, plan):
    with pytest.raises(ValueError, match="acks"), flaky.down():
        getattr(flaky, plan)("acks").__enter__()


# -- Its store. -----------------------------------------------------------------------------------


def on(flaky):
    jobs.seen.clear()
    return Gator(flaky.conn_string, backend_class=lambda dsn: flaky)


class Stores(StoreContract):
    def make_client(self):
        return FlakyClient(Client(self.dsn))


@pytest.mark.parametrize(
    "name", ["test_push_once", "test_a_later_run_is_not_overwritten", "test_a_watch_follows_queues"]
)
def test_its_store_does_what_the_one_inside_does(name):
    contract = Stores()
    contract.dsn = f"locmem://{uuid.uuid4().hex}"
    with contract.prepared():
        getattr(contract, name)()


def test_nothing_of_a_store_is_left_out(flaky):
    """A method that is new in the contract must not fall back on its default here."""
    public = {name for name, each in vars(Store).items() if not name.startswith("_")}
    assert public - {"follows_queues", "bridged", "monitors"} <= set(vars(type(flaky.store)))
    assert flaky.store.follows_queues is flaky.inner.store.follows_queues
    assert flaky.store.bridged is flaky.inner.store.bridged
    assert flaky.store.monitors is flaky.inner.store.monitors is True
    assert flaky.store.home is flaky


def test_store_and_queue_are_one_as_inside(flaky):
    gator = on(flaky)
    assert not gator.store.bridged
    parent = gator.options(save_results=60).task(jobs.note, "parent")
    child = gator.options(depends_on=[parent]).task(jobs.note, "child")
    assert gator.run_all() == 2
    assert gator.status(parent) == SUCCESS
    assert jobs.seen == [(("parent",), {}), (("child",), {})]
    parent = gator.options(delay_by=60).task(jobs.note)
    child = gator.options(depends_on=[parent]).task(jobs.note)
    assert child.cancel() is True
    assert gator.status(child) == CANCELED


def test_a_step_of_the_store_fails_as_the_part_of_it_that_is_the_clients(flaky):
    gator = on(flaky)
    gator.options(delay_by=60, task_id="parent").task(jobs.note)
    flaky.fail("push_many")
    with pytest.raises(ConnectionLost):
        gator.options(depends_on="parent").task(jobs.note)
    flaky.lose_reply("ack")
    task = gator.options(save_results=60).task(jobs.note)
    with pytest.raises(ConnectionLost):
        gator.pop()
    assert gator.result(task.id) == 1, "the ack took effect, and the record with it"
    assert flaky.failed == {"push_many": 1, "ack": 1}
