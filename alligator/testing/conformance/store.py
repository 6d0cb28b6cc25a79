"""Test a store against the contract: a third party's as well as Alligator's.

::

    from alligator.testing import StoreContract

    class TestMyStore(StoreContract):
        def make_client(self):
            return MyClient('mine://localhost')

and run it with pytest. The client has to have a store. Where a server has to be up first,
override the fixture ``server``, as with ``BackendContract``.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest

from alligator.backends.activity_sums import MAX_RECENT, MAX_ROWS, OTHERS
from alligator.backends.base import Client, Message
from alligator.backends.store import Activity, Record, Report, Store
from alligator.common.ids import new_task_id
from alligator.constants import FAILED, RETRYING, RUNNING, SUCCESS
from alligator.exceptions import ConnectionLost
from alligator.monitoring.activity_counts import QUEUE, depth_numbers, to_depth
from alligator.monitoring.rows import DepthRow
from alligator.testing.conformance.dependencies import DependencyContract


class StoreContract(DependencyContract):
    """Inherit, define :meth:`make_client`, and name the class ``Test…``."""

    #: The shortest time that the store keeps something properly, in seconds.
    short: ClassVar[float] = 0.3

    #: Seconds within which a watch has to be woken.
    prompt: ClassVar[float] = 5.0

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Make the client, the store and the queue of one test, and close them after it."""
        with super().prepared():
            self.store = self.store_of(self.client)
            yield

    # -- Helpers for the tests. -----------------------------------------------------------

    @staticmethod
    def store_of(client: Client) -> Store:
        """Return its store, which it must have."""
        assert client.store is not None, "this client has no store"
        return client.store

    @staticmethod
    def new_key() -> str:
        """Return an id that no other test uses, as pushed tasks have it; also for a key."""
        return new_task_id()

    def in_thread(self, work: Callable[[], Any]) -> threading.Thread:
        """Run it in a thread, which the test joins."""
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def _race(self, contenders: list[Callable[[], bool]]) -> int:
        won, start = [], threading.Barrier(len(contenders))

        def run(contender: Callable[[], bool]) -> None:
            start.wait(30)
            won.append(contender())

        threads = [self.in_thread(lambda each=each: run(each)) for each in contenders]  # type: ignore[misc]
        for thread in threads:
            thread.join(30)
        assert len(won) == len(contenders)
        return sum(won)

    # -- Outcomes. ------------------------------------------------------------------------

    def test_a_record_comes_back_as_it_was_noted(self) -> None:
        """Field by field, by another client, too."""
        key = self.new_key()
        assert self.store.record(key) is None
        record = Record(
            SUCCESS, '{"a":[1,"schräg ✓ 🐊",null]}', "an error", "line\n  line", 1.25, 3, 0.5, "7"
        )
        assert self.store.note(key, record, 60) is True
        assert self.store.record(key) == record
        assert self.store_of(self.another_client()).record(key) == record
        bare = Record(FAILED)
        assert self.store.note(self.new_key(), bare, 60) is True
        assert self.store.note(other := self.new_key(), bare, 60) is True
        assert self.store.records([other, "unknown", key]) == [bare, None, record]
        assert self.store.records([]) == []

    def test_ids_and_texts_of_any_kind(self) -> None:
        """Spaces, separators, other alphabets; errors that no alphabet has."""
        prefix = self.new_key()
        ids = [f"{prefix}{odd}" for odd in ("", " x", ":y", "{z}", "/", "'; --", "ü✓", "%s", "*")]
        for number, each in enumerate(ids):
            assert self.store.note(each, Record(SUCCESS, str(number)), 60)
        assert [found and found.result for found in self.store.records(ids)] == [
            str(number) for number in range(len(ids))
        ]
        assert self.store.note(prefix, Record(FAILED, error="\udcff\x00"), 60)
        found = self.store.record(prefix)
        assert found is not None
        assert found.error

    def test_a_later_run_is_not_overwritten(self) -> None:
        """Neither by an earlier attempt, nor by an earlier push of the id."""
        key = self.new_key()
        later = Record(SUCCESS, "2", attempt=2, pushed=10.5)
        assert self.store.note(key, Record(RUNNING, attempt=1, pushed=10.5), 60) is True
        assert self.store.note(key, later, 60) is True
        assert self.store.note(key, Record(SUCCESS, "1", attempt=1, pushed=10.5), 60) is False
        assert self.store.note(key, Record(SUCCESS, "0", attempt=9, pushed=10.25), 60) is False
        assert self.store.record(key) == later
        assert self.store.note(key, newer := Record(FAILED, attempt=1, pushed=10.75), 60) is True
        assert self.store.record(key) == newer

    def test_one_run_may_note_again(self) -> None:
        """It has come further, or its reply was lost."""
        key = self.new_key()
        for state in (RUNNING, RETRYING, SUCCESS, SUCCESS):
            assert self.store.note(key, Record(state, attempt=1), 60) is True
            found = self.store.record(key)
            assert found is not None
            assert found.state == state

    def test_attempts_count_as_numbers(self) -> None:
        """10 comes after 9."""
        key = self.new_key()
        assert self.store.note(key, Record(RUNNING, attempt=9), 60)
        assert self.store.note(key, Record(RUNNING, attempt=10), 60) is True
        assert self.store.note(key, Record(RUNNING, attempt=9), 60) is False

    def test_a_record_ends(self) -> None:
        """After its time, and not before; kept for 0 s it is not kept."""
        key, stays = self.new_key(), self.new_key()
        started = time.monotonic()
        self.store.note(stays, Record(SUCCESS), 3600)
        self.store.note(key, Record(SUCCESS, attempt=7), self.short)
        if self.store.record(key) is None:
            assert time.monotonic() - started >= self.short
        self.eventually(lambda: self.store.record(key) is None, "the record has ended")
        assert self.store.record(stays) is not None
        assert self.store.note(key, Record(SUCCESS, attempt=1), 60) is True
        assert self.store.note(key, Record(SUCCESS, attempt=2), 0) is True
        assert self.store.record(key) is None

    def test_forget(self) -> None:
        """What was known is not known any more, fence included."""
        one, two = self.new_key(), self.new_key()
        for each in (one, two):
            self.store.note(each, Record(FAILED, attempt=5), 60)
        self.store.forget([one, self.new_key()])
        self.store.forget([])
        assert self.store.record(one) is None
        assert self.store.record(two) is not None
        assert self.store.note(one, Record(SUCCESS, attempt=1), 60) is True

    # -- Watching. ------------------------------------------------------------------------

    def test_a_watch_is_woken_by_a_note(self) -> None:
        """Promptly, from another client, once it waits."""
        key, other = self.new_key(), self.store_of(self.another_client())
        with self.store.watch([self.new_key(), key]) as watch:
            noted = []

            def note() -> None:
                time.sleep(0.1)
                noted.append(time.monotonic())
                other.note(key, Record(SUCCESS), 60)

            thread = self.in_thread(note)
            deadline = time.monotonic() + 60
            while self.store.record(key) is None:
                assert time.monotonic() < deadline
                watch.wait(30)
            assert time.monotonic() - noted[0] < self.prompt
            thread.join(30)

    def test_nothing_is_missed_between_look_and_wait(self) -> None:
        """A note that comes first ends the wait that comes second; so does one kept for 0 s."""
        key, other = self.new_key(), self.store_of(self.another_client())
        for keep in (60, 0):
            with self.store.watch([key]) as watch:
                other.note(key, Record(SUCCESS), keep)
                started = time.monotonic()
                assert watch.wait(30) is True
                assert time.monotonic() - started < self.prompt

    def test_a_watch_ends_with_its_time(self) -> None:
        """With nothing there: False, then; and a wait of 0 does not block."""
        with self.store.watch([self.new_key()]) as watch:
            took, did_not_block = [], []
            for _ in range(10):  # the machine may be busy
                started = time.monotonic()
                timed_out = not watch.wait(0.2)
                ended = time.monotonic()
                watch.wait(0)
                did_not_block.append(time.monotonic() - ended)
                if timed_out:
                    took.append(ended - started)
                    if took[-1] < 1.2:
                        break
            assert took, "false alarms only"
            assert 0.15 < min(took) < 1.2
            assert min(did_not_block) < 0.8

    def test_all_who_watch_are_woken(self) -> None:
        """Several clients and threads, one note."""
        key, ready, woken = self.new_key(), threading.Barrier(5), []

        def watch(store: Store) -> None:
            with store.watch([key]) as watching:
                ready.wait(30)
                started = time.monotonic()
                while store.record(key) is None and time.monotonic() - started < 30:
                    watching.wait(30)
                woken.append(store.record(key))

        stores = [self.store, self.store] + [self.store_of(self.another_client()) for _ in "ab"]
        threads = [self.in_thread(lambda each=each: watch(each)) for each in stores]  # type: ignore[misc]
        ready.wait(30)
        started = time.monotonic()
        self.store.note(key, Record(SUCCESS), 60)
        for thread in threads:
            thread.join(40)
        assert len(woken) == 4
        assert time.monotonic() - started < 2 * self.prompt

    def test_many_can_be_watched(self) -> None:
        """A thousand ids in one watch."""
        keys = [self.new_key() for _ in range(1000)]
        with self.store.watch(keys) as watch:
            self.store.note(keys[777], Record(SUCCESS), 60)
            assert watch.wait(30) is True
        assert sum(found is not None for found in self.store.records(keys)) == 1
        self.store.forget(keys)

    def test_a_watch_follows_queues(self) -> None:
        """Where the store says so: what starts or ends there is told with nothing noted."""
        if not self.store.follows_queues:
            pytest.skip("this store tells only of what is noted")
        other, key = self.another_client(), self.new_key()
        self.client.push(self.queue, key, "data")
        with self.store.watch([key], [self.queue]) as watch:
            deliveries = other.reserve([self.queue]).deliveries
            started = time.monotonic()
            assert watch.wait(30) is True
            while watch.wait(0.05):
                pass
            assert other.ack(deliveries) == []
            assert watch.wait(30) is True
            assert time.monotonic() - started < 2 * self.prompt

    # -- Marks. ---------------------------------------------------------------------------

    def test_one_claim_wins(self) -> None:
        """Of eight at the same time, and none after it."""
        key = self.new_key()
        stores = [self.store_of(self.another_client()) for _ in range(4)] * 2
        assert self._race([lambda each=each: each.claim(key, 60) for each in stores]) == 1  # type: ignore[misc]
        assert self.store.claim(key, 60) is False
        assert self.store.claim(self.new_key(), 60) is True

    def test_a_claim_ends(self) -> None:
        """By its time, by hand; confirmed it goes on."""
        key, confirmed = self.new_key(), self.new_key()
        assert self.store.claim(key, self.short)
        assert self.store.claim(confirmed, self.short)
        self.store.confirm(confirmed, 3600)
        self.eventually(lambda: self.store.claim(key, 60), "the claim has ended")
        assert self.store.claim(confirmed, 60) is False
        self.store.unclaim(key)
        self.store.unclaim(self.new_key())
        assert self.store.claim(key, 60) is True
        self.store.confirm(other := self.new_key(), 60)
        assert self.store.claim(other, 60) is False

    def test_push_once(self) -> None:
        """Of eight at the same time one pushes; later ones do not, until its time is over."""
        key = self.new_key()
        clients = [self.another_client() for _ in range(4)] * 2

        def push(client: Client) -> bool:
            message = Message(self.new_key(), "tick")
            return self.store_of(client).push_once(client, key, 60, self.queue, message)

        assert self._race([lambda each=each: push(each) for each in clients]) == 1  # type: ignore[misc]
        assert self.client.len(self.queue) == 1
        (delivery,) = self.client.reserve([self.queue]).deliveries
        self.client.ack([delivery])
        assert push(self.client) is False
        again = self.new_key()
        tick = Message("tick", "tick")
        assert self.store.push_once(self.client, again, self.short, self.queue, tick)
        self.eventually(
            lambda: self.store.push_once(self.client, again, 60, self.queue, tick),
            "the key has ended",
        )

    def test_push_once_keeps_delay_and_priority(self) -> None:
        """It is a push like others."""
        message = Message("later", "x", time.time() + 3600, 5)
        assert self.store.push_once(self.client, self.new_key(), 60, self.queue, message)
        assert self.client.stats(self.queue).delayed == 1

    def test_push_once_wakes_a_worker(self) -> None:
        """As a push does."""
        found = []
        other = self.another_client()
        thread = self.in_thread(
            lambda: found.extend(other.reserve([self.queue], wait=30).deliveries)
        )
        time.sleep(0.1)
        started = time.monotonic()
        message = Message("x", "x")
        assert self.store.push_once(self.client, self.new_key(), 60, self.queue, message)
        thread.join(40)
        assert len(found) == 1
        assert time.monotonic() - started < self.prompt

    def test_push_once_on_the_queue_of_another(self) -> None:
        """In steps: claimed, pushed, confirmed; a push that is refused frees the key."""
        elsewhere, key = self.another_client(), self.new_key()
        assert elsewhere is not self.client
        good = Message("x", "data")
        refusing: Any = _Refusing()
        with pytest.raises(ConnectionLost):
            self.store.push_once(refusing, key, 60, self.queue, good)
        assert self.store.push_once(elsewhere, key, 60, self.queue, good) is True
        assert self.store.push_once(elsewhere, key, 60, self.queue, good) is False
        assert elsewhere.len(self.queue) == 1

    # -- Who is alive. --------------------------------------------------------------------

    def test_workers_are_known_while_they_give_signs_of_life(self) -> None:
        """By queue, the last seen first; gone after their time, or when they end."""
        other_queue = f"{self.queue}-2"
        assert self.store.workers(self.queue) == []
        assert self.store.last_seen(self.queue) is None
        self.store.beat("host:1:a", [self.queue], self.short)
        self.store.beat("host:2:b", [self.queue, other_queue], 60)
        other = self.store_of(self.another_client())
        assert [each.name for each in other.workers(other_queue)] == ["host:2:b"]
        self.eventually(
            lambda: [each.name for each in other.workers(self.queue)] == ["host:2:b"],
            "the first is gone",
        )
        (alive,) = other.workers(self.queue)
        assert set(alive.queue_names) == {self.queue, other_queue}
        assert 50 < alive.until - alive.seen < 70
        assert abs(alive.seen - time.time()) < 60
        self.store.beat("host:2:b", [self.queue, other_queue], 0)
        assert other.workers(self.queue) == []
        assert other.workers(other_queue) == []
        seen = other.last_seen(self.queue)
        assert seen is not None
        assert abs(seen - time.time()) < 60

    def test_a_worker_beats_again(self) -> None:
        """It is one worker, alive for longer."""
        self.store.beat("host:1:a", [self.queue], self.short)
        self.store.beat("host:1:a", [self.queue], 60)
        time.sleep(self.short)
        (alive,) = self.store.workers(self.queue)
        assert alive.name == "host:1:a"
        self.store.beat("host:3:c", [self.queue], 60)
        assert [each.name for each in self.store.workers(self.queue)] == ["host:3:c", "host:1:a"]

    # -- What workers report. A test has rows, workers and keys of its own, as a store may be -----
    #    shared; one that keeps no reports drops them.

    def _monitors(self) -> Store:
        """Return another client's store, or skip the test."""
        if not self.store.monitors:
            pytest.skip("this store keeps no reports")
        return self.store_of(self.another_client())

    def _activity(self, since: int) -> list[Activity]:
        return [row for row in self.store.activity(since) if row[1] in (self.queue, "")]

    def test_a_store_without_monitoring_drops_reports(self) -> None:
        """It answers all the same."""
        if self.store.monitors:
            pytest.skip("this store keeps reports")
        assert self.store.report(Report("host:1:a", "{}", 60, ask=["a", "b"])) == [None, None]
        self.store.put_document("a", "text", 60)
        assert self.store.documents(["a"]) == [None]
        self.store.delete_documents(["a"])
        assert self.store.live_workers() == []
        assert self.store.activity(0) == []
        assert self.store.recent(10) == []

    def test_activity_adds_up(self) -> None:
        """Over reports and workers; maxima stay, and rows may grow longer."""
        other, minute = self._monitors(), int(time.time()) // 60 * 60
        first = (1, 0, 0, 0, 0, 0, 0.5, 0.25, 2.0, 1.5)
        then = (1, 2, 0, 0, 0, 0, 0.25, 0.125, 3.5, 3.0, 1, 7)
        self.store.report(Report("host:1:a", activity=[(minute, self.queue, "app.f", first)]))
        rows: list[Activity] = [
            (minute - 60, self.queue, "app.f", (4,)),
            (minute, self.queue, "app.f", then),
            (minute, self.queue, "schräg ✓", (5,)),
            (minute, self.queue, "schräg ✓", (6, 1)),
        ]
        other.report(Report("host:2:b", activity=rows))
        found = {row[0:3:2]: row[3] for row in self._activity(minute - 60)}
        assert [row[0] for row in self._activity(minute - 60)] == [minute - 60, minute, minute]
        assert found == {
            (minute - 60, "app.f"): (4,),
            (minute, "app.f"): (2, 2, 0, 0, 0, 0, 0.75, 0.25, 5.5, 3.0, 1, 7),
            (minute, "schräg ✓"): (11, 1),
        }
        assert {row[0] for row in self._activity(minute)} == {minute}
        before = self.store.activity(minute - 60, minute)
        assert {row[0] for row in before if row[1] == self.queue} == {minute - 60}
        assert self.store.activity(minute, minute) == []

    def test_how_full_a_queue_was_does_not_add_up(self) -> None:
        """Several workers that look at one queue do not make it fuller."""
        minute = int(time.time()) // 60 * 60
        for stats in ((3, 0, 2, 8.5), (7, 1, 0, None), (2, 0, 4, 30.25)):
            row = (minute, self.queue, QUEUE, depth_numbers(*stats))
            self._monitors().report(Report("host:1:a", activity=[row]))
        ((*_, numbers),) = self._activity(minute)
        assert to_depth(minute, self.queue, numbers) == DepthRow(minute, self.queue, 7, 1, 4, 30.25)

    def test_activity_has_bounds(self) -> None:
        """48 hours; 1,000 rows of a minute, and what is more counts for the others."""
        other, now = self._monitors(), int(time.time()) // 60 * 60
        old, minute = now - 48 * 3600 - 60, now - 47 * 3600 - hash(self.queue) % 50 * 60
        self.store.report(Report("host:1:a", activity=[(old, self.queue, "app.f", (1,))]))
        assert not any(row[0] == old for row in other.activity(0))
        before = sum(row[0] == minute for row in other.activity(minute))
        rows = [(minute, self.queue, f"app.f{number}", (1.0,)) for number in range(1100)]
        other.report(Report("host:1:a", activity=rows))
        rows = [(minute, f"{self.queue}-{number}", "app.f", (1.0,)) for number in range(200)]
        other.report(Report("host:1:a", activity=rows))
        found = [row for row in self.store.activity(minute) if row[0] == minute]
        assert len(found) <= MAX_ROWS
        own = [row for row in found if row[1].startswith(self.queue)]
        assert sum(row[3][0] for row in own if row[2] == OTHERS) >= 200
        if not before:
            assert sum(row[3][0] for row in found) == 1300

    def test_tasks_that_ended_are_listed(self) -> None:
        """The newest first, over all workers; 10,000 at most."""
        other, name = self._monitors(), self.new_key()
        self.store.report(Report("host:1:a", recent=[f"{name} 0", f"{name} 1 schräg ✓"]))
        other.report(Report("host:2:b", recent=[f"{name} 2"]))
        assert self.store.recent(3) == [f"{name} 2", f"{name} 1 schräg ✓", f"{name} 0"]
        assert self.store.recent(1) == [f"{name} 2"]
        assert self.store.recent(0) == []
        other.report(Report("host:2:b", recent=[f"{name} {each}" for each in range(10_010)]))
        found = self.store.recent(20_000)
        assert len(found) == MAX_RECENT
        assert found[0] == f"{name} 10009"
        assert found[-1] == f"{name} 10"

    def test_workers_are_listed_with_what_they_do(self) -> None:
        """While they report, and for an hour after they were lost; not after an orderly end."""
        other, name, lost = self._monitors(), self.new_key(), self.new_key()

        def listed(worker: str) -> Any:
            return next((each for each in other.live_workers() if each.name == worker), None)

        self.store.report(Report(name, seconds=60))
        assert listed(name) is None, "nothing is known of it"
        self.store.report(Report(name, '{"ü": 1}', 60))
        self.store.report(Report(lost, "[]", self.short))
        first = listed(name)
        assert first.text == '{"ü": 1}'
        assert 50 < first.until - first.seen < 70
        assert abs(first.seen - time.time()) < 60
        self.store.report(Report(name, seconds=90))
        again = listed(name)
        assert again.text == first.text
        assert again.until - again.seen > 80
        self.store.report(Report(name, "{}", 60))
        assert listed(name).text == "{}"
        time.sleep(self.short)
        gone = listed(lost)
        assert gone.text == "[]"
        assert gone.until - gone.seen < 50
        self.store.report(Report(name))
        assert listed(name) is None
        assert listed(lost) is not None

    def test_documents(self) -> None:
        """Kept, replaced, deleted and ended, by hand or with a report, which answers with them."""
        other, keys = self._monitors(), [f"progress:{self.queue}\x1f{each}" for each in "a ü"]
        assert self.store.documents([]) == []
        assert self.store.documents(keys) == [None] * 3
        self.store.put_document(keys[0], "one", 60)
        self.store.put_document(keys[2], '["schräg ✓"]', 60)
        asked = [keys[2], "unknown", keys[0]]
        assert other.documents(asked) == ['["schräg ✓"]', None, "one"]
        documents = {keys[0]: ("", 60.0), keys[1]: ("two", 60.0), keys[2]: ("3", self.short)}
        report = Report("host:1:a", documents=documents, ask=[keys[1], keys[0]])
        assert other.report(report) == ["two", None]
        self.eventually(lambda: self.store.documents(keys) == [None, "two", None], "one has ended")
        self.store.put_document(keys[1], "three", 60)
        assert other.report(Report("host:1:a", ask=[keys[1]])) == ["three"]
        other.delete_documents([*keys, "unknown"])
        other.delete_documents([])
        assert self.store.documents(keys) == [None] * 3


class _Refusing:
    """A client that cannot be reached."""

    def push_many(self, *_: Any) -> list[str]:
        """Fail."""
        raise ConnectionLost("no")
