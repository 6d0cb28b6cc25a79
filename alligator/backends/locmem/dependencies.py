"""Hold children that wait for their parents, in memory. Callers hold the lock of the queues."""

from collections.abc import Callable

from alligator.backends.locmem.queue import Queue
from alligator.backends.locmem.records import Records
from alligator.backends.store import (
    CANCELED_BY,
    KEEP_FAILED,
    gone_badly,
    own_record_key,
    record_key,
    waits_for_itself,
)
from alligator.backends.task_controls import unique_key
from alligator.backends.types import Child, Duplicate, Parent, Record, Waits
from alligator.constants import CANCELED, FAILED, WAITING

#: A task by its queue and its id.
Key = tuple[str, str]


class Dependencies:
    """Which child waits for which parents; the children themselves are on their queues."""

    def __init__(self, queue: Callable[[str], Queue], records: Records) -> None:
        self._queue, self._records = queue, records
        self._waits: dict[Key, set[Key]] = {}  # the parents of each held child
        self._children: dict[Key, dict[Key, None]] = {}  # the children of each parent, in order
        self._unconditional = set[Key]()

    def hold(self, child: Child, now: float) -> int | Duplicate:
        """Keep a child back, queue it, or cancel it; see ``Store.hold``."""
        key = child.queue_name, child.message.task_id
        if taken := self._queue(child.queue_name).with_key(unique_key(child.message)):
            return Duplicate(taken.task_id)
        waits = set[Key]()
        for parent in child.parents:
            stands = self._where(parent)
            if stands is None:
                if not child.unconditional and (why := self._failure(parent, now)):
                    return self._refuse(key, why, now)
            else:
                waits.add(stands)
        queue = self._queue(child.queue_name)
        if not waits:
            self.forget(key)
            self._records.overrule(*key, now)
            queue.push(child.message, now)
            return WAITING
        if waits & self._below(key):
            raise waits_for_itself(child.message.task_id)
        queue.hold(child.message, now)
        self._records.overrule(*key, now)
        self.forget(key)
        self._waits[key] = waits
        if child.unconditional:
            self._unconditional.add(key)
        for each in waits:
            self._children.setdefault(each, {})[key] = None
        return WAITING

    def _below(self, key: Key) -> set[Key]:
        """Return the tasks that wait for one, directly or through others."""
        found, pending = set[Key](), [key]
        while pending:
            new = self._children.get(pending.pop(), {}).keys() - found
            found |= new
            pending += new
        return found

    def _where(self, parent: Parent) -> Key | None:
        for name in parent.queue_names:
            if parent.task_id in self._queue(name).entries:
                return name, parent.task_id
        return None

    def _failure(self, parent: Parent, now: float) -> str | None:
        for name in parent.queue_names:
            if letter := self._queue(name).valid_letter(parent.task_id):
                return gone_badly(parent.task_id, FAILED, letter.error)
        keys = [own_record_key(name, parent.task_id) for name in parent.queue_names]
        for key in (*keys, parent.task_id):
            found = self._records.outcomes.get(key, now)
            if found and (why := gone_badly(parent.task_id, found.state, found.error)):
                return why
        return None

    def _refuse(self, key: Key, why: str, now: float) -> int:
        if not self.drop(key):
            self._queue(key[0]).drop_waiting(key[1])
        self._queue(key[0]).overrule(key[1])
        self._canceled(key, why, now)
        self.cancel(key, gone_badly(key[1], CANCELED, why) or "", now)
        return CANCELED

    def forget(self, child: Key) -> None:
        """Note that a child waits for no parent any more."""
        self._unconditional.discard(child)
        for each in self._waits.pop(child, ()):
            self._children[each].pop(child)
            if not self._children[each]:
                del self._children[each]

    def drop(self, child: Key) -> bool:
        """Take a held child off its queue; False: it is not held."""
        if child not in self._waits:
            return False
        self.forget(child)
        self._queue(child[0]).drop_held(child[1])
        return True

    def waits_for(self, child: Key, limit: int) -> Waits:
        """Return the parents that a child waits for."""
        waits = self._waits.get(child, set())
        return Waits(len(waits), sorted(waits)[:limit])

    def release(self, parent: Key, now: float) -> None:
        """Queue the children that waited for this parent alone: it has succeeded."""
        for child in self._children.pop(parent, ()):
            self._has_ended(child, parent, now)

    def _has_ended(self, child: Key, parent: Key, now: float) -> None:
        """Queue a child if it waited for no parent but this one, which has ended."""
        waits = self._waits[child]
        waits.remove(parent)
        if not waits:
            del self._waits[child]
            self._unconditional.discard(child)
            self._queue(child[0]).free(child[1], now)

    def cancel(self, parent: Key, why: str, now: float) -> None:
        """Cancel the children of a parent that will not succeed, and their children in turn."""
        pending = [(parent, why)]
        while pending:
            lost, why = pending.pop()
            for child in list(self._children.get(lost, ())):
                if child in self._unconditional:
                    self._children[lost].pop(child)
                    if not self._children[lost]:
                        del self._children[lost]
                    self._has_ended(child, lost, now)
                    continue
                self.drop(child)
                self._canceled(child, why, now)
                pending.append((child, gone_badly(child[1], CANCELED, why) or ""))

    def _canceled(self, child: Key, why: str, now: float) -> None:
        record = Record(CANCELED, error=CANCELED_BY.format(why), at=now, pushed=now)
        self._records.put(record_key(*child), record, now, KEEP_FAILED)

    def drop_queue(self, name: str, now: float) -> None:
        """Forget the children on a queue that is emptied, and cancel those of its tasks."""
        for key in [key for key in self._waits if key[0] == name]:
            self.drop(key)
        for key in [key for key in self._children if key[0] == name]:
            self.cancel(key, gone_badly(key[1], CANCELED, "its queue was emptied") or "", now)
