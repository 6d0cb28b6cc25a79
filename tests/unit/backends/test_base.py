"""Test what every client inherits: the loop of ``reserve``, and the ownership test of stores."""

import time

import pytest

from alligator.backends.base import Client, Delivery, Message, Reserved
from alligator.backends.locmem_backend import Client as LocmemClient
from alligator.backends.store import Record, Store
from alligator.constants import SUCCESS

TASK = Delivery("q", "1", "data", None)


def instance(kind, *args):
    """Return an object of a class that leaves methods of the contract out."""
    kind.__abstractmethods__ = frozenset()
    return kind(*args)


class Scripted(Client):
    """Leases and waits as told, and notes the calls."""

    def __init__(self, looks=(), waits=()):
        super().__init__("scripted://")
        self.looks, self.waits, self.calls = list(looks), list(waits), []

    def _lease(self, queue_names, limit, lease, wait, acks, task_id):
        self.calls.append(("lease", tuple(acks), task_id))
        return Reserved(self.looks.pop(0) if self.looks else [], list(acks))

    def _wait(self, queue_names, limit, lease, seconds, stop):
        assert 0 < seconds <= 60
        self.calls.append("wait")
        return self.waits.pop(0)


def look(acks=(), task_id=None):
    return "lease", acks, task_id


def test_what_is_there_is_leased_without_a_wait():
    client = instance(Scripted, [[TASK]])
    assert client.reserve(["q"], wait=60, acks=[TASK]) == ([TASK], [TASK])
    assert client.calls == [look((TASK,))]


def test_after_a_wait_it_looks_again_without_the_acks():
    client = instance(Scripted, [[], [], [TASK]], [None, None])
    assert client.reserve(["q"], wait=60, acks=[TASK]) == ([TASK], [TASK])
    assert client.calls == [look((TASK,)), "wait", look(), "wait", look()]


def test_what_the_wait_itself_brought_needs_no_look():
    client = instance(Scripted, [], [[], [TASK]])
    assert client.reserve(["q"], wait=60).deliveries == [TASK]
    assert client.calls == [look(), "wait", "wait"]


def test_a_stop_ends_it_between_two_waits():
    client = instance(Scripted, [], [[], None])
    stops = [False, False, True]
    assert client.reserve(["q"], wait=60, stop=lambda: stops.pop(0)).deliveries == []
    assert client.calls == [look(), "wait", "wait", look()]


@pytest.mark.parametrize("options", [{}, {"wait": 60, "task_id": "1"}])
def test_without_a_wait_or_for_an_id_it_looks_once(options):
    client = instance(Scripted)
    assert client.reserve(["q"], **options, stop=pytest.fail).deliveries == []
    assert client.calls == [look(task_id=options.get("task_id"))]


def test_it_ends_with_its_time():
    client = instance(Scripted, [], [[]] * 100_000)
    began = time.monotonic()
    assert client.reserve(["q"], wait=0.01).deliveries == []
    assert 0.01 <= time.monotonic() - began < 5


class Whole(Client):
    """Has a ``reserve`` of its own, as clients had before there was a loop for all."""

    def reserve(self, queue_names, limit=1, lease=30.0, wait=0.0, **options):
        return Reserved([TASK], [])

    def ack(self, deliveries):
        return []


def test_a_client_with_its_own_reserve_needs_no_other():
    assert instance(Whole, "whole://").pop("q") == "data"


def test_a_client_with_neither_says_what_it_lacks():
    class Neither(Client):
        pass

    with pytest.raises(NotImplementedError, match=r"Neither has to implement reserve, or _lease"):
        instance(Neither, "neither://").reserve(["q"])


class Beside(Store):
    """Has one client of its own, for which it can do more."""

    def __init__(self, home):
        self._home, self.calls = home, []

    @property
    def home(self):
        return self._home

    def note(self, key, record, keep_seconds):
        self.calls.append("note")
        return True

    def _settle(self, client, delivery, key, record, keep_seconds):
        self.calls.append("one step")
        return True


def test_a_store_is_asked_itself_only_for_its_own_client(tmp_path):
    own, other = (LocmemClient(f"locmem://{tmp_path}/{each}") for each in "ab")
    store = instance(Beside, own)
    other.push_many("q", [Message("1", "data")])
    (delivery,) = other.reserve(["q"]).deliveries
    assert store.settle(other, delivery, "1", Record(SUCCESS), 60) is True
    assert store.calls == ["note"]
    assert other.stats("q").running == 0
    assert store.settle(own, delivery, "1", Record(SUCCESS), 60) is True
    assert store.calls == ["note", "one step"]
