"""Test the contract of children that wait for their parents."""

import threading
import time
import uuid
from typing import Any

import pytest

from alligator.backends.base import LISTING, Client, Delivery, Listed, Message, Reason
from alligator.backends.store import Child, Parent, Record, Store, own_record_key, record_key
from alligator.common.ids import LookalikeId, new_task_id
from alligator.constants import CANCELED, FAILED, HELD, SUCCESS, WAITING
from alligator.exceptions import InvalidTask, UnsupportedOption
from alligator.testing.conformance.base import Contract


class DependencyContract(Contract):
    """What a task with ``depends_on`` can rely on: ``hold``, ``cancel_held``, and the acks.

    A part of ``StoreContract``. Skipped where the store says itself that it keeps no children.
    """

    store: Store

    def hold(
        self, task_id: str, *parents: str, queue: str = "", unconditional: bool = False
    ) -> int:
        """Hold a child of parents on the test's queue; return its status."""
        waits = tuple(Parent(each, (self.queue,)) for each in parents)
        message = Message(task_id, f"data of {task_id}")
        child = Child(queue or self.queue, message, waits, unconditional)
        try:
            return int(self.store.hold(self.client, [child])[0])
        except UnsupportedOption as err:
            pytest.skip(str(err))

    def run(self, task_id: str, lease: float = 30.0) -> Delivery:
        """Reserve one task of the test's queue."""
        (delivery,) = self.client.reserve([self.queue], 1, lease, task_id=task_id).deliveries
        return delivery

    def is_free(self, task_id: str) -> bool:
        """Whether a child can be reserved; it is handed back at once."""
        found = self.client.reserve([self.queue], 1, task_id=task_id).deliveries
        for each in found:
            assert each.data == f"data of {task_id}"
            self.client.release(each)
        return bool(found)

    def error_of(self, task_id: str, queue: str = "") -> str:
        """Return why a child was canceled, which it has to be."""
        record = self.store.record(record_key(queue or self.queue, task_id))
        assert record is not None
        assert record.state == CANCELED
        assert self.client.find(queue or self.queue, task_id) is None
        return record.error

    def test_how_many_are_held_is_known(self) -> None:
        """Beside the other counts, in none of which they are."""
        self.client.push(self.queue, "parent", "1")
        for child in ("one", "two"):
            assert self.hold(child, "parent") == WAITING
        stats = self.client.stats(self.queue)
        assert (stats.waiting, stats.delayed, stats.running, stats.held) == (1, 0, 0, 2)
        self.client.ack([self.run("parent")])
        stats = self.client.stats(self.queue)
        assert (stats.waiting, stats.held) == (2, 0)

    def test_who_is_held_is_listed(self) -> None:
        """Once, however many parents it waits for; those of other queues are not."""
        if LISTING not in self.client.controls:
            pytest.skip("this backend does not list tasks in every state")
        self.client.push(self.queue, "a", "1")
        self.client.push(self.queue, "b", "2")
        for child in ("c-1", "c-2", "c-3"):
            assert self.hold(child, "a", "b") == WAITING
        assert self.hold("elsewhere", "a", queue=f"{self.queue}-2") == WAITING
        first, cursor = self.client.list_tasks(self.queue, HELD, 2)
        second, end = self.client.list_tasks(self.queue, HELD, 2, cursor)
        assert [each.task_id for each in (*first, *second)] == ["c-1", "c-2", "c-3"]
        assert (first[0], end) == (Listed("c-1", "data of c-1", WAITING), None)
        assert [each.task_id for each in self.client.list_tasks(self.queue, WAITING)[0]] == [
            "a",
            "b",
        ]
        self.client.drop_all(f"{self.queue}-2")

    def test_an_ack_releases_who_waited_for_nobody_else(self) -> None:
        """Until then a child can be found, but not counted nor reserved."""
        self.client.push(self.queue, "one", "1")
        self.client.push(self.queue, "two", "2")
        assert self.hold("both", "one", "two") == WAITING
        assert self.hold("first", "one") == WAITING
        assert self.hold("below", "both") == WAITING
        assert self.client.len(self.queue) == 2
        place = self.client.find(self.queue, "both")
        assert place is not None
        assert place.state == WAITING
        assert self.client.peek(self.queue, "both") == "data of both"
        assert not self.is_free("both")
        assert self.client.ack([self.run("one")]) == []
        assert (self.is_free("first"), self.is_free("both")) == (True, False)
        assert self.client.ack([self.run("two")]) == []
        assert (self.is_free("both"), self.is_free("below")) == (True, False)
        assert self.client.len(self.queue) == 2
        assert self.client.ack([self.run("both")]) == []
        assert self.is_free("below")

    def test_acks_that_ride_with_reserve_release_as_well(self) -> None:
        """And the child may come in the same step."""
        self.client.push(self.queue, "parent", "1")
        self.hold("child", "parent")
        acks = [self.run("parent")]
        found = self.client.reserve([self.queue], 5, acks=acks).deliveries
        found = found or self.client.reserve([self.queue], 5).deliveries
        assert [each.task_id for each in found] == ["child"]

    def test_a_retry_or_an_ack_that_was_overtaken_release_nobody(self) -> None:
        """The parent is still to come."""
        self.client.push(self.queue, "parent", "1")
        self.hold("child", "parent")
        assert self.client.release(self.run("parent"), "again")
        stale = self.run("parent")
        assert self.client.release(stale)
        assert self.client.ack([stale]) == [stale]
        assert not self.is_free("child")
        assert self.client.ack([self.run("parent")]) == []
        assert self.is_free("child")

    def test_a_dead_letter_cancels_and_so_on(self) -> None:
        """Each with the reason in its record; children pushed later, too."""
        self.client.push(self.queue, "parent", "1")
        self.hold("child", "parent")
        self.hold("grandchild", "child")
        assert self.client.bury(self.run("parent"), None, Reason("ValueError: no"))
        assert "parent" in self.error_of("child")
        assert "ValueError: no" in self.error_of("grandchild")
        assert self.hold("late", "parent") == CANCELED
        assert "ValueError: no" in self.error_of("late")
        assert self.client.len(self.queue) == 0

    def test_what_is_on_record_decides_for_parents_that_are_nowhere(self) -> None:
        """Nothing there: it has succeeded."""
        keys = [record_key(self.queue, "failed"), "failed-long-ago"]  # that one by Alligator 1.1
        for key, parent in zip(keys, ("failed", "failed-long-ago"), strict=True):
            self.store.note(key, Record(FAILED, error="ValueError: no"), 60)
            assert self.hold("child", parent) == CANCELED
            assert "ValueError: no" in self.error_of("child")
        assert self.hold("free", "never-heard-of") == WAITING
        assert self.is_free("free")
        self.store.forget(keys)

    def test_a_record_is_that_of_one_queue(self) -> None:
        """Of its id on others it says nothing; nor does that of a child."""
        other = f"{self.queue}-2"
        key = record_key(other, "parent")
        self.store.note(key, Record(FAILED, error="ValueError: no"), 60)
        assert self.hold("child", "parent") == WAITING
        assert self.is_free("child")
        self.store.note(record_key(self.queue, "failed"), Record(FAILED), 60)
        assert self.hold("child", "failed", queue=other) == CANCELED
        assert self.error_of("child", other)
        assert self.store.record(record_key(self.queue, "child")) is None
        assert self.is_free("child")
        self.client.drop_all(other)

    @pytest.mark.parametrize("how", ["one by one", "many", "once", "held"])
    def test_a_push_overrules_what_was_before(self, how: str) -> None:
        """In its record, also by Alligator 1.1; its dead letter no longer decides its status."""
        for task_id in ("again", str(uuid.uuid4()), LookalikeId(new_task_id())):
            self._check_overruled(how, task_id)

    def _check_overruled(self, how: str, task_id: str) -> None:
        key = own_record_key(self.queue, task_id)
        self.client.push(self.queue, task_id, f"data of {task_id}")
        assert self.client.bury(self.run(task_id), None, Reason("ValueError: no"))
        place = self.client.find(self.queue, task_id)
        assert place is not None
        assert place.state == FAILED
        saved = own_record_key(f"{self.queue}-2", task_id), Record(FAILED)
        for record in (Record(FAILED, pushed=time.time() + 60), Record(CANCELED)):
            for each in (key, task_id, saved[0]):
                self.store.note(each, record, 60)
            assert self.hold("child", task_id) == CANCELED
            self._push(how, task_id)
            assert self.store.records([key, task_id]) == [None, None]
            assert self.store.record(saved[0]) is not None
            assert self.client.ack([self.run(task_id)]) == []
        assert self.client.find(self.queue, task_id) is None
        assert self.hold("child", task_id) == WAITING
        assert self.is_free("child")
        assert [each.task_id for each in self.client.dead(self.queue)] == [task_id]
        self.client.push(self.queue, task_id, f"data of {task_id}")
        assert self.client.bury(self.run(task_id), None, Reason("TypeError: no"))
        place = self.client.find(self.queue, task_id)
        assert place is not None
        assert place.state == FAILED
        assert self.hold("child", task_id) == CANCELED
        assert "TypeError" in self.error_of("child")
        self._push(how, task_id)
        assert self.client.ack([self.run(task_id)]) == []
        assert self.client.revive(self.queue) == 1
        assert self.client.ack([self.run(task_id)]) == []
        assert self.client.dead(self.queue) == []
        self.store.note(key, Record(SUCCESS, "1"), 60)
        self._push(how, task_id)
        assert self.store.record(key) == Record(SUCCESS, "1"), "a child may still ask for it"
        self.store.forget([key, saved[0]])

    def _push(self, how: str, task_id: str) -> None:
        message = Message(task_id, f"data of {task_id}")
        if how == "one by one":
            self.client.push(self.queue, *message[:2])
        elif how == "many":
            some = [Message(f"{number}", "data") for number in range(3)]
            self.client.push_many(self.queue, [*some, message])
            for each in some:
                self.client.ack([self.run(each.task_id)])
        elif how == "once":
            key = uuid.uuid4().hex
            assert self.store.push_once(self.client, key, 60, self.queue, message)
        else:
            parent = uuid.uuid4().hex
            self.client.push(self.queue, parent, "data")
            assert self.hold(task_id, parent) == WAITING
            assert self.client.ack([self.run(parent)]) == []

    def test_an_ack_overrules_a_failure_that_came_after_the_push(self) -> None:
        """That of a run that had begun before; a cancellation is noted before the ack."""
        keys = {state: record_key(self.queue, f"{state}") for state in (FAILED, CANCELED)}
        self.hold("skipped?", "no parent")
        for state, key in keys.items():
            for riding in (False, True):
                self.client.push(self.queue, f"{state}", "data")
                self.store.note(key, Record(state), 60)
                acks = [self.run(f"{state}")]
                if riding:
                    self.client.reserve([self.queue], 1, 30, acks=acks, task_id="none")
                else:
                    assert self.client.ack(acks) == []
                assert (self.store.record(key) is None) == (state == FAILED)
        self.store.forget(keys.values())

    def test_what_stands_in_for_another_leaves_its_record_alone(self) -> None:
        """Its id is the key of the record."""
        self.hold("skipped?", "no parent")
        key = own_record_key(f"{self.queue}-elsewhere", "parent")
        for state in (FAILED, CANCELED):
            record = Record(state, error="ValueError: no", at=1.0)
            self.store.note(key, record, 60)
            self.client.push(self.queue, key, "{}")
            assert self.store.record(key) == record
            assert self.client.ack([self.run(key)]) == []
            assert self.store.record(key) == record
            self.client.push(self.queue, key, "{}")
            assert self.hold(f"child {state}", key) == WAITING
            assert self.store.settle(self.client, self.run(key), key, record, 60) is True
            assert self.store.record(key) == record
            assert "parent" in self.error_of(f"child {state}")
            self.store.forget([key])

    def test_what_was_pushed_behind_a_run_that_fails(self) -> None:
        """Its dead letter is of an earlier push."""
        self.hold("skipped?", "no parent")
        self.client.push(self.queue, "again", "1")
        delivery = self.run("again")
        self.client.push(self.queue, "again", "2")
        assert self.client.bury(delivery, None, Reason("ValueError: no"))
        assert self.client.ack([self.run("again")]) == []
        assert self.client.find(self.queue, "again") is None
        assert self.hold("child", "again") == WAITING
        assert self.is_free("child")

    def test_a_cancellation_cancels_the_children(self) -> None:
        """Of a task that waits, by settle; of one that is held, by cancel_held."""
        self.client.push(self.queue, "parent", "1")
        self.hold("child", "parent")
        self.hold("grandchild", "child")
        self.client.push(self.queue, "other", "1")
        self.hold("held", "other")
        self.hold("below", "held")
        record = Record(CANCELED, attempt=9)
        keys = [record_key(self.queue, each) for each in ("parent", "held")]
        delivery = self.run("parent")
        assert self.store.settle(self.client, delivery, keys[0], record, 60) is True
        assert "parent" in self.error_of("child")
        assert "child" in self.error_of("grandchild")
        assert self.store.cancel_held(self.client, self.queue, "held", record) is True
        assert self.store.cancel_held(self.client, self.queue, "held", record) is False
        assert self.store.cancel_held(self.client, self.queue, "other", record) is False
        assert "held" in self.error_of("below")
        assert self.client.ack([self.run("other")]) == []
        assert self.client.len(self.queue) == 0
        assert all(self.store.records(keys))
        self.store.forget(keys)

    def test_an_unconditional_child_runs_however_its_parents_ended(self) -> None:
        """Once all of them have: one succeeded, one was buried, one canceled, one never ran."""
        other = f"{self.queue}-2"
        for parent in "abc":
            self.client.push(self.queue, parent, "1")
        assert self.hold("d", "a") == WAITING
        assert self.hold("always", *"abcd", unconditional=True) == WAITING
        assert self.hold("outside", *"abd", queue=other, unconditional=True) == WAITING
        assert self.hold("below", "always") == WAITING
        assert self.client.ack([self.run("b")]) == []
        assert self.client.bury(self.run("a"), None, Reason("ValueError: no"))
        assert self.error_of("d")
        (outside,) = self.client.reserve([other], 1).deliveries
        assert (outside.task_id, outside.data) == ("outside", "data of outside")
        assert self.client.ack([outside]) == []
        assert not self.is_free("always")
        canceled = Record(CANCELED, at=1.0)
        assert self.store.settle(self.client, self.run("c"), "c", canceled, 60)
        assert self.is_free("always")
        assert not self.is_free("below")
        assert self.client.ack([self.run("always")]) == []
        assert self.is_free("below")

    def test_an_unconditional_child_of_parents_that_have_ended(self) -> None:
        """It is queued at once; as any other it is canceled itself, with its children."""
        self.client.push(self.queue, "parent", "1")
        assert self.client.bury(self.run("parent"), None, Reason("ValueError: no"))
        self.store.note(record_key(self.queue, "canceled"), Record(CANCELED), 60)
        assert self.hold("now", "parent", "canceled", unconditional=True) == WAITING
        assert self.is_free("now")
        self.client.push(self.queue, "next", "1")
        assert self.hold("later", "next", "parent", unconditional=True) == WAITING
        assert self.hold("below", "later") == WAITING
        assert self.store.cancel_held(self.client, self.queue, "later", Record(CANCELED))
        assert self.error_of("below")
        assert self.client.ack([self.run("next")]) == []
        assert not self.is_free("later")
        # What is held again under that id is as it says now.
        self.client.push(self.queue, "next", "1")
        assert self.hold("later", "next", unconditional=True) == WAITING
        assert self.hold("later", "next") == WAITING
        assert self.client.bury(self.run("next"), None, Reason("ValueError: no"))
        assert self.error_of("later")

    def test_two_acks_at_once_release_once(self) -> None:
        """The last one does, and only that."""
        for turn in range(10):
            names = [f"p{turn}-{each}" for each in range(4)]
            for name in names:
                self.client.push(self.queue, name, "1")
            self.hold(f"c{turn}", *names)
            clients = [self.another_client() for _ in names]
            held = [self.run(name) for name in names]
            start = threading.Barrier(len(names))

            def ack(client: Client, delivery: Delivery, start: Any = start) -> None:
                start.wait(30)
                assert client.ack([delivery]) == []

            pairs = zip(clients, held, strict=True)
            threads = [threading.Thread(target=ack, args=pair) for pair in pairs]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
            assert self.client.len(self.queue) == 1
            assert self.client.ack([self.run(f"c{turn}")]) == []

    def test_an_emptied_queue(self) -> None:
        """Its children are gone; those elsewhere that waited for a task of it are canceled."""
        other = f"{self.queue}-2"
        self.client.push(self.queue, "parent", "1")
        self.hold("child", "parent")
        self.hold("outside", "child", queue=other)
        self.hold("always", "parent", "child", queue=other, unconditional=True)
        self.client.drop_all(self.queue)
        assert self.client.find(self.queue, "child") is None
        assert [each.task_id for each in self.client.reserve([other], 9).deliveries] == ["always"]
        assert self.error_of("outside", other)
        self.client.drop_all(other)

    def test_what_can_never_run_is_refused(self) -> None:
        """A child whose id runs now; one that would wait for itself by way of others."""
        self.client.push(self.queue, "parent", "1")
        self.hold("child", "parent")
        self.hold("grandchild", "child")
        with pytest.raises(InvalidTask):
            self.hold("parent", "grandchild")
        delivery = self.run("parent")
        self.client.push(self.queue, "other", "1")
        with pytest.raises(InvalidTask):
            self.hold("parent", "other")
        assert self.client.ack([delivery]) == []
        assert self.is_free("child")
