"""Test the contract of pushing, order, ids, delays, and counting."""

import threading
import time

import pytest

from alligator.backends.base import DELAY, GET, OWN_ID, PRIORITY, Data, Message, Reason, time_on
from alligator.common.ids import new_task_id
from alligator.constants import DELAYED, RUNNING, WAITING
from alligator.exceptions import AlligatorException, UnsupportedOption
from alligator.testing.conformance.base import ClientContract


class QueueContract(ClientContract):
    """What a producer, and a caller that looks at a queue, can rely on."""

    def test_empty_queue(self) -> None:
        """Nothing is there, and asking does no harm."""
        assert self.client.len(self.queue) == 0
        assert self.client.pop(self.queue) is None
        assert self.client.reserve([self.queue]).deliveries == []
        self.client.drop_all(self.queue)

    def test_text_and_bytes_come_back_as_they_went(self) -> None:
        """``str`` stays ``str``, ``bytes`` stay ``bytes``, whatever they hold."""
        data: list[Data] = [
            "plain",
            "schräg ✓ 🐊",
            b"\x00\xff\xfe raw",
            b"bytes that look like text",
            "",
        ]
        for index, each in enumerate(data):
            self.client.push(self.queue, f"id-{index}", each)
        found = self.drain()
        assert sorted(map(repr, found)) == sorted(map(repr, data))

    def test_first_in_first_out(self) -> None:
        """Also within one second."""
        pushed = [f"{number:03}" for number in range(25)]
        self.push(*pushed)
        found = self.drain()
        assert sorted(map(str, found)) == pushed
        assert not self.keeps_order or found == pushed

    def test_push_many_keeps_order_and_returns_ids(self) -> None:
        """A batch is as good as so many pushes."""
        messages = [Message(f"m-{number:03}", f"{number:03}") for number in range(25)]
        ids = self.client.push_many(self.queue, messages)
        assert len(set(ids)) == 25
        if self.supports(OWN_ID):
            assert ids == [message.task_id for message in messages]
        assert self.client.push_many(self.queue, []) == []
        found = self.drain()
        assert sorted(map(str, found)) == [message.data for message in messages]
        assert not self.keeps_order or found == [message.data for message in messages]

    def test_push_each_refuses_one_and_takes_the_others(self) -> None:
        """In order; and what is refused says why, as a push of it alone would."""
        messages = [Message(f"m-{number:03}", f"{number:03}") for number in range(25)]
        too_large = "x" * ((self.client.max_size() or 0) + 1)
        for bad in (Message("m-bad", "\ud800 is no text"), Message("m-bad", too_large)):
            try:
                self.client.push_many(self.queue, [bad])
            except AlligatorException as err:
                alone = err
                break
        else:
            pytest.skip("this backend takes anything")
        self.client.drop_all(self.queue)
        told = self.client.push_each(self.queue, [*messages[:9], bad, *messages[9:]])
        refused = told.pop(9)
        assert (type(refused), str(refused)) == (type(alone), str(alone))
        assert len({each for each in told if isinstance(each, str)}) == 25
        if self.supports(OWN_ID):
            assert told == [message.task_id for message in messages]
        assert self.client.push_each(self.queue, []) == []
        found = self.drain()
        assert sorted(map(str, found)) == [message.data for message in messages]
        assert not self.keeps_order or found == [message.data for message in messages]

    def test_priority_then_order(self) -> None:
        """High to low, first in first out within one; the whole range works."""
        self.needs(PRIORITY)
        for name, priority in [("c", 0), ("e", -100), ("a", 100), ("d", 0), ("b", 7)]:
            self.push(name, priority=priority)
        assert self.drain() == ["a", "b", "c", "d", "e"]

    def test_pop_takes_for_good(self) -> None:
        """The at-most-once operation of 0.x."""
        self.push("only")
        self.eventually(lambda: self.client.pop(self.queue) == "only", "the task is popped")
        assert self.client.pop(self.queue) is None

    def test_get_takes_one_by_id(self) -> None:
        """Out of the middle, also a delayed one; None for what is unknown or running."""
        self.needs(GET, DELAY)
        first, second, third = self.push("1", "2", "3")
        (later,) = self.push("4", delay_until=time.time() + 3600)
        assert self.client.get(self.queue, second) == "2"
        assert self.client.get(self.queue, second) is None
        assert self.client.get(self.queue, later) == "4"
        assert self.client.get(self.queue, "never-heard-of") is None
        assert self.reserve_one().task_id == first
        assert self.client.get(self.queue, first) is None
        assert self.drain() == ["3"]
        assert third

    def test_ids_as_they_are_made(self) -> None:
        """The ids that pushed tasks have by default, in every operation that takes one."""
        self.needs(GET, OWN_ID)
        ids = [new_task_id() for _ in range(4)]
        assert self.client.push_many(self.queue, [Message(each, each) for each in ids]) == ids
        assert [self.client.peek(self.queue, each) for each in ids] == ids
        assert self.client.find(self.queue, ids[3]) is not None
        assert self.client.get(self.queue, ids[3]) == ids[3]
        assert self.client.find(self.queue, ids[3]) is None
        assert self.client.push(self.queue, ids[0], "new") == ids[0]
        (first,) = self.reserve(5, task_id=ids[0])
        assert (first.task_id, first.data) == (ids[0], "new")
        assert self.client.extend([first], 30) == []
        assert self.client.bury(first, None, Reason("ValueError: too much", "Traceback"))
        assert [each.task_id for each in self.client.dead(self.queue)] == [ids[0]]
        assert self.client.revive(self.queue, ids[0]) == 1
        (second,) = self.reserve(5, task_id=ids[1])
        assert self.client.release(second)
        assert [each.task_id for each in self.reserve(5)] == [ids[1], ids[2], ids[0]]

    def test_reserve_by_id(self) -> None:
        """Leases that very task and no other."""
        self.needs(GET)
        _, second = self.push("1", "2")
        (delivery,) = self.reserve(5, task_id=second)
        assert (delivery.task_id, delivery.data) == (second, "2")
        assert self.reserve(task_id=second) == []
        assert self.client.ack([delivery]) == []
        assert self.drain() == ["1"]

    def test_a_delay_can_be_ended(self) -> None:
        """Of that very task, which is then like any that came due; a waiting client takes it."""
        self.needs(DELAY, GET, OWN_ID)
        later = time.time() + 3600
        self.client.push(self.queue, "one", "1", later, priority=3)
        self.client.push(self.queue, "two", "2", later)
        self.client.push(self.queue, "waits", "3")
        try:
            assert self.client.run_now(self.queue, "two") is True
        except UnsupportedOption:
            pytest.skip("this backend cannot change a delay")
        assert self.client.run_now(self.queue, "waits") is False
        assert self.client.run_now(self.queue, "never-heard-of") is False
        assert self.client.run_now(self.queue, "un\udcffreadable\0") is False
        place = self.client.find(self.queue, "one")
        assert place is not None
        assert place.due == pytest.approx(later, abs=1e-3)
        assert [each.data for each in self.reserve(5)] == ["2", "3"]
        assert self.client.run_now(self.queue, "two") is False  # it runs
        taken: list[str] = []
        thread = threading.Thread(
            target=lambda: taken.extend(
                each.task_id for each in self.client.reserve([self.queue], wait=30).deliveries
            )
        )
        thread.start()
        time.sleep(0.2)  # it waits by now, or finds the task at once
        assert self.client.run_now(self.queue, "one") is True
        thread.join(20)
        assert taken == ["one"]

    def test_same_id_replaces_a_waiting_task_in_place(self) -> None:
        """Never two waiting tasks with one id."""
        self.needs(OWN_ID, GET)
        self.client.push(self.queue, "x", "old")
        self.client.push(self.queue, "y", "after")
        self.client.push(self.queue, "x", "new")
        assert self.client.len(self.queue) == 2
        assert self.drain() == ["new", "after"]

    def test_same_id_replaces_delay_and_priority(self) -> None:
        """A delayed task can be brought forward, put off, and moved up."""
        self.needs(OWN_ID, GET)
        self.client.push(self.queue, "x", "1", delay_until=time.time() + 3600)
        self.client.push(self.queue, "y", "2")
        self.client.push(self.queue, "x", "3", priority=5)
        assert self.client.len(self.queue) == 2
        assert self.drain() == ["3", "2"]
        self.client.push(self.queue, "x", "4")
        self.client.push(self.queue, "x", "5", delay_until=time.time() + 3600)
        assert self.drain() == []
        assert self.client.len(self.queue) == 1

    def test_delay_holds_and_ends(self) -> None:
        """Not before its time, and then at once, ahead of what was pushed after it."""
        self.needs(DELAY)
        due = time.time() + 1.2
        self.push("later", delay_until=due)
        self.push("now")
        first = self.reserve_one()
        if first.data == "later":
            assert time.time() >= due - 0.01
            assert self.reserve_one().data == "now", "the machine stood still until then"
        else:
            assert (first.data, self.reserve_due(due).data) == ("now", "later")

    def test_a_delay_in_the_past_is_no_delay(self) -> None:
        """As for a task that was meant for a minute ago."""
        self.needs(DELAY)
        self.push("past", delay_until=time.time() - 60)
        assert self.reserve_one().data == "past"

    def test_the_time_by_which_tasks_are_due(self) -> None:
        """What the server's clock shows, if it has one, goes on and is that of the due times."""
        self.needs(DELAY, GET)
        now = time_on(self.client, self.queue, self.client.clock)
        task_id = self.client.push(self.queue, "x", "later", delay_until=now + 3600)
        place = self.client.find(self.queue, task_id)
        assert place is not None
        assert place.due == pytest.approx(now + 3600, abs=5)
        assert time_on(self.client, self.queue, self.client.clock) > now - 0.1

    def test_the_age_of_a_task(self) -> None:
        """Where the server counts it, it does so from the push."""
        self.push("1")
        age = self.client.age(self.reserve_one())
        assert age is None or (0 <= age[0] <= age[1] and age[0] < 60)

    def test_len_counts_waiting_and_delayed(self) -> None:
        """Running and dead tasks are not counted."""
        self.push("1", "2", "3")
        if self.supports(DELAY):
            self.push("4", delay_until=time.time() + 3600)
        expected = 4 if self.supports(DELAY) else 3
        self.eventually(lambda: self.client.len(self.queue) == expected, "all counted")
        self.reserve_one()
        self.eventually(lambda: self.client.len(self.queue) == expected - 1, "one running")

    def test_stats(self) -> None:
        """Counts by state, and an age that grows from 0."""
        self.needs(exact=True)
        empty = self.client.stats(self.queue)
        assert (empty.waiting, empty.delayed, empty.running, empty.dead) == (0, 0, 0, 0)
        assert empty.oldest is None
        self.push("1", "2", "3")
        self.push("4", delay_until=time.time() + 3600)
        self.reserve_one()
        stats = self.client.stats(self.queue)
        assert (stats.waiting, stats.delayed, stats.running, stats.dead) == (2, 1, 1, 0)
        assert stats.oldest is None or 0 <= stats.oldest < 60

    def test_find_and_peek(self) -> None:
        """Where a task stands, and its data, without moving it."""
        self.needs(GET, DELAY)
        first, second, third = self.push("1", "2", "3")
        due = time.time() + 3600
        (later,) = self.push("4", delay_until=due)
        assert self.reserve_one().task_id == first
        place = self.client.find(self.queue, third)
        assert place is not None
        assert place.state == WAITING
        assert place.ahead in (1, None)
        delayed = self.client.find(self.queue, later)
        assert delayed is not None
        assert delayed.state == DELAYED
        assert delayed.due is None or abs(delayed.due - due) < 2
        running = self.client.find(self.queue, first)
        assert running is not None
        assert running.state == RUNNING
        assert (place.attempts, delayed.attempts) == (0, 0)
        assert running.attempts in (1, None)
        assert self.client.find(self.queue, "never-heard-of") is None
        ids = [first, second, third, later]
        assert [self.client.peek(self.queue, each) for each in ids] == list("1234")
        assert self.client.peek(self.queue, "never-heard-of") is None

    def test_find_tells_the_attempts(self) -> None:
        """As lists do: how many have begun."""
        self.needs(GET)
        (task_id,) = self.push("1")
        for attempt in (1, 2):
            delivery = self.reserve_one()
            running = self.client.find(self.queue, task_id)
            assert running is not None
            assert running.state == RUNNING
            assert running.attempts in (attempt, None)
            assert self.client.release(delivery)
            waiting = self.client.find(self.queue, task_id)
            assert waiting is not None
            assert (waiting.state, waiting.attempts) == (WAITING, attempt)

    def test_drop_all(self) -> None:
        """Waiting, delayed and running; another queue is left alone."""
        other = self.make_queue()
        self.client.push(other, "other", "other")
        self.push("1", "2")
        if self.supports(DELAY):
            self.push("3", delay_until=time.time() + 3600)
        held = self.reserve_one()
        self.client.drop_all(self.queue)
        assert self.client.len(self.queue) == 0
        assert self.client.reserve([self.queue]).deliveries == []
        self.client.ack([held])
        self.eventually(lambda: self.client.pop(other) == "other", "the other queue")
        self.client.drop_all(other)

    def test_a_push_is_in_the_history_of_its_queue(self) -> None:
        """From the first one on, whatever takes tasks off it one by one; see `Client.position`."""
        queue, other = self.queue, self.make_queue()
        begun = self.client.position(queue)
        if self.client.lost_nothing_since(queue, begun) is None:
            pytest.skip("this backend cannot tell")
        ids = [self.client.push(queue, "first", "1")]
        ids += self.client.push_many(queue, [Message("second", "2"), Message("third", "3")])
        ids.append(self.client.push(queue, "later", "4", time.time() + 3600))
        ids.append(self.client.push(other, "later", "5", time.time() + 3600, priority=5))
        positions = [getattr(each, "position", None) for each in ids]
        assert None not in positions
        assert self.client.lost_nothing_since(queue, None) is None
        self.client.ack([self.reserve_one()])
        self.client.bury(self.reserve_one(), None, Reason("buried"))
        self.client.purge_dead(queue)
        self.client.release(self.reserve_one(), "3 again")
        assert self.client.pop(queue) == "3 again"
        client = self.another_client()
        for each in (begun, *positions[:4], client.position(queue), self.client.position(queue)):
            assert client.lost_nothing_since(queue, each) is True
        assert client.lost_nothing_since(other, positions[-1]) is True
        self.client.drop_all(other)

    def test_a_queue_that_was_emptied_has_another_history(self) -> None:
        """What was pushed before may have been dropped; what is pushed afterwards was not."""
        queue, other = self.queue, self.make_queue()
        if self.client.lost_nothing_since(queue, self.client.position(queue)) is None:
            pytest.skip("this backend cannot tell")
        beside = getattr(self.client.push(other, "beside", "0"), "position", None)
        for number in range(3):
            before = getattr(self.client.push(queue, "id", "1"), "position", None)
            self.another_client().drop_all(queue)
            assert self.client.lost_nothing_since(queue, before) is False
            self.client.push_many(queue, [Message(f"{each}", "2") for each in range(10 * number)])
            after = getattr(self.client.push(queue, "id", "3"), "position", None)
            assert self.client.lost_nothing_since(queue, before) is False
            assert self.client.lost_nothing_since(queue, after) is True
        assert self.client.lost_nothing_since(other, beside) is True
        self.client.drop_all(other)

    def test_queues_in_strict_order(self) -> None:
        """A later queue only gives what earlier ones lack."""
        other = self.make_queue()
        self.client.push(other, "b", "second")
        self.push("1", "2")
        found = []
        while deliveries := self.client.reserve([self.queue, other], 1, wait=1.0).deliveries:
            found.append(str(deliveries[0].data))
            assert deliveries[0].queue_name == (other if found[-1] == "second" else self.queue)
            self.client.ack(deliveries)
        assert sorted(found) == ["1", "2", "second"]
        assert not self.has_exact_counts or found[-1] == "second"
        self.client.drop_all(other)

    def test_a_waiting_reserve_is_woken_by_a_push(self) -> None:
        """From another client, long before the wait is over; on the second queue as well."""
        other = self.make_queue()
        for queue in (self.queue, other):
            pusher = threading.Timer(0.3, self.another_client().push, [queue, "w", "wake"])
            started = time.monotonic()
            pusher.start()
            deliveries = self.client.reserve([self.queue, other], 1, 30.0, 20.0).deliveries
            waited = time.monotonic() - started
            pusher.join()
            assert [each.data for each in deliveries] == ["wake"]
            assert waited < 8, f"woken only after {waited:.1f} s"
            self.client.ack(deliveries)

    def test_a_wait_ends_on_stop_and_on_time(self) -> None:
        """An idle worker can be stopped."""
        started = time.monotonic()
        stopping = threading.Event()
        threading.Timer(0.2, stopping.set).start()
        reserved = self.client.reserve([self.queue], 1, 30.0, 60.0, stop=stopping.is_set)
        assert reserved.deliveries == []
        assert time.monotonic() - started < 15
        started = time.monotonic()
        assert self.client.reserve([self.queue], 1, 30.0, 0.3).deliveries == []
        assert 0.2 < time.monotonic() - started < 10

    def test_a_wait_too_short_to_count_is_no_long_one(self) -> None:
        """What a server would round to 0 must not become a wait without end."""
        for wait in (1e-9, 0.0001, 0.0004, 0.0006, 0.001):
            started = time.monotonic()
            assert self.client.reserve([self.queue], 1, 30.0, wait).deliveries == []
            waited = time.monotonic() - started
            assert waited < 10, f"{waited:.1f} s instead of {wait} s"
            if self.supports(DELAY):
                self.push("soon", delay_until=time.time() + wait)
                self.client.ack([self.reserve_soon()])
