"""Test the contract of unique keys: one pending task for each, and the last push that counts."""

import threading
import time
from typing import Any

import pytest

from alligator.backends.base import (
    DEBOUNCE,
    LIMIT,
    UNIQUE,
    Controls,
    Duplicate,
    Message,
    Reason,
    controlled,
    time_on,
)
from alligator.backends.store import Child, Parent
from alligator.common.ids import new_task_id
from alligator.constants import DELAYED, WAITING
from alligator.exceptions import UnsupportedOption
from alligator.testing.conformance.base import ClientContract


def unique(task_id: str, key: str = "k", data: str = "", **controls: Any) -> Message:
    """Return a message with a unique key; its data say its id."""
    due = controls.pop("delay_until", None)
    priority = controls.pop("priority", 0)
    asked = Controls(unique_key=key, **controls)
    return controlled(Message(task_id, data or task_id, due, priority), asked)


class UniqueContract(ClientContract):
    """What ``unique`` and ``debounce`` can rely on."""

    def needs_controls(self, *what: str) -> None:
        """Skip the test unless the backend keeps these."""
        if missing := set(what) - self.client.controls:
            pytest.skip(f"this backend does not keep {sorted(missing)}")

    def put(self, task_id: str, key: str = "k", **options: Any) -> str:
        """Push a message with a unique key; return the id that the push returned."""
        (found,) = self.client.push_many(self.queue, [unique(task_id, key, **options)])
        assert isinstance(found, Duplicate) or found == task_id
        return found

    def is_taken(self, key: str = "k") -> str | None:
        """Return the id of the task that has a key; None: it is free (as it is afterwards)."""
        probe = new_task_id()
        found = self.put(probe, key)
        if isinstance(found, Duplicate):
            return str(found)
        assert self.client.get(self.queue, probe) == probe
        return None

    def test_a_key_is_taken_until_its_task_has_left(self) -> None:
        """Waiting, delayed and running; what is pushed meanwhile is not queued."""
        self.needs_controls(UNIQUE)
        assert not isinstance(self.put("first"), Duplicate)
        found = self.put("second", delay_until=time.time() + 3600)
        assert (type(found), found) == (Duplicate, "first")
        position = getattr(found, "position", None)
        assert self.client.lost_nothing_since(self.queue, position) in (True, None)
        assert self.client.len(self.queue) == 1
        assert not isinstance(self.put("other", "k2"), Duplicate)
        elsewhere = self.make_queue()
        assert self.client.push_many(elsewhere, [unique("there")]) == ["there"]
        running = self.reserve_one()
        assert (running.task_id, running.data) == ("first", "first")
        assert self.is_taken() == "first"
        assert self.client.ack([running]) == []
        assert self.is_taken() is None
        assert self.is_taken("k2") == "other"
        self.put("later", delay_until=time.time() + 3600)
        assert self.is_taken() == "later"
        assert self.client.get(self.queue, "later") == "later"
        assert self.is_taken() is None
        assert self.drain() == ["other"]
        self.client.drop_all(elsewhere)

    def test_a_retry_and_a_lease_that_ran_out_keep_the_key(self) -> None:
        """The task itself does not trip over it; nor is it free in between."""
        self.needs_controls(UNIQUE)
        self.put("one")
        assert self.client.release(self.reserve_one(), "again")
        assert self.is_taken() == "one"
        assert self.client.release(self.reserve_one(), None, time.time() + 3600)
        assert self.is_taken() == "one"
        (delivery,) = self.reserve(task_id="one", lease=self.short_lease)
        assert delivery.data == "again"
        self.eventually(lambda: bool(self.reserve()), "its lease runs out")
        assert self.is_taken() == "one"
        self.client.drop_all(self.queue)
        assert self.is_taken() is None

    def test_a_dead_letter_frees_the_key_until_it_is_revived(self) -> None:
        """While another task has the key, it stays dead."""
        self.needs_controls(UNIQUE)
        self.put("one")
        assert self.client.bury(self.reserve_one(), None, Reason("no"))
        assert self.is_taken() is None
        assert self.client.revive(self.queue, "one") == 1
        assert self.is_taken() == "one"
        assert self.client.bury(self.reserve_one(), None, Reason("no"))
        self.put("two")
        assert self.client.revive(self.queue, "one") == 0
        assert self.client.revive(self.queue) == 0
        assert [each.task_id for each in self.client.dead(self.queue)] == ["one"]
        assert self.drain() == ["two"]
        assert self.client.revive(self.queue, None, lambda _, data: data) == 1
        assert self.is_taken() == "one"
        for task_id in ("one", "two"):
            if task_id == "two":
                self.put("two", unique_until_start=True)
            assert self.client.bury(self.reserve_one(), None, Reason("no"))
        # Both have the same key: the first takes it, and the other one stays.
        assert self.client.revive(self.queue) == 1
        assert len(self.client.dead(self.queue)) == 1

    def test_a_key_until_the_start(self) -> None:
        """It is free in the step that leases the task, and its retry does not take it again."""
        self.needs_controls(UNIQUE)
        self.put("one", unique_until_start=True)
        assert self.is_taken() == "one"
        one = self.reserve_one()
        assert self.is_taken() is None
        assert self.client.release(one, "again")
        assert self.is_taken() is None
        self.put("two", unique_until_start=True)
        assert self.reserve_one().task_id == "one"
        assert self.is_taken() == "two"
        (two,) = self.reserve(task_id="two")
        assert self.is_taken() is None
        assert self.client.release(two)
        assert self.is_taken() is None
        assert self.client.bury(self.reserve_one(), None, Reason("no"))
        assert self.client.revive(self.queue) == 1
        assert self.is_taken() == "two"

    def test_duplicates_inside_a_batch(self) -> None:
        """The first of each key is queued, and stands for the others."""
        self.needs_controls(UNIQUE)
        plain = Message("plain", "plain")
        messages = [unique("1"), plain, unique("2", "x"), unique("3"), unique("4", "x")]
        found = self.client.push_many(self.queue, messages)
        assert found == ["1", "plain", "2", "1", "2"]
        assert [isinstance(each, Duplicate) for each in found] == [False] * 3 + [True] * 2
        stats = self.client.stats(self.queue)
        assert (stats.waiting, stats.delayed, stats.running) == (3, 0, 0)
        assert self.drain() == ["1", "plain", "2"]
        stats = self.client.stats(self.queue)
        assert (stats.waiting, stats.delayed, stats.running) == (0, 0, 0)
        assert self.is_taken() is None

    def test_keys_of_ids_of_the_users_own(self) -> None:
        """A push that replaces a task frees its key; one behind a running task has its own."""
        self.needs_controls(UNIQUE)
        self.put("x", "a")
        assert (type(self.put("x", "a", data="new")), self.client.len(self.queue)) == (Duplicate, 1)
        assert self.client.peek(self.queue, "x") == "x"
        self.put("x", "b")
        assert (self.is_taken("a"), self.is_taken("b")) == (None, "x")
        self.client.push(self.queue, "x", "plain")
        assert self.is_taken("b") is None
        self.put("x", "a")
        running = self.reserve_one()
        assert isinstance(self.put("x", "a"), Duplicate)
        self.put("x", "b", data="behind", unique_until_start=True)
        assert (self.is_taken("a"), self.is_taken("b")) == ("x", "x")
        assert self.client.ack([running]) == []
        assert (self.is_taken("a"), self.is_taken("b")) == (None, "x")
        assert self.reserve_one().data == "behind"
        assert self.is_taken("b") is None
        self.put("x", "b", data="once more", unique_until_start=True)
        assert self.is_taken("b") == "x"
        self.client.push(self.queue, "x", "plain")
        assert self.is_taken("b") is None
        self.client.drop_all(self.queue)
        # It replaces a retry, which has no key any more, and has one: it did not start.
        self.put("x", "b", unique_until_start=True)
        assert self.client.release(self.reserve_one(), "retry")
        assert self.is_taken("b") is None
        self.put("x", "b", data="again", unique_until_start=True)
        assert self.is_taken("b") == "x"
        assert self.reserve_one().data == "again"
        assert self.is_taken("b") is None

    def test_keys_of_children_and_of_marks(self) -> None:
        """A child has its key while it is held; a tick that is pushed once may be a duplicate."""
        self.needs_controls(UNIQUE)
        store = self.client.store
        if store is None:
            pytest.skip("it has no store beside its queues")
        self.client.push(self.queue, "parent", "parent")
        one, two = (
            Child(self.queue, unique(each), (Parent("parent", (self.queue,)),)) for each in "12"
        )
        try:
            assert store.hold(self.client, [one, two]) == [WAITING, "1"]
        except UnsupportedOption as err:
            pytest.skip(str(err))
        assert (self.is_taken(), self.client.stats(self.queue).held) == ("1", 1)
        parent = self.reserve_one()
        assert self.client.ack([parent]) == []
        assert self.is_taken() == "1"
        assert store.push_once(self.client, "mark", 60.0, self.queue, unique("tick"))
        assert self.client.len(self.queue) == 1
        assert store.hold(self.client, [two]) == ["1"]
        assert self.drain() == ["1"]
        assert not store.push_once(self.client, "mark", 60.0, self.queue, unique("tick"))
        assert store.push_once(self.client, "mark 2", 60.0, self.queue, unique("tick 2"))
        assert self.is_taken() == "tick 2"
        assert self.drain() == ["tick 2"]
        self.client.push(self.queue, "parent", "parent")
        assert store.hold(self.client, [two]) == [WAITING]
        assert self.client.bury(self.reserve_one(), None, Reason("no"))
        assert self.is_taken() is None

    def test_keys_of_tasks_that_a_limit_keeps_back(self) -> None:
        """They wait: until the start one has its key, and its retry has not."""
        self.needs_controls(UNIQUE, LIMIT)
        limit: dict[str, Any] = {"limit_key": "l", "limit": 1}
        self.client.push_many(self.queue, [controlled(Message("x", "x"), Controls(**limit))])
        running = self.reserve_one()
        self.put("one", unique_until_start=True, **limit)
        assert self.reserve() == []
        assert self.is_taken() == "one"
        assert self.client.ack([running]) == []
        one = self.reserve_one()
        self.client.push_many(self.queue, [controlled(Message("y", "y"), Controls(**limit))])
        assert self.client.release(one, "again")
        running = self.reserve_one()
        assert (running.task_id, self.reserve()) == ("y", [])
        assert self.is_taken() is None
        assert self.client.ack([running]) == []
        assert self.drain() == ["again"]

    def test_the_last_push_counts(self) -> None:
        """It replaces the task, which waits again, up to a limit; not one that has started."""
        self.needs_controls(UNIQUE, DEBOUNCE)
        options: dict[str, Any] = {"unique_until_start": True, "debounce": 100.0}
        now = time_on(self.client, self.queue, self.client.clock)

        def due() -> float:
            place = self.client.find(self.queue, "1")
            assert place is not None
            assert place.state == DELAYED
            assert place.due is not None
            return place.due

        assert not isinstance(self.put("1", debounce_max=250.0, **options), Duplicate)
        first = due()
        assert first == pytest.approx(now + 100, abs=15)
        self.eventually(
            lambda: time_on(self.client, self.queue, self.client.clock) > now + 0.02,
            "time passes",
        )
        found = self.put("2", debounce_max=250.0, priority=5, **options)
        assert (type(found), found) == (Duplicate, "1")
        assert (self.client.peek(self.queue, "1"), self.client.len(self.queue)) == ("2", 1)
        assert first < due() < first + 60
        assert self.put("3", debounce_max=80.0, **options) == "1"
        assert due() == pytest.approx(now + 80, abs=15)
        self.put("3", debounce_max=250.0, delay_until=now + 7200, **options)
        assert due() == pytest.approx(now + 7200, abs=5)
        # Without debounce, it is found and left as it is.
        assert (self.put("4", unique_until_start=True), self.client.peek(self.queue, "1")) == (
            "1",
            "3",
        )
        (running,) = self.reserve(task_id="1")
        assert running.data == "3"
        assert self.put("5", debounce_max=250.0, **options) == "5"
        assert self.client.release(running, "again")
        assert [each.data for each in self.reserve(5)] == ["again"]
        assert self.client.peek(self.queue, "5") == "5"
        # One that is not delayed by this is left as it is.
        self.put("6", "k6")
        found = self.put("7", "k6", debounce_max=250.0, **options)
        assert (type(found), self.client.peek(self.queue, "6")) == (Duplicate, "6")

    def test_a_debounced_batch_and_data_for_another_id(self) -> None:
        """Each counts as if it were pushed alone; the data may name the id that they get."""
        self.needs_controls(UNIQUE, DEBOUNCE)
        options: dict[str, Any] = {"unique_until_start": True, "debounce": 0.2, "debounce_max": 0.4}
        messages = [unique(each, data=f"{each} as {each}", **options) for each in "abc"]
        for each, message in zip("abc", messages, strict=True):
            message.data_for = lambda task_id, each=each: f"{each} as {task_id}"  # type: ignore[attr-defined]
        found = self.client.push_many(self.queue, [*messages, Message("plain", "plain")])
        assert found == ["a", "a", "a", "plain"]
        assert [isinstance(each, Duplicate) for each in found] == [False, True, True, False]
        assert self.client.len(self.queue) == 2
        # On a slow machine both are due by now.
        assert {self.reserve_one().data, self.reserve_soon().data} == {"plain", "c as a"}
        assert self.client.len(self.queue) == 0

    def test_a_race_for_one_key(self) -> None:
        """Of all callers one queues its task, and the others get that one."""
        self.needs_controls(UNIQUE)
        clients = [self.another_client() for _ in range(8)]
        for _ in range(3):
            found: list[str] = []
            start = threading.Barrier(len(clients))

            def push(client: Any, start: threading.Barrier = start, found: Any = found) -> None:
                start.wait(30)
                found += client.push_many(self.queue, [unique(new_task_id())])

            threads = [threading.Thread(target=push, args=[each]) for each in clients]
            for each in threads:
                each.start()
            for each in threads:
                each.join(30)
            assert len(found) == len(clients)
            assert len(set(found)) == 1, "more than one was queued"
            assert sum(not isinstance(each, Duplicate) for each in found) == 1
            assert len(self.drain()) == 1
