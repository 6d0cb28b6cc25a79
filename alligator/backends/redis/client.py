"""Queues on a Redis or Valkey server, a master kept by sentinels, or a cluster.

DSNs: ``redis://user:password@host:6379/0``, ``rediss://`` (TLS), ``redis+unix:///path?db=0``,
``redis+sentinel://host1,host2/master/0``, ``redis+cluster://host1,host2``, ``valkey://``.
Each compound step is one Lua script (``lua/*.lua``), and the server's clock decides.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any

from alligator.backends.base import (
    Ahead,
    Data,
    DeadTask,
    Delivery,
    Message,
    Place,
    QueueStats,
    Reason,
    Renew,
    Reserved,
    all_queued,
    never,
    push_in_steps,
    queued,
)
from alligator.backends.base import Client as BaseClient
from alligator.backends.redis.ahead import RedisAhead
from alligator.backends.redis.config import parse_target
from alligator.backends.redis.connection import Call, make_link
from alligator.backends.redis.durability import durability_warning, eviction_warning
from alligator.backends.redis.encoding import (
    MAX_SIZE,
    decode,
    decode_id,
    encode,
    encode_id,
    encode_new,
    encode_new_id,
    keys_of,
    keys_of_push,
    micros,
    opening,
    pushed_at,
)
from alligator.backends.redis.errors import NodeOut, node_lost, translate, translated
from alligator.backends.redis.reserve import MOST_AT_ONCE, Reservation
from alligator.backends.redis.scripts import script
from alligator.backends.redis.server_clock import ServerClock
from alligator.backends.redis.store import RedisStore
from alligator.common.clock import Clock
from alligator.common.grouping import group_by
from alligator.common.ids import is_own_id
from alligator.constants import DELAYED, FAILED, RUNNING, WAITING

log = logging.getLogger("alligator.backends.redis_backend")  # the documented name

#: The DSNs of servers that this process knows whether they evict keys.
_asked: set[str] = set()

_STATES = {b"waiting": WAITING, b"delayed": DELAYED, b"running": RUNNING, b"dead": FAILED}
_REVIVE_BATCH = 100
_SCANS = 100  # of a thousand keys each: more are not looked through for names
_LASTING = frozenset({"data", "seq", "dead", "held"})  # keys that stand for tasks, now or before
_PURGE_BATCH = 500  # so that a long list of dead letters does not hold up the server
_DROP_BATCH = 200  # links between children and parents, likewise
_DEAD_BATCH = 500  # dead letters to look at


def _now() -> tuple[float, float]:
    return time.time(), time.monotonic()


class Client(BaseClient):
    """The contract on redis."""

    idle_wait = 15.0
    notes_stops = True
    shares_leases = True

    def __init__(self, conn_string: str, *, clock: Clock | None = None) -> None:
        super().__init__(conn_string, clock=clock)
        self._link = make_link(parse_target(conn_string))
        self._store = RedisStore(self, self._link)
        self._server_clock = ServerClock(self._link)
        self._asks = True  # with the first push, whether this server evicts keys

    @property
    def store(self) -> RedisStore:
        """The store on the same server."""
        return self._store

    @property
    def conn(self) -> Any:
        """The ``redis.Redis`` (for a cluster: ``RedisCluster``) behind this client."""
        with translated():
            return self._link.conn

    def _run(self, name: str, queue_name: str, *args: Any) -> Any:
        with translated():
            return self._link.run(script(name), keys_of(queue_name), args)

    def _run_or_fail(self, name: str, queue_name: str, *args: Any) -> Any:
        with translated():
            return self._link.run_or_fail(script(name), keys_of(queue_name), args)

    def max_size(self) -> int:
        """Return 1 MiB: far below what the server takes, as large values slow it for all."""
        return MAX_SIZE

    def len(self, queue_name: str) -> int:
        """Return how many tasks wait or are delayed."""
        waiting, delayed, *_ = self._run("stats", queue_name)
        return int(waiting) + int(delayed)

    def drop_all(self, queue_name: str) -> None:
        """Remove every task of the queue, whatever its state."""
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
        """Put a task on a queue; see the contract."""
        if not (delay_until or priority or self._asks or is_own_id(task_id)):
            args = encode_new_id(task_id), encode_new(data, task_id)
            wall, monotonic = time.time(), time.monotonic()
            if place := self._push_one(queue_name, args):
                return queued(task_id, (place, wall, monotonic))
        return super().push(queue_name, task_id, data, delay_until, priority=priority)

    def push_many(self, queue_name: str, messages: Sequence[Message]) -> list[str]:
        """Put tasks on a queue, in order; see the contract."""
        encoded = [
            (encode_new_id(each.task_id), encode_new(each.data, each.task_id)) for each in messages
        ]
        plain = len({task_id for task_id, _ in encoded}) == len(encoded)
        plain = plain and not any(each.delay_until or each.priority for each in messages)

        def push(first: int, last: int) -> list[str]:
            some = messages[first:last]
            asks = self._asks and self.conn_string not in _asked
            simple = plain and not asks
            ids, pairs = [each.task_id for each in some], encoded[first:last]
            begin = opening(ids, one_server=self._link.one_server)
            args = list[Any](chain.from_iterable(pairs))
            if not simple:
                args = []
                for (_, _, delay_until, priority), pair in zip(some, pairs, strict=True):
                    args += *pair, priority, micros(delay_until)
            name = "push_batch" if simple else "push_first" if asks else "push"
            position = self._push_some(name, queue_name, begin, args)
            return all_queued(ids, position)

        return push_in_steps(messages, push)

    def _push_some(
        self, name: str, queue_name: str, begin: Sequence[Any], args: Sequence[Any]
    ) -> tuple[int, float, float]:
        """Push by one of the scripts that take several; return the position."""
        began = _now()
        with translated():
            place = self._link.run(
                script(name),
                keys_of(queue_name),
                [*begin, *args],
                lambda: _push_again(
                    queue_name, begin, _with_defaults(args) if name == "push_batch" else list(args)
                ),
            )
        if isinstance(place, list):
            place, policy = place
            self._warn_once(policy.decode())
        self._asks = False
        return place, *began

    def _warn_once(self, policy: str) -> None:
        if self.conn_string not in _asked and (warning := eviction_warning(policy)):
            log.warning("%s", warning)
        _asked.add(self.conn_string)

    def _push_one(self, queue_name: str, args: Sequence[bytes]) -> int:
        # Of what is pushed one by one this is nearly all.
        with translated():
            return int(
                self._link.run(
                    script("push_single"),
                    keys_of_push(queue_name),
                    args,
                    lambda: _push_again(queue_name, [0, 0], _with_defaults(args)),
                )
            )

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
        """Ack, then lease what is next; see the contract."""
        reservation = Reservation(self._link, list(queue_names), limit, lease)
        with translated():
            if task_id is not None:
                return reservation.take(encode_id(task_id), acks)
            return reservation.reserve(wait, acks, stop)

    def begin_reserve(
        self,
        queue_names: Sequence[str],
        limit: int = 1,
        lease: float = 30.0,
        *,
        acks: Sequence[Delivery] = (),
    ) -> Ahead | None:
        """Send it where one script will do: for one queue, and not on a cluster."""
        name, *others = queue_names
        if others or not self._link.one_server or any(each.queue_name != name for each in acks):
            return None
        return RedisAhead(self._link, name, limit, lease, acks)

    def out_of_reach(self, queue_names: Sequence[str]) -> dict[str, str]:
        """Return which of these queues are on nodes of a cluster that were lost."""
        found = self._link.out_of_reach(queue_names)
        return {name: str(translate(err)) for name, err in found.items()} if found else {}

    def ack(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Remove tasks that are done; return those overtaken."""
        return self._refused("ack", deliveries, again="ack_retry")

    def extend(self, deliveries: Sequence[Delivery], lease: float) -> list[Delivery]:
        """Let leases run ``lease`` seconds from now; return the lost ones."""
        return self._refused("extend", deliveries, int(lease * 1e6))

    def note_stop(self, deliveries: Sequence[Delivery]) -> None:
        """Note that whoever holds these leases is being stopped."""
        self._refused("note_stop", deliveries)

    def share(self, deliveries: Sequence[Delivery]) -> list[bytes]:
        """Return the receipts, which say all."""
        return [each.receipt for each in deliveries]

    def shared(self, queue_name: str, raw: bytes) -> Delivery:
        """Return a delivery that was shared."""
        return Delivery(queue_name, "", "", raw)

    def _refused(
        self, name: str, deliveries: Sequence[Delivery], *args: Any, again: str | None = None
    ) -> list[Delivery]:
        refused: list[Delivery] = []
        untold: list[Delivery] = []
        lost: NodeOut | None = None
        for queue_name, those in group_by(deliveries, attrgetter("queue_name")).items():
            keys = keys_of(queue_name)
            for first in range(0, len(those), MOST_AT_ONCE):
                some = those[first : first + MOST_AT_ONCE]
                told = [*args, *(each.receipt for each in some)]
                second = partial(Call, script(again), keys, told) if again else None
                with translated():
                    try:
                        indices = self._link.run_or_fail(script(name), keys, told, second)
                    except NodeOut as err:  # the others are on other nodes
                        untold, lost = untold + those[first:], err
                        break
                refused += [some[index] for index in indices]
        if lost is not None:
            raise node_lost(lost, untold, refused)
        return refused

    def release(
        self, delivery: Delivery, data: Data | None = None, delay_until: float | None = None
    ) -> bool:
        """Hand a task back, to its place or (with new data) to the tail."""
        changed = () if data is None else (encode(data, delivery.task_id),)
        due = micros(delay_until)
        return bool(
            self._run_or_fail("release", delivery.queue_name, delivery.receipt, due, *changed)
        )

    def postpone(self, delivery: Delivery, data: Data, delay_until: float) -> bool:
        """Hand a task back that was not run, with other data."""
        told = delivery.receipt, micros(delay_until), encode(data, delivery.task_id), 1
        return bool(self._run_or_fail("release", delivery.queue_name, *told))

    def bury(self, delivery: Delivery, data: Data | None, reason: Reason) -> bool:
        """Make a reserved task a dead letter."""
        kept = () if data is None else (encode(data, delivery.task_id),)
        why = [text.encode("utf-8", "backslashreplace") for text in reason]
        told = delivery.receipt, *why, delivery.attempt, *kept
        return bool(self._run_or_fail("bury", delivery.queue_name, *told))

    def dead(self, queue_name: str, limit: int = 100) -> list[DeadTask]:
        """Return the dead letters, newest first."""
        found: dict[bytes, Any] = {}  # by id: some may move on while we look
        for skip in range(0, limit, _DEAD_BATCH):
            some = self._run("list_dead", queue_name, min(_DEAD_BATCH, limit - skip), "", "", skip)
            found |= {letter[0]: letter for letter in some if letter[0] not in found}
            if len(some) < _DEAD_BATCH:
                break
        return [
            DeadTask(
                task_id=(own_id := decode_id(task_id)),
                queue_name=queue_name,
                data=decode(data, own_id),
                error=error.decode(errors="replace"),
                traceback=traceback.decode(errors="replace"),
                died_at=died_at / 1e6,
                attempts=attempts,
            )
            for task_id, died_at, data, error, traceback, attempts in found.values()
        ]

    def revive(
        self, queue_name: str, task_id: str | None = None, renew: Renew | None = None
    ) -> int:
        """Put dead letters back at the tail of their queue."""
        if renew is None and task_id is None:
            return self._revive_all(queue_name)
        if renew is None:
            return int(self._run("revive", queue_name, encode_id(task_id or ""), "", "")[0])
        if task_id is not None:
            found = self._run("list_dead", queue_name, 1, 0, encode_id(task_id))
            return self._revive(queue_name, found, renew)
        revived = stayed = 0
        left = self.stats(queue_name).dead  # those who die meanwhile are not meant
        while left > 0 and (
            found := self._run("list_dead", queue_name, min(left, _REVIVE_BATCH), stayed)
        ):
            left -= len(found)
            count = self._revive(queue_name, found, renew)
            revived += count
            stayed += len(found) - count
        return revived

    def _revive_all(self, queue_name: str) -> int:
        revived = stayed = 0
        left = self.stats(queue_name).dead  # those who die meanwhile are not meant
        while left > 0:
            count, looked = self._run("revive", queue_name, min(left, _REVIVE_BATCH), stayed)
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
        """Delete dead letters older than so many seconds."""
        purged = 0
        while True:
            count = int(self._run("purge", queue_name, int(older_than * 1e6), _PURGE_BATCH))
            purged += count
            if count < _PURGE_BATCH:
                return purged

    def find(self, queue_name: str, task_id: str) -> Place | None:
        """Return where a task stands."""
        name, number = self._run("find", queue_name, encode_id(task_id))
        if not name:
            return None
        return Place(
            _STATES[name],
            ahead=number if name == b"waiting" and number >= 0 else None,
            due=number / 1e6 if name == b"delayed" else None,
        )

    def peek(self, queue_name: str, task_id: str) -> Data | None:
        """Return the data of a task and leave it where it is."""
        raw = self._run("peek", queue_name, encode_id(task_id))
        return None if raw is None else decode(raw, task_id)

    def server_time(self, queue_name: str) -> float:
        """Return what the clock of the server shows that has that queue."""
        with translated():
            return self._server_clock.time(keys_of(queue_name)[0])

    def position(self, queue_name: str) -> Any:
        """Return the last place that was given out, and when this was asked."""
        began = _now()
        return self._run("position", queue_name), *began

    def lost_nothing_since(self, queue_name: str, position: Any) -> bool | None:
        """Whether it is the same history of the queue, kept by a server that did not restart."""
        if position is None:
            return None
        place, wall, monotonic = position
        now = _now()
        age = max(now[0] - wall, now[1] - monotonic, 0.0)  # one stands still in sleep
        answer = int(self._run("check_history", queue_name, place, int(age * 1e6)))
        return None if answer < 0 else bool(answer)

    def stats(self, queue_name: str) -> QueueStats:
        """Return how many tasks are in which state, and the age of the first in line."""
        waiting, delayed, running, dead, first, now, held = self._run("stats", queue_name)
        pushed = pushed_at(first)
        age = None if pushed is None else max(0.0, now / 1e6 - pushed)
        return QueueStats(waiting, delayed, running, dead, age, held)

    def queue_names(self) -> list[str] | None:
        """Return the names of the queues that have keys, if the server holds few enough of these.

        A few are looked at in each step, since the server does nothing else meanwhile.
        """
        if not self._link.one_server:
            return None
        found, cursor = set[str](), b"0"
        for _ in range(_SCANS):
            with translated():
                cursor, keys = self._link.command(
                    [], "SCAN", cursor, "MATCH", "alligator:{*}:*", "COUNT", "1000"
                )
            for key in keys:
                queue_name, _, part = key.decode(errors="replace")[11:].rpartition("}:")
                if part in _LASTING:
                    found.add(queue_name)
            if cursor == b"0":
                return sorted(found)
        return None

    def durability_warning(self) -> str | None:
        """Return one line where the server keeps tasks in memory only, or evicts keys."""
        with translated():
            warning = durability_warning(self._link)
        _asked.add(self.conn_string)
        return warning

    def close(self) -> None:
        """Close connections; the next call opens new ones."""
        with contextlib.suppress(OSError):
            self._link.close()


def _with_defaults(args: Sequence[bytes]) -> list[Any]:
    """Return ids and data with what the script ``push`` wants to know besides."""
    pairs = zip(args[::2], args[1::2], strict=True)
    return [arg for task_id, data in pairs for arg in (task_id, data, 0, 0)]


def _push_again(queue_name: str, begin: Sequence[Any], args: Sequence[Any]) -> Call:
    """Return how to push what may have been pushed already."""
    return Call(script("push_retry"), keys_of(queue_name), [*begin, *args])
