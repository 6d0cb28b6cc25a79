"""Keep the ids of the tasks that a task depends on in the store, if its message has no room.

The message then holds their number and a digest of them instead. A signature of the message so
covers the ids, and ids that another program wrote to the store are refused.
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

#: Characters of all ids that a message holds: about 400 ids made by Alligator. The store keeps
#: a longer list.
MOST = 16_000

_PLACE = re.compile(r"alligator-parents:([0-9]{1,9}):([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class KeptParents:
    """The number and digest that a message holds for parent ids in the store.

    :param count: the number of ids.
    :param digest: the SHA-256 of their ids.
    :param load: returns the ids, given this; None: there is no store to ask.
    """

    count: int
    digest: str
    load: "Callable[[str, KeptParents], list[str]] | None" = None

    def __str__(self) -> str:
        return f"alligator-parents:{self.count}:{self.digest}"

    def key(self, task_id: str) -> str:
        """Return the key of their record, for the task of that id."""
        return f"parents:{task_id}/{self.digest[:16]}"

    def ids(self, task_id: str) -> list[str]:
        """Return the ids.

        :raises AlligatorException: the store does not have them, or not any more.
        :raises ConnectionLost: the store cannot be reached.
        """
        if self.load is None:
            raise AlligatorException(
                f"Task {shorten(task_id)} depends on {self.count:,} tasks, whose ids are in a "
                "store; take it from the queue by a Gator that has this store."
            )
        return self.load(task_id, self)


def read(ids: Sequence[Any]) -> KeptParents | None:
    """Return the number and digest in the ``depends_on`` of a message; None: it holds ids."""
    if len(ids) != 1 or not isinstance(ids[0], str) or not (found := _PLACE.fullmatch(ids[0])):
        return None
    return KeptParents(int(found[1]), found[2])


def are_many(ids: Sequence[str], largest: int | None) -> bool:
    """Return whether the store is to keep these ids.

    :param largest: the bytes that a message may have; None: any number.
    """
    return sum(map(len, ids)) > (MOST if largest is None else min(MOST, largest // 4))


def keep(store: Store, task_id: str, ids: Sequence[str], now: float, delay: float) -> KeptParents:
    """Keep ids in a store, for as long as it keeps failures.

    :param now: a Unix timestamp, in seconds.
    :param delay: the seconds of the task's delay, added to that time.
    """
    text = json.dumps(list(ids), separators=(",", ":"))
    kept = KeptParents(len(ids), hashlib.sha256(text.encode()).hexdigest())
    record = Record(SUCCESS, text, at=now, pushed=now)
    store.note(kept.key(task_id), record, KEEP_FAILED + delay)
    return kept


def load(store: Store | None, task_id: str, kept: KeptParents) -> list[str]:
    """Return the ids from a store; see :meth:`KeptParents.ids`."""
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
