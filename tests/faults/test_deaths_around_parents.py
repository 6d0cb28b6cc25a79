"""Test workers that die between any two steps at the end of a parent: its children run.

Deaths are played: what stands for one is raised out of the n-th call of store or queue, before or
after that took effect, and nothing of that worker is told any more. ``make chaos`` really kills.
"""

import time
import uuid

import pytest

from alligator import CANCELED, SUCCESS, Gator
from alligator.execution.attempt import attempt
from alligator.producer.children_in_other_store import HELD
from alligator.testing import FakeClock
from tests.behaviour.test_dependencies import after, note
from tests.support import jobs

CALLS = {
    "store": ("note", "settle", "hold"),
    "client": ("reserve", "ack", "release", "bury", "push_many"),
}


class Died(BaseException):
    """A worker was killed."""


class Killer:
    """Lets the n-th of all calls be the last one."""

    def __init__(self, monkeypatch, nth, *, late):
        self.patch, self.left, self.late = monkeypatch, nth, late

    def watch(self, thing, names):
        for name in names:
            self.patch.setattr(thing, name, self._deadly(getattr(thing, name)))

    def _deadly(self, step):
        def call(*args, **kwargs):
            self.left -= 1
            last = self.left == 0
            if last and not self.late:
                raise Died
            result = step(*args, **kwargs)
            if last:
                raise Died
            return result

        return call


@pytest.fixture
def locmem_dsn():
    return f"locmem://{uuid.uuid4().hex}"


def run_one(gator, lease):
    """Go the way of a worker, with a lease that is soon over; return whether there was a task."""
    for delivery in gator.client.reserve([gator.queue_name], 1, lease).deliveries:
        recorder = gator.recorder
        outcome = attempt(delivery, gator.codec, 9, gator.clock, None, recorder.note_started)
        gator.settler.settle(outcome)
        return True
    return False


def play(gator, pass_lease, lease, ended):
    """Run until all has ended; return how many times a worker died."""
    died, deadline = 0, time.monotonic() + 20
    while not ended():
        assert time.monotonic() < deadline, (jobs.seen, gator.stats())
        try:
            if gator.store.bridged:
                gator.store.move_free_children()
            if not run_one(gator, lease):
                pass_lease()
        except Died:
            died += 1
    return died


def end_leases(gator):
    """Let all leases on redis run out, as its clock cannot be set forward."""
    leases = f"alligator:{{{gator.queue_name}}}:leases"
    for each in gator.client.conn.zrange(leases, 0, -1):
        gator.client.conn.zadd(leases, {each: 1})


def check(seen):
    """Parents first, each child at least once."""
    assert set(seen) == {"one", "two", "child", "grandchild"}
    first = seen.index("child")
    assert {"one", "two"} <= set(seen[:first]), "it came too early"
    assert "child" in seen[: seen.index("grandchild")]


def family(gator, func=note):
    parents = [gator.options(save_results=600).task(func, each) for each in ("one", "two")]
    child = after(gator, *parents, save_results=600).task(note, "child")
    return child, after(gator, child, save_results=600).task(note, "grandchild")


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", range(1, 31))
def test_store_and_queue_apart(monkeypatch, nth, late):
    jobs.seen.clear()
    clock = FakeClock()
    gator = Gator(f"locmem://{uuid.uuid4().hex}", store=f"locmem://{uuid.uuid4().hex}", clock=clock)
    _, last = family(gator)
    killer = Killer(monkeypatch, nth, late=late)
    killer.watch(gator.store, CALLS["store"])
    killer.watch(gator.client, CALLS["client"])
    killer.watch(gator.store.home, CALLS["client"])
    died = play(gator, lambda: clock.advance(40), 30, lambda: gator.status(last) == SUCCESS)
    assert died == (killer.left <= 0) == 1, "there are fewer steps than that"
    check(jobs.seen)
    assert len(jobs.seen) <= 5, "one death makes one task run again"
    clock.advance(60)
    gator.store.move_free_children()
    assert gator.store.home.stats(HELD).running == 0
    assert gator.client.len(gator.queue_name) == 0


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", range(1, 8))
@pytest.mark.parametrize("name", ["locmem", "sqlite", "redis"])
def test_store_and_queue_in_one(request, monkeypatch, name, nth, late):
    jobs.seen.clear()
    clock = None if name == "redis" else FakeClock()
    gator = Gator(request.getfixturevalue(f"{name}_dsn"), f"k-{uuid.uuid4().hex[:8]}", clock=clock)
    _, last = family(gator)
    killer = Killer(monkeypatch, nth, late=late)
    killer.watch(gator.store, CALLS["store"])
    killer.watch(gator.client, CALLS["client"])
    died = play(
        gator,
        lambda: end_leases(gator) if clock is None else clock.advance(40),
        30,
        lambda: gator.status(last) == SUCCESS,
    )
    assert died == (killer.left <= 0) == 1, "there are fewer steps than that"
    assert jobs.seen.count("child") + jobs.seen.count("grandchild") <= 3
    check(jobs.seen)
    assert len(jobs.seen) <= 5
    assert gator.stats()["running"] == gator.len() == 0
    gator.client.drop_all(gator.queue_name)
    gator.close()


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", range(1, 9))
@pytest.mark.parametrize("apart", [False, True], ids=["in one", "apart"])
def test_a_parent_that_fails(monkeypatch, apart, nth, late):
    """Its children are canceled, whichever worker dies meanwhile, and none of them runs."""
    jobs.seen.clear()
    clock = FakeClock()
    store = f"locmem://{uuid.uuid4().hex}" if apart else None
    gator = Gator(f"locmem://{uuid.uuid4().hex}", store=store, clock=clock)
    parent = gator.task(jobs.fail, "no luck")
    child = after(gator, parent).task(note, "child")
    last = after(gator, child).task(note, "grandchild")
    killer = Killer(monkeypatch, nth, late=late)
    killer.watch(gator.store, CALLS["store"])
    killer.watch(gator.client, CALLS["client"])
    if apart:
        killer.watch(gator.store.home, CALLS["client"])
    play(gator, lambda: clock.advance(40), 30, lambda: gator.status(last) == CANCELED)
    assert gator.status(child) == CANCELED
    assert jobs.seen == []
    assert len(gator.dead()) <= 1
