"""Reserving: ack, lease from several queues in order, and wait where there is nothing."""

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

from alligator.backends.base import MAX_LEASE, Delivery, Reserved, never
from alligator.backends.redis.connection import Link
from alligator.backends.redis.encoding import keys_of, wake_key
from alligator.backends.redis.errors import DRIVER_ERRORS, NodeOut, node_lost
from alligator.backends.redis.reply import read_reply
from alligator.backends.redis.scripts import LONGEST_WAIT, script
from alligator.backends.redis.wait import WaitBroken, wait_for_token
from alligator.common.grouping import group_by

log = logging.getLogger(__name__)

MOST_AT_ONCE = 1000  # tasks leased by one script, which holds up the server meanwhile
_HELD_UP = -2  # what the script says instead of a time
_LOST = -3  # the same, or less
_LOOKED_AT = (
    100  # tasks, with their data, in one step of the search for those that lost their place
)
_MARGIN = 0.002  # seconds after a due time, so that one look suffices


class Reservation:
    """One call of ``Client.reserve``."""

    def __init__(self, link: Link, queue_names: list[str], limit: int, lease: float) -> None:
        self.link, self.queue_names, self.limit = link, queue_names, min(limit, MOST_AT_ONCE)
        self.lease = int(min(lease, MAX_LEASE) * 1e6)
        self.taken: list[Delivery] = []
        self.refused: list[Delivery] = []
        self.soon = float("inf")  # seconds until something comes up by itself
        self.held_up = False  # by a task that has to go alone
        self.woken: set[str] = set()  # queues whose token we took and did not use yet
        self.searched: set[str] = set()  # queues where tasks had lost their place
        self.stop: Callable[[], bool] = never
        self.just_back: set[str] = set()  # in reach again, to be served from the next call on

    def take(self, task_id: bytes, acks: Sequence[Delivery]) -> Reserved:
        """Ack, then lease one task by its id."""
        pending = self._ack_elsewhere(acks)
        for name in self.queue_names:
            self._lease("reserve_by_id", name, [task_id, self.lease], pending.pop(name, []))
            if self.taken:
                break
        return Reserved(self.taken, self.refused)

    def reserve(self, wait: float, acks: Sequence[Delivery], stop: Callable[[], bool]) -> Reserved:
        """Ack, then lease up to the limit, and wait for something if there is nothing."""
        deadline, self.stop = time.monotonic() + wait, stop
        back = self.link.take_back()
        if wait or len(self.queue_names) > 1:  # else "nothing there" would be taken for its word
            self.just_back = back
        pending = self._ack_elsewhere(acks)
        while True:
            left = deadline - time.monotonic()
            self._lease_in_order(min(max(0.0, left), LONGEST_WAIT), pending)
            left = deadline - time.monotonic()
            if self.taken or left <= 0 or self.just_back or stop():
                break
            pause = min(left, self.soon + _MARGIN, LONGEST_WAIT)
            came = self._wait(pause, stop)
            if came is None or (not came and pause >= left):
                break
        if self.woken:
            self._pass_on(self.woken)
        return Reserved(self.taken, self.refused)

    def _ack_elsewhere(self, acks: Sequence[Delivery]) -> dict[str, list[Delivery]]:
        # All acks go before anything is leased; those of the first queue ride along.
        if not acks:
            return {}
        pending, first = group_by(acks, attrgetter("queue_name")), self.queue_names[0]
        untold: list[Delivery] = []
        lost: NodeOut | None = None
        # The first queue comes last: if there is no lease, its acks go alone.
        for name in sorted(pending, key=lambda name: name == first):
            if name == first and lost is None and first not in self.just_back:
                break
            those = pending.pop(name)
            try:
                indices = self._run("ack", name, [each.receipt for each in those])
            except NodeOut as err:
                untold, lost = untold + those, err
            else:
                self.refused += [those[index] for index in indices]
        if lost is not None:
            raise self._lost(lost, untold)
        return pending

    def _lost(self, err: NodeOut, untold: Sequence[Delivery]) -> Exception:
        if len(self.link.out_of_reach(self.queue_names)) == len(self.queue_names):
            return err.cause  # all of them, which is something else
        return node_lost(err, untold, self.refused)

    def _lease_in_order(self, wait: float, pending: dict[str, list[Delivery]]) -> None:
        self.soon = float("inf")
        lost: NodeOut | None = None
        reached = False
        for name in self.queue_names:
            if name in self.just_back:
                continue
            args = [self.limit - len(self.taken), self.lease, int(not self.taken)]
            args.append(math.ceil(wait * 1000))
            acks = pending.pop(name, [])
            try:
                self._lease("reserve", name, args, acks)
            except NodeOut as err:  # the other queues are on other nodes
                if acks:
                    raise self._lost(err, acks) from err
                lost = err
                continue
            except DRIVER_ERRORS:
                if not self.taken:
                    raise
                return  # what earlier queues gave must not be lost with the later ones
            reached = True
            full = len(self.taken) >= self.limit
            if full or self.held_up or any(each.deaths for each in self.taken):
                return
        if lost is not None and not (reached or self.just_back):
            raise lost.cause  # all of them

    def _lease(self, name: str, queue_name: str, args: list[Any], acks: list[Delivery]) -> None:
        receipts = [each.receipt for each in acks]
        leased, refused, soon = read_reply(
            queue_name, self._run(name, queue_name, [*args, *receipts])
        )
        self.woken.discard(queue_name)
        self.refused += [acks[index] for index in refused]
        self.taken += leased
        self.held_up = soon == _HELD_UP
        if soon <= _LOST:
            if queue_name not in self.searched:
                self.searched.add(queue_name)
                self._put_back(queue_name)
                self._lease(name, queue_name, args, [])
                return
            soon = -4 - soon  # those that are left are not ours to find
        if soon >= 0:
            self.soon = min(self.soon, soon / 1e6)

    def _put_back(self, queue_name: str) -> None:
        """Give those a place again that have lost theirs: keys were evicted, or deleted."""
        cursor, total = b"0", 0
        with contextlib.suppress(*DRIVER_ERRORS):  # may not; or what comes next says so
            while True:
                cursor, count = self._run("requeue_lost", queue_name, [cursor, _LOOKED_AT])
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
        # None: given up. A token may go down with the connection, so others are told.
        lost = self.link.out_of_reach(self.queue_names)
        keys = [wake_key(name) for name in self.queue_names if name not in lost]
        try:
            came = wait_for_token(self.link, keys, pause, lambda: stop() or self.link.has_news())
        except WaitBroken:
            self._pass_on(self.queue_names)
            return None
        except DRIVER_ERRORS:
            raise
        except BaseException:
            self._pass_on(self.queue_names)
            raise
        if came:
            self.woken.update(self.queue_names)
        return came

    def _pass_on(self, queue_names: Iterable[str]) -> None:
        for name in queue_names:
            try:
                self._run("ack", name, [])  # acks nothing, and wakes the next if need be
            except NodeOut:
                continue
            except DRIVER_ERRORS:
                return

    def _run(self, name: str, queue_name: str, args: list[Any]) -> Any:
        return self.link.run_or_fail(script(name), keys_of(queue_name), args)
