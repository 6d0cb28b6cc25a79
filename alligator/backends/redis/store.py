"""Keep records, marks, dependencies and heartbeats on a redis server.

There is a key per record and mark, and a channel per watched task.
"""

import contextlib
import json
import math
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis.exceptions import ResponseError

from alligator.backends.base import Client as BaseClient
from alligator.backends.redis import worker_reports
from alligator.backends.redis.connection import Connections
from alligator.backends.redis.encoding import (
    decode_id,
    encode_controls,
    encode_id,
    encode_new,
    encode_new_id,
    keys_of,
    micros,
    opening,
    watched_key,
)
from alligator.backends.redis.errors import DRIVER_ERRORS, is_cut, translated
from alligator.backends.redis.scripts import script
from alligator.backends.redis.worker_reports import millis
from alligator.backends.store import (
    KEEP_FAILED,
    Child,
    Parent,
    Queues,
    Record,
    Store,
    Waits,
    Watch,
    Worker,
    gone_badly,
    id_in_key,
    queue_in_key,
    record_key,
    running_already,
    waits_for_itself,
)
from alligator.backends.types import Activity, Delivery, Duplicate, LiveWorker, Message, Report
from alligator.common.ids import is_generated
from alligator.constants import CANCELED, WAITING
from alligator.exceptions import NodeLost, UnsupportedOption

_AT_ONCE = 500  # keys of one command; it blocks the server meanwhile
_MINUTES_AT_ONCE = 10  # up to 1,000 rows each
_LINKS_AT_ONCE = 500  # links of children to their parents, likewise
_REFUSED = {-1: running_already, -2: waits_for_itself}
_MARKED = 10.0  # seconds that the mark of a watched queue stands
_PAUSE = 0.1  # seconds before a broken watch is retried


class RedisStore(Store):
    """The contract, on a server.

    :param client: the client that it belongs to.
    """

    follows_queues = True
    monitors = True

    def __init__(self, client: BaseClient, connections: Connections) -> None:
        self._client, self._connections = client, connections

    def _run(self, name: str, keys: Sequence[bytes], *args: Any) -> Any:
        with translated():
            return self._connections.run(script(name), keys, args)

    def _run_if_reachable(self, name: str, keys: Sequence[bytes], *args: Any) -> Any:
        with translated():
            return self._connections.run_if_reachable(script(name), keys, args)

    def _command(
        self, keys: Sequence[bytes], name: str, *args: Any, idempotent: bool = False
    ) -> Any:
        with translated():
            return self._connections.command(keys, name, *args, idempotent=idempotent)

    def _by_server(self, keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
        most = _AT_ONCE if self._connections.one_server else 1
        return (keys[start : start + most] for start in range(0, len(keys), most))

    @property
    def home(self) -> BaseClient:
        return self._client

    # -- Outcomes. ----------------------------------------------------------------------------

    def note(self, key: str, record: Record, keep_seconds: float) -> bool:
        args = _record_args(key, record, keep_seconds)
        return bool(self._run_if_reachable("save_record", [_record_key(key)], *args))

    def _settle(
        self,
        client: Queues,
        delivery: Delivery,
        key: str,
        record: Record,
        keep_seconds: float,
    ) -> bool:
        # One script; two on a cluster, where record and task may be on two nodes.
        if not self._connections.one_server:
            return super()._settle(client, delivery, key, record, keep_seconds)
        server_keys = [*keys_of(delivery.queue_name), _record_key(key)]
        why = _encode_reason(gone_badly(key, record.state, record.error))
        args = _record_args(key, record, keep_seconds)
        return bool(self._run("ack_and_record", server_keys, delivery.receipt, why, *args))

    def record(self, key: str) -> Record | None:
        return self.records([key])[0]

    def records(self, keys: Sequence[str]) -> list[Record | None]:
        found: list[Any] = []
        for some in self._by_server([_record_key(each) for each in keys]):
            found += self._command(some, "MGET", *some, idempotent=True)
        return [_read(raw) for raw in found]

    def forget(self, keys: Iterable[str]) -> None:
        for some in self._by_server([_record_key(each) for each in keys]):
            self._command(some, "UNLINK", *some, idempotent=True)

    @contextmanager
    def watch(self, keys: Sequence[str], queue_names: Sequence[str] = ()) -> Iterator[Watch]:
        marks = [watched_key(each) for each in queue_names]
        channels = list(dict.fromkeys(_channel(each) for each in keys))
        # Any node of a cluster publishes for all; the one with the record is needed in any case.
        near = _record_key(keys[0]) if keys else b"alligator:done"
        watch = _Watch(self._connections, channels, marks, near)
        try:
            watch.subscribe()
            yield watch
        finally:
            watch.close()

    # -- Marks. -------------------------------------------------------------------------------

    def claim(self, key: str, ttl: float) -> bool:
        mark = _mark_key(key)
        return self._command([mark], "SET", mark, "1", "NX", "PX", millis(ttl)) is not None

    def confirm(self, key: str, ttl: float) -> None:
        mark = _mark_key(key)
        self._command([mark], "SET", mark, "1", "PX", millis(ttl), idempotent=True)

    def unclaim(self, key: str) -> None:
        mark = _mark_key(key)
        self._command([mark], "UNLINK", mark)

    def _push_once(
        self, client: Queues, key: str, ttl: float, queue_name: str, message: Message
    ) -> bool:
        keys = [*keys_of(queue_name), _mark_key(f"{queue_name}/{key}")]
        task_id, data, due, priority = message
        begin = opening([task_id], one_server=self._connections.one_server)
        args = (encode_new_id(task_id), encode_new(data, task_id), priority, micros(due))
        controls = encode_controls(message)
        return bool(
            self._run_if_reachable("push_unless_marked", keys, *begin, millis(ttl), *args, controls)
        )

    # -- Dependencies. ------------------------------------------------------------------------

    def _hold(self, client: Queues, children: Sequence[Child]) -> Sequence[int | Duplicate]:
        # Some hundreds of links in each script; a child of many parents takes several.
        if not self._connections.one_server:
            raise UnsupportedOption(
                "A redis cluster keeps no 'depends_on', since parents and children may be on two "
                "nodes; name a store on one server, Gator(…, store='redis://…')."
            )
        states: list[int | Duplicate] = []
        batch, links = list[Child](), 0
        for child in children:
            many = len(child.parents) > _LINKS_AT_ONCE
            links += len(child.parents) + 1
            if batch and (
                many or links > _LINKS_AT_ONCE or child.queue_name != batch[0].queue_name
            ):
                states += self._hold_at_once(batch)
                batch, links = [], len(child.parents) + 1
            if many:
                states.append(self._hold_in_steps(child))
                links = 0
            else:
                batch.append(child)
        states += self._hold_at_once(batch) if batch else []
        for child, state in zip(children, states, strict=True):
            if isinstance(state, int) and state in _REFUSED:
                raise _REFUSED[state](child.message.task_id)
        return states

    def _hold_at_once(self, children: Sequence[Child]) -> list[int | Duplicate]:
        """Hold children of one queue in one script."""
        args = [arg for each in children for arg in _child_args(each)]
        found = self._run("hold", keys_of(children[0].queue_name), "whole", *args)
        return [_state(each) for each in found]

    def _hold_in_steps(self, child: Child) -> int | Duplicate:
        """Hold a child in several scripts. The last one makes it: all of it or nothing."""
        task_id, data, due, priority = child.message
        token, own = secrets.token_hex(8), int(not is_generated(task_id))

        def step(name: str, *args: Any) -> int | Duplicate:
            ends = (encode_new_id(task_id), token, *args)
            return _state(self._run("hold", keys_of(child.queue_name), name, *ends))

        state: int | Duplicate = 0
        began, failed = 0, list[Parent]()
        for start in range(0, len(child.parents), _LINKS_AT_ONCE):
            some = child.parents[start : start + _LINKS_AT_ONCE]
            args = (int(child.unconditional), *_parent_args(some))
            state = int(step("more" if start else "first", *args))
            if state < 0:
                failed = [some[-11 - state]] if state <= -11 else []
                break
            began = began or state
        else:
            rest = (
                encode_new(data, task_id),
                priority,
                micros(due),
                encode_controls(child.message),
            )
            state = step("last", began, *rest, own, int(child.unconditional))
            if state == WAITING:
                return state
        while step("undo", _LINKS_AT_ONCE):
            pass
        if isinstance(state, Duplicate) or state == CANCELED:
            return state
        # One failed parent decides alone; or the id was in use, or the queue emptied: one step.
        return self._hold_at_once([child._replace(parents=tuple(failed) or child.parents)])[0]

    def _cancel_held(self, client: Queues, queue_name: str, task_id: str, record: Record) -> bool:
        if not self._connections.one_server:
            return False  # it holds none
        noted = record_key(queue_name, task_id)
        keys = [*keys_of(queue_name), _record_key(noted)]
        args = _record_args(noted, record, KEEP_FAILED)
        return bool(
            self._run("cancel_held", keys, encode_id(task_id), _encode_reason(record.error), *args)
        )

    def _waits_for(self, client: Queues, queue_name: str, task_id: str, limit: int) -> Waits:
        count, *flat = self._run("pending_parents", keys_of(queue_name), encode_id(task_id), limit)
        names = [decode_id(each) for each in flat]  # the name of a queue reads the same
        return Waits(count, list(zip(names[::2], names[1::2], strict=True)))

    # -- Workers. ----------------------------------------------------------------------------

    def beat(self, worker: str, queue_names: Sequence[str], seconds: float) -> None:
        queues = json.dumps(list(queue_names))
        lost: NodeLost | None = None
        for keys in self._by_server([_workers_key(each) for each in queue_names]):
            args = [encode_id(worker), math.ceil(seconds * 1e6), queues]
            try:
                self._run_if_reachable("heartbeat", keys, *args)
            except NodeLost as err:  # tell the other nodes all the same
                lost = err
        if lost is not None:
            raise lost

    def workers(self, queue_name: str) -> list[Worker]:
        now, found = self._signs(queue_name)
        alive = []
        for name, sign in found.items():
            seen, ends, queues = sign.split(" ", 2) if name else ("0", "0", "[]")
            if int(ends) > now:
                alive.append(
                    Worker(name, tuple(json.loads(queues)), int(seen) / 1e6, int(ends) / 1e6)
                )
        return sorted(alive, key=lambda each: each.seen, reverse=True)

    def last_seen(self, queue_name: str) -> float | None:
        _, found = self._signs(queue_name)
        return int(found[""]) / 1e6 if "" in found else None

    def _signs(self, queue_name: str) -> tuple[int, dict[str, str]]:
        now, flat = self._run("list_heartbeats", [_workers_key(queue_name)])
        texts = [each.decode(errors="replace") for each in flat]
        return int(now), dict(zip(texts[::2], texts[1::2], strict=True))

    # -- Reports and documents: all of them on one server, or one node. -----------------------

    def report(self, report: Report) -> list[str | None]:
        keys, args = worker_reports.call_of(report)
        found = self._run_if_reachable("worker_report", keys, *args)
        return [worker_reports.decoded(each) for each in found]

    def live_workers(self) -> list[LiveWorker]:
        return list(
            worker_reports.read_live(
                *self._run_if_reachable("list_live_reports", [worker_reports.LIVE])
            )
        )

    def activity(self, since: int, before: int | None = None) -> list[Activity]:
        kept = [worker_reports.MINUTES]
        end = "+inf" if before is None else f"({before}"
        found = self._command(kept, "ZRANGEBYSCORE", *kept, since, end, idempotent=True)
        minutes, rows = [int(each) for each in found], list[Activity]()
        for start in range(0, len(minutes), _MINUTES_AT_ONCE):
            some = minutes[start : start + _MINUTES_AT_ONCE]
            found = self._run_if_reachable(
                "activity", [worker_reports.minute_key(each) for each in some]
            )
            for minute, flat in zip(some, found, strict=True):
                rows += worker_reports.read_minute(minute, flat)
        return rows

    def recent(self, limit: int) -> list[str]:
        if limit <= 0:
            return []
        kept = [worker_reports.RECENT]
        found = self._command(kept, "LRANGE", *kept, 0, limit - 1, idempotent=True)
        return [worker_reports.decoded(each) or "" for each in found]

    def put_document(self, key: str, text: str, keep_seconds: float) -> None:
        if keep_seconds <= 0:
            self.delete_documents([key])
            return
        keys, value = worker_reports.document_keys([key]), worker_reports.encoded(text)
        keep = millis(keep_seconds)
        self._command(keys, "SET", *keys, value, "PX", keep, idempotent=True)

    def documents(self, keys: Sequence[str]) -> list[str | None]:
        found: list[Any] = []
        for start in range(0, len(keys), _AT_ONCE):
            some = worker_reports.document_keys(keys[start : start + _AT_ONCE])
            found += self._command(some, "MGET", *some, idempotent=True)
        return [worker_reports.decoded(each) for each in found]

    def delete_documents(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _AT_ONCE):
            some = worker_reports.document_keys(keys[start : start + _AT_ONCE])
            self._command(some, "UNLINK", *some, idempotent=True)


class _Watch:
    """A connection that has subscribed to channels."""

    def __init__(
        self, connections: Connections, channels: list[bytes], marks: list[bytes], near: bytes
    ) -> None:
        self._connections, self._channels = connections, channels
        self._marks, self._near = marks, near
        self._marked = 0.0
        self._stack = contextlib.ExitStack()
        self._connection: Any = None

    def subscribe(self) -> None:
        """Subscribe, and wait until the server confirms it."""
        with translated():
            try:
                self._subscribe()
            except DRIVER_ERRORS as err:
                if self._connection is None or not is_cut(err):
                    raise
                self.close()
                self._subscribe(fresh=True)

    def _subscribe(self, *, fresh: bool = False) -> None:
        connection = self._stack.enter_context(self._connections.borrow([self._near], fresh=fresh))
        self._connection = connection
        if self._channels:
            connection.send_command("SUBSCRIBE", *self._channels)
        for _ in self._channels:
            connection.read_response()
        self._mark()

    def _mark(self) -> None:
        """Mark these queues, so that scripts publish the starts and ends of their tasks."""
        if self._marks and time.monotonic() - self._marked > _MARKED / 2:
            for key in self._marks:
                self._connections.command(
                    [key], "SET", key, "1", "PX", millis(_MARKED), idempotent=True
                )
            self._marked = time.monotonic()

    def wait(self, timeout: float) -> bool:
        """Block until a message comes; if the connection breaks, subscribe again."""
        try:
            self._mark()
            if not self._connection.can_read(max(0.0, timeout)):
                return False
            while self._connection.can_read(0):
                self._connection.read_response()
        except ResponseError:
            raise
        except DRIVER_ERRORS:
            self.close()
            self._marked = 0.0
            time.sleep(_PAUSE)  # what broke may take a moment to come back
            self.subscribe()
        return True

    def close(self) -> None:
        """Close the connection, which still listens, so no other call can use it."""
        if self._connection is not None:
            self._connection.disconnect()
            self._connection = None
        self._stack.close()


def _state(reply: int | bytes) -> int | Duplicate:
    """Return the new status of a child; or the task that has its unique key."""
    return Duplicate(decode_id(reply)) if isinstance(reply, bytes) else reply


def _child_args(child: Child) -> Iterator[Any]:
    """Return the arguments of ``hold.lua`` for a child."""
    task_id, data, due, priority = child.message
    yield from (encode_new_id(task_id), encode_new(data, task_id), priority, micros(due))
    yield encode_controls(child.message)
    yield int(not is_generated(task_id))
    yield int(child.unconditional)
    yield from _parent_args(child.parents)


def _parent_args(parents: Sequence[Parent]) -> Iterator[Any]:
    yield len(parents)
    for parent in parents:
        yield from (encode_id(parent.task_id), len(parent.queue_names), *parent.queue_names)


def _encode_reason(why: str | None) -> bytes:
    """Return a text for people as UTF-8, whatever is in it."""
    return (why or "").encode("utf-8", "backslashreplace")


def _record_key(key: str) -> bytes:
    """Return the key of a record: by its id alone, or on the node of its queue."""
    if not (queue_name := queue_in_key(key)):
        return b"alligator:record:" + encode_id(key)
    own = decode_id(encode_id(id_in_key(key))).encode("utf-8", "surrogateescape")
    return f"alligator:records:{{{queue_name}}}:".encode() + own


def _channel(key: str) -> bytes:
    return b"alligator:done:" + encode_id(id_in_key(key))


def _workers_key(queue_name: str) -> bytes:
    return f"alligator:{{{queue_name}}}:workers".encode()


def _mark_key(key: str) -> bytes:
    """Return the key of a mark; that of a queue ('queue/key') is on the node of the queue."""
    queue_name, slash, rest = key.partition("/")
    return encode_id(
        f"alligator:{{{queue_name}}}:mark:{rest}" if slash else f"alligator:mark:{key}"
    )


def _record_args(task_id: str, record: Record, keep_seconds: float) -> list[Any]:
    """Return the arguments of ``save_record.lua``, which reads the fence before the rest."""
    pushed, attempt = repr(float(record.pushed)), record.attempt
    state, result, error, traceback, at, *_, place = record
    rest = json.dumps([state, result, error, traceback, at, place])
    value = f"{pushed} {attempt}\n{rest}"
    keep = millis(keep_seconds) if keep_seconds > 0 else 0
    return [pushed, attempt, value, keep, _channel(task_id)]


def _read(raw: bytes | None) -> Record | None:
    if raw is None:
        return None
    fence, _, rest = raw.partition(b"\n")
    try:
        pushed, attempt = fence.split()
        state, result, error, traceback, at, place = json.loads(rest.decode(errors="replace"))
        return Record(state, result, error, traceback, at, int(attempt), float(pushed), place)
    except (ValueError, TypeError):
        return None  # another program's
