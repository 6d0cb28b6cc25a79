"""The store of the in-memory backend: dictionaries under the lock of its queues."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Condition, Event
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from alligator.backends.base import Client, Delivery, Message
from alligator.backends.store import (
    BAD,
    KEEP_FAILED,
    Child,
    Record,
    Store,
    Waits,
    Watch,
    Worker,
    gone_badly,
    record_key,
)
from alligator.common.clock import Clock
from alligator.common.ids import is_own_id
from alligator.constants import CANCELED, FAILED

if TYPE_CHECKING:
    from alligator.backends.locmem.dependencies import Children
    from alligator.backends.locmem.queue import Queue

V = TypeVar("V")


class Expiring(Generic[V]):
    """A dictionary whose entries end. Callers hold a lock around it."""

    def __init__(self) -> None:
        self._items: dict[str, tuple[V, float]] = {}
        self._ends: list[tuple[float, str]] = []

    def __bool__(self) -> bool:
        return bool(self._items)

    def get(self, key: str, now: float) -> V | None:
        """Return a value that has not ended."""
        found = self._items.get(key)
        return found[0] if found and found[1] > now else None

    def put(self, key: str, value: V, now: float, seconds: float) -> None:
        """Set a value for so many seconds, and drop what has ended."""
        if seconds <= 0:
            self.pop(key)
            return
        self._items[key] = value, now + seconds
        heapq.heappush(self._ends, (now + seconds, key))
        while self._ends and self._ends[0][0] <= now:
            _, ended = heapq.heappop(self._ends)
            if ended in self._items and self._items[ended][1] <= now:
                del self._items[ended]
        if len(self._ends) > 2 * len(self._items) + 64:  # mostly of entries that were replaced
            self._ends = [(end, each) for each, (_, end) in self._items.items()]
            heapq.heapify(self._ends)

    def pop(self, key: str) -> None:
        """Remove a value; none there is fine."""
        self._items.pop(key, None)

    def live(self, now: float) -> list[V]:
        """Return the values that have not ended."""
        return [value for value, end in self._items.values() if end > now]


class StoreState:
    """What the stores of one memory share."""

    def __init__(self) -> None:
        self.records = Expiring[Record]()
        self.marks = Expiring[bool]()
        self.workers = Expiring[Worker]()
        self.seen: dict[str, float] = {}  # by queue: when a worker of it was last alive
        self.watches: dict[str, list[_Watch]] = {}

    def renew(self) -> None:
        """In the child of a fork: wait for no thread of the parent's."""
        for watches in self.watches.values():
            for each in watches:
                each.told = Event()

    def record_of(self, task_id: str, now: float) -> Record | None:
        """Return what is known of a task."""
        return self.records.get(task_id, now)

    def put_record(self, task_id: str, record: Record, now: float, seconds: float) -> None:
        """Put it down, and wake who watches."""
        self.records.put(task_id, record, now, seconds)
        self.tell(task_id)

    def overrule(self, queue_name: str, task_id: str, now: float) -> None:
        """That id of the user's own is pushed: what became of it before is void if it was bad."""
        for key in (record_key(queue_name, task_id), task_id) if is_own_id(task_id) else ():
            if (record := self.records.get(key, now)) and record.state in BAD:
                self.records.pop(key)

    def has_succeeded(self, queue_name: str, task_id: str, now: float) -> None:
        """A task is acked: a failure on record of its own id was that of an earlier push."""
        if is_own_id(task_id):
            key = record_key(queue_name, task_id)
            if (record := self.records.get(key, now)) and record.state == FAILED:
                self.records.pop(key)

    def tell(self, task_id: str) -> None:
        """Wake who watches that task."""
        for watch in self.watches.get(task_id, ()):
            watch.told.set()


class Memory(Protocol):
    """What a store shares with the queues: their lock, renewed at a fork, and its state."""

    changed: Condition
    store: StoreState
    queues: "dict[str, Queue]"
    children: "Children"


class _Watch:
    def __init__(self) -> None:
        self.told = Event()

    def wait(self, timeout: float) -> bool:
        """Block until told of a change."""
        if not self.told.wait(timeout):
            return False
        self.told.clear()
        return True


class LocmemStore(Store):
    """The contract, in memory.

    :param client: the client it belongs to.
    """

    follows_queues = True

    def __init__(self, client: Client, memory: Memory) -> None:
        self._client, self._memory = client, memory
        self._clock: Clock = client.clock

    @property
    def home(self) -> Client:
        """The client that it belongs to."""
        return self._client

    def note(self, task_id: str, record: Record, keep_seconds: float) -> bool:
        """Put down an outcome unless a later run's stands."""
        with self._memory.changed:
            now, records = self._clock.time(), self._memory.store.records
            standing = records.get(task_id, now)
            if standing is not None and standing.fence > record.fence:
                return False
            records.put(task_id, record, now, keep_seconds)
            self._memory.store.tell(task_id)
        return True

    def settle(
        self, client: Client, delivery: Delivery, task_id: str, record: Record, keep_seconds: float
    ) -> bool:
        """Note and ack under one lock."""
        if client is not self._client:
            return super().settle(client, delivery, task_id, record, keep_seconds)
        with self._memory.changed:
            queue = self._memory.queues.get(delivery.queue_name)
            why = gone_badly(task_id, record.state, record.error)
            if why and queue and queue.held_by(delivery):
                key = delivery.queue_name, delivery.task_id
                self._memory.children.cancel(key, why, self._clock.time())
            return not client.ack([delivery]) and self.note(task_id, record, keep_seconds)

    def record(self, task_id: str) -> Record | None:
        """Return what is known of a task."""
        with self._memory.changed:
            return self._memory.store.records.get(task_id, self._clock.time())

    def forget(self, task_ids: Iterable[str]) -> None:
        """Delete records."""
        with self._memory.changed:
            for each in task_ids:
                self._memory.store.records.pop(each)

    @contextmanager
    def watch(self, task_ids: Sequence[str], queue_names: Sequence[str] = ()) -> Iterator[Watch]:
        """Listen; starts and ends are told on whichever queue."""
        watch, watches = _Watch(), self._memory.store.watches
        with self._memory.changed:
            for each in task_ids:
                watches.setdefault(each, []).append(watch)
        try:
            yield watch
        finally:
            with self._memory.changed:
                for each in task_ids:
                    watches[each].remove(watch)
                    if not watches[each]:
                        del watches[each]

    def claim(self, key: str, ttl: float) -> bool:
        """Set a mark if it is not set."""
        with self._memory.changed:
            now, marks = self._clock.time(), self._memory.store.marks
            if marks.get(key, now):
                return False
            marks.put(key, True, now, ttl)
        return True

    def confirm(self, key: str, ttl: float) -> None:
        """Set a mark anyhow."""
        with self._memory.changed:
            self._memory.store.marks.put(key, True, self._clock.time(), ttl)

    def unclaim(self, key: str) -> None:
        """Remove a mark."""
        with self._memory.changed:
            self._memory.store.marks.pop(key)

    def push_once(
        self, client: Client, key: str, ttl: float, queue_name: str, message: Message
    ) -> bool:
        """Claim and push under one lock."""
        if client is not self._client:
            return super().push_once(client, key, ttl, queue_name, message)
        with self._memory.changed:
            if not self.claim(own_key := f"{queue_name}/{key}", ttl):
                return False
            try:
                client.push_many(queue_name, [message])
            except BaseException:
                self.unclaim(own_key)
                raise
        return True

    def hold(self, client: Client, children: Sequence[Child]) -> list[int]:
        """Keep tasks back until all their parents have succeeded."""
        if client is not self._client:
            return super().hold(client, children)
        with self._memory.changed:
            now = self._clock.time()
            states = [self._memory.children.hold(each, now) for each in children]
            self._memory.changed.notify_all()
        return states

    def cancel_held(self, client: Client, queue_name: str, task_id: str, record: Record) -> bool:
        """Cancel a child that is held."""
        if client is not self._client:
            return super().cancel_held(client, queue_name, task_id, record)
        with self._memory.changed:
            key = queue_name, task_id
            if not self._memory.children.drop(key):
                return False
            now = self._clock.time()
            noted = record_key(queue_name, task_id)
            self._memory.store.put_record(noted, record, now, KEEP_FAILED)
            why = gone_badly(task_id, CANCELED, record.error) or ""
            self._memory.children.cancel(key, why, now)
        return True

    def waits_for(self, client: Client, queue_name: str, task_id: str, limit: int) -> Waits:
        """Return for whom a child is held."""
        if client is not self._client:
            return super().waits_for(client, queue_name, task_id, limit)
        with self._memory.changed:
            return self._memory.children.waits_for((queue_name, task_id), limit)

    def beat(self, worker: str, queue_names: Sequence[str], seconds: float) -> None:
        """Give a sign of life."""
        with self._memory.changed:
            now, store = self._clock.time(), self._memory.store
            sign = Worker(worker, tuple(queue_names), now, now + seconds)
            store.workers.put(worker, sign, now, seconds)
            for each in queue_names:
                store.seen[each] = now

    def workers(self, queue_name: str) -> list[Worker]:
        """Return the live workers of a queue, those last seen first."""
        with self._memory.changed:
            alive = self._memory.store.workers.live(self._clock.time())
            found = [each for each in alive if queue_name in each.queue_names]
        return sorted(found, key=lambda each: each.seen, reverse=True)

    def last_seen(self, queue_name: str) -> float | None:
        """Return when a worker of that queue was last alive."""
        with self._memory.changed:
            return self._memory.store.seen.get(queue_name)
