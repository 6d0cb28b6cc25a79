"""Hold limits and rates to a model, through random histories of one queue.

``ALLIGATOR_TEST_EXAMPLES=2000 pytest tests/property/test_limits.py`` looks longer, and each time
elsewhere.
"""

import os
import time
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from alligator.backends.base import Controls, Message, Reason, controlled
from alligator.constants import DELAYED, FAILED, RUNNING, WAITING
from tests.property import environments

MORE = int(os.environ.get("ALLIGATOR_TEST_EXAMPLES", "0"))

#: Histories: what takes some seconds.
SIZES = {"locmem": 150, "sqlite": 60, "redis": 50}
BACKENDS = {name: getattr(environments, name.title()) for name in SIZES}

LIMITS = {"one": 1, "two": 2}
RATE, HOUR = 2.0, 3600.0
CONTROLS = {
    "free": None,
    "one": Controls("one", 1),
    "two": Controls("two", 2),
    "rated": Controls(rate_key="rated", rate=RATE, rate_seconds=HOUR),
    "both": Controls("two", 2, "rated", RATE, HOUR),
}
LEASE = 600.0
LOST = "lost"  # the state of a task whose lease ran out

NAMES = st.sampled_from([f"t{number}" for number in range(8)])
KINDS = st.sampled_from([*CONTROLS, "one", "two"])
PICK = st.integers(0, 15)


@dataclass(eq=False)
class Item:
    """A task, as the model knows it."""

    name: str
    controls: Controls | None
    priority: int
    order: int
    state: Any = WAITING
    due: float = 0.0
    delivery: Any = None
    ends: float = 0.0  # when its lease ends
    next: "Item | None" = None  # pushed while it ran

    @property
    def limit_key(self):
        return self.controls.limit_key if self.controls else ""

    @property
    def rate_key(self):
        return self.controls.rate_key if self.controls else ""


class LimitMachine(RuleBasedStateMachine):
    """What producers and workers may do, and what must be true all the time."""

    def __init__(self, environment):
        super().__init__()
        self.environment, self.queue = environment, environment.queue
        self.client = environment.open()
        self.items: dict[str, Item] = {}
        self.dead: dict[str, Item] = {}
        self.tokens, self.filled, self.counter = RATE, environment.now(), 0

    # -- The model. ---------------------------------------------------------------------------

    def those(self, state):
        return [item for item in self.items.values() if item.state == state]

    def running(self, key):
        return sum(item.limit_key == key for item in self.those(RUNNING))

    def refill(self):
        now = self.environment.now()
        self.tokens = min(RATE, self.tokens + (now - self.filled) * RATE / HOUR)
        self.filled = now

    def started(self, delivery, *, by_id=False):
        """Note a delivery, and check that it might come."""
        item = self.items[delivery.task_id]
        assert item.state != RUNNING
        if item.state == LOST and item.next is not None:
            self.ended(item)
            item = self.items[delivery.task_id]
        if item.limit_key:
            assert self.running(item.limit_key) < LIMITS[item.limit_key], "above the limit"
        if item.rate_key:
            self.refill()
            self.tokens -= 1
            assert self.tokens > -0.01, "above the rate"
        if not by_id and item.state == WAITING and item.limit_key and not item.due:
            rank = (-item.priority, item.order)
            for other in self.those(WAITING):
                if other is not item and other.controls == item.controls and not other.due:
                    assert rank < (-other.priority, other.order), f"{other} was before {item}"
        item.state, item.delivery = RUNNING, delivery
        item.ends = self.environment.now() + LEASE

    def ended(self, item):
        """Note that a task left the queue."""
        del self.items[item.name]
        if item.next is not None:
            self.items[item.name] = item.next
            self.counter += 1
            item.next.order = self.counter
            if item.next.due > self.environment.now():
                item.next.state = DELAYED

    def pick(self, number):
        running = self.those(RUNNING)
        return running[number % len(running)] if running else None

    # -- Producers. ---------------------------------------------------------------------------

    @rule(name=NAMES, kind=KINDS, priority=st.sampled_from([0, 0, 5]), later=st.integers(0, 5))
    def push(self, name, kind, priority, later):
        self.counter += 1
        controls, now = CONTROLS[kind], self.environment.now()
        due = now + 9000 if later == 5 else 0.0
        message = Message(name, str(self.counter), due or None, priority)
        if controls is not None:
            message = controlled(message, controls)
        self.client.push_many(self.queue, [message])
        found = self.items.get(name)
        if found is not None and found.state == RUNNING:
            found.next = Item(name, controls, priority, self.counter, due=due)
            return
        state = DELAYED if later == 5 else WAITING
        same = found and (found.state, found.priority) == (state, priority)
        order = found.order if found is not None and same else self.counter
        self.items[name] = Item(name, controls, priority, order, state, due)

    # -- Workers. -----------------------------------------------------------------------------

    @rule(limit=st.integers(1, 4))
    def reserve(self, limit):
        deliveries = self.client.reserve([self.queue], limit, LEASE).deliveries
        assert len(deliveries) <= limit
        for each in deliveries:
            self.started(each)

    @rule()
    def take_all(self):
        """Whatever is left waits for a place, or for a token."""
        while found := self.client.reserve([self.queue], 4, LEASE).deliveries:
            for each in found:
                self.started(each)
        for item in self.those(LOST):
            item.state = WAITING
            if item.next is not None:
                self.ended(item)
        self.refill()
        for item in self.those(WAITING):
            full = item.limit_key and self.running(item.limit_key) >= LIMITS[item.limit_key]
            empty = item.rate_key and self.tokens < 1.01
            assert full or empty, f"{item} is kept back by nothing"
            place = self.client.find(self.queue, item.name)
            assert place is not None
            assert place.kept_by in ("limit", "rate")

    @rule(name=NAMES)
    def reserve_by_id(self, name):
        item = self.items.get(name)
        may = item is not None and item.state in (WAITING, DELAYED)
        if may and item.limit_key:
            may = self.running(item.limit_key) < LIMITS[item.limit_key]
        if may and item.rate_key:
            self.refill()
            may = self.tokens > 0.99
        found = self.client.reserve([self.queue], task_id=name, lease=LEASE).deliveries
        assert bool(found) == may
        for each in found:
            self.started(each, by_id=True)

    @rule(name=NAMES)
    def cancel(self, name):
        item = self.items.get(name)
        found = self.client.get(self.queue, name)
        assert (found is not None) == (item is not None and item.state in (WAITING, DELAYED))
        if found is not None:
            self.ended(item)

    @rule(number=PICK, how=st.sampled_from(["ack", "ack", "ack", "unrun", "retry", "bury"]))
    def settle(self, number, how):
        item = self.pick(number)
        if item is None:
            return
        if how == "ack":
            assert self.client.ack([item.delivery]) == []
            self.ended(item)
        elif how == "bury":
            assert self.client.bury(item.delivery, None, Reason("broken"))
            self.dead[item.name] = Item(item.name, item.controls, item.priority, 0, FAILED)
            self.ended(item)
        elif item.next is not None:
            assert self.client.release(item.delivery, None if how == "unrun" else "again")
            self.ended(item)
            if how == "unrun" and item.rate_key:
                self.may_be_refunded()
        else:
            assert self.client.release(item.delivery, None if how == "unrun" else "again")
            item.state = WAITING
            if how == "unrun":
                if item.rate_key:
                    self.refill()
                    self.tokens = min(RATE, self.tokens + 1)
            else:
                self.counter += 1
                item.order = self.counter

    def may_be_refunded(self):
        """A task that another one replaces: whether its token comes back is not promised."""
        self.refill()
        self.tokens = min(RATE, self.tokens + 1)

    @rule(number=PICK)
    def lose_the_worker(self, number):
        item = self.pick(number)
        if item is None:
            return
        if self.environment.has_fake_clock:
            self.environment.clock.advance(max(0.0, item.ends - self.environment.now()))
        else:
            assert self.client.extend([item.delivery], 0.004) == []
            time.sleep(0.006)
            item.ends = 0.0
        self.lose_leases()

    def lose_leases(self):
        now = self.environment.now()
        for item in self.those(RUNNING):
            if item.ends <= now:
                item.state = LOST
        for item in self.those(DELAYED):
            if item.due <= now:
                item.state = WAITING
        self.take_all()

    @rule(name=NAMES)
    def revive(self, name):
        item = self.dead.get(name)
        revived = self.client.revive(self.queue, name)
        assert revived == (item is not None and name not in self.items)
        if revived:
            del self.dead[name]
            self.counter += 1
            self.items[name] = Item(name, item.controls, item.priority, self.counter)

    @rule(seconds=st.sampled_from([10.0, 700.0, 4000.0]))
    def pass_time(self, seconds):
        if not self.environment.has_fake_clock:
            return
        self.environment.clock.advance(seconds)
        self.lose_leases()

    @invariant()
    def counts_agree(self):
        stats = self.client.stats(self.queue)
        behind = sum(item.next is not None for item in self.items.values())
        known = len(self.items) + behind
        assert stats.waiting + stats.delayed + stats.running == known
        assert (stats.held, stats.dead) == (0, len(self.dead))

    def teardown(self):
        self.client.drop_all(self.queue)
        assert self.client.len(self.queue) == 0
        self.client.close()


@pytest.mark.slow
@pytest.mark.timeout(300 + MORE)
@pytest.mark.parametrize("backend", SIZES)
def test_no_history_exceeds_a_limit_or_loses_a_place(backend, request, tmp_path):
    dsn = f"locmem://{tmp_path}"
    if backend != "locmem":
        dsn = request.getfixturevalue(f"{backend}_dsn")
    profile = settings(
        max_examples=MORE or SIZES[backend],
        stateful_step_count=50,
        derandomize=not MORE,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        print_blob=bool(MORE),
    )
    run_state_machine_as_test(lambda: LimitMachine(BACKENDS[backend](dsn)), settings=profile)
