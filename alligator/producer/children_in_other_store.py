"""Hold children whose queue is on one backend and whose store is on another.

The store holds the children on a queue that no worker consumes, together with *stand-ins* for
their parents. When a parent ends, its stand-in is acked or canceled there, which frees or cancels
its children. Free children then move to their real queue.

Each child and stand-in has the key of its record as id (``store.record_key``), since the same id
of the user's own may be on several queues at once.

The order is: record the outcome, end the stand-in, move the children, ack the parent. So a crash
in between repeats steps and loses nothing. The next worker completes a move that a dead one began.
"""

import base64
import json
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import NamedTuple, cast

from alligator.backends.base import (
    GET,
    OWN_ID,
    Client,
    Data,
    Delivery,
    Duplicate,
    Listed,
    Message,
    Reason,
    reaching,
    time_on,
)
from alligator.backends.store import (
    HELD,
    KEEP_FAILED,
    Activity,
    Child,
    LiveWorker,
    Parent,
    Queues,
    Record,
    Report,
    Store,
    Waits,
    Watch,
    Worker,
    gone_badly,
    id_in_key,
    own_record_key,
    queue_in_key,
    record_key,
)
from alligator.common import strict_json
from alligator.common.text import shorten
from alligator.constants import DELAYED, FAILED, SUCCESS, WAITING
from alligator.constants import HELD as HELD_STATE
from alligator.exceptions import BadPayload, InvalidTask, QueueFull, UnsupportedOption
from alligator.tasks.message import fields_in, fields_of, is_known_later, with_limits_in

#: Seconds that the outcome of a child is kept, unless its options say so.
KEEP_CHILD = 3600.0

#: Seconds that the end of another task is kept, without its result, since children look for it.
KEEP_END = 60.0

#: Seconds until a stand-in is due by itself: ten years, so never.
_NEVER = 3650 * 86_400.0

#: The same if a worker of Alligator 1.1 may end the parent, which it records by the id alone.
_SOON = 60.0

#: Seconds that the move of children may take, and how many move at once.
_LEASE, _AT_ONCE = 10.0, 100

#: Seconds between two looks for children that another process did not finish to move.
_EVERY = 5.0

_STAND_IN = "{}"

#: The most pages that are read for one page of the children of a queue.
_MOST_PAGES = 100


class BridgedStore(Store):
    """Serve as the store of one Gator whose queues are on another backend.

    :param client: the client of the queues.
    :param store: does everything but hold children.
    :param home: the client of the store.
    """

    bridged = True

    def __init__(self, client: Client, store: Store, home: Client) -> None:
        self.client, self.store, self._home = client, store, home
        vars(self).update(monitors=store.monitors)
        self._next_look = 0.0

    @property
    def home(self) -> Client:
        return self._home

    def _steps(self, client: Queues) -> type[Store]:
        return type(self)

    # -- Passed on to the store. ----------------------------------------------------------

    def note(self, key: str, record: Record, keep_seconds: float) -> bool:
        return self.store.note(key, record, keep_seconds)

    def record(self, key: str) -> Record | None:
        return self.store.record(key)

    def records(self, keys: Sequence[str]) -> list[Record | None]:
        return self.store.records(keys)

    def forget(self, keys: Iterable[str]) -> None:
        self.store.forget(keys)

    def watch(
        self, keys: Sequence[str], queue_names: Sequence[str] = ()
    ) -> AbstractContextManager[Watch]:
        return self.store.watch(keys, queue_names)

    def claim(self, key: str, ttl: float) -> bool:
        return self.store.claim(key, ttl)

    def confirm(self, key: str, ttl: float) -> None:
        self.store.confirm(key, ttl)

    def unclaim(self, key: str) -> None:
        self.store.unclaim(key)

    def push_once(
        self, client: Queues, key: str, ttl: float, queue_name: str, message: Message
    ) -> bool:
        return self.store.push_once(client, key, ttl, queue_name, message)

    def beat(self, worker: str, queue_names: Sequence[str], seconds: float) -> None:
        self.store.beat(worker, queue_names, seconds)

    def workers(self, queue_name: str) -> list[Worker]:
        return self.store.workers(queue_name)

    def last_seen(self, queue_name: str) -> float | None:
        return self.store.last_seen(queue_name)

    def report(self, report: Report) -> list[str | None]:
        return self.store.report(report)

    def live_workers(self) -> list[LiveWorker]:
        return self.store.live_workers()

    def activity(self, since: int, before: int | None = None) -> list[Activity]:
        return self.store.activity(since, before)

    def recent(self, limit: int) -> list[str]:
        return self.store.recent(limit)

    def put_document(self, key: str, text: str, keep_seconds: float) -> None:
        self.store.put_document(key, text, keep_seconds)

    def documents(self, keys: Sequence[str]) -> list[str | None]:
        return self.store.documents(keys)

    def delete_documents(self, keys: Sequence[str]) -> None:
        self.store.delete_documents(keys)

    def close(self) -> None:
        self.store.close()

    # -- Children. ------------------------------------------------------------------------

    def _hold(self, client: Queues, children: Sequence[Child]) -> Sequence[int | Duplicate]:
        # A parent whose end would not be recorded raises UnsupportedOption.
        together = {
            record_key(child.queue_name, child.message.task_id): child.queue_name
            for child in children
        }
        names: dict[Parent, str] = {}
        for parent in dict.fromkeys(each for child in children for each in child.parents):
            keys = [record_key(name, parent.task_id) for name in parent.queue_names]
            held = next((key for key in keys if key in together), None)
            names[parent] = held or self._ensure_stand_in(parent)
        now = self.home.clock.time()
        for child in children:
            key = record_key(child.queue_name, child.message.task_id)
            options = fields_in(fields_of(child.message.data), "options")
            state = DELAYED if child.message.delay_until else WAITING
            record = Record(state, at=now, pushed=options.get("pushed_at") or now)
            self.store.note(key, record, KEEP_FAILED)
        states = self.store.hold(
            self.home, [_pack(child, names, self._apart(child)) for child in children]
        )
        self._move_what_fits()
        return states

    def _apart(self, child: "Child | _Held") -> float:
        # Times in the store count by the store's clock, since the process that moves the child may
        # have another one. If the server of the queue has a clock, its times count by that.
        if child.message.delay_until is None:
            return 0.0
        if self.client.server_time(child.queue_name) is not None:
            return 0.0
        theirs = self.home.server_time(HELD)
        return 0.0 if theirs is None else theirs - self.client.clock.time()

    def _in(self, seconds: float) -> float:
        return time_on(self.home, HELD, self.home.clock) + seconds

    def _ensure_stand_in(self, parent: Parent) -> str:
        """Push a stand-in for a parent that has not ended, unless it is there.

        :returns: the key of the stand-in, or of the parent's record.
        """
        names = parent.queue_names
        keys = list(dict.fromkeys(record_key(each, parent.task_id) for each in names))
        key = next((each for each in keys if self._is_pending(each, names)), None)
        if key is None:
            known = [*(own_record_key(each, parent.task_id) for each in names), parent.task_id]
            found = zip(known, self.store.records(known), strict=True)
            return next((each for each, record in found if record is not None), keys[0])
        if self.home.find(HELD, key) is None:
            self.home.push_many(HELD, [Message(key, _STAND_IN, self._next_look_at(key))])
        if not self._is_pending(key, names):  # it ended meanwhile, maybe before the stand-in
            self._end_by_key(key, self._known(key, names))
        return key

    def _next_look_at(self, key: str) -> float:
        """Return when to check a stand-in that is still there."""
        return self._in(_SOON if queue_in_key(key) else _NEVER)

    def _known(self, key: str, queue_names: Sequence[str] = ()) -> Record | None:
        """Return the record of a task, also one by Alligator 1.1, under its id alone."""
        return self._known_by(key, queue_names)[1]

    def _known_by(self, key: str, queue_names: Sequence[str]) -> tuple[str, Record | None]:
        """Return the key and the latest record of a task."""
        task_id = id_in_key(key)
        keys = {key: None, task_id: None}
        if not queue_in_key(key):  # the id may be the user's own after all
            keys |= dict.fromkeys(own_record_key(each, task_id) for each in queue_names)
        found = zip(keys, self.store.records(list(keys)), strict=True)
        known = [(each, record) for each, record in found if record is not None]
        return max(known, key=lambda each: each[1].fence, default=(key, None))

    def _is_pending(self, key: str, queue_names: Sequence[str]) -> bool:
        known_by, record = self._known_by(key, queue_names)
        own_queue, task_id = queue_in_key(key), id_in_key(key)
        if record is not None:
            # The success of an earlier push of the user's own id stands until the next one ends.
            is_own = own_queue or queue_in_key(known_by)
            if not (record.state == SUCCESS and is_own and OWN_ID in self.client.supports):
                return not record.ended
        if GET not in self.client.supports:
            return False
        for name in (own_queue,) if own_queue else queue_names:
            place = self.client.find(name, task_id)
            data = self.client.peek(name, task_id)
            if place is not None and data is not None and place.state != FAILED:
                if not is_known_later(data):
                    raise must_save(task_id)
                if record is not None and _pushed_at(data) <= record.pushed:
                    continue  # it has ended, and is about to leave the queue
                return OWN_ID in self.client.supports
        return False

    def release_children(self, key: str, record: Record | None) -> None:
        # Children that Alligator 1.1 holds wait for the id alone. Without a record it is unknown
        # how the parent ended.
        for each in dict.fromkeys((key, id_in_key(key))):
            self._end_by_key(each, record)

    def _settle(
        self, client: Queues, delivery: Delivery, key: str, record: Record, keep_seconds: float
    ) -> bool:
        self.note(key, record, keep_seconds)
        self.release_children(key, record)
        return not client.ack([delivery])

    def _end_by_key(self, key: str, record: Record | None) -> None:
        found = self.home.reserve([HELD], 1, _LEASE, task_id=key).deliveries
        for delivery in found:
            self._end(delivery, record)
        if found:
            self._move_what_fits()

    def _end(self, delivery: Delivery, record: Record | None) -> None:
        if record is not None and gone_badly(delivery.task_id, record.state, record.error):
            task_id = delivery.task_id
            self.store.settle(self.home, delivery, task_id, record, KEEP_FAILED)
        else:
            self.home.ack([delivery])

    def maintain(self) -> bool:
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + _EVERY
        self.move_free_children()
        return True

    def next_maintenance(self) -> float:
        return max(0.0, self._next_look - time.monotonic())

    def _move_what_fits(self) -> None:
        # Children that do not fit on their queue are safe in the store; maintain() retries.
        with suppress(QueueFull):
            self.move_free_children()

    def move_free_children(self) -> None:
        """Move the children that are free to their queues.

        :raises QueueFull: some stay, since their queue has no room now.
        """
        refused: QueueFull | None = None
        while found := self.home.reserve([HELD], _AT_ONCE, _LEASE).deliveries:
            queues: dict[str, list[tuple[Delivery, Message]]] = {}
            for delivery in found:
                record = self._known(delivery.task_id)
                if delivery.data == _STAND_IN and self._is_still_pending(delivery.task_id):
                    at = self._next_look_at(delivery.task_id)
                    self.home.release(delivery, _STAND_IN, at)
                    continue
                if delivery.data == _STAND_IN or (record and record.ended):
                    self._end(delivery, record)  # its worker died before it ended this
                    continue
                try:
                    child = _unpack(delivery)
                except InvalidTask as err:
                    # Not written by Alligator: bury it with its bytes, and move the others.
                    self.home.bury(delivery, None, Reason(str(err)))
                    continue
                message = self._reaching(_moved(child.message, -self._apart(child)))
                queues.setdefault(child.queue_name, []).append((delivery, message))
            for name, pairs in queues.items():
                try:
                    ids = self.client.push_many(name, [message for _, message in pairs])
                except QueueFull as err:
                    refused = err
                    for delivery, _ in pairs:  # later, so that children of other queues come first
                        self.home.release(delivery, None, self._in(_EVERY))
                    continue
                for (delivery, _), backend_id in zip(pairs, ids, strict=True):
                    self._has_moved(delivery, backend_id)
        if refused is not None:
            raise refused

    def _reaching(self, message: Message) -> Message:
        if not self.client.lease_seconds:
            return with_limits_in(message, self.client)
        options = fields_in(fields_of(message.data), "options")
        limits = [options.get(name) for name in ("timeout", "hook_timeout")]
        known = [each if isinstance(each, int | float) else None for each in limits]
        return reaching(message, self.client, *known)

    def _is_still_pending(self, key: str) -> bool:
        """Return whether a stand-in is due only to be checked: its parent has not ended."""
        if not queue_in_key(key):
            return False
        try:
            return self._is_pending(key, ())
        except UnsupportedOption:  # another task of that id, which records no end
            return False

    def _has_moved(self, delivery: Delivery, backend_id: str) -> None:
        """Replace a child that is on its queue by a stand-in."""
        key = delivery.task_id
        record = self._known(key)
        task_id = id_in_key(key)
        if record and not record.attempt and not record.ended and backend_id != task_id:
            self.store.note(key, record._replace(place=backend_id), KEEP_FAILED)
        self.home.release(delivery, _STAND_IN, self._next_look_at(key))
        record = self._known(key)
        if record is None or record.ended:
            self._end_by_key(key, record)

    def peek_held(self, client: Queues, queue_name: str, task_id: str) -> Data | None:
        for key in dict.fromkeys((record_key(queue_name, task_id), task_id)):
            data = self.home.peek(HELD, key)
            if data is not None and data != _STAND_IN:
                return _unpack(Delivery(HELD, key, data, None)).message.data
        return None

    def list_held(
        self, client: Queues, queue_name: str, limit: int, after: str | None
    ) -> tuple[list[Listed], str | None]:
        found: list[Listed] = []
        for _ in range(_MOST_PAGES):  # those of all queues are together
            some, after = self.home.list_tasks(HELD, HELD_STATE, limit - len(found), after)
            found += [task for each in some if (task := _held_on(queue_name, each)) is not None]
            if after is None or len(found) == limit:
                break
        return found, after

    def _waits_for(self, client: Queues, queue_name: str, task_id: str, limit: int) -> Waits:
        return self.store.waits_for(self.home, HELD, record_key(queue_name, task_id), limit)

    def _cancel_held(self, client: Queues, queue_name: str, task_id: str, record: Record) -> bool:
        keys = dict.fromkeys((record_key(queue_name, task_id), task_id))
        return any(self.store.cancel_held(self.home, HELD, key, record) for key in keys)


class _Held(NamedTuple):
    queue_name: str
    message: Message


def _pushed_at(data: Data) -> float:
    pushed = fields_in(fields_of(data), "options").get("pushed_at")
    return pushed if isinstance(pushed, int | float) else 0.0


def _moved(message: Message, seconds: float) -> Message:
    if message.delay_until is None or not seconds:
        return message
    return message._replace(delay_until=message.delay_until + seconds)


def _pack(child: Child, names: dict[Parent, str], apart: float) -> Child:
    """Return a child as the store holds it, with queue and message in the data.

    :param names: the keys of its parents there.
    :param apart: seconds that the store's clock is ahead of the clock of the child's delay.
    """
    task_id, data, due, priority = _moved(child.message, apart)
    kind, text = ("s", data) if isinstance(data, str) else ("b", base64.b64encode(data).decode())
    packed = json.dumps([child.queue_name, kind, text, due, priority])
    parents = tuple(Parent(names[each], (HELD,)) for each in child.parents)
    message = Message(record_key(child.queue_name, task_id), packed)
    return Child(HELD, message, parents, child.unconditional)


def _unpack(delivery: Delivery) -> _Held:
    task_id = id_in_key(delivery.task_id)
    unreadable = InvalidTask(
        f"Child {shorten(task_id)} cannot be read: expected a JSON list of queue name, kind, "
        "data, delay and priority."
    )
    try:
        queue_name, kind, text, due, priority = strict_json.loads(delivery.data)
        data = base64.b64decode(text) if kind == "b" else text
    except (ValueError, TypeError, BadPayload) as err:
        raise unreadable from err
    typed = isinstance(queue_name, str) and isinstance(text, str) and isinstance(priority, int)
    if not typed or not isinstance(due, int | float | None):
        raise unreadable
    return _Held(queue_name, Message(task_id, data, due, priority))


def _held_on(queue_name: str, listed: Listed) -> Listed | None:
    """Return a child with the id and the data that it has on its queue; None: that is another."""
    try:
        held = _unpack(Delivery(HELD, listed.task_id, listed.data, None))
    except InvalidTask:
        return None
    if held.queue_name != queue_name:
        return None
    task_id, data, _, priority = held.message
    return listed._replace(task_id=task_id, data=data, priority=priority)


def must_save(task_id: str) -> UnsupportedOption:
    """Return the error for a parent whose end would not be recorded in the store."""
    return UnsupportedOption(
        f"Cannot track task {shorten(task_id)}: its queue and its store are on different backends. "
        "Push it by a Gator with this store, without save_results=0."
    )


def bridge(client: Client, store: Store | None) -> Store | None:
    """Return the store of a Gator: a :class:`BridgedStore`, if its queues are on another backend
    and it can hold children; else the store itself.
    """
    if isinstance(store, BridgedStore):  # from another Gator
        store = store.store
    if store is None or store is client.store or store.home is None:
        return store
    return BridgedStore(client, store, cast("Client", store.home))
