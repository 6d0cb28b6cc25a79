"""Reserve tasks: ack, lease from several queues in order, and wait where there is nothing."""

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

from redis.exceptions import MovedError, NoScriptError

from alligator.backends.base import MAX_LEASE, Ahead, Delivery, Reserved, never
from alligator.backends.redis.connection import Call, Connections, retry_of
from alligator.backends.redis.encoding import keys_of, read_reply, wake_key
from alligator.backends.redis.errors import (
    DRIVER_ERRORS,
    NodeFailed,
    node_lost,
    translated,
)
from alligator.backends.redis.scripts import LONGEST_WAIT, script
from alligator.common.descriptors import readable
from alligator.common.group_by import group_by
from alligator.exceptions import AlligatorException, ConnectionLost

log = logging.getLogger(__name__)

MOST_AT_ONCE = 1000  # tasks that one script leases; it blocks the server meanwhile
_HELD_UP = -2  # instead of a time: see reserve.lua
_LOST = -3  # likewise, or less
_SEARCH_STEP = 100  # tasks, with their data, in one step of the search for lost ones
_MARGIN = 0.002  # seconds after a due time, so that one look suffices
_SLICE = 0.2  # seconds between two looks at `stop`
_GRACE = 2.0  # seconds that the server may be late to say that nothing came


def _micros_of(lease: float) -> int:
    return int(min(lease, MAX_LEASE) * 1e6)


def _new_name() -> str:
    """Return a name for one call, by which the server finds what that call leased."""
    return f"-{os.urandom(8).hex()}"


def _reply_again(queue_name: str, call_name: str, receipts: Sequence[bytes]) -> Call:
    """Return the call to make where the reply got lost to one that leases."""
    return Call(script("reserve_again"), keys_of(queue_name), [call_name, *receipts])


class Reservation:
    """One call of ``Client.reserve``.

    It has a loop of its own, as a lease tells the wait when to look again, and as a token that the
    wait took must be used by a lease or passed on.
    """

    def __init__(
        self, connections: Connections, queue_names: list[str], limit: int, lease: float
    ) -> None:
        self.connections, self.queue_names = connections, queue_names
        self.limit, self.lease = min(limit, MOST_AT_ONCE), _micros_of(lease)
        self.call_name = _new_name()  # of all its calls: one at most leases, on each queue
        self.taken: list[Delivery] = []
        self.refused: list[Delivery] = []
        self.soon = math.inf  # seconds until a delay or a lease ends
        self.held_up = False  # by a task that has to go alone
        self.woken: set[str] = set()  # queues with a token that the wait took, still unused
        self.searched: set[str] = set()  # queues that were searched for lost tasks
        self.stop: Callable[[], bool] = never
        self.regained: set[str] = set()  # queues in reach again, to be served from the next call on

    def reserve_by_id(
        self, task_id: bytes, acks: Sequence[Delivery], *, to_run: bool = True
    ) -> Reserved:
        """Ack, then lease one task by its id.

        :param to_run: whether its limit and its rate count.
        """
        remaining = self._ack_others(acks)
        for name in self.queue_names:
            self._lease(
                "reserve_by_id",
                name,
                [task_id, self.lease, int(not to_run)],
                remaining.pop(name, []),
            )
            if self.taken:
                break
        return Reserved(self.taken, self.refused)

    def reserve(self, wait: float, acks: Sequence[Delivery], stop: Callable[[], bool]) -> Reserved:
        """Ack, then lease up to the limit, and wait where there is nothing."""
        deadline, self.stop = time.monotonic() + wait, stop
        regained = self.connections.forget_regained()
        if wait or len(self.queue_names) > 1:  # else the caller would take "nothing" for empty
            self.regained = regained
        remaining = self._ack_others(acks)
        while True:
            left = deadline - time.monotonic()
            self._lease_in_order(min(max(0.0, left), LONGEST_WAIT), remaining)
            if self.taken:
                break
            left = deadline - time.monotonic()
            if left <= 0 or self.regained or stop():
                break
            pause = min(left, self.soon + _MARGIN, LONGEST_WAIT)
            came = self._wait(pause, stop)
            if came is None or (not came and pause >= left):
                break
        if self.woken:
            self._wake_others(self.woken)
        return Reserved(self.taken, self.refused)

    def _ack_others(self, acks: Sequence[Delivery]) -> dict[str, list[Delivery]]:
        """Ack the deliveries of all queues but the first; return the others, for its lease."""
        if not acks:
            return {}
        first = self.queue_names[0]
        if first not in self.regained and {each.queue_name for each in acks} == {first}:
            return {first: list(acks)}
        remaining = group_by(acks, attrgetter("queue_name"))
        untold: list[Delivery] = []
        lost: NodeFailed | None = None
        # The first queue comes last: if there is no lease, its acks go alone.
        for name in sorted(remaining, key=lambda name: name == first):
            if name == first and lost is None and first not in self.regained:
                break
            deliveries = remaining.pop(name)
            try:
                indices = self._run("ack", name, [each.receipt for each in deliveries])
            except NodeFailed as err:
                untold, lost = untold + deliveries, err
            else:
                self.refused += [deliveries[index] for index in indices]
        if lost is not None:
            raise self._lost(lost, untold)
        return remaining

    def _lost(self, err: NodeFailed, untold: Sequence[Delivery]) -> Exception:
        if len(self.connections.out_of_reach(self.queue_names)) == len(self.queue_names):
            return err.cause  # all of them, so it is no matter of one node
        return node_lost(err, untold, self.refused)

    def _lease_in_order(self, wait: float, remaining: dict[str, list[Delivery]]) -> None:
        self.soon = math.inf
        lost: NodeFailed | None = None
        reached = False
        for name in self.queue_names:
            if name in self.regained:
                continue
            room, first = self.limit - len(self.taken), int(not self.taken)
            args = [room, self.lease, first, math.ceil(wait * 1000)]
            acks = remaining.pop(name, [])
            try:
                self._lease("reserve", name, args, acks)
            except NodeFailed as err:  # the other queues are on other nodes
                if acks:
                    raise self._lost(err, acks) from err
                lost = err
                continue
            except DRIVER_ERRORS:
                if not self.taken:
                    raise
                return  # do not lose what the earlier queues gave
            reached = True
            full = len(self.taken) >= self.limit
            if full or self.held_up or any(each.deaths for each in self.taken):
                return
        if lost is not None and not (reached or self.regained):
            raise lost.cause  # all of them

    def _lease(self, name: str, queue_name: str, args: list[Any], acks: list[Delivery]) -> None:
        receipts = [each.receipt for each in acks]
        raw = self.connections.run_if_reachable(
            script(name),
            keys_of(queue_name),
            [*args, self.call_name, *receipts],
            lambda: _reply_again(queue_name, self.call_name, receipts),
        )
        leased, refused, soon = read_reply(queue_name, raw)
        self.woken.discard(queue_name)
        if refused:
            self.refused += [acks[index] for index in refused]
        self.taken += leased
        self.held_up = soon == _HELD_UP
        if soon <= _LOST:
            if queue_name not in self.searched:
                self.searched.add(queue_name)
                self._requeue_evicted(queue_name)
                self._lease(name, queue_name, args, [])
                return
            soon = -4 - soon  # the search found what it may find
        if soon == 0 and not self.taken and not self.stop():  # there are more to be looked at
            self._lease(name, queue_name, args, [])
            return
        if soon >= 0:
            self.soon = min(self.soon, soon / 1e6)

    def _requeue_evicted(self, queue_name: str) -> None:
        """Give tasks a new place that have lost theirs: keys were evicted, or deleted."""
        cursor, total = b"0", 0
        with contextlib.suppress(*DRIVER_ERRORS):  # no right to; or the lease that follows says so
            while True:
                cursor, count = self._run("requeue_evicted", queue_name, [cursor, _SEARCH_STEP])
                total += count
                if cursor == b"0" or self.stop():
                    break
        if total:
            log.warning(
                "Queue %r: keys on the redis server were evicted or deleted; %d tasks that neither "
                "waited nor ran wait again.",
                queue_name,
                total,
            )

    def _wait(self, pause: float, stop: Callable[[], bool]) -> bool | None:
        """Wait for a token; True: it came, None: the wait was ended.

        If a token may have been lost with a connection, other clients are woken.
        """
        lost = self.connections.out_of_reach(self.queue_names)
        keys = [wake_key(name) for name in self.queue_names if name not in lost]
        try:
            came = _wait_for_token(
                self.connections, keys, pause, lambda: stop() or self.connections.any_regained()
            )
        except _WaitBroken:
            self._wake_others(self.queue_names)
            return None
        except DRIVER_ERRORS:
            raise
        except BaseException:
            self._wake_others(self.queue_names)
            raise
        if came:
            self.woken.update(self.queue_names)
        return came

    def _wake_others(self, queue_names: Iterable[str]) -> None:
        for name in queue_names:
            try:
                self._run("ack", name, [])  # acks nothing, and wakes the next client if need be
            except NodeFailed:
                continue
            except DRIVER_ERRORS:
                return

    def _run(self, name: str, queue_name: str, args: list[Any]) -> Any:
        return self.connections.run_if_reachable(script(name), keys_of(queue_name), args)


class RedisAhead(Ahead):
    """A reserve that was sent, on a connection that no other call gets before the reply was read.

    Thrown away unread, it closes the connection.
    """

    def __init__(
        self,
        connections: Connections,
        queue_name: str,
        limit: int,
        lease: float,
        acks: Sequence[Delivery],
    ) -> None:
        self._connections, self._queue_name, self._acks = connections, queue_name, acks
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._result: Reserved | AlligatorException | None = None
        # As if an earlier queue had given something: so no task comes that has to go alone.
        receipts = [each.receipt for each in acks]
        name = _new_name()
        args = [min(limit, MOST_AT_ONCE), _micros_of(lease), 0, 0, name, *receipts]
        self._call = Call(script("reserve"), keys_of(queue_name), args)
        self._call_again = _reply_again(queue_name, name, receipts)
        self._broken: Exception | None = None  # why the reply will not come on this connection
        self.sent = time.monotonic()
        with translated():
            self._stack, self._connection = connections.begin(*self._call)

    def ready(self) -> bool:
        if self._pid != os.getpid() or not self._lock.acquire(blocking=False):
            return False
        try:
            if self._result is not None or self._broken is not None:
                return True
            if not self._connection.can_read(0):
                return False
        except DRIVER_ERRORS as err:
            self._broken = err
            with contextlib.suppress(*DRIVER_ERRORS), self._stack:
                raise  # so the stack closes the connection
        finally:
            self._lock.release()
        return True

    def read(self) -> Reserved:
        if self._pid != os.getpid():
            raise ConnectionLost("The reply to this reserve belongs to the process that sent it.")
        with self._lock:
            if self._result is None:
                try:
                    self._result = self._receive()
                except AlligatorException as err:
                    self._result = err
                except BaseException:
                    self._result = ConnectionLost("The reply was not read to its end.")
                    raise
        if isinstance(self._result, AlligatorException):
            raise self._result
        return self._result

    def _receive(self) -> Reserved:
        with translated():
            try:
                with self._stack:
                    if self._broken is not None:
                        raise self._broken
                    raw = self._connection.read_response()
            except NoScriptError:  # so nothing was done
                raw = self._connections.run(*self._call)
            except DRIVER_ERRORS as err:
                call = retry_of(err, self._call, lambda: self._call_again)
                if call is None:
                    raise
                raw = self._connections.run(*call)
        reply = read_reply(self._queue_name, raw)
        return Reserved(reply.leased, [self._acks[index] for index in reply.refused])


# -- Waiting for a token on the wake lists, on connections that lease nothing. --------------------


class _WaitBroken(Exception):
    """The wait was ended; a token may have been lost with it."""


def _wait_for_token(
    connections: Connections, keys: Sequence[bytes], timeout: float, stop: Callable[[], bool]
) -> bool:
    """Block until a token is there (True), or nothing came (False).

    If a node of a cluster is lost meanwhile, that counts as a token.

    :raises _WaitBroken: ``stop`` said so; the connections are closed.
    """
    groups = [list(keys)] if connections.one_server else [[key] for key in keys]
    with contextlib.ExitStack() as stack:
        pending: dict[Any, bytes] = {}  # connections, and a key of each
        for group in groups:
            try:
                connection = stack.enter_context(connections.borrow(group))
                connection.send_command("BLPOP", *group, _seconds(timeout))
            except DRIVER_ERRORS as err:
                connections.add_lost(group[0], err)
                _disconnect(pending)
                return True
            pending[connection] = group[0]
        deadline = time.monotonic() + timeout + _GRACE
        while pending:
            if stop() or time.monotonic() > deadline:
                raise _WaitBroken
            _poll(pending)
            for connection, key in list(pending.items()):
                try:
                    if not connection.can_read(0):
                        continue
                    answer = connection.read_response()
                except MovedError:
                    answer = b"elsewhere"  # the next script finds out where
                except DRIVER_ERRORS as err:
                    connection.disconnect()
                    connections.add_lost(key, err)
                    answer = b"lost"
                del pending[connection]
                if answer is not None:
                    _disconnect(pending)
                    return True
    return False


def _seconds(timeout: float) -> str:
    """Return a time to wait as the server takes it; never 0, which means for ever."""
    return f"{max(1, math.ceil(timeout * 1000)) / 1000:.3f}"


def _disconnect(connections: Iterable[Any]) -> None:
    for each in connections:  # the next script finds what may have come there
        each.disconnect()


def _poll(connections: Iterable[Any]) -> None:
    """Wait for any of these for a slice of time.

    :raises _WaitBroken: other code has closed one, and its number is that of another socket.
    """
    sockets = [each._sock for each in connections]
    if any(each.fileno() < 0 for each in sockets):
        raise _WaitBroken
    readable(sockets, _SLICE)
