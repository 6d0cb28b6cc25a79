"""Keep queues on a Redis or Valkey server, a master kept by sentinels, or a cluster.

DSNs: ``redis://user:password@host:6379/0``, ``rediss://`` (TLS), ``redis+unix:///path?db=0``,
``redis+sentinel://host1,host2/master/0``, ``redis+cluster://host1,host2``, ``valkey://``.
Each compound step is one Lua script (``lua/*.lua``), and the server's clock decides.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any

from alligator.backends.base import (
    DEBOUNCE,
    LIMIT,
    LISTING,
    PAUSE,
    RATE,
    UNIQUE,
    Ahead,
    ControlledMessage,
    Data,
    DeadTask,
    Delivery,
    Finding,
    Listed,
    Message,
    Place,
    Queued,
    QueueStats,
    Reason,
    Renew,
    Reserved,
    all_queued,
    never,
    push_in_steps,
    queued_or_pending,
)
from alligator.backends.base import Client as BaseClient
from alligator.backends.redis import server_findings
from alligator.backends.redis.cluster import ClusterConnections
from alligator.backends.redis.config import parse_target
from alligator.backends.redis.connection import Call, Connections
from alligator.backends.redis.encoding import (
    MAX_SIZE,
    decode,
    decode_id,
    encode,
    encode_controls,
    encode_id,
    encode_new,
    encode_new_id,
    keys_of,
    keys_of_push,
    micros,
    opening,
    pushed_at,
)
from alligator.backends.redis.errors import (
    DRIVER_ERRORS,
    NodeFailed,
    node_lost,
    translate,
    translated,
)
from alligator.backends.redis.listing import list_tasks
from alligator.backends.redis.queue_names import queue_names
from alligator.backends.redis.reserve import MOST_AT_ONCE, RedisAhead, Reservation
from alligator.backends.redis.scripts import script
from alligator.backends.redis.server_clock import ServerClock
from alligator.backends.redis.store import RedisStore
from alligator.common.clock import Clock
from alligator.common.group_by import group_by
from alligator.common.ids import is_generated
from alligator.constants import DELAYED, FAILED, RUNNING, WAITING

log = logging.getLogger("alligator.backends.redis_backend")  # the documented name

#: The DSNs of servers that this process has asked whether they evict keys.
_servers_asked: set[str] = set()

_STATES = {b"waiting": WAITING, b"delayed": DELAYED, b"running": RUNNING, b"dead": FAILED}
# A script blocks the server, so many dead letters, or links of children, go in steps.
_REVIVE_BATCH = 100
_PURGE_BATCH = 500
_DEAD_BATCH = 500
_DROP_BATCH = 200


def _now() -> tuple[float, float]:
    return time.time(), time.monotonic()


class Client(BaseClient):
    """The contract, on a server: see the module for its DSNs."""

    idle_wait = 15.0
    controls = frozenset({LIMIT, RATE, UNIQUE, DEBOUNCE, LISTING, PAUSE})
    notes_stops = True
    shares_leases = True

    def __init__(self, conn_string: str, *, clock: Clock | None = None) -> None:
        super().__init__(conn_string, clock=clock)
        target = parse_target(conn_string)
        kind = ClusterConnections if target.kind == "cluster" else Connections
        self._connections = kind(target)
        self._store = RedisStore(self, self._connections)
        self._server_clock = ServerClock(self._connections)
        self._eviction_is_unknown = True  # the first push asks whether this server evicts keys

    @property
    def store(self) -> RedisStore:
        return self._store

    @property
    def conn(self) -> Any:
        """The ``redis.Redis`` (for a cluster: ``RedisCluster``) behind this client."""
        with translated():
            return self._connections.conn

    def _run(self, name: str, queue_name: str, *args: Any) -> Any:
        with translated():
            return self._connections.run(script(name), keys_of(queue_name), args)

    def _run_if_reachable(self, name: str, queue_name: str, *args: Any) -> Any:
        with translated():
            return self._connections.run_if_reachable(script(name), keys_of(queue_name), args)

    def max_size(self) -> int:
        # 1 MiB: far below what the server takes, as large values slow it for all.
        return MAX_SIZE

    def len(self, queue_name: str) -> int:
        waiting, delayed, *_ = self._run("stats", queue_name)
        return int(waiting) + int(delayed)

    def drop_all(self, queue_name: str) -> None:
        while self._run("drop_queue", queue_name, _DROP_BATCH):
            pass

    def push(
        self,
        queue_name: str,
        task_id: str,
        data: Data,
        delay_until: float | None = None,
        *,
        priority: int = 0,
    ) -> str:
        if is_generated(task_id) and not (
            delay_until or priority or self._eviction_is_unknown
        ):  # nearly all
            args = encode_new_id(task_id), encode_new(data, task_id)
            wall, monotonic = time.time(), time.monotonic()
            try:
                counter = self._connections.run(
                    script("push_plain"),
                    keys_of_push(queue_name),
                    args,
                    lambda: _retry(queue_name, [0, 0], _with_defaults(args)),
                )
            except DRIVER_ERRORS as err:  # two calls less than translated(), for each push
                raise translate(err) from err
            if counter:  # else another script has to do it
                found = Queued(task_id)
                found.position = counter, wall, monotonic
                return found
        return super().push(queue_name, task_id, data, delay_until, priority=priority)

    def push_many(self, queue_name: str, messages: Sequence[Message]) -> list[str]:
        encoded = [
            (encode_new_id(each.task_id), encode_new(each.data, each.task_id)) for each in messages
        ]
        plain = len({task_id for task_id, _ in encoded}) == len(encoded)
        plain = plain and not any(each.delay_until or each.priority for each in messages)
        controlled = ControlledMessage in set(map(type, messages))
        alone = set[int]()
        if controlled:
            for index, each in enumerate(messages):
                if isinstance(each, ControlledMessage) and each.controls.debounce:
                    if each.data_for is not None:
                        alone.add(index)
                    else:  # they serve for any id, so they must not be encoded for one
                        encoded[index] = encoded[index][0], encode_new(each.data, "")

        def push(first: int, last: int) -> list[str]:
            some = messages[first:last]
            asks_policy = self._eviction_is_unknown and self.conn_string not in _servers_asked
            simple = plain and not asks_policy
            ids, pairs = [each.task_id for each in some], encoded[first:last]
            begin = opening(ids, one_server=self._connections.one_server)
            args = list[Any](chain.from_iterable(pairs))
            if first in alone:
                return [self._push_debounced(queue_name, begin, some[0])]
            if controlled:
                name, args = "push_controlled", []
                for each, pair in zip(some, pairs, strict=True):
                    args += *pair, each.priority, micros(each.delay_until), encode_controls(each)
                position, pending = self._push_controlled(queue_name, begin, args)
                return queued_or_pending(ids, pending, position)
            if not simple:
                args = []
                for (_, _, delay_until, priority), pair in zip(some, pairs, strict=True):
                    args += *pair, priority, micros(delay_until)
            several = "push_and_ask_eviction" if asks_policy else "push_batch"
            name = "push_batch_plain" if simple else several
            position = self._push_some(name, queue_name, begin, args)
            return all_queued(ids, position)

        return push_in_steps(messages, push, alone)

    def _push_controlled(
        self, queue_name: str, begin: Sequence[Any], args: Sequence[Any]
    ) -> tuple[tuple[int, float, float], dict[int, str]]:
        """Push messages with controls; return the position, and which tasks are pending instead."""
        began, keys = _now(), keys_of(queue_name)
        again = Call(script("push_controlled_again"), keys, [*begin, *args])
        with translated():
            found = self._connections.run(
                script("push_controlled"), keys, [*begin, *args], lambda: again
            )
        counter, *pending = found if isinstance(found, list) else [found]
        raw_ids = zip(pending[::2], pending[1::2], strict=True)
        return (counter, *began), {index: decode_id(raw_id) for index, raw_id in raw_ids}

    def _push_debounced(self, queue_name: str, begin: Sequence[Any], message: Message) -> str:
        """Push a message whose data depend on the id that its task will have."""
        assert isinstance(message, ControlledMessage)
        assert message.data_for is not None
        task_id, data, due, priority = message
        named = task_id
        while True:  # until the data name the task that they are for
            began, keys = _now(), keys_of(queue_name)
            args = [*begin, encode_new_id(task_id), encode_new(data, named), priority]
            args += micros(due), encode_controls(message), encode_new_id(named)
            again = partial(Call, script("push_debounced"), keys, args)
            with translated():
                counter, outcome, raw_id = self._connections.run(*again(), again)
            found = decode_id(raw_id)
            if outcome == 0:
                return queued_or_pending([task_id], {}, (counter, *began))[0]
            if outcome == 1:
                return queued_or_pending([task_id], {0: found}, (counter, *began))[0]
            named, data = found, message.data if found == task_id else message.data_for(found)

    def _push_some(
        self, name: str, queue_name: str, begin: Sequence[Any], args: Sequence[Any]
    ) -> tuple[int, float, float]:
        """Push by one of the scripts that take several messages; return the position."""
        began = _now()

        def retry() -> Call:
            return _retry(
                queue_name, begin, _with_defaults(args) if name == "push_batch_plain" else args
            )

        with translated():
            counter = self._connections.run(
                script(name), keys_of(queue_name), [*begin, *args], retry
            )
        if isinstance(counter, list):
            counter, eviction_policy = counter
            self._warn_once(eviction_policy.decode())
        self._eviction_is_unknown = False
        return counter, *began

    def _warn_once(self, eviction_policy: str) -> None:
        if self.conn_string not in _servers_asked and (
            finding := server_findings.eviction(eviction_policy)
        ):
            log.warning("%s", finding.warning)
        _servers_asked.add(self.conn_string)

    def reserve(
        self,
        queue_names: Sequence[str],
        limit: int = 1,
        lease: float = 30.0,
        wait: float = 0.0,
        *,
        acks: Sequence[Delivery] = (),
        task_id: str | None = None,
        stop: Callable[[], bool] = never,
    ) -> Reserved:
        reservation = Reservation(self._connections, list(queue_names), limit, lease)
        with translated():
            if task_id is not None:
                return reservation.reserve_by_id(encode_id(task_id), acks)
            return reservation.reserve(wait, acks, stop)

    def withdraw(self, queue_name: str, task_id: str, lease: float = 30.0) -> Reserved:
        reservation = Reservation(self._connections, [queue_name], 1, lease)
        with translated():
            return reservation.reserve_by_id(encode_id(task_id), (), to_run=False)

    def begin_reserve(
        self,
        queue_names: Sequence[str],
        limit: int = 1,
        lease: float = 30.0,
        *,
        acks: Sequence[Delivery] = (),
    ) -> Ahead | None:
        # One script has to do: for one queue, and not on a cluster.
        name, *others = queue_names
        acked = {each.queue_name for each in acks}
        if others or acked - {name} or not self._connections.one_server:
            return None
        return RedisAhead(self._connections, name, limit, lease, acks)

    def out_of_reach(self, queue_names: Sequence[str]) -> dict[str, str]:
        if self._connections.one_server:  # a worker asks before each reserve, and after it
            return {}
        found = self._connections.out_of_reach(queue_names)
        return {name: str(translate(err)) for name, err in found.items()}

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        return self._run_on_leases("ack", deliveries, retry="ack_again")

    def extend(self, deliveries: Sequence[Delivery], lease: float) -> list[Delivery]:
        return self._run_on_leases("extend", deliveries, int(lease * 1e6))

    def note_stop(self, deliveries: Sequence[Delivery]) -> None:
        self._run_on_leases("mark_leases_stopping", deliveries)

    def share(self, deliveries: Sequence[Delivery]) -> list[bytes]:
        return [each.receipt for each in deliveries]

    def shared(self, queue_name: str, raw: bytes) -> Delivery:
        return Delivery(queue_name, "", "", raw)

    def _run_on_leases(
        self, name: str, deliveries: Sequence[Delivery], *args: Any, retry: str | None = None
    ) -> list[Delivery]:
        """Run a script on deliveries, by queue and in batches; return those it refused.

        :param retry: the script to run instead where the reply got lost.
        """
        refused: list[Delivery] = []
        untold: list[Delivery] = []
        lost: NodeFailed | None = None
        for queue_name, group in group_by(deliveries, attrgetter("queue_name")).items():
            keys = keys_of(queue_name)
            for first in range(0, len(group), MOST_AT_ONCE):
                some = group[first : first + MOST_AT_ONCE]
                told = [*args, *[each.receipt for each in some]]
                second = partial(Call, script(retry), keys, told) if retry else None
                with translated():
                    try:
                        indices = self._connections.run_if_reachable(
                            script(name), keys, told, second
                        )
                    except NodeFailed as err:  # the other queues are on other nodes
                        untold, lost = untold + group[first:], err
                        break
                refused += [some[index] for index in indices]
        if lost is not None:
            raise node_lost(lost, untold, refused)
        return refused

    def release(
        self, delivery: Delivery, data: Data | None = None, delay_until: float | None = None
    ) -> bool:
        changed = () if data is None else (encode(data, delivery.task_id),)
        due = micros(delay_until)
        return bool(
            self._run_if_reachable("release", delivery.queue_name, delivery.receipt, due, *changed)
        )

    def postpone(self, delivery: Delivery, data: Data, delay_until: float) -> bool:
        told = delivery.receipt, micros(delay_until), encode(data, delivery.task_id), 1
        return bool(self._run_if_reachable("release", delivery.queue_name, *told))

    def pause(self, queue_name: str, until: float | None = None) -> None:
        # 0 would resume it.
        self._run("pause", queue_name, "" if until is None else max(1, micros(until)))

    def resume(self, queue_name: str) -> bool:
        return bool(self._run("pause", queue_name, 0))

    def run_now(self, queue_name: str, task_id: str) -> bool:
        return bool(self._run("run_now", queue_name, encode_id(task_id)))

    def paused(self, queue_name: str) -> float | None:
        until = int(self._run("paused", queue_name))
        return None if until == 0 else math.inf if until < 0 else until / 1e6

    def bury(self, delivery: Delivery, data: Data | None, reason: Reason) -> bool:
        kept = () if data is None else (encode(data, delivery.task_id),)
        why = [text.encode("utf-8", "backslashreplace") for text in reason]
        told = delivery.receipt, *why, delivery.attempt, *kept
        return bool(self._run_if_reachable("bury", delivery.queue_name, *told))

    def dead(self, queue_name: str, limit: int = 100) -> list[DeadTask]:
        found: dict[bytes, Any] = {}  # by id: letters may move while we look
        for skip in range(0, limit, _DEAD_BATCH):
            some = self._run("list_dead", queue_name, min(_DEAD_BATCH, limit - skip), "", "", skip)
            found |= {letter[0]: letter for letter in some if letter[0] not in found}
            if len(some) < _DEAD_BATCH:
                break
        return [_letter(queue_name, *each) for each in found.values()]

    def letter(self, queue_name: str, task_id: str) -> DeadTask | None:
        found = self._run("list_dead", queue_name, 1, "", encode_id(task_id))
        return _letter(queue_name, *found[0]) if found else None

    def revive(
        self, queue_name: str, task_id: str | None = None, renew: Renew | None = None
    ) -> int:
        if task_id is not None:
            if renew is None:
                return int(self._run("revive", queue_name, encode_id(task_id), "", "")[0])
            found = self._run("list_dead", queue_name, 1, 0, encode_id(task_id))
            return self._revive(queue_name, found, renew)
        revived = stayed = 0
        left = self.stats(queue_name).dead  # later dead letters are not meant
        while left > 0:
            limit = min(left, _REVIVE_BATCH)
            if renew is None:
                count, looked = self._run("revive", queue_name, limit, stayed)
            else:
                found = self._run("list_dead", queue_name, limit, stayed)
                count, looked = self._revive(queue_name, found, renew), len(found)
            if not looked:
                break
            left -= looked
            revived += count
            stayed += looked - count
        return revived

    def _revive(self, queue_name: str, letters: Sequence[Any], renew: Renew) -> int:
        """Revive these letters unless they were replaced meanwhile; return how many."""
        args: list[Any] = []
        for raw_id, died_at, raw, *_ in letters:
            task_id = decode_id(raw_id)
            args += raw_id, died_at, encode(renew(task_id, decode(raw, task_id)), task_id)
        return int(self._run("revive", queue_name, *args)[0]) if args else 0

    def purge_dead(self, queue_name: str, older_than: float = 0.0) -> int:
        purged = 0
        while True:
            count = int(self._run("purge_dead", queue_name, int(older_than * 1e6), _PURGE_BATCH))
            purged += count
            if count < _PURGE_BATCH:
                return purged

    def delete_dead(self, queue_name: str, task_ids: Sequence[str]) -> int:
        deleted = 0
        for first in range(0, len(task_ids), _PURGE_BATCH):
            some = map(encode_id, task_ids[first : first + _PURGE_BATCH])
            deleted += int(self._run("delete_dead", queue_name, *some))
        return deleted

    def find(self, queue_name: str, task_id: str) -> Place | None:
        name, number, attempts, deaths, *kept = self._run("find", queue_name, encode_id(task_id))
        if not name:
            return None
        if kept:
            kind, turn = kept
            found = Place(WAITING, due=turn / 1e6 or None, kept_by=kind.decode())
            return found._replace(attempts=attempts, deaths=deaths)
        return Place(
            _STATES[name],
            ahead=number if name == b"waiting" and number >= 0 else None,
            due=number / 1e6 if name == b"delayed" else None,
            attempts=attempts if attempts >= 0 else None,
            deaths=deaths,
        )

    def peek(self, queue_name: str, task_id: str) -> Data | None:
        raw = self._run("data_of_task", queue_name, encode_id(task_id))
        return None if raw is None else decode(raw, task_id)

    def server_time(self, queue_name: str) -> float:
        with translated():
            return self._server_clock.time(keys_of(queue_name)[0])

    def position(self, queue_name: str) -> Any:
        began = _now()
        return self._run("queue_history_position", queue_name), *began

    def lost_nothing_since(self, queue_name: str, position: Any) -> bool | None:
        # It is the same history of the queue, kept by a server that did not restart.
        if position is None:
            return None
        counter, wall, monotonic = position
        now = _now()
        age = max(now[0] - wall, now[1] - monotonic, 0.0)  # one stands still in sleep
        answer = int(self._run("lost_nothing_since", queue_name, counter, int(age * 1e6)))
        return None if answer < 0 else bool(answer)

    def stats(self, queue_name: str) -> QueueStats:
        waiting, delayed, running, dead, first, now, held = self._run("stats", queue_name)
        pushed = pushed_at(first)
        age = None if pushed is None else max(0.0, now / 1e6 - pushed)
        return QueueStats(waiting, delayed, running, dead, age, held)

    def list_tasks(
        self, queue_name: str, state: int, limit: int = 100, after: str | None = None
    ) -> tuple[list[Listed], str | None]:
        def run(name: str, *args: Any) -> Any:
            return self._run(name, queue_name, *args)

        return list_tasks(run, state, limit, after)

    def queue_names(self) -> list[str] | None:
        with translated():
            return queue_names(self._connections)

    def durability_warning(self) -> str | None:
        with translated():
            found = server_findings.durability(self._connections)
        _servers_asked.add(self.conn_string)
        return " ".join(each.warning for each in found if each.must_change) or None

    def examine(self) -> list[Finding]:
        with translated():
            return server_findings.all_findings(self._connections)

    def place_of(self, queue_name: str) -> str | None:
        with translated():
            return server_findings.place_of(self._connections, keys_of(queue_name)[0])

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connections.close()


def _letter(
    queue_name: str,
    raw_id: bytes,
    died_at: int,
    data: bytes,
    error: bytes,
    traceback: bytes,
    attempts: int,
) -> DeadTask:
    """Return a dead letter as the script ``list_dead`` tells of it."""
    task_id = decode_id(raw_id)
    return DeadTask(
        task_id,
        queue_name,
        decode(data, task_id),
        error.decode(errors="replace"),
        traceback.decode(errors="replace"),
        died_at / 1e6,
        attempts,
    )


def _with_defaults(args: Sequence[bytes]) -> list[Any]:
    """Return ids and data with the priority and due time that the script ``push`` takes as well."""
    pairs = zip(args[::2], args[1::2], strict=True)
    return [arg for task_id, data in pairs for arg in (task_id, data, 0, 0)]


def _retry(queue_name: str, begin: Sequence[Any], args: Sequence[Any]) -> Call:
    """Return the call that pushes messages which may be pushed already."""
    return Call(script("push_again"), keys_of(queue_name), [*begin, *args])
