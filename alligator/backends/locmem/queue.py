"""Keep one queue in memory: its tasks by id, and their order. Callers hold a lock."""

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from alligator.backends.base import LIMIT, MAX_LEASE, RATE
from alligator.backends.store import running_already
from alligator.backends.task_controls import (
    PUT_ASIDE,
    after_start,
    debounced,
    next_start,
    unique_key,
)
from alligator.backends.types import (
    MOST_COUNTED,
    ControlledMessage,
    Controls,
    Data,
    DeadTask,
    Delivery,
    Listed,
    Message,
    Place,
    Reason,
    Renew,
    controlled,
    controls_of,
)
from alligator.constants import DELAYED, FAILED, HELD, RUNNING, WAITING

_tickets = itertools.count(1)

#: What orders the tasks of a listing: numbers, as many in each task of one state.
Key = tuple[float, ...]

#: What keeps tasks back: LIMIT or RATE, and the key.
Line = tuple[str, str]

#: How many rate keys are kept before those with a full bucket are forgotten.
_RATES_KEPT = 1000


@dataclass(slots=True, eq=False)
class Entry:
    """A task on a queue.

    ``place`` orders it within its priority. ``ticket`` is new at every change of state, so
    that old heap entries and old receipts miss.
    """

    task_id: str
    data: Data
    priority: int
    due: float  # 0: now
    pushed_at: float
    state: int = WAITING
    place: tuple[bool, int] = (True, 0)  # delayed tasks that came due (False) go first
    ticket: int = 0
    attempt: int = 0
    deaths: int = 0
    lease_ends: float = 0.0
    stopped: bool = False  # the worker that has it is being stopped
    following: Message | None = None  # pushed while this one was running
    controls: Controls | None = None
    key_since: float = 0.0  # when its unique key was taken
    line: Line | None = None  # WAITING: what keeps it back


class LazyHeap:
    """Entries in order of a key. One whose ticket has changed since is dropped when met."""

    def __init__(self) -> None:
        self._heap: list[tuple[Any, int, Entry]] = []

    def push(self, key: Any, entry: Entry, live: int) -> None:
        """Add an entry; ``live`` is how many the queue has, to tell when to tidy up."""
        if len(self._heap) > 2 * live + 64:  # mostly of tasks that were canceled or moved
            self._heap = [item for item in self._heap if item[1] == item[2].ticket]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (key, entry.ticket, entry))

    def first(self) -> tuple[Any, Entry] | None:
        """Return the least key with its entry, and leave them there."""
        while self._heap:
            key, ticket, entry = self._heap[0]
            if entry.ticket == ticket:
                return key, entry
            heapq.heappop(self._heap)
        return None

    def count_before(self, key: Any, most: int) -> int:
        """Return how many live entries have a lesser key; ``most``: at least so many."""
        heap, count, looks = self._heap, 0, [0]
        while looks and count < most:
            at = looks.pop()
            if at < len(heap) and heap[at][0] < key:  # else all below it are no less
                count += heap[at][1] == heap[at][2].ticket
                looks += 2 * at + 1, 2 * at + 2
        return count

    def live(self) -> Iterator[tuple[Any, Entry]]:
        """Yield all keys with their entries, in no order."""
        return ((key, entry) for key, ticket, entry in self._heap if entry.ticket == ticket)


class Queue:
    """The state machine of the contract for one queue."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.leased: dict[str, Entry] = {}
        self.held: set[str] = set()  # ids of tasks that wait for their parents
        self.dead: dict[str, tuple[DeadTask, int]] = {}  # with the priority; oldest first
        self.dead_controls: dict[str, Controls] = {}  # of the dead letters that have some
        self.keys: dict[str, str] = {}  # the id of the task with each unique key
        self.deaths: dict[str, int] = {}  # by id: tickets of dead letters, in order of deaths
        self.overruled: set[str] = set()  # ids of dead letters that were pushed again since
        self.is_used = False  # whether a task was ever pushed
        self.history = object()  # another object after the queue was emptied
        self._ready = LazyHeap()  # by (-priority, place)
        self._delayed = LazyHeap()  # by due time
        self._soonest_end = float("inf")  # no lease ends before this
        self._holders: dict[str, set[Entry]] = {}  # by limit key: what is on lease
        self._lines: dict[Line, LazyHeap] = {}  # tasks kept back, by (-priority, place)
        self._arrivals: dict[str, float] = {}  # by rate key: see next_start()
        self._turns: dict[str, float] = {}  # by rate key: when its line has a token

    def push(self, message: Message, now: float) -> None:
        """Queue a task, replace a waiting one, or keep it to follow a running one."""
        self.is_used = True
        entry = self.entries.get(message.task_id)
        self.overrule(message.task_id)
        due = message.delay_until if message.delay_until and message.delay_until > now else 0.0
        controls = controls_of(message)
        if entry is None:
            entry = Entry(message.task_id, message.data, message.priority, due, now)
            if controls is not None:
                self._control(entry, controls, now)
            self.entries[message.task_id] = entry
        elif entry.state == RUNNING:
            self._free_key(entry.task_id, controls_of(entry.following) if entry.following else None)
            entry.following = message._replace(delay_until=due)  # "now" as of now: see the contract
            self._take_key(entry, controls, now)
            return
        else:
            left, entry.data = entry.controls, message.data
            self._control(entry, controls, now)
            same = (entry.priority, entry.due) == (message.priority, due)
            if same and message.task_id not in self.held:
                if entry.state == WAITING and left != controls:
                    self._enqueue(entry)
                    self._promote_next(left)
                return
            entry.priority, entry.due = message.priority, due
            self.held.discard(message.task_id)
            self._enqueue_at_tail(entry)
            self._promote_next(left)
            return
        self._enqueue_at_tail(entry)

    # -- Unique keys. A key is taken while the task that it names is here, and still has it. ------

    def with_key(self, key: str) -> Entry | None:
        """Return the task that has a unique key; None: it is free."""
        task_id = self.keys.get(key)
        return None if task_id is None else self.entries.get(task_id)

    def push_over(self, pending: Entry, message: ControlledMessage, now: float) -> None:
        """Replace the pending task by a message, if both are debounced and it can be."""
        if not message.controls.debounce:
            return
        key, own = message.controls.unique_key, pending.controls
        if pending.following is not None and unique_key(pending.following) == key:
            own = controls_of(pending.following)
        elif pending.state == RUNNING or pending.attempt or pending.task_id in self.held:
            return
        if own is None or not own.debounce:
            return
        since = pending.key_since
        if message.data_for is not None:
            message = message._replace(data=message.data_for(pending.task_id))
        self.push(debounced(message._replace(task_id=pending.task_id), since, now), now)
        pending.key_since = since

    def _control(self, entry: Entry, controls: Controls | None, now: float) -> None:
        """Set what a task asks of its queue, instead of what it asked before."""
        self._free_key(entry.task_id, entry.controls)
        entry.controls = controls
        self._take_key(entry, controls, now)

    def _take_key(self, entry: Entry, controls: Controls | None, now: float) -> None:
        if controls is not None and controls.unique_key:
            self.keys[controls.unique_key], entry.key_since = entry.task_id, now

    def _free_key(self, task_id: str, controls: Controls | None) -> None:
        if controls is not None and self.keys.get(controls.unique_key) == task_id:
            del self.keys[controls.unique_key]

    def hold(self, message: Message, now: float) -> None:
        """Keep a task back, instead of a waiting one of its id.

        :raises InvalidTask: one of its id runs.
        """
        if message.task_id in self.leased:
            raise running_already(message.task_id)
        due = message.delay_until or 0.0
        entry = Entry(message.task_id, message.data, message.priority, due, now)
        self.drop_waiting(message.task_id)
        self._control(entry, controls_of(message), now)
        self.overrule(message.task_id)
        entry.ticket = next(_tickets)
        self.entries[message.task_id] = entry
        self.held.add(message.task_id)

    def overrule(self, task_id: str) -> None:
        """Note that a dead letter of that id, if there is one, is of an earlier push."""
        if task_id in self.dead:
            self.overruled.add(task_id)

    def valid_letter(self, task_id: str) -> DeadTask | None:
        """Return the dead letter of the last push of an id; None: there is none."""
        if task_id in self.overruled or (found := self.dead.get(task_id)) is None:
            return None
        return found[0]

    def forget_letter(self, task_id: str) -> None:
        """Remove a dead letter."""
        del self.dead[task_id], self.deaths[task_id]
        self.dead_controls.pop(task_id, None)
        self.overruled.discard(task_id)

    def free(self, task_id: str, now: float) -> None:
        """Queue a task that was held."""
        entry = self.entries[task_id]
        self.held.remove(task_id)
        entry.due = entry.due if entry.due > now else 0.0
        self._enqueue_at_tail(entry)

    def drop_waiting(self, task_id: str) -> None:
        """Remove a task that waits or is delayed; none of that id is fine."""
        if (entry := self.entries.get(task_id)) and entry.state != RUNNING:
            self.remove(entry)

    def drop_held(self, task_id: str) -> None:
        """Remove a task that was held."""
        self.held.remove(task_id)
        self._free_key(task_id, self.entries.pop(task_id).controls)

    def lease_next(self, now: float, lease: float, *, alone: bool) -> Entry | None:
        """Lease the next task; None: there is none, or (``alone`` False) it must go alone."""
        if alone and (expired := self._reclaim(now, lease)):
            return expired
        self._promote_due(now)
        if self._turns:
            self._promote_turns(now)
        while (first := self._ready.first()) is not None:
            entry = first[1]
            if entry.controls is not None and (line := self._kept_by(entry, now)):
                self._keep_back(entry, line, now)
            elif entry.deaths and not alone:
                return None
            else:
                return self._lease(entry, now, lease)
        return None

    def lease_one(
        self, task_id: str, now: float, lease: float, *, to_run: bool = True
    ) -> Entry | None:
        """Lease this very task unless a live lease is on it, or (``to_run``) it is kept back."""
        entry = self.entries.get(task_id)
        if entry is None or task_id in self.held:
            return None
        if entry.state == RUNNING and entry.lease_ends > now:
            return None
        if entry.controls is not None and to_run and self._kept_by(entry, now):
            return None
        if entry.state == RUNNING and entry.following is not None:
            self.end(entry, now)
            entry = self.entries[task_id]
        elif entry.state == RUNNING:
            entry.deaths += not entry.stopped
        entry.due = 0.0
        return self._lease(entry, now, lease, to_run=to_run)

    def leased_to(self, delivery: Delivery) -> Entry | None:
        """Return the entry that a delivery has on lease; None: it was overtaken."""
        entry = self.leased.get(delivery.task_id)
        return entry if entry is not None and entry.ticket == delivery.receipt else None

    def end(self, entry: Entry, now: float) -> None:
        """Remove an entry that is done, and queue what was pushed under its id meanwhile."""
        self.remove(entry)
        if entry.following is not None:
            self.push(entry.following, now)
            self.entries[entry.task_id].key_since = entry.key_since

    def remove(self, entry: Entry) -> None:
        """Remove an entry and make every receipt for it stale."""
        entry.ticket = 0
        self.entries.pop(entry.task_id, None)
        self.leased.pop(entry.task_id, None)
        if entry.controls is not None:
            self._free_key(entry.task_id, entry.controls)
            self._give_up_place(entry)

    def release(
        self, entry: Entry, data: Data | None, due: float | None, now: float, *, ran: bool
    ) -> None:
        """Queue a leased entry again: unrun in its place, with other data at the tail."""
        if entry.following is not None:
            self.end(entry, now)
            return
        del self.leased[entry.task_id]
        if entry.controls is not None:
            aside = due is not None and data is None and 0 < due - now <= PUT_ASIDE
            self._give_up_place(entry, promotes=not (aside and entry.deaths))
            if not ran:
                self._refund(entry.controls)
        entry.deaths = 0 if ran else entry.deaths
        entry.due = due if due and due > now else 0.0
        if data is None and not entry.due:
            self._enqueue(entry)
            return
        if data is not None:
            entry.data = data
        self._enqueue_at_tail(entry)

    def extend(self, entry: Entry, now: float, lease: float) -> None:
        """Let the lease of an entry run so many seconds from now."""
        entry.lease_ends = now + min(lease, MAX_LEASE)
        self._soonest_end = min(self._soonest_end, entry.lease_ends)

    def bury(
        self, delivery: Delivery, entry: Entry, data: Data | None, why: Reason, now: float
    ) -> None:
        """Turn a leased entry into a dead letter."""
        letter = DeadTask(
            task_id=entry.task_id,
            queue_name=delivery.queue_name,
            data=entry.data if data is None else data,
            error=why.error,
            traceback=why.traceback,
            died_at=now,
            attempts=delivery.attempt,
        )
        self.dead.pop(entry.task_id, None)  # so that the order of the dict is that of deaths
        self.dead[entry.task_id] = (letter, entry.priority)
        self.dead_controls.pop(entry.task_id, None)
        if entry.controls is not None:
            self.dead_controls[entry.task_id] = entry.controls
        self.deaths[entry.task_id] = next(_tickets)
        self.overruled.discard(entry.task_id)
        self.end(entry, now)

    def revive(self, task_id: str, now: float, renew: Renew | None) -> bool:
        """Queue a dead letter again unless its id is in use, or its unique key is taken."""
        if task_id not in self.dead or task_id in self.entries:
            return False
        letter, priority = self.dead[task_id]
        if task_id in self.dead_controls and self.with_key(self.dead_controls[task_id].unique_key):
            return False
        data = renew(task_id, letter.data) if renew else letter.data
        message, controls = (
            Message(task_id, data, priority=priority),
            self.dead_controls.get(task_id),
        )
        self.forget_letter(task_id)
        self.push(message if controls is None else controlled(message, controls), now)
        return True

    def run_now(self, task_id: str, now: float) -> bool:
        """Let the delay of a task end; False: it is not delayed."""
        entry = self.entries.get(task_id)
        if entry is None or entry.state != DELAYED or task_id in self.held:
            return False
        entry.due = min(entry.due, now)
        self._enqueue(entry)
        return True

    def find(self, task_id: str) -> Place | None:
        """Return where a task stands."""
        entry = self.entries.get(task_id)
        if entry is None:
            letter = self.valid_letter(task_id)
            return Place(FAILED, attempts=letter.attempts) if letter else None
        place = Place(entry.state, attempts=entry.attempt, deaths=entry.deaths)
        if task_id in self.held:
            return place._replace(state=WAITING)
        if entry.line is not None:
            due = self._turns.get(entry.line[1]) if entry.line[0] == RATE else None
            return place._replace(state=WAITING, due=due, kept_by=entry.line[0])
        if entry.state == WAITING:
            ahead = self._ready.count_before((-entry.priority, entry.place), MOST_COUNTED)
            return place._replace(ahead=ahead, is_least=ahead == MOST_COUNTED)
        if entry.state == RUNNING:
            return place._replace(until=entry.lease_ends)
        return place._replace(due=entry.due or None)

    def list_tasks(self, state: int) -> Iterator[tuple[Key, Listed]]:
        """Yield the tasks in a state, each with what they are ordered by, in no order."""
        if state == WAITING:
            for (priority, place), entry in self._ready.live():
                yield (0, priority, *map(int, place)), _listed(entry, WAITING)
            for line in self._lines.values():
                for (priority, place), entry in line.live():
                    yield (1, priority, *map(int, place)), _listed(entry, WAITING)
            for entry in self.leased.values():
                if (after := entry.following) is not None:
                    task = Listed(after.task_id, after.data, WAITING, after.priority)
                    yield (2, 0, 0, entry.ticket), task
        elif state == DELAYED:
            for due, entry in self._delayed.live():
                yield (due, entry.ticket), _listed(entry, DELAYED)
        elif state == RUNNING:
            for entry in self.leased.values():
                yield (entry.ticket,), _listed(entry, RUNNING)
        elif state == HELD:
            for entry in map(self.entries.__getitem__, self.held):
                yield (entry.ticket,), _listed(entry, WAITING)
        elif state == FAILED:
            for task_id, (letter, priority) in self.dead.items():
                task = Listed(
                    task_id,
                    letter.data,
                    FAILED,
                    priority,
                    attempts=letter.attempts,
                    error=letter.error,
                    died_at=letter.died_at,
                )
                yield (-self.deaths[task_id],), task

    def counts(self) -> tuple[int, int, int]:
        """Return how many wait, are delayed, are running."""
        delayed = sum(1 for _ in self._delayed.live())
        following = sum(entry.following is not None for entry in self.leased.values())
        running = len(self.leased)
        waiting = len(self.entries) - running - delayed - len(self.held) + following
        return waiting, delayed, running

    def has_ready(self) -> bool:
        """Return whether a task waits."""
        return self._ready.first() is not None

    def oldest(self) -> float | None:
        """Return when the next task was pushed."""
        lines = (self._ready, *self._lines.values())
        first = min((found for each in lines if (found := each.first())), default=None, key=_key)
        return first[1].pushed_at if first else None

    def next_change(self) -> float:
        """Return when a delay or a lease ends; 0: a task waits."""
        if self.has_ready():
            return 0.0
        due = self._delayed.first()
        ends = self._soonest_end if self.leased else float("inf")
        turn = min(self._turns.values(), default=float("inf"))
        return min(due[0] if due else float("inf"), ends, turn)

    def _enqueue_at_tail(self, entry: Entry) -> None:
        entry.place = (True, next(_tickets))
        self._enqueue(entry)

    def _enqueue(self, entry: Entry) -> None:
        entry.ticket, entry.line = next(_tickets), None
        if entry.due:
            entry.state = DELAYED
            self._delayed.push(entry.due, entry, len(self.entries))
        else:
            entry.state = WAITING
            self._ready.push((-entry.priority, entry.place), entry, len(self.entries))

    def _promote_due(self, now: float) -> None:
        while (first := self._delayed.first()) and first[0] <= now:
            entry = first[1]
            entry.due, entry.place = 0.0, (False, next(_tickets))
            self._enqueue(entry)

    def _reclaim(self, now: float, lease: float) -> Entry | None:
        while entry := self._expired(now):
            if entry.following is not None:
                self.end(entry, now)
                continue
            entry.deaths += not entry.stopped
            line = entry.controls is not None and self._kept_by(entry, now)
            if not line:
                return self._lease(entry, now, lease)
            del self.leased[entry.task_id]
            self._give_up_place(entry)
            self._keep_back(entry, line, now)
        return None

    def _expired(self, now: float) -> Entry | None:
        if now < self._soonest_end <= now + MAX_LEASE:
            return None
        for entry in self.leased.values():  # a clock set back must not make a lease immortal
            entry.lease_ends = min(entry.lease_ends, now + MAX_LEASE)
        soonest = min(self.leased.values(), key=lambda each: each.lease_ends, default=None)
        self._soonest_end = soonest.lease_ends if soonest else float("inf")
        return soonest if soonest and soonest.lease_ends <= now else None

    def _lease(self, entry: Entry, now: float, lease: float, *, to_run: bool = True) -> Entry:
        if entry.controls is not None and to_run:
            self._take_place(entry, entry.controls, now)
        entry.state, entry.stopped, entry.line = RUNNING, False, None
        entry.ticket = next(_tickets)
        entry.attempt += 1
        self.leased[entry.task_id] = entry
        if entry.controls is not None and entry.controls.unique_until_start:
            self._free_key(entry.task_id, entry.controls)
        self.extend(entry, now, lease)
        return entry

    # -- Limits and rates. --------------------------------------------------------------------

    def _kept_by(self, entry: Entry, now: float) -> Line | None:
        """Return what does not let a task start now; None: it may."""
        controls = entry.controls
        assert controls is not None
        if controls.limit:
            holders = self._holders.get(controls.limit_key, ())
            if len(holders) - (entry in holders) >= controls.limit:
                return LIMIT, controls.limit_key
        if controls.rate:
            arrival = self._arrivals.get(controls.rate_key, 0.0)
            if next_start(arrival, now, controls) > now:
                return RATE, controls.rate_key
        return None

    def _take_place(self, entry: Entry, controls: Controls, now: float) -> None:
        if controls.limit:
            self._holders.setdefault(controls.limit_key, set()).add(entry)
        if controls.rate:
            arrival = self._arrivals.get(controls.rate_key, 0.0)
            if len(self._arrivals) > _RATES_KEPT:
                self._arrivals = {key: at for key, at in self._arrivals.items() if at > now}
            self._arrivals[controls.rate_key] = after_start(arrival, now, controls)

    def _give_up_place(self, entry: Entry, *, promotes: bool = True) -> None:
        """Note that a task is not on lease any more, or left the queue; the next one may go."""
        controls = entry.controls
        assert controls is not None
        if holders := self._holders.get(controls.limit_key):
            holders.discard(entry)
            if not holders:
                del self._holders[controls.limit_key]
        if promotes:
            self._promote_next(controls)

    def _refund(self, controls: Controls) -> None:
        """Give the token of a task back that was not run after all."""
        if controls.rate and controls.rate_key in self._arrivals:
            self._arrivals[controls.rate_key] -= controls.rate_seconds / controls.rate

    def _keep_back(self, entry: Entry, line: Line, now: float) -> None:
        controls = entry.controls
        assert controls is not None
        entry.state, entry.ticket, entry.line = WAITING, next(_tickets), line
        key = (-entry.priority, entry.place)
        self._lines.setdefault(line, LazyHeap()).push(key, entry, len(self.entries))
        if line[0] == RATE:
            arrival = self._arrivals.get(line[1], 0.0)
            self._turns.setdefault(line[1], next_start(arrival, now, controls))
            self._promote_next(controls)  # it leaves its place to one that has a token

    def _promote_next(self, left: Controls | None) -> None:
        """Let the next task that a limit keeps back try, as one of its key has gone."""
        if left is not None and left.limit:
            self._promote((LIMIT, left.limit_key))

    def _promote(self, line: Line) -> None:
        """Queue the first task of a line again, in its old place."""
        if (first := self._first_in(line)) is not None:
            self._enqueue(first)

    def _first_in(self, line: Line) -> Entry | None:
        first = heap.first() if (heap := self._lines.get(line)) else None
        if first is None:
            self._lines.pop(line, None)
            return None
        entry: Entry = first[1]
        return entry

    def _promote_turns(self, now: float) -> None:
        """Queue as many tasks again as there are tokens for."""
        for key, turn in list(self._turns.items()):
            first = self._first_in((RATE, key))
            if first is not None and now < turn <= now + _controls(first).rate_seconds:
                continue
            arrival = self._arrivals.get(key, 0.0)
            while first is not None and next_start(arrival, now, _controls(first)) <= now:
                arrival = after_start(arrival, now, _controls(first))
                self._enqueue(first)
                first = self._first_in((RATE, key))
            if first is None:
                del self._turns[key]
            else:
                self._turns[key] = next_start(arrival, now, _controls(first))


def _key(found: tuple[Any, Entry]) -> Any:
    return found[0]


def _controls(entry: Entry) -> Controls:
    assert entry.controls is not None
    return entry.controls


def _listed(entry: Entry, state: int) -> Listed:
    return Listed(
        entry.task_id,
        entry.data,
        state,
        entry.priority,
        (entry.due or None) if state == DELAYED else None,
        entry.attempt,
        entry.lease_ends if state == RUNNING else None,
        deaths=entry.deaths,
    )
