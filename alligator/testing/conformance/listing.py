"""Test the contract of listing the tasks of a queue."""

import time

import pytest

from alligator.backends.base import DELAY, LISTING, Listed, Reason
from alligator.common.ids import new_task_id
from alligator.constants import DELAYED, FAILED, HELD, RUNNING, WAITING
from alligator.exceptions import InvalidTask, UnsupportedOption
from alligator.testing.conformance.base import ClientContract


class ListingContract(ClientContract):
    """What a caller of ``list_tasks`` can rely on, where ``Client.controls`` has ``LISTING``."""

    def needs_listing(self) -> None:
        """Skip the test unless the backend lists tasks in every state."""
        if LISTING not in self.client.controls:
            pytest.skip("this backend does not list tasks in every state")

    def pages(self, state: int, limit: int = 2) -> list[Listed]:
        """Return all tasks in a state, read in pages."""
        found, cursor = self.client.list_tasks(self.queue, state, limit)
        while cursor is not None:
            more, cursor = self.client.list_tasks(self.queue, state, limit, cursor)
            assert more, "a cursor leads to a page with something on it"
            found += more
        return found

    def ids(self, state: int) -> list[str]:
        """Return the ids of all tasks in a state, in order."""
        return [each.task_id for each in self.pages(state)]

    def test_waiting_tasks_are_listed_as_they_would_run(self) -> None:
        """With what is known of them; nothing is touched."""
        self.needs_listing()
        for state in (WAITING, DELAYED, RUNNING, HELD, FAILED):
            assert self.client.list_tasks(self.queue, state) == ([], None)
        ids = [new_task_id() for _ in range(4)]
        for number, priority in enumerate((0, -100, 7, 0)):
            data = b"\xff raw" if number == 2 else f"data {number}"
            self.client.push(self.queue, ids[number], data, priority=priority)
        order = [ids[2], ids[0], ids[3], ids[1]]
        found = self.pages(WAITING)
        assert [each.task_id for each in found] == order
        assert found[0] == Listed(ids[2], b"\xff raw", WAITING, 7)
        assert found[1] == Listed(ids[0], "data 0", WAITING)
        for limit in (1, 3, 4, 100):
            assert self.pages(WAITING, limit) == found
        assert [each.task_id for each in self.reserve(4)] == order

    def test_a_page_goes_on_where_the_last_one_ended(self) -> None:
        """Whatever came, went and moved meanwhile: the others are listed once."""
        self.needs_listing()
        for number in range(8):
            self.client.push(self.queue, f"t-{number}", "data")
        first, cursor = self.client.list_tasks(self.queue, WAITING, 3)
        assert [each.task_id for each in first] == ["t-0", "t-1", "t-2"]
        assert self.client.get(self.queue, "t-2") is not None  # where the page ended
        assert self.client.get(self.queue, "t-4") is not None
        (delivery,) = self.reserve()
        assert delivery.task_id == "t-0"
        self.client.push(self.queue, "urgent", "data", priority=5)
        self.client.push(self.queue, "last", "data")
        self.client.push(self.queue, "t-6", "changed")
        second, cursor = self.client.list_tasks(self.queue, WAITING, 3, cursor)
        assert [each.task_id for each in second] == ["t-3", "t-5", "t-6"]
        assert second[2].data == "changed"
        third, cursor = self.client.list_tasks(self.queue, WAITING, 3, cursor)
        assert ([each.task_id for each in third], cursor) == (["t-7", "last"], None)

    def test_delayed_tasks_are_listed_by_due_time(self) -> None:
        """Those due at the same time are on one page each, too; and one that comes due is not."""
        self.needs(DELAY)
        self.needs_listing()
        soon = round(time.time()) + 3600.0
        for number, due in enumerate((soon + 5, soon, soon, soon, soon + 9)):
            self.client.push(self.queue, f"t-{number}", "data", delay_until=due, priority=number)
        found = self.pages(DELAYED)
        assert [each.task_id for each in found[3:]] == ["t-0", "t-4"]
        assert sorted(each.task_id for each in found[:3]) == ["t-1", "t-2", "t-3"]
        assert [each.due for each in found] == [soon, soon, soon, soon + 5, soon + 9]
        assert found[-1] == Listed("t-4", "data", DELAYED, 4, soon + 9)
        _, cursor = self.client.list_tasks(self.queue, DELAYED, 2)
        assert self.client.get(self.queue, found[1].task_id) is not None
        rest, _ = self.client.list_tasks(self.queue, DELAYED, 100, cursor)
        assert rest == found[2:]
        assert self.client.list_tasks(self.queue, WAITING) == ([], None)

    def test_running_tasks_are_listed_with_their_leases(self) -> None:
        """The one on lease for the longest first, also if its lease was extended."""
        self.needs_listing()
        self.client.push(self.queue, "one", "1", priority=3)
        self.client.push(self.queue, "two", "2")
        self.client.push(self.queue, "three", "3")
        one = self.reserve_one(60)
        two = self.reserve_one(30)
        three = self.reserve_one(90)
        _, cursor = self.client.list_tasks(self.queue, RUNNING, 1)
        self.client.extend([one], 300)
        rest, _ = self.client.list_tasks(self.queue, RUNNING, 5, cursor)
        assert [each.task_id for each in rest] == ["two", "three"]
        found = self.pages(RUNNING)
        assert [each.task_id for each in found] == ["one", "two", "three"]
        assert found[0]._replace(until=None) == Listed("one", "1", RUNNING, 3, None, 1)
        now = self.client.server_time(self.queue) or self.client.clock.time()
        for each, lease in zip(found, (300, 30, 90), strict=True):
            assert each.until is not None
            assert now + lease - 10 < each.until <= now + lease + 0.1
        self.client.push(self.queue, "two", "again", priority=2)
        assert self.client.list_tasks(self.queue, WAITING) == (
            [Listed("two", "again", WAITING, 2)],
            None,
        )
        assert self.client.release(one)
        (again,) = self.client.list_tasks(self.queue, WAITING, 1)[0]
        assert (again.task_id, again.attempts) == ("one", 1)
        assert self.client.ack([two, three]) == []
        assert self.ids(RUNNING) == []
        assert self.ids(WAITING) == ["one", "two"]

    def test_deaths_are_listed_and_found(self) -> None:
        """In each state; a hand-back is none, and a retry has none."""
        self.needs_listing()
        self.push("1")
        assert self.client.release(self.reserve_one())
        task_id = self.reserve_one(self.short_lease).task_id
        died = self.reserve_soon()

        def told(state: int) -> list[tuple[int, int]]:
            found = self.client.list_tasks(self.queue, state)[0]
            if (place := self.client.find(self.queue, task_id)) is None:
                return []
            if place.attempts is not None:  # else a look at one task does not tell
                assert [place.deaths] == [each.deaths for each in found]
            return [(each.attempts, each.deaths) for each in found]

        assert told(RUNNING) == [(3, 1)]
        assert self.client.release(died)
        assert told(WAITING) == [(3, 1)]
        due = time.time() + 3600.0
        assert self.client.release(self.reserve_one(), None, due)
        assert told(DELAYED) == [(4, 1)]
        assert self.client.run_now(self.queue, task_id)
        assert self.client.release(self.reserve_one(), "again")
        assert told(WAITING) == [(5, 0)]

    def test_dead_letters_are_listed_newest_first(self) -> None:
        """And tasks that die meanwhile are not."""
        dead: list[str] = []
        for name in ("1", "2", "3"):
            self.push(name)
            delivery = self.reserve_one()
            assert self.client.bury(delivery, f"kept {name}", Reason("ValueError: no"))
            dead.insert(0, delivery.task_id)
        found = self.pages(FAILED)
        assert [each.task_id for each in found] == dead
        assert [each.data for each in found] == ["kept 3", "kept 2", "kept 1"]
        assert {(each.state, each.attempts) for each in found} == {(FAILED, 1)}
        assert {each.error for each in found} == {"ValueError: no"}
        died = [letter.died_at for letter in self.client.dead(self.queue)]
        assert [each.died_at for each in found] == pytest.approx(died, abs=1e-3)
        _, cursor = self.client.list_tasks(self.queue, FAILED, 1)
        self.push("4")
        assert self.client.bury(self.reserve_one(), None, Reason("ValueError: no"))
        rest, _ = self.client.list_tasks(self.queue, FAILED, 5, cursor)
        assert [each.task_id for each in rest] == dead[1:]
        assert len(self.client.dead(self.queue)) == 4

    def test_what_cannot_be_listed_is_refused(self) -> None:
        """A cursor of something else, and a state that the backend cannot list."""
        with pytest.raises(InvalidTask, match="cursor"):
            self.client.list_tasks(self.queue, FAILED, 1, "no cursor")
        if LISTING in self.client.controls:
            self.push("1", "2")
            _, cursor = self.client.list_tasks(self.queue, WAITING, 1)
            assert cursor is not None
            for other in (cursor[:-3], cursor + "AAAA", ""):
                with pytest.raises(InvalidTask, match="cursor"):
                    self.client.list_tasks(self.queue, WAITING, 1, other)
        else:
            with pytest.raises(UnsupportedOption, match="redis"):
                self.client.list_tasks(self.queue, RUNNING)
