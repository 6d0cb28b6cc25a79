"""The ids of what a task depends on, kept in the store where they are too many for its message.

A message then says so in their place: how many they are, and by a digest, which. So the message
speaks for them: what somebody else wrote to the store in their place is not taken for them.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from alligator.backends.store import KEEP_FAILED, Record, Store
from alligator.common import strict_json
from alligator.common.text import shorten
from alligator.constants import SUCCESS
from alligator.exceptions import AlligatorException, BadPayload

#: Characters of ids that go with a message, all together: some 400 ids of Alligator's making.
#: More are kept in the store.
MOST = 16_000

_PLACE = re.compile(r"alligator-parents:([0-9]{1,9}):([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class KeptParents:
    """What stands in a message for parents that are kept in the store.

    :param count: how many they are.
    :param digest: the SHA-256 of their ids.
    :param load: returns the ids, given this; None: there is no store to ask.
    """

    count: int
    digest: str
    load: "Callable[[str, KeptParents], list[str]] | None" = None

    def __str__(self) -> str:
        return f"alligator-parents:{self.count}:{self.digest}"

    def key(self, task_id: str) -> str:
        """Return under which key they are kept, for the task of that id."""
        return f"parents:{task_id}/{self.digest[:16]}"

    def ids(self, task_id: str) -> list[str]:
        """Return the ids.

        :raises AlligatorException: they are not there, or not any more.
        :raises ConnectionLost: the store is out of reach.
        """
        if self.load is None:
            raise AlligatorException(
                f"Task {shorten(task_id)} depends on {self.count:,} tasks, whose ids are in a "
                "store; take it from the queue by a Gator that has this store."
            )
        return self.load(task_id, self)


def read(ids: Sequence[Any]) -> KeptParents | None:
    """Return what the ``depends_on`` of a message says of parents in the store; None: nothing."""
    if len(ids) != 1 or not isinstance(ids[0], str) or not (found := _PLACE.fullmatch(ids[0])):
        return None
    return KeptParents(int(found[1]), found[2])


def are_many(ids: Sequence[str], largest: int | None) -> bool:
    """Whether so many ids are kept in the store.

    :param largest: bytes that a message may have; None: any number.
    """
    return sum(map(len, ids)) > (MOST if largest is None else min(MOST, largest // 4))


def keep(store: Store, task_id: str, ids: Sequence[str], now: float, delay: float) -> KeptParents:
    """Keep ids in a store, for as long as failures are kept.

    :param now: a Unix timestamp, in seconds.
    :param delay: seconds that the task is put off for; the ids are kept longer by these.
    """
    text = json.dumps(list(ids), separators=(",", ":"))
    kept = KeptParents(len(ids), hashlib.sha256(text.encode()).hexdigest())
    record = Record(SUCCESS, text, at=now, pushed=now)
    store.note(kept.key(task_id), record, KEEP_FAILED + delay)
    return kept


def load(store: Store | None, task_id: str, kept: KeptParents) -> list[str]:
    """Return ids that were kept in a store; see :meth:`KeptParents.ids`."""
    record = store.record(kept.key(task_id)) if store is not None else None
    text = (record.result if record is not None else None) or ""
    if hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() != kept.digest:
        raise AlligatorException(
            f"The ids of the {kept.count:,} tasks that task {shorten(task_id)} depends on are not "
            "in the store of this Gator. They are kept for 30 days, in the store that the task was "
            "pushed with."
        )
    ids = strict_json.loads(text)
    if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
        raise BadPayload(f"What task {shorten(task_id)} depends on is no list of ids.")
    return ids
