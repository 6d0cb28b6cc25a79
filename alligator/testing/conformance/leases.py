"""Test the contract of leases, fencing, hand-backs, deaths, and threads."""

import threading
import time
from collections import Counter

import pytest

from alligator.backends.base import DELAY, GET, LEASES, OWN_ID, PRIORITY, Delivery, Reason
from alligator.testing.conformance.base import ClientContract


class LeaseContract(ClientContract):
    """What a worker can rely on."""

    def test_a_reserved_task_is_with_one_worker_only(self) -> None:
        """Until it is acked, and then it is gone."""
        self.push("1")
        delivery = self.reserve_one()
        assert (delivery.queue_name, delivery.deaths) == (self.queue, 0)
        assert self.another_client().reserve([self.queue]).deliveries == []
        assert self.client.ack([delivery]) == []
        assert self.client.len(self.queue) == 0
        assert self.client.reserve([self.queue]).deliveries == []

    def test_reserve_takes_up_to_limit(self) -> None:
        """Fewer when fewer are there, each once."""
        self.push("1", "2", "3", "4", "5")
        taken = self.reserve(3)
        assert 1 <= len(taken) <= 3
        while more := self.reserve(10):
            taken += more
        assert sorted(str(each.data) for each in taken) == ["1", "2", "3", "4", "5"]
        assert self.client.ack(taken) == []

    def test_acks_ride_with_reserve(self) -> None:
        """One round trip ends some tasks and begins others."""
        self.push("1", "2")
        first = self.reserve_one()
        (second,) = self.reserve(1, acks=[first])
        assert {first.data, second.data} == {"1", "2"}
        assert self.client.reserve([self.queue], acks=[second]) == ([], [])
        assert self.client.stats(self.queue).running == 0

    def test_an_expired_lease_comes_back_with_a_death(self) -> None:
        """Soon after the lease, ahead of what waits, and more than once."""
        self.needs(LEASES)
        self.push("1")
        first = self.reserve_one(self.short_lease)
        self.push("2")
        taken = {}
        deadline = time.monotonic() + self.short_lease + 20
        while "1" not in taken and time.monotonic() < deadline:
            for each in self.reserve(1, self.short_lease, wait=0.1):
                taken[each.data] = each
        second = taken["1"]
        assert second.attempt > first.attempt
        if self.has_exact_counts:
            assert (first.deaths, second.deaths) == (0, 1)
            third = self.reserve_soon()
            while third.data != "1":
                third = self.reserve_soon()
            assert third.deaths == 2

    def test_a_lease_that_is_stretched_runs_for_so_long(self) -> None:
        """Also where the server gave another at the push. It is still the same task, and is acked,
        retried or comes back as before.
        """
        self.needs(LEASES)
        self.push("1")
        first = self.reserve_one(self.short_lease)
        held = self.take_over(first)
        assert self.client.lapses(held) == held.deaths or not self.has_exact_counts
        other = self.another_client()
        longer = max(3 * self.short_lease, 5.0)  # a busy machine needs some time to get on
        assert self.client.stretch(held, longer)
        assert self.client.extend([held], longer) == []
        late = time.monotonic() + 1.3 * self.short_lease
        while time.monotonic() < late:
            assert other.reserve([self.queue], wait=0.1).deliveries == []
        stats = self.client.stats(self.queue)
        assert (stats.waiting, stats.delayed, stats.running) == (0, 0, 1)
        if longer > 3 * self.short_lease:
            self.lease_ends_soon(held)
        again = self.take_over_any(held)
        assert again.attempt == held.attempt + 1
        assert not self.has_exact_counts or again.deaths == 2
        assert self.client.stretch(again, 5 * self.short_lease)
        assert self.client.ack([again]) == []
        assert self.client.stretch(held, 4 * self.short_lease) is False
        stats = self.client.stats(self.queue)
        assert (stats.waiting, stats.delayed, stats.running) == (0, 0, 0)

    def test_a_stop_that_was_noted_adds_no_death(self) -> None:
        """Of this lease, however long it was extended; the next begins without the note."""
        self.needs_stops()
        self.push("1")
        died = self.reserve_one(self.short_lease)
        died = self.take_over(died)
        assert died.deaths == 1
        self.client.note_stop([died])
        assert self.client.extend([died], self.short_lease) == []
        self.client.note_stop([died])
        again = self.take_over(died)
        assert (again.deaths, again.attempt) == (1, died.attempt + 1)
        assert self.client.ack([died]) == [died]
        killed = self.take_over(again)
        assert (killed.deaths, killed.attempt) == (2, again.attempt + 1)

    def test_a_task_that_was_only_stopped_goes_with_others(self) -> None:
        """Nothing sets it apart from one that never ran."""
        self.needs_stops()
        self.push("1")
        stopped = self.reserve_one(self.short_lease)
        self.client.note_stop([stopped])
        again = self.take_over(stopped)
        assert again.deaths == 0
        self.push("2")
        assert self.client.release(again) is True
        assert [(each.data, each.deaths) for each in self.reserve(2)] == [("1", 0), ("2", 0)]

    def test_a_noted_stop_changes_nothing_else(self) -> None:
        """Neither a hand-back, nor a retry, nor what is pushed behind, nor a stale delivery."""
        self.needs_stops()
        for data in (None, "retried"):
            self.push("1")
            died = self.take_over(self.reserve_one(self.short_lease))
            stale, died = died, self.take_over(died)
            self.client.note_stop([stale])
            self.client.note_stop([died])
            assert self.client.release(died, data) is True
            self.client.note_stop([died])
            again = self.reserve_soon(self.short_lease)
            assert (again.data, again.deaths) == (data or "1", 0 if data else 2)
            assert self.take_over(again).deaths == again.deaths + 1
            self.client.drop_all(self.queue)
        self.push("1")
        stopped = self.reserve_one(self.short_lease)
        self.client.note_stop([stopped])
        self.push("1")
        fresh = self.reserve_soon(self.short_lease)
        assert self.take_over(fresh).deaths == 1

    def test_a_noted_stop_counts_by_id_as_well(self) -> None:
        """A caller that asks for this very task finds the same."""
        self.needs_stops()
        self.needs(GET)
        (task_id,) = self.push("1")
        for deaths in (0, 1):
            (held,) = self.client.reserve(
                [self.queue], lease=self.short_lease, task_id=task_id
            ).deliveries
            if not deaths:
                self.client.note_stop([held])
            found: list[Delivery] = []

            def look(found: list[Delivery] = found) -> bool:
                reserved = self.client.reserve([self.queue], task_id=task_id)
                found.extend(reserved.deliveries)
                return bool(found)

            self.eventually(look, "it is back")
            assert found[0].deaths == deaths
            assert self.client.release(found[0]) is True

    def test_a_stop_may_be_noted_of_anything(self) -> None:
        """Also of a task that is gone, or where the server does not keep it."""
        self.push("1")
        delivery = self.reserve_one()
        self.client.note_stop([])
        self.client.note_stop([delivery])
        assert self.client.ack([delivery]) == []
        self.client.note_stop([delivery])
        assert self.client.stats(self.queue).running == 0

    def needs_stops(self) -> None:
        """Skip the test unless the backend keeps such notes."""
        if not self.client.notes_stops:
            pytest.skip("this backend keeps no note of a stop")

    def take_over(self, delivery: Delivery) -> Delivery:
        """Let a lease run out, and reserve its task again."""
        again = self.reserve_soon(self.short_lease)
        assert again.task_id == delivery.task_id
        return again

    def test_a_waiting_reserve_gets_an_expired_lease(self) -> None:
        """Within half a second of its end, without a push."""
        self.needs(LEASES)
        self.push("1")
        other = self.another_client()
        started = time.monotonic()
        assert other.reserve([self.queue], 1, self.short_lease, 10.0).deliveries
        delivery = self.reserve_soon()
        assert delivery.data == "1"
        assert time.monotonic() - started < self.short_lease + 6, "not at the end of the wait"
        assert self.client.ack([delivery]) == []

    def test_a_stale_delivery_changes_nothing(self) -> None:
        """Ack, release, extend and bury of the overtaken say so; the winner's ack counts."""
        self.needs(LEASES, exact=True)
        self.push("1")
        client = self.another_client()
        (stale,) = client.reserve([self.queue], 1, self.short_lease).deliveries
        winner = self.reserve_soon()
        assert client.ack([stale]) == [stale]
        assert client.extend([stale], 30.0) == [stale]
        assert client.release(stale) is False
        assert client.release(stale, "changed") is False
        assert client.bury(stale, None, Reason("never mind")) is False
        assert client.reserve([self.queue], acks=[stale]) == ([], [stale])
        assert self.client.stats(self.queue).running == 1
        assert self.client.ack([winner]) == []
        assert self.client.stats(self.queue).dead == 0

    def test_ack_twice_does_no_harm(self) -> None:
        """Not even to a new task of the same id."""
        self.push("1")
        first = self.reserve_one()
        assert self.client.ack([first]) == []
        self.push("1")
        second = self.reserve_one()
        self.client.ack([first])
        assert self.client.release(second) is True

    def test_extend_keeps_a_task(self) -> None:
        """A task longer than its lease runs once."""
        self.needs(LEASES)
        self.push("1")
        delivery = self.reserve_one(self.short_lease)
        deadline = time.monotonic() + 2.5 * self.short_lease
        other = self.another_client()
        while time.monotonic() < deadline:
            assert self.client.extend([delivery], 10 * self.short_lease) == []
            assert other.reserve([self.queue], 1, 30.0, self.short_lease / 3).deliveries == []
        assert self.client.ack([delivery]) == []

    def test_release_unrun_keeps_data_and_place(self) -> None:
        """And adds no death."""
        self.push("1", "2")
        delivery = self.reserve_one()
        assert self.client.release(delivery) is True
        again = self.reserve_soon()
        assert not self.keeps_order or again.data == delivery.data
        assert again.deaths == 0
        assert self.client.release(again) is True
        assert sorted(map(str, self.drain())) == ["1", "2"]

    def test_release_with_data_is_a_retry_at_the_tail(self) -> None:
        """The new data, after all waiting tasks, without a death."""
        self.push("1", "2")
        delivery = self.reserve_one()
        assert self.client.release(delivery, "retried") is True
        found = self.drain()
        assert len(found) == 2
        assert "retried" in found
        assert not self.keeps_order or found == ["2", "retried"]

    def test_release_keeps_the_kind_of_data(self) -> None:
        """A retry of bytes is bytes."""
        self.push(b"\x00\x01")
        assert self.client.release(self.reserve_one(), b"\xff\x02") is True
        assert self.reserve_soon().data == b"\xff\x02"

    def test_release_with_delay(self) -> None:
        """A retry, or an unrun task, that is not to come back at once."""
        self.needs(DELAY)
        for data in (None, "retried"):
            self.push("1")
            due = time.time() + 1.2
            assert self.client.release(self.reserve_one(), data, delay_until=due) is True
            delivery = self.reserve_due(due)
            assert delivery.data == (data or "1")
            assert delivery.deaths == 0
            assert self.client.ack([delivery]) == []

    def test_a_retry_keeps_its_priority(self) -> None:
        """Released or expired, it stays as urgent as it was."""
        self.needs(PRIORITY)
        self.push("urgent", priority=50)
        self.push("1")
        assert self.client.release(self.reserve_one(), "urgent again") is True
        assert self.drain() == ["urgent again", "1"]

    def test_push_of_a_running_id_runs_afterwards(self) -> None:
        """Never at the same time; the ack of the running one leaves the new data alone."""
        self.needs(OWN_ID, GET)
        self.client.push(self.queue, "x", "old")
        running = self.reserve_one()
        self.client.push(self.queue, "x", "new")
        assert self.client.reserve([self.queue]).deliveries == []
        assert self.client.len(self.queue) == 1
        assert self.client.ack([running]) == []
        assert self.drain() == ["new"]
        assert self.drain() == []

    def test_push_of_a_running_id_outlives_retry_and_recovery(self) -> None:
        """Either way only the new data runs, once."""
        self.needs(OWN_ID, GET)
        self.client.push(self.queue, "x", "old")
        running = self.reserve_one()
        self.client.push(self.queue, "x", "new")
        assert self.client.release(running, "retry of old") is True
        assert self.drain() == ["new"]
        self.client.push(self.queue, "x", "old")
        self.reserve_one(self.short_lease)
        self.client.push(self.queue, "x", "newer")
        delivery = self.reserve_soon()
        assert (delivery.data, delivery.deaths) == ("newer", 0)
        assert self.client.ack([delivery]) == []
        assert self.drain() == []

    def test_a_lease_that_is_shared_can_be_used_elsewhere(self) -> None:
        """By the client of another process, which extends it, or hands the task back."""
        if not self.client.shares_leases:
            return
        self.push("1", "2", "3")
        held = self.reserve(3)
        gone, kept, released = held
        assert self.client.ack([gone]) == []
        other = self.another_client()
        raw = self.client.share(held)
        assert all(isinstance(each, bytes) for each in raw)
        shared = [other.shared(self.queue, each) for each in raw]
        assert other.extend(shared, 30.0) == shared[:1]
        assert [other.release(each) for each in (shared[0], shared[2])] == [False, True]
        (again,) = self.reserve(3)
        assert (again.task_id, again.data, again.deaths) == (released.task_id, "3", 0)
        assert other.release(shared[2]) is False
        assert other.extend(shared, 30.0) == [shared[0], shared[2]]
        assert self.client.ack([kept, again]) == []
        other.close()

    def test_a_task_with_a_death_is_delivered_alone(self) -> None:
        """So that what may kill its worker takes no neighbour with it."""
        self.needs(LEASES, exact=True)
        self.push("1", "2", "3")
        victim = self.another_client()
        assert len(victim.reserve([self.queue], 2, self.short_lease).deliveries) == 2
        victim.close()
        seen = Counter[str]()
        deadline = time.monotonic() + self.short_lease + 20
        while seen.total() < 3 and time.monotonic() < deadline:
            deliveries = self.reserve(10, wait=0.5)
            assert len(deliveries) <= 1 or not any(each.deaths for each in deliveries)
            seen.update(str(each.data) for each in deliveries)
            self.client.ack(deliveries)
        assert seen == {"1": 1, "2": 1, "3": 1}

    def test_a_handed_back_death_is_remembered_and_still_alone(self) -> None:
        """A release unrun does not clear the record."""
        self.needs(LEASES, exact=True)
        self.push("1")
        self.reserve_one(self.short_lease)
        died = self.reserve_soon()
        assert died.deaths == 1
        self.push("2")
        assert self.client.release(died) is True
        (again,) = self.reserve(5)
        assert (again.data, again.deaths) == ("1", 1)

    def test_a_run_that_ended_in_order_forgets_deaths(self) -> None:
        """A retry begins without, and goes with others again; later deaths count from 0."""
        self.needs(LEASES)
        self.push("1")
        died = self.take_over_any(self.reserve_one(self.short_lease))
        assert self.client.release(died, "retried") is True
        self.push("2")
        if self.has_exact_counts:
            first, second = self.reserve(2, self.short_lease)
            assert {first.data, second.data} == {"retried", "2"}
            again = first if first.data == "retried" else second
            assert self.client.ack([second if again is first else first]) == []
            assert (died.deaths, again.deaths) == (1, 0)
            assert again.attempt > died.attempt
            again = self.take_over_any(again)
            assert again.deaths == 1
            assert self.client.release(again, "once more", time.time() - 1) is True
        assert all(each.deaths == 0 for each in self.reserve(2))

    def test_a_postponed_task_keeps_its_deaths(self) -> None:
        """It was not run: it has other data, is delayed, and is as much a suspect as before."""
        self.needs(LEASES, DELAY)
        self.push("1")
        died = self.take_over_any(self.reserve_one(self.short_lease))
        due = time.time() + 1.2
        assert self.client.postpone(died, b"\xff", due) is True
        again = self.reserve_due(due)
        assert again.data == b"\xff"
        assert again.attempt > died.attempt
        assert again.deaths == died.deaths
        assert self.client.postpone(died, "stale", due) is False
        assert self.client.ack([again]) == []
        assert self.client.len(self.queue) == 0

    def take_over_any(self, delivery: Delivery) -> Delivery:
        """Let a lease run out, and reserve its task again, whatever its id is by then."""
        again = self.reserve_soon(self.short_lease)
        assert again.data == delivery.data
        return again

    def test_one_that_goes_alone_holds_up_later_queues(self) -> None:
        """It is next, so a later queue has nothing to give in the same reserve."""
        self.needs(LEASES, PRIORITY, exact=True)
        other = self.make_queue()
        self.push("deadly")
        self.reserve_one(self.short_lease)
        assert self.client.release(self.reserve_soon()) is True
        self.push("first", priority=5)
        self.client.push(other, "later", "later")
        deliveries = self.client.reserve([self.queue, other], 3).deliveries
        assert [each.data for each in deliveries] == ["first"]
        self.client.drop_all(other)

    def test_many_threads_get_each_task_once(self) -> None:
        """One client, eight threads, forty tasks."""
        self.push(*(f"{number:02}" for number in range(40)))
        found, errors = list[str](), list[BaseException]()

        def work() -> None:
            try:
                while deliveries := self.client.reserve([self.queue], 3, 30.0, 0.5).deliveries:
                    found.extend(str(each.data) for each in deliveries)
                    assert self.client.ack(deliveries) == []
            except BaseException as err:
                errors.append(err)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert errors == []
        assert sorted(found) == [f"{number:02}" for number in range(40)]

    def test_close_then_use_again(self) -> None:
        """A closed client connects again."""
        self.push("1")
        self.client.close()
        assert self.reserve_one().data == "1"
