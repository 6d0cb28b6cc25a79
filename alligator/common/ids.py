"""Make task ids, and tell ids made by Alligator from ids that a user chose."""

import os
import threading
import time
from collections.abc import Callable, Sequence

from alligator.common.after_fork import renew_in_children

#: A random digit, changed to start with the two bits that mark the variant of the UUID.
_VARIANT = {f"{digit:x}": f"{digit & 3 | 8:x}" for digit in range(16)}


class _TaskIds:
    """Make ids that sort by creation: UUID version 7, RFC 9562 section 6.2, method 1 (counter)."""

    def __init__(self) -> None:
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        self._lock = threading.Lock()
        self._last = 0
        self._used = 0
        self._random = ""  # hexadecimal digits; one system call serves many ids

    def next(self) -> str:
        """Return a new task id: unique, random in its tail, and sorting by creation time."""
        # 48 bits of milliseconds and 12 of a counter, which spills into the next
        # millisecond when it runs over, so that order holds within one process.
        stamp = int(time.time() * 1000) << 12
        with self._lock:
            if stamp <= self._last:
                stamp = self._last + 1
            self._last = stamp
            if self._used == len(self._random):
                self._random, self._used = os.urandom(2048).hex(), 0
            start = self._used
            self._used = start + 16
            tail = self._random[start : start + 16]
        head = f"{stamp:015x}"
        variant = _VARIANT[tail[0]]
        return f"{head[:8]}-{head[8:12]}-7{head[12:]}-{variant}{tail[1:4]}-{tail[4:]}"


_task_ids = _TaskIds()

#: Returns a new task id: unique, random in its tail, and sorting by creation time.
new_task_id: Callable[[], str] = _task_ids.next


#: The hyphens of a UUID; made once, as every task's id is checked.
_HYPHENS = slice(8, 24, 5)


class LookalikeId(str):
    """An id that the user chose, although it looks like one made by Alligator."""

    __slots__ = ()


def is_generated(task_id: str) -> bool:
    """Return whether Alligator made an id, a UUID of version 7. It is pushed once.

    Any other id is the user's own: it may be pushed again, or to several queues.
    """
    if len(task_id) != 36 or task_id[14] != "7" or task_id[_HYPHENS] != "----":
        return False
    return type(task_id) is not LookalikeId


def own_ids(task_ids: Sequence[str]) -> list[str]:
    """Return the ids for which :func:`is_generated` is false: the user's own.

    Most batches have none, so all are checked together: one check for each takes 0.2 µs.
    """
    if (many := len(task_ids)) > 2:
        text = "".join(task_ids)
        if (
            set(map(len, task_ids)) <= {36}
            and LookalikeId not in set(map(type, task_ids))
            and text[14::36] == "7" * many
            and all(text[place::36] == "-" * many for place in (8, 13, 18, 23))
        ):
            return []
    return [each for each in task_ids if not is_generated(each)]
