"""Test the contract of pausing a queue."""

import math
import threading
import time

import pytest

from alligator.backends.base import PAUSE, Delivery, Reason, time_on
from alligator.constants import WAITING
from alligator.exceptions import UnsupportedOption
from alligator.testing.conformance.base import ClientContract


class PauseContract(ClientContract):
    """What a caller of ``pause`` can rely on, where ``Client.controls`` has ``PAUSE``."""

    def needs_pause(self) -> None:
        """Skip the test unless the backend pauses queues."""
        if PAUSE not in self.client.controls:
            pytest.skip("this backend does not pause queues")

    def from_now(self, seconds: float) -> float:
        """Return a Unix timestamp by the clock that counts."""
        return time_on(self.client, self.queue, self.client.clock) + seconds

    def test_a_paused_queue_gives_nothing_and_takes_everything(self) -> None:
        """Others go on, and so does what runs."""
        self.needs_pause()
        other = f"{self.queue}-2"
        self.push("1", "2", "3")
        self.client.push(other, "other", "elsewhere")
        one, two, three = (self.reserve_one(60) for _ in range(3))
        (four,) = self.push("4")
        self.client.pause(self.queue)
        assert self.reserve() == []
        assert self.client.pop(self.queue) is None
        (found,) = self.client.reserve([self.queue, other], 5).deliveries
        assert found.data == "elsewhere"
        assert self.client.reserve([self.queue], acks=[one]).refused == []
        assert self.client.extend([two, three], 60) == []
        assert self.client.release(two)
        assert self.client.bury(three, None, Reason("ValueError: no"))
        self.push("5")
        self.push("6", delay_until=self.from_now(-1))
        stats = self.client.stats(self.queue)
        assert (stats.waiting, stats.running, stats.dead) == (4, 0, 1)
        place = self.client.find(self.queue, four)
        assert place is not None
        assert place.state == WAITING
        (given,) = self.reserve(task_id=four)
        assert given.data == "4"
        self.client.drop_all(other)
        assert self.client.resume(self.queue) is True
        assert self.drain() == ["2", "5", "6"]

    def test_who_asks_is_told_until_when(self) -> None:
        """A second pause replaces the first; that of another queue is another one."""
        self.needs_pause()
        assert self.client.paused(self.queue) is None
        assert self.client.resume(self.queue) is False
        self.client.pause(self.queue)
        assert self.client.paused(self.queue) == math.inf
        assert self.client.paused(f"{self.queue}-2") is None
        until = self.from_now(600)
        self.client.pause(self.queue, until)
        found = self.client.paused(self.queue)
        assert found is not None
        assert abs(found - until) < 0.001
        self.client.drop_all(self.queue)
        assert self.client.paused(self.queue) == found
        assert self.another_client().paused(self.queue) == found
        assert self.client.resume(self.queue) is True
        assert self.client.resume(self.queue) is False
        assert self.client.paused(self.queue) is None
        self.client.pause(self.queue, self.from_now(-1))
        assert self.client.paused(self.queue) is None
        assert self.client.resume(self.queue) is False

    def test_a_pause_ends_by_itself(self) -> None:
        """And who waits is not late."""
        self.needs_pause()
        self.push("1")
        began = time.monotonic()
        self.client.pause(self.queue, self.from_now(0.3))
        assert self.reserve_one(wait=20.0).data == "1"
        assert 0.25 < time.monotonic() - began < 8
        assert self.client.paused(self.queue) is None

    def test_who_waits_is_woken_by_resume(self) -> None:
        """All of them, for as many tasks as there are, and one that waited before the pause."""
        self.needs_pause()
        found: list[Delivery] = []

        def take() -> None:
            client = self.another_client()
            found.extend(client.reserve([self.queue], 1, wait=30.0).deliveries)

        threads = [threading.Thread(target=take) for _ in range(3)]
        threads[0].start()
        time.sleep(0.05)  # it should wait by now; if not, the test is easier
        self.client.pause(self.queue)
        for each in threads[1:]:
            each.start()
        self.push("1", "2", "3")
        time.sleep(0.1)  # nothing is to happen
        assert found == []
        began = time.monotonic()
        self.client.resume(self.queue)
        for each in threads:
            each.join(40)
        assert sorted(str(each.data) for each in found) == ["1", "2", "3"]
        assert time.monotonic() - began < 8

    def test_a_lease_that_ends_during_a_pause_stays_ended(self) -> None:
        """The task runs again after the pause; until then its worker may extend it."""
        self.needs_pause()
        self.push("1")
        lost = self.reserve_one(self.short_lease)
        self.client.pause(self.queue)
        assert self.reserve(wait=self.short_lease + 0.1) == []
        assert self.client.extend([lost], self.short_lease) == []
        self.client.resume(self.queue)
        again = self.reserve_soon()
        assert (again.data, again.deaths) == ("1", 1)

    def test_where_none_can_be_paused_that_is_said(self) -> None:
        """With what would work."""
        if PAUSE in self.client.controls:
            pytest.skip("this backend pauses queues")
        with pytest.raises(UnsupportedOption, match="store="):
            self.client.pause(self.queue)
        with pytest.raises(UnsupportedOption, match="store="):
            self.client.resume(self.queue)
