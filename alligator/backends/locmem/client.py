"""Keep queues in this process's memory: for development, tests, and threads of one process.

Gators of one process share them by the name in the DSN (``locmem://``, ``locmem://mine``).
Tasks do not survive the process; everything else of the contract holds.
"""

import heapq
import itertools
import math
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from alligator.backends.base import DEBOUNCE, LIMIT, LISTING, PAUSE, RATE, UNIQUE
from alligator.backends.base import Client as BaseClient
from alligator.backends.cursors import read_cursor, write_cursor
from alligator.backends.locmem.memory import memory_of
from alligator.backends.locmem.queue import Entry
from alligator.backends.locmem.store import LocmemStore
from alligator.backends.store import gone_badly
from alligator.backends.task_controls import debounced
from alligator.backends.types import (
    ControlledMessage,
    Data,
    DeadTask,
    Delivery,
    Finding,
    Listed,
    Message,
    Place,
    QueueStats,
    Reason,
    Renew,
    Reserved,
    queued_or_pending,
)
from alligator.common.clock import Clock
from alligator.constants import DELAYED, FAILED, HELD, RUNNING, WAITING

_SLICE = 0.2  # seconds between two looks at `stop`

#: Of how many numbers the keys in the listing of a state consist; see ``Queue.list_tasks``.
_KEYS = {WAITING: 4, DELAYED: 2, RUNNING: 1, HELD: 1, FAILED: 1}


class Client(BaseClient):
    """The contract, in memory. Any DSN is taken; its part after ``://`` names the memory."""

    idle_wait = 60.0
    in_process = True
    notes_stops = True
    controls = frozenset({LIMIT, RATE, UNIQUE, DEBOUNCE, LISTING, PAUSE})

    def __init__(self, conn_string: str, *, clock: Clock | None = None) -> None:
        super().__init__(conn_string, clock=clock)
        self._memory = memory_of(conn_string.partition("://")[2].rstrip("/"))
        self._store = LocmemStore(self, self._memory, self.clock)

    @property
    def store(self) -> LocmemStore:
        """The store in the same memory."""
        return self._store

    def len(self, queue_name: str) -> int:
        with self._memory.changed:
            waiting, delayed, _ = self._memory.queue(queue_name).counts()
            return waiting + delayed

    def drop_all(self, queue_name: str) -> None:
        with self._memory.changed:
            self._memory.dependencies.drop_queue(queue_name, self.clock.time())
            self._memory.queues.pop(queue_name, None)

    def push_many(self, queue_name: str, messages: Sequence[Message]) -> list[str]:
        with self._memory.changed:
            queue, now = self._memory.queue(queue_name), self.clock.time()
            pending: dict[int, str] = {}
            for index, message in enumerate(messages):
                if isinstance(message, ControlledMessage) and message.controls.unique_key:
                    taken = queue.with_key(message.controls.unique_key)
                    if taken is not None:
                        queue.push_over(taken, message, now)
                        pending[index] = taken.task_id
                        continue
                    message = debounced(message, now, now)
                self._memory.dependencies.forget((queue_name, message.task_id))
                self._memory.records.overrule(queue_name, message.task_id, now)
                queue.push(message, now)
            self._memory.changed.notify_all()
            ids = [each.task_id for each in messages]
            return queued_or_pending(ids, pending, queue.history)

    def _lease(
        self,
        queue_names: Sequence[str],
        limit: int,
        lease: float,
        wait: float,
        acks: Sequence[Delivery],
        task_id: str | None,
    ) -> Reserved:
        with self._memory.changed:
            refused = self.ack(acks) if acks else []
            if task_id is None:
                found = self._lease_next(queue_names, limit, lease)
            else:
                found = self._lease_one(queue_names, task_id, lease)
            self._memory.tell(found)
        return Reserved(found, refused)

    def _wait(
        self,
        queue_names: Sequence[str],
        limit: int,
        lease: float,
        seconds: float,
        stop: Callable[[], bool],
    ) -> None:
        with self._memory.changed:
            pause = max(self.next_change(queue_names) - self.clock.time(), 0.001)
            self._memory.changed.wait(min(seconds, pause, _SLICE))

    def _lease_next(self, queue_names: Sequence[str], limit: int, lease: float) -> list[Delivery]:
        taken: list[Delivery] = []
        now = self.clock.time()
        for name in queue_names:
            if self._memory.pauses and self._memory.paused(name, now) is not None:
                continue
            queue = self._memory.queue(name)
            while len(taken) < limit and (entry := queue.lease_next(now, lease, alone=not taken)):
                taken.append(_delivery(name, entry))
                if entry.deaths:
                    return taken
            if taken and queue.has_ready():  # it is full, or who is next must go alone
                return taken
        return taken

    def _lease_one(
        self, queue_names: Sequence[str], task_id: str, lease: float, *, to_run: bool = True
    ) -> list[Delivery]:
        now = self.clock.time()
        for name in queue_names:
            if entry := self._memory.queue(name).lease_one(task_id, now, lease, to_run=to_run):
                return [_delivery(name, entry)]
        return []

    def withdraw(self, queue_name: str, task_id: str, lease: float = 30.0) -> Reserved:
        with self._memory.changed:
            found = self._lease_one([queue_name], task_id, lease, to_run=False)
            self._memory.tell(found)
        return Reserved(found, [])

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        with self._memory.changed:
            now, memory = self.clock.time(), self._memory
            recorded = bool(memory.records.outcomes)  # mostly there are none
            refused = []
            for delivery in deliveries:
                queue = self._memory.queue(delivery.queue_name)
                if entry := queue.leased_to(delivery):
                    if recorded:
                        memory.records.has_succeeded(delivery.queue_name, delivery.task_id, now)
                    queue.end(entry, now)
                    memory.dependencies.release((delivery.queue_name, delivery.task_id), now)
                else:
                    refused.append(delivery)
            self._memory.tell(deliveries)
            self._memory.changed.notify_all()  # something may have waited behind a running one
        return refused

    def release(
        self, delivery: Delivery, data: Data | None = None, delay_until: float | None = None
    ) -> bool:
        return self._release(delivery, data, delay_until, ran=data is not None)

    def postpone(self, delivery: Delivery, data: Data, delay_until: float) -> bool:
        return self._release(delivery, data, delay_until, ran=False)

    def _release(
        self, delivery: Delivery, data: Data | None, delay_until: float | None, *, ran: bool
    ) -> bool:
        with self._memory.changed:
            queue = self._memory.queue(delivery.queue_name)
            if entry := queue.leased_to(delivery):
                queue.release(entry, data, delay_until, self.clock.time(), ran=ran)
                self._memory.tell([delivery])
                self._memory.changed.notify_all()
        return entry is not None

    def extend(self, deliveries: Sequence[Delivery], lease: float) -> list[Delivery]:
        lost = []
        with self._memory.changed:
            for delivery in deliveries:
                queue = self._memory.queue(delivery.queue_name)
                if entry := queue.leased_to(delivery):
                    queue.extend(entry, self.clock.time(), lease)
                else:
                    lost.append(delivery)
        return lost

    def note_stop(self, deliveries: Sequence[Delivery]) -> None:
        with self._memory.changed:
            for delivery in deliveries:
                if entry := self._memory.queue(delivery.queue_name).leased_to(delivery):
                    entry.stopped = True

    def bury(self, delivery: Delivery, data: Data | None, reason: Reason) -> bool:
        with self._memory.changed:
            queue = self._memory.queue(delivery.queue_name)
            if entry := queue.leased_to(delivery):
                now, key = self.clock.time(), (delivery.queue_name, delivery.task_id)
                queue.bury(delivery, entry, data, reason, now)
                why = gone_badly(delivery.task_id, FAILED, reason.error)
                self._memory.dependencies.cancel(key, why or "", now)
                self._memory.tell([delivery])
                self._memory.changed.notify_all()
        return entry is not None

    def dead(self, queue_name: str, limit: int = 100) -> list[DeadTask]:
        with self._memory.changed:
            newest_first = reversed(self._memory.queue(queue_name).dead.values())
            return [letter for letter, _ in itertools.islice(newest_first, limit)]

    def letter(self, queue_name: str, task_id: str) -> DeadTask | None:
        with self._memory.changed:
            found = self._memory.queue(queue_name).dead.get(task_id)
            return None if found is None else found[0]

    def revive(
        self, queue_name: str, task_id: str | None = None, renew: Renew | None = None
    ) -> int:
        with self._memory.changed:
            queue, now = self._memory.queue(queue_name), self.clock.time()
            chosen = list(queue.dead) if task_id is None else [task_id]
            revived = sum(queue.revive(each, now, renew) for each in chosen)
            self._memory.changed.notify_all()
        return revived

    def purge_dead(self, queue_name: str, older_than: float = 0.0) -> int:
        with self._memory.changed:
            queue, limit = self._memory.queue(queue_name), self.clock.time() - older_than
            old = [each for each, (letter, _) in queue.dead.items() if letter.died_at <= limit]
            for each in old:
                queue.forget_letter(each)
        return len(old)

    def delete_dead(self, queue_name: str, task_ids: Sequence[str]) -> int:
        with self._memory.changed:
            queue = self._memory.queue(queue_name)
            there = {each for each in task_ids if each in queue.dead}
            for each in there:
                queue.forget_letter(each)
        return len(there)

    def find(self, queue_name: str, task_id: str) -> Place | None:
        with self._memory.changed:
            return self._memory.queue(queue_name).find(task_id)

    def peek(self, queue_name: str, task_id: str) -> Data | None:
        with self._memory.changed:
            queue = self._memory.queue(queue_name)
            if entry := queue.entries.get(task_id):
                return entry.data
            return queue.dead[task_id][0].data if task_id in queue.dead else None

    def stats(self, queue_name: str) -> QueueStats:
        with self._memory.changed:
            queue = self._memory.queue(queue_name)
            waiting, delayed, running = queue.counts()
            pushed = queue.oldest()
            age = None if pushed is None else max(0.0, self.clock.time() - pushed)
            return QueueStats(waiting, delayed, running, len(queue.dead), age, len(queue.held))

    def position(self, queue_name: str) -> object:
        """Return what is another one after the queue was emptied."""
        with self._memory.changed:
            return self._memory.queue(queue_name).history

    def lost_nothing_since(self, queue_name: str, position: Any) -> bool | None:
        return None if position is None else self.position(queue_name) is position

    def list_tasks(
        self, queue_name: str, state: int, limit: int = 100, after: str | None = None
    ) -> tuple[list[Listed], str | None]:
        with self._memory.changed:
            found = self._memory.queue(queue_name).list_tasks(state)
            if after is not None:
                last = read_cursor(after, *[float] * _KEYS[state])
                found = (each for each in found if each[0] > tuple(last))
            page = heapq.nsmallest(limit + 1, found, key=itemgetter(0))
        tasks = [task for _, task in page[:limit]]
        return tasks, write_cursor(*page[limit - 1][0]) if len(page) > limit else None

    def queue_names(self) -> list[str]:
        """Return the names of the queues that hold something, or were pushed to."""
        with self._memory.changed:
            queues = self._memory.queues.items()
            return [name for name, queue in queues if queue.entries or queue.dead or queue.is_used]

    def examine(self) -> list[Finding]:
        text = "tasks are in the memory of this process only, and end with it"
        return [Finding("persistence", text, "use it for development and tests")]

    def place_of(self, queue_name: str) -> str:
        return f"locmem {id(self._memory)}"

    def next_change(self, queue_names: Sequence[str]) -> float:
        with self._memory.changed:
            return min(map(self._next_change, queue_names))

    def _next_change(self, queue_name: str) -> float:
        if (until := self._memory.paused(queue_name, self.clock.time())) is not None:
            return until
        return self._memory.queue(queue_name).next_change()

    def run_now(self, queue_name: str, task_id: str) -> bool:
        with self._memory.changed:
            found = self._memory.queue(queue_name).run_now(task_id, self.clock.time())
            self._memory.changed.notify_all()
        return found

    def pause(self, queue_name: str, until: float | None = None) -> None:
        with self._memory.changed:
            self._memory.pauses[queue_name] = math.inf if until is None else until
            self._memory.changed.notify_all()  # the pause may end before what they wait for

    def resume(self, queue_name: str) -> bool:
        with self._memory.changed:
            until = self._memory.pauses.pop(queue_name, None)
            self._memory.changed.notify_all()
        return until is not None and until > self.clock.time()

    def paused(self, queue_name: str) -> float | None:
        with self._memory.changed:
            return self._memory.paused(queue_name, self.clock.time())


def _delivery(queue_name: str, entry: Entry) -> Delivery:
    return Delivery(
        queue_name, entry.task_id, entry.data, entry.ticket, entry.attempt, entry.deaths
    )
