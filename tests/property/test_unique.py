"""Compare unique keys on every backend that keeps them with one model, through random histories.

The model says of each key which task has it, if any: so no two tasks of one key are pending, and no
key is taken by a task that is gone. ``ALLIGATOR_TEST_EXAMPLES=2000`` looks longer.
"""

import os
import time
import uuid
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from alligator.backends import client_class
from alligator.backends.base import Controls, Duplicate, Message, Reason, controlled
from alligator.backends.store import Child, Parent
from alligator.common.ids import new_task_id
from alligator.constants import CANCELED, WAITING
from alligator.testing import FakeClock

MORE = int(os.environ.get("ALLIGATOR_TEST_EXAMPLES", "0"))
SIZES = {"locmem": (150, 50), "sqlite": (50, 50), "redis": (80, 50)}  # histories, steps in each

OWN = st.sampled_from([*"xxy", None])  # an id of the user's own, or a generated one
KEYS = "ab"
KEY = st.sampled_from(KEYS)
UNTIL_START = st.booleans()
PICK = st.integers(0, 30)
HOW = st.sampled_from(["ack", "retry", "unrun", "bury", "bury", "lapse"])


@dataclass
class Item:
    """A task of the model."""

    data: str
    key: str
    until_start: bool
    state: str = "waiting"  # running, held
    started: bool = False
    parent: str = ""
    behind: "Item | None" = None

    def has(self, key):
        """Whether it has that key."""
        if self.behind and self.behind.key == key:
            return True
        started = self.until_start and (self.started or self.state == "running")
        return self.key == key and not started


class UniqueMachine(RuleBasedStateMachine):
    """Pushes, runs, kills and revives tasks, some of them with the same keys."""

    def __init__(self, dsn):
        super().__init__()
        self.clock = None if dsn.startswith("redis") else FakeClock()
        kind = client_class(dsn)
        self.client = kind(dsn) if self.clock is None else kind(dsn, clock=self.clock)
        self.queue = f"q-{uuid.uuid4().hex[:8]}"
        self.items: dict[str, Item] = {}
        self.dead: dict[str, Item] = {}
        self.deliveries = []
        self.count = 0

    def message(self, task_id, key, until_start):
        self.count += 1
        message = Message(task_id or new_task_id(), f"{self.count}")
        if not key:
            return message
        return controlled(message, Controls(unique_key=key, unique_until_start=until_start))

    def owner(self, key):
        """Return the id of the task that has a key; None: it is free."""
        found = [name for name, item in self.items.items() if key and item.has(key)]
        assert len(found) <= 1, "the model itself has two"
        return found[0] if found else None

    def note_push(self, message, key, until_start, returned):
        owner, new = self.owner(key), Item(message.data, key, until_start)
        assert isinstance(returned, Duplicate) == (owner is not None)
        assert returned == (owner or message.task_id)
        if owner is not None:
            return
        item = self.items.get(message.task_id)
        self.overrule(message.task_id)
        if item is not None and item.state == "running":
            item.behind = new
        else:
            self.items[message.task_id] = new

    def overrule(self, task_id):
        """Note that the dead letter of that id is of an earlier push."""
        if task_id in self.dead:
            self.dead[task_id].state = "overruled"

    def take_over(self, task_id, behind):
        self.items[task_id] = behind
        self.overrule(task_id)

    def ended(self, task_id, *, well):
        """Take a task away; what was pushed behind it takes over, and its children follow."""
        item = self.items.pop(task_id)
        if item.behind:
            self.take_over(task_id, item.behind)
        for name, child in list(self.items.items()):
            if child.state == "held" and child.parent == task_id:
                if well:
                    child.state = "waiting"
                else:
                    self.ended(name, well=False)

    # -- What may happen. -----------------------------------------------------------------

    @rule(own=OWN, key=KEY, until_start=UNTIL_START)
    def push(self, own, key, until_start):
        message = self.message(own, key, until_start)
        (returned,) = self.client.push_many(self.queue, [message])
        self.note_push(message, key, until_start, returned)

    @rule(several=st.lists(st.tuples(OWN, st.sampled_from([*KEYS, ""]), UNTIL_START), max_size=5))
    def batch(self, several):
        messages = [self.message(*each) for each in several]
        for (_, key, until_start), message, returned in zip(
            several, messages, self.client.push_many(self.queue, messages), strict=True
        ):
            self.note_push(message, key, until_start, returned)

    @rule(own=OWN)
    def push_plain(self, own):
        message = self.message(own, "", False)
        self.note_push(message, "", False, self.client.push(self.queue, *message[:2]))

    @precondition(lambda self: self.items)
    @rule(pick=PICK, key=KEY, until_start=UNTIL_START)
    def hold(self, pick, key, until_start):
        parent = list(self.items)[pick % len(self.items)]
        message, owner = self.message(None, key, until_start), self.owner(key)
        child = Child(self.queue, message, (Parent(parent, (self.queue,)),))
        (state,) = self.client.store.hold(self.client, [child])
        assert isinstance(state, Duplicate) == (owner is not None)
        assert state == (owner or WAITING)
        if owner is None:
            self.items[message.task_id] = Item(
                message.data, key, until_start, "held", parent=parent
            )

    @precondition(lambda self: self.dead)
    @rule(pick=PICK, key=KEY)
    def hold_of_a_dead_one(self, pick, key):
        """It is canceled at once, and takes no key."""
        parent = list(self.dead)[pick % len(self.dead)]
        if parent in self.items or self.dead[parent].state == "overruled":
            return
        message, owner = self.message(None, key, False), self.owner(key)
        child = Child(self.queue, message, (Parent(parent, (self.queue,)),))
        assert self.client.store.hold(self.client, [child]) == [owner or CANCELED]

    @rule(limit=st.integers(1, 3))
    def reserve_some(self, limit):
        self.reserve(limit)

    def reserve(self, limit):
        found = self.client.reserve([self.queue], limit, 600.0).deliveries
        for name, item in self.items.items():  # a lease that ran out: what is behind took over
            if item.behind and self.client.peek(self.queue, name) == item.behind.data:
                self.take_over(name, item.behind)
        for each in found:
            item = self.items[each.task_id]
            assert item.data == each.data
            item.state, item.started = "running", True
        self.deliveries += found

    @rule(how=HOW)
    def reserve_and_settle(self, how):
        before = len(self.deliveries)
        self.reserve(1)
        if len(self.deliveries) > before:
            self.settle(-1, how)

    @precondition(lambda self: self.deliveries)
    @rule(pick=PICK, how=HOW)
    def settle_one(self, pick, how):
        self.settle(pick % len(self.deliveries), how)

    def settle(self, index, how):
        delivery = self.deliveries.pop(index)
        name = delivery.task_id
        if how == "lapse":  # its worker was killed
            self.client.extend([delivery], 0.001)
            if self.clock is None:
                time.sleep(0.003)
            else:
                self.clock.advance(1)
        elif how == "ack":
            if not self.client.ack([delivery]):
                self.ended(name, well=True)
        elif how == "bury":
            item = self.items.get(name)
            if self.client.bury(delivery, None, Reason("no")):
                self.dead.pop(name, None)  # the order is that of deaths
                self.dead[name] = Item(item.data, item.key, item.until_start)
                self.ended(name, well=False)
        else:
            data = None if how == "unrun" else f"{delivery.data} again"
            if self.client.release(delivery, data):
                item = self.items[name]
                if item.behind:
                    self.take_over(name, item.behind)
                else:
                    item.state, item.data = "waiting", data or item.data

    @precondition(lambda self: self.items)
    @rule(pick=PICK)
    def cancel(self, pick):
        name = list(self.items)[pick % len(self.items)]
        if self.items[name].state == "waiting":
            assert self.client.get(self.queue, name) == self.items[name].data
            self.ended(name, well=True)  # as an ack

    @precondition(lambda self: self.dead)
    @rule(pick=PICK)
    def revive(self, pick):
        name = list(self.dead)[pick % len(self.dead)]
        letter = self.dead[name]
        stays = name in self.items or self.owner(letter.key) is not None
        assert self.client.revive(self.queue, name) == (not stays)
        if not stays:
            self.revived(name)

    def revived(self, name):
        letter = self.dead.pop(name)
        letter.state = "waiting"
        self.items[name] = letter

    @precondition(lambda self: len(self.dead) > 1)
    @rule()
    def revive_all(self):
        revived = 0
        for name, letter in list(self.dead.items()):
            if name not in self.items and self.owner(letter.key) is None:
                self.revived(name)
                revived += 1
        assert self.client.revive(self.queue) == revived

    @rule(odds=st.integers(0, 9))
    def drop_all(self, odds):
        if odds == 0:
            self.client.drop_all(self.queue)
            self.items.clear()
            self.dead.clear()
            self.deliveries.clear()

    @invariant()
    def each_key_has_one_task_at_most(self):
        for key in KEYS:
            self.owner(key)

    def teardown(self):
        """Look who has each key: a push says so."""
        try:
            for key in KEYS:
                message, owner = self.message(None, key, False), self.owner(key)
                (returned,) = self.client.push_many(self.queue, [message])
                assert returned == (owner or message.task_id)
        finally:
            self.client.drop_all(self.queue)
            self.client.close()


@pytest.mark.slow
@pytest.mark.timeout(600 + MORE)
@pytest.mark.parametrize("backend", SIZES)
def test_no_history_tells_it_from_the_model(backend, request, tmp_path):
    dsn = f"locmem://{tmp_path}" if backend == "locmem" else None
    dsn = dsn or request.getfixturevalue(f"{backend}_dsn")
    examples, steps = SIZES[backend]
    profile = settings(
        max_examples=MORE or examples,
        stateful_step_count=steps,
        derandomize=not MORE,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        print_blob=bool(MORE),
    )
    run_state_machine_as_test(lambda: UniqueMachine(dsn), settings=profile)
