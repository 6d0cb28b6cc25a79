"""Keep outcomes beside the in-memory queues: dictionaries under the lock of the queues."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from alligator.backends.locmem.memory import Memory
from alligator.backends.locmem.records import Watch
from alligator.backends.store import KEEP_FAILED, Store, gone_badly, record_key
from alligator.backends.types import (
    Activity,
    Child,
    Delivery,
    Duplicate,
    LiveWorker,
    Message,
    Queues,
    Record,
    Report,
    Waits,
    Worker,
)
from alligator.common.clock import Clock
from alligator.constants import CANCELED


class LocmemStore(Store):
    """The contract, in memory.

    :param client: the client it belongs to.
    :param memory: what that client has its queues in.
    """

    follows_queues = True
    monitors = True

    def __init__(self, client: Queues, memory: Memory, clock: Clock) -> None:
        self._client, self._memory, self._clock = client, memory, clock

    @property
    def home(self) -> Queues:
        return self._client

    def note(self, key: str, record: Record, keep_seconds: float) -> bool:
        with self._memory.changed:
            now, records = self._clock.time(), self._memory.records
            standing = records.outcomes.get(key, now)
            if standing is not None and standing.fence > record.fence:
                return False
            records.put(key, record, now, keep_seconds)
        return True

    def record(self, key: str) -> Record | None:
        with self._memory.changed:
            return self._memory.records.outcomes.get(key, self._clock.time())

    def forget(self, keys: Iterable[str]) -> None:
        with self._memory.changed:
            for each in keys:
                self._memory.records.outcomes.pop(each)

    @contextmanager
    def watch(self, keys: Sequence[str], queue_names: Sequence[str] = ()) -> Iterator[Watch]:
        # Starts and ends are told by task, on whichever queue.
        watch, watches = Watch(), self._memory.records.watches
        with self._memory.changed:
            for each in keys:
                watches.setdefault(each, []).append(watch)
        try:
            yield watch
        finally:
            with self._memory.changed:
                for each in keys:
                    watches[each].remove(watch)
                    if not watches[each]:
                        del watches[each]

    def claim(self, key: str, ttl: float) -> bool:
        with self._memory.changed:
            now, marks = self._clock.time(), self._memory.records.marks
            if marks.get(key, now):
                return False
            marks.put(key, True, now, ttl)
        return True

    def confirm(self, key: str, ttl: float) -> None:
        with self._memory.changed:
            self._memory.records.marks.put(key, True, self._clock.time(), ttl)

    def unclaim(self, key: str) -> None:
        with self._memory.changed:
            self._memory.records.marks.pop(key)

    def _push_once(
        self, client: Queues, key: str, ttl: float, queue_name: str, message: Message
    ) -> bool:
        with self._memory.changed:
            if not self.claim(own_key := f"{queue_name}/{key}", ttl):
                return False
            try:
                client.push_many(queue_name, [message])
            except BaseException:
                self.unclaim(own_key)
                raise
        return True

    def _hold(self, client: Queues, children: Sequence[Child]) -> Sequence[int | Duplicate]:
        with self._memory.changed:
            now = self._clock.time()
            states = [self._memory.dependencies.hold(each, now) for each in children]
            self._memory.changed.notify_all()
        return states

    def _settle(
        self, client: Queues, delivery: Delivery, key: str, record: Record, keep_seconds: float
    ) -> bool:
        with self._memory.changed:
            queue = self._memory.queues.get(delivery.queue_name)
            why = gone_badly(key, record.state, record.error)
            if why and queue and queue.leased_to(delivery):
                parent = delivery.queue_name, delivery.task_id
                self._memory.dependencies.cancel(parent, why, self._clock.time())
            return not client.ack([delivery]) and self.note(key, record, keep_seconds)

    def _cancel_held(self, client: Queues, queue_name: str, task_id: str, record: Record) -> bool:
        with self._memory.changed:
            key = queue_name, task_id
            if not self._memory.dependencies.drop(key):
                return False
            now = self._clock.time()
            self._memory.records.put(record_key(queue_name, task_id), record, now, KEEP_FAILED)
            why = gone_badly(task_id, CANCELED, record.error) or ""
            self._memory.dependencies.cancel(key, why, now)
        return True

    def _waits_for(self, client: Queues, queue_name: str, task_id: str, limit: int) -> Waits:
        with self._memory.changed:
            return self._memory.dependencies.waits_for((queue_name, task_id), limit)

    def beat(self, worker: str, queue_names: Sequence[str], seconds: float) -> None:
        with self._memory.changed:
            now, records = self._clock.time(), self._memory.records
            sign = Worker(worker, tuple(queue_names), now, now + seconds)
            records.workers.put(worker, sign, now, seconds)
            for each in queue_names:
                records.seen[each] = now

    def workers(self, queue_name: str) -> list[Worker]:
        with self._memory.changed:
            alive = self._memory.records.workers.live(self._clock.time())
            found = [each for each in alive if queue_name in each.queue_names]
        return sorted(found, key=lambda each: each.seen, reverse=True)

    def last_seen(self, queue_name: str) -> float | None:
        with self._memory.changed:
            return self._memory.records.seen.get(queue_name)

    def report(self, report: Report) -> list[str | None]:
        with self._memory.changed:
            return self._memory.records.reports.add(report, self._clock.time())

    def live_workers(self) -> list[LiveWorker]:
        with self._memory.changed:
            return self._memory.records.reports.live.live(self._clock.time())

    def activity(self, since: int, before: int | None = None) -> list[Activity]:
        with self._memory.changed:
            return self._memory.records.reports.activity(since, before, self._clock.time())

    def recent(self, limit: int) -> list[str]:
        with self._memory.changed:
            return self._memory.records.reports.recent(limit, self._clock.time())

    def put_document(self, key: str, text: str, keep_seconds: float) -> None:
        with self._memory.changed:
            documents = self._memory.records.reports.documents
            documents.put(key, text, self._clock.time(), keep_seconds)

    def documents(self, keys: Sequence[str]) -> list[str | None]:
        with self._memory.changed:
            now, documents = self._clock.time(), self._memory.records.reports.documents
            return [documents.get(key, now) for key in keys]

    def delete_documents(self, keys: Sequence[str]) -> None:
        with self._memory.changed:
            for each in keys:
                self._memory.records.reports.documents.pop(each)
