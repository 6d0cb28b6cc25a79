"""Pushes of several threads share one transaction, which costs more than what it carries.

Whoever comes while another thread writes gets in line. The next one to have its turn writes for
all in line; each of them returns once that is committed, and not before.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from typing import Protocol

from alligator.backends import sqlite_queue as queue
from alligator.backends.base import Message
from alligator.backends.sqlite_file import SqliteFile
from alligator.backends.sqlite_room import Need, for_push
from alligator.backends.sqlite_schema import Step
from alligator.exceptions import InvalidTask, QueueFull


class _Writing(Protocol):
    def __call__(self, need: Need) -> AbstractContextManager[Step]: ...


class Push:
    """What one caller wants to have on a queue."""

    __slots__ = ("done", "given_up", "messages", "need", "queue_name")

    def __init__(self, queue_name: str, messages: Sequence[Message]) -> None:
        self.queue_name, self.messages = queue_name, messages
        self.need = for_push(messages)
        self.done = False  # committed
        self.given_up = False  # the caller was interrupted while it waited


def push(file: SqliteFile, writing: _Writing, queue_name: str, messages: Sequence[Message]) -> None:
    """Put tasks on a queue, all or none, together with those of other threads.

    :param writing: what opens a transaction on the file.
    """
    mine = Push(queue_name, messages)
    file.in_line.append(mine)
    try:
        with file.lock:
            if mine.done:
                return
            together = _who_is_in_line(file, mine)
            if mine.done or (len(together) > 1 and _push_all(writing, together)):
                return
            # Alone, since one that cannot be stored would keep out its neighbours. So will
            # they: each of them finds that nobody has done it.
            with writing(mine.need) as step:
                queue.push(step, queue_name, messages)
    finally:
        mine.given_up = not mine.done


def _who_is_in_line(file: SqliteFile, mine: Push) -> list[Push]:
    together = [mine]  # whoever is left out, after an interrupt, does it alone
    with suppress(IndexError):
        while True:
            each = file.in_line.popleft()  # nobody can slip in between a look and a step
            if each is not mine and not each.given_up:
                together.append(each)
    return together


def _push_all(writing: _Writing, together: Sequence[Push]) -> bool:
    """Push for all of them; False: there is one for which that cannot be done."""
    by_queue: dict[str, list[Message]] = {}
    for each in together:
        by_queue.setdefault(each.queue_name, []).extend(each.messages)
    need = Need(sum(each.need.size for each in together), together[0].need.left)
    try:
        with writing(need) as step:
            for queue_name, messages in by_queue.items():
                queue.push(step, queue_name, messages)
    except (InvalidTask, QueueFull):
        return False
    for each in together:
        each.done = True
    return True
