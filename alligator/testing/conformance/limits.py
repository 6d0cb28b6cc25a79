"""Test the contract of limits and rates: what is kept back, for how long, and what it holds up."""

import math
import threading
import time
from typing import Any

import pytest

from alligator.backends.base import (
    LIMIT,
    LISTING,
    RATE,
    Controls,
    Delivery,
    Message,
    Reason,
    controlled,
    time_on,
)
from alligator.constants import WAITING
from alligator.testing.conformance.base import ClientContract


class LimitContract(ClientContract):
    """What tasks with ``limit`` and ``rate`` can rely on, and all others on their queue."""

    # -- Helpers. -----------------------------------------------------------------------------

    def keeps(self, *what: str) -> None:
        """Skip the test unless the backend keeps these."""
        if missing := set(what) - self.client.controls:
            pytest.skip(f"this backend keeps no {sorted(missing)}")

    def push_limited(self, *names: str, limit: int = 1, key: str = "k", **fields: Any) -> None:
        """Push tasks with one limit; their ids are their data."""
        controls = Controls(limit_key=key, limit=limit)
        self.push_controlled(controls, *names, **fields)

    def push_rated(
        self, *names: str, rate: float = 2, seconds: float = 1.0, key: str = "r", **fields: Any
    ) -> None:
        """Push tasks with one rate."""
        controls = Controls(rate_key=key, rate=rate, rate_seconds=seconds)
        self.push_controlled(controls, *names, **fields)

    def push_controlled(self, controls: Controls, *names: str, **fields: Any) -> None:
        """Push tasks with the same controls."""
        messages = [controlled(Message(each, each, **fields), controls) for each in names]
        self.client.push_many(self.queue, messages)

    def take(self, limit: int = 10, **options: Any) -> list[Delivery]:
        """Reserve at once what may start now."""
        return self.reserve(limit, wait=options.pop("wait", 0.0), **options)

    def names(self, limit: int = 10, **options: Any) -> list[str]:
        """Reserve at once what may start now, and return the ids."""
        return [each.task_id for each in self.take(limit, **options)]

    # -- Limits. ------------------------------------------------------------------------------

    def test_a_limit_holds_and_blocks_nobody(self) -> None:
        """Also within one reserve, and key by key."""
        self.keeps(LIMIT)
        self.push_limited("a1", "a2", "a3", limit=2, key="a")
        self.push_limited("b1", "b2", key="b")
        self.client.push(self.queue, "free", "free")
        assert self.names() == ["a1", "a2", "b1", "free"]
        assert self.names() == []
        self.client.push(self.queue, "later", "later")
        assert self.names(1) == ["later"]

    def test_a_task_that_is_kept_back_counts_as_waiting(self) -> None:
        """In numbers, by its id, and for a caller that takes it off the queue."""
        self.keeps(LIMIT)
        self.push_limited("a", "b", "c")
        (first,) = self.take()
        stats = self.client.stats(self.queue)
        assert (stats.waiting, stats.running, stats.held) == (2, 1, 0)
        assert stats.oldest is None or stats.oldest >= 0
        assert self.client.len(self.queue) == 2
        place = self.client.find(self.queue, "b")
        assert place is not None
        assert (place.state, place.kept_by) == (WAITING, LIMIT)
        assert self.client.peek(self.queue, "b") == "b"
        assert self.client.get(self.queue, "b") == "b"
        assert self.client.get(self.queue, "b") is None
        assert self.client.ack([first]) == []
        assert self.names() == ["c"]
        assert self.client.stats(self.queue).waiting == 0

    def test_a_list_has_what_is_kept_back(self) -> None:
        """Behind what may go, in order, page by page."""
        self.keeps(LIMIT, LISTING)
        self.push_limited("a", "b", "c")
        self.push_limited("high", priority=5)
        assert self.names() == ["high"]
        self.client.push(self.queue, "free", "free")
        found, cursor = [], None
        while True:
            page, cursor = self.client.list_tasks(self.queue, WAITING, 2, cursor)
            found += [(each.task_id, each.state) for each in page]
            if cursor is None:
                break
        assert found == [(name, WAITING) for name in ("free", "a", "b", "c")]

    @pytest.mark.parametrize("end", ["ack", "ack by reserve", "retry", "postpone", "bury"])
    def test_a_place_ends_with_its_lease(self, end: str) -> None:
        """However that ends; the first in line takes it."""
        self.keeps(LIMIT)
        self.push_limited("a", "b", "c")
        (first,) = self.take()
        assert self.names() == []
        acks: list[Delivery] = []
        later = time.time() + 3600
        if end == "ack":
            self.client.ack([first])
        elif end == "ack by reserve":
            acks = [first]
        elif end == "retry":
            self.client.release(first, "again", later)
        elif end == "postpone":
            self.client.postpone(first, "again", later)
        else:
            self.client.bury(first, None, Reason("broken"))
        assert self.names(acks=acks) == ["b"]
        assert self.names() == []

    def test_a_task_that_was_handed_back_goes_first(self) -> None:
        """It has its place in the order, and the limit counts as before."""
        self.keeps(LIMIT)
        self.push_limited("a", "b")
        (first,) = self.take()
        assert self.names() == []
        self.client.release(first)
        (again,) = self.take()
        assert (again.task_id, again.deaths) == ("a", 0)
        assert self.names() == []

    def test_the_first_in_line_is_the_first_by_priority(self) -> None:
        """And by order within one."""
        self.keeps(LIMIT)
        self.push_limited("a")
        running = self.take()
        self.push_limited("low", "next")
        assert self.names() == []
        self.push_limited("high", priority=5)
        assert self.names() == []
        found = []
        for _ in range(3):
            self.client.ack(running)
            running = self.take()
            found += [each.task_id for each in running]
        assert found == ["high", "low", "next"]

    def test_a_lease_that_ran_out_frees_its_place(self) -> None:
        """The task itself comes first, with a death on its record; then the next."""
        self.keeps(LIMIT)
        self.push_limited("a", "b")
        (first,) = self.take()
        assert self.names() == []
        self.lease_ends_soon(first)
        (again,) = self.take(1, wait=self.short_lease + 15)
        assert (again.task_id, again.deaths) == ("a", 1)
        assert self.names() == []
        assert self.client.ack([first]) == [first]
        assert self.names() == [], "a stale ack frees no place"
        self.client.ack([again])
        assert self.names() == ["b"]

    def test_a_lease_that_is_extended_keeps_its_place(self) -> None:
        """The place has no time of its own."""
        self.keeps(LIMIT)
        self.push_limited("a", "b")
        (first,) = self.take(lease=self.short_lease)
        for _ in range(4):
            assert self.client.extend([first], 10 * self.short_lease) == []
            time.sleep(self.short_lease / 2)
            assert self.names() == []
        self.client.ack([first])
        assert self.names() == ["b"]

    def test_an_id_is_kept_back_as_well(self) -> None:
        """``reserve(task_id=)`` obeys, ``withdraw`` and ``get`` need not."""
        self.keeps(LIMIT)
        self.push_limited("a", "b", "c", "d")
        (first,) = self.reserve(task_id="b")
        assert self.reserve(task_id="c") == []
        assert self.names() == []
        assert self.reserve(task_id="c") == []
        (taken,) = self.client.withdraw(self.queue, "c").deliveries
        assert self.client.ack([taken]) == []
        self.client.ack([first])
        assert self.names() == ["a"]

    @pytest.mark.parametrize("how", ["taken", "delayed", "pushed without a limit"])
    def test_a_place_is_not_lost_with_the_task_it_was_meant_for(self, how: str) -> None:
        """The next in line has it if the first one leaves before it is leased."""
        self.keeps(LIMIT)
        self.push_limited("a", "b", "c")
        (first,) = self.take()
        assert self.names() == []
        self.client.ack([first])  # now "b" may go
        if how == "taken":
            assert self.client.get(self.queue, "b") == "b"
            assert self.names() == ["c"]
        elif how == "delayed":
            self.push_limited("b", delay_until=time.time() + 3600)
            assert self.names() == ["c"]
        else:
            self.client.push(self.queue, "b", "b")
            assert self.names() == ["b", "c"]

    def test_pushed_again_while_kept_back(self) -> None:
        """The new data, the same place; without a limit it may go at once."""
        self.keeps(LIMIT)
        self.push_limited("a", "b", "c", "d")
        (first,) = self.take()
        assert self.names() == []
        self.client.push_many(
            self.queue, [controlled(Message("b", "new"), Controls(limit_key="k", limit=1))]
        )
        self.client.push(self.queue, "c", "c")
        assert self.names() == ["c"]
        assert self.client.stats(self.queue).waiting == 2
        self.client.ack([first])
        (second,) = self.take()
        assert (second.task_id, second.data) == ("b", "new")
        self.client.ack([second])
        assert self.names() == ["d"]

    def test_each_decides_by_its_own_limit(self) -> None:
        """Where messages of one key name different limits."""
        self.keeps(LIMIT)
        self.push_limited("a", "b", limit=2)
        self.push_limited("c", limit=1)
        self.push_limited("d", limit=3)
        one, two, three = self.take()
        assert three.task_id == "d"
        assert self.names() == []
        self.client.ack([one, two])
        assert self.names() == [], "c wants to be alone"
        self.client.ack([three])
        assert self.names() == ["c"]

    def test_controls_stay_with_the_task(self) -> None:
        """Through a retry, a dead letter and its revival, and a push behind a running one."""
        self.keeps(LIMIT)
        self.push_limited("other", "a")
        (other,) = self.take()
        self.client.ack([other])
        (delivery,) = self.take()
        self.client.release(delivery, "again")
        (delivery,) = self.take()
        self.push_limited("b")
        assert self.names() == []
        self.client.bury(delivery, None, Reason("broken"))
        (second,) = self.take()
        assert second.task_id == "b"
        assert self.client.revive(self.queue) == 1
        assert self.names() == []
        self.push_limited("b")  # once more, behind the running one
        self.client.ack([second])
        (third,) = self.take()
        assert third.task_id == "a"
        assert self.names() == []
        self.client.ack([third])
        assert self.names() == ["b"]

    def test_deaths_of_a_task_that_is_kept_back_hold_up_nobody(self) -> None:
        """It goes alone when it goes; until then others do not wait for it."""
        self.keeps(LIMIT)
        self.push_limited("a", priority=5)
        (first,) = self.take(lease=0.01)
        (first,) = self.take(1, wait=5)
        assert first.deaths == 1
        self.push_limited("b", priority=9)
        self.client.release(first)
        self.client.push(self.queue, "free", "free")
        assert self.names(1) == ["b"]
        assert self.names() == ["free"]

    def test_a_suspect_that_is_put_aside_finds_its_place_free(self) -> None:
        """No other of its key is promoted to it for that moment, unless it is pushed away."""
        self.keeps(LIMIT)
        self.push_limited("a", "b", "c")
        (first,) = self.take(lease=0.01)
        (first,) = self.take(1, wait=5)
        assert self.names() == []
        self.client.release(first, None, time.time() + 10)
        assert self.names() == []
        (again,) = self.reserve(task_id="a")
        self.client.release(again, None, time.time() + 10)
        self.push_limited("a", delay_until=time.time() + 3600)
        assert self.names() == ["b"]

    def test_drop_all_drops_what_is_kept_back(self) -> None:
        """And no place stays taken."""
        self.keeps(LIMIT)
        self.push_limited("a", "b", "c")
        assert self.names() == ["a"]
        self.client.drop_all(self.queue)
        assert self.client.len(self.queue) == 0
        assert self.names() == []
        self.push_limited("d", "e")
        assert self.names() == ["d"]

    def test_a_waiting_reserve_is_woken_by_a_free_place(self) -> None:
        """Within a tenth of a second; one of some tries, as the machine may be busy."""
        self.keeps(LIMIT)
        another, took = self.another_client(), []
        for attempt in range(10):
            self.push_limited("a", "b", key=f"k{attempt}")
            (first,) = self.take()
            assert self.names() == []
            found: list[Any] = []

            def wait(found: list[Any] = found) -> None:
                found += another.reserve([self.queue], 1, 30.0, 30.0).deliveries
                found.append(time.monotonic())

            thread = threading.Thread(target=wait)
            thread.start()
            time.sleep(0.3)
            ended = time.monotonic()
            self.client.ack([first])
            thread.join(40)
            assert found[0].task_id == "b"
            self.client.ack(found[:1])
            took.append(found[1] - ended)
            if took[-1] < 0.1:
                break
        assert min(took) < 0.1, took

    def test_many_that_are_kept_back_cost_nothing(self) -> None:
        """A task behind thousands of them is found as quickly as if it were alone."""
        self.keeps(LIMIT)
        self.push_limited("first")
        assert self.names() == ["first"]
        alone = self._fastest_of_free_tasks("alone")
        self.push_limited(*(f"{number}" for number in range(3000)))
        self.client.push(self.queue, "free", "free")
        assert self.names() == ["free"], "though 3,000 are looked at before"
        assert self._fastest_of_free_tasks("behind") < max(0.02, 10 * alone)
        assert self.client.stats(self.queue).waiting == 3000

    def _fastest_of_free_tasks(self, name: str) -> float:
        """Return in how many seconds a task without a limit was found, at best."""
        fastest = math.inf
        for number in range(3):
            self.client.push(self.queue, f"{name} {number}", "free")
            began = time.monotonic()
            assert self.names() == [f"{name} {number}"]
            fastest = min(fastest, time.monotonic() - began)
        return fastest

    # -- Rates. -------------------------------------------------------------------------------

    def test_a_rate_lets_so_many_start_and_blocks_nobody(self) -> None:
        """A full bucket at first; then one token after the other, and no second burst."""
        self.keeps(RATE)
        self.push_rated(*"abcdefgh", rate=4, seconds=4000.0)
        self.client.push(self.queue, "free", "free")
        assert self.names() == [*"abcd", "free"]
        assert self.names() == []
        stats = self.client.stats(self.queue)
        assert (stats.waiting, stats.delayed) == (4, 0)
        place = self.client.find(self.queue, "e")
        assert place is not None
        assert (place.state, place.kept_by) == (WAITING, RATE)
        assert place.due is not None
        assert 900 < place.due - time_on(self.client, self.queue, self.client.clock) < 1001

    def test_a_token_comes_after_the_other(self) -> None:
        """None before its time, and who waits for one is not late."""
        self.keeps(RATE)
        self.push_rated(*"abcdefgh", rate=4, seconds=1.0)
        began = time.monotonic()
        started: list[float] = []
        while len(started) < 8:
            found = self.take(10, wait=20.0)
            started += [time.monotonic() - began] * len(found)
            assert self.client.ack(found) == []
        for number, after in enumerate(started[4:], 1):
            assert after > number / 4 - 0.05, "not before its token comes"
        assert started[-1] < 10

    def test_a_rate_counts_starts_and_not_tasks(self) -> None:
        """A task that is canceled while it is kept back, or handed back unrun, spends no token."""
        self.keeps(RATE)
        self.push_rated("a", "b", "c", "d", rate=2, seconds=3600.0)
        first, second = self.take()
        assert self.names() == []
        assert self.client.get(self.queue, "c") == "c"
        self.client.ack([first])
        self.client.release(second)
        assert self.names() == ["b"]
        assert self.names() == []
        assert self.reserve(task_id="d") == []
        assert self.client.stats(self.queue).waiting == 1

    def test_a_task_with_both_needs_both(self) -> None:
        """A token is not spent while there is no place, nor a place taken while there is none."""
        self.keeps(LIMIT, RATE)
        both = Controls("k", 1, "r", 2.0, 3600.0)
        self.push_controlled(both, "a", "b", "c")
        self.push_rated("d", rate=2, seconds=3600.0)
        first, other = self.take()
        assert (first.task_id, other.task_id) == ("a", "d"), (
            "b waits for its place, and spends none"
        )
        self.client.ack([first, other])
        assert self.names() == [], "b and c have a place, and no token"
        self.push_limited("e")
        assert self.names() == ["e"], "so its place is free"
        assert self.client.stats(self.queue).waiting == 2
