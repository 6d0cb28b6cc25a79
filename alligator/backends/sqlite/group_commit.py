"""Commit pushes of several threads together, since a transaction costs more than a row.

A thread that pushes while another one does gets in line. The next one to have its turn (the
leader) writes for all in line. Each of them returns once that is committed, and not before.
"""

import threading
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from typing import Protocol

from alligator.backends.base import Message
from alligator.backends.sqlite import queue
from alligator.backends.sqlite.disk_reserve import Need, for_push
from alligator.backends.sqlite.lock import ThreadLock
from alligator.backends.sqlite.transaction import Position, Transaction
from alligator.exceptions import InvalidTask, QueueFull

#: Seconds after which a thread in line looks for itself: the leader tells it, unless it was
#: interrupted.
_PATIENCE = 0.1


class _Begin(Protocol):
    def __call__(self, need: Need) -> AbstractContextManager[Transaction]: ...


class Push:
    """The messages that one caller pushes."""

    def __init__(self, queue_name: str, messages: Sequence[Message]) -> None:
        self.queue_name, self.messages = queue_name, messages
        self.need = for_push(messages)
        self.done = False  # committed
        self.position: Position | None = None  # where, then
        self.abandoned = False  # the caller was interrupted while it waited
        self.news = threading.Lock()  # free once it is done, or first in line
        self.news.acquire()

    def tell(self) -> None:
        """Let the caller look whether it is done."""
        if self.news.locked():
            with suppress(RuntimeError):  # another thread has told it just now
                self.news.release()


class GroupCommit:
    """The pushes of one process to one file that wait to be written."""

    def __init__(self) -> None:
        self._waiting: deque[Push] = deque()
        self._leader = 0  # the thread that writes for all

    def __len__(self) -> int:
        return len(self._waiting)

    def push(
        self,
        lock: ThreadLock,
        transaction: _Begin,
        queue_name: str,
        messages: Sequence[Message],
    ) -> Position | None:
        """Put tasks on a queue, all or none, together with those of other threads.

        :param lock: what a thread holds while it writes; it may be taken twice.
        :param transaction: what opens a transaction.
        """
        mine, me = Push(queue_name, messages), threading.get_ident()
        within = self._leader == me  # a signal handler, say: what it interrupted goes on
        taken: list[bool] = []
        try:
            self._waiting.append(mine)
            # Not at the lock: threads that are done would queue there, too, and keep the next group
            # small.
            if self._leader and not within:
                mine.news.acquire(timeout=_PATIENCE)
            if mine.done:
                return mine.position
            self._leader = me
            taken += lock.take()
            if not mine.done:
                self._lead(transaction, mine)
            return mine.position
        finally:
            if taken and taken[0]:  # in no function of ours: see lock.py
                lock.owner = 0
                lock.free()
            mine.abandoned = not mine.done
            if self._leader == me and not within:
                self._leader = 0
            if self._waiting and not self._leader:
                self._tell_first()

    def _lead(self, transaction: _Begin, mine: Push) -> None:
        together = self._all_with(mine)
        try:
            if len(together) > 1 and _push_all(transaction, together):
                return
            # Alone, since one that cannot be stored would keep out its neighbours. Each of them
            # finds that it is not done, and is written alone as well.
            with transaction(mine.need) as tx:
                mine.position = queue.push(tx, mine.queue_name, mine.messages)
            mine.done = True
        finally:
            for each in together[1:]:
                each.tell()

    def _all_with(self, mine: Push) -> list[Push]:
        together = [mine]  # a push that is left out, after an interrupt, is written alone
        while self._waiting:
            try:
                each = self._waiting.popleft()
            except IndexError:  # a signal handler pushed, and took them all
                break
            if each is not mine and not each.abandoned:
                together.append(each)
        return together

    def _tell_first(self) -> None:
        with suppress(IndexError):  # another thread has taken them all
            self._waiting[0].tell()


def _push_all(transaction: _Begin, together: Sequence[Push]) -> bool:
    """Push for all of them; False: one of them cannot be stored."""
    by_queue: dict[str, list[Message]] = {}
    positions: dict[str, Position] = {}
    for each in together:
        by_queue.setdefault(each.queue_name, []).extend(each.messages)
    need = Need(sum(each.need.size for each in together), together[0].need.left)
    try:
        with transaction(need) as tx:
            for queue_name, messages in by_queue.items():
                positions[queue_name] = queue.push(tx, queue_name, messages)
    except (InvalidTask, QueueFull):
        return False
    for each in together:
        each.position = positions[each.queue_name]
        each.done = True
    return True
