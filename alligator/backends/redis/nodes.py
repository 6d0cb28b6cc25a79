"""Which nodes of a cluster are out of reach, found out by calls that failed.

Each is tried again in a thread of its own, so that no caller waits for a node that hangs. The
threads end when their node answers, or when nobody has asked about it for a while.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from alligator.backends.redis.errors import DRIVER_ERRORS, is_answer

#: Seconds between two tries: at first, and at most.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 1.0

#: Seconds without a question after which a node is not tried any more.
FORGET_AFTER = 60.0


def queue_of(key: bytes) -> str:
    """Return the queue that a key belongs to, by its hash tag; '': to none."""
    tag, found, _ = key.removeprefix(b"alligator:{").partition(b"}:")
    return tag.decode(errors="replace") if found and tag != key else ""


@dataclass(slots=True, eq=False)
class _Lost:
    node: str
    key: bytes  # on that node
    error: Exception
    answers: bool = False  # again


class LostNodes:
    """The nodes, and the queues on them, that one client cannot reach.

    A queue whose node answers again stays listed until :meth:`take_back`, so that its workers can
    see to what they hold of it before they take anything from it.

    :param probe: asks the node of a key for something harmless, and raises what that raises.
    """

    def __init__(self, probe: Callable[[bytes], object]) -> None:
        self._probe = probe
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._lost: dict[str, _Lost] = {}  # by queue; what is on none by '' and its node
        self._tried: set[str] = set()  # nodes with a thread
        self._closed = threading.Event()
        self._asked = 0.0  # monotonic

    def __bool__(self) -> bool:
        return bool(self._lost) and self._is_ours()

    def _is_ours(self) -> bool:
        if self._pid == os.getpid():
            return True
        self._lock, self._closed = threading.Lock(), threading.Event()  # those of the parent
        self._lost, self._tried, self._pid = {}, set(), os.getpid()
        return False

    def find(self, node: str, key: bytes) -> Exception | None:
        """Return why a key is out of reach; None: as far as is known, it is not."""
        if not self:
            return None
        queue_name = queue_of(key)
        with self._lock:
            self._asked = time.monotonic()
            known = self._lost.get(queue_name) if queue_name else None
            if known is not None:
                return None if known.answers else known.error
            for each in self._lost.values():
                if each.node == node and not each.answers:
                    if queue_name:
                        self._lost[queue_name] = _Lost(node, key, each.error)
                    return each.error
        return None

    def add(self, node: str, key: bytes, error: Exception) -> None:
        """Note that a call failed, and try that node from time to time."""
        self._is_ours()
        with self._lock:
            self._asked = time.monotonic()
            self._lost[queue_of(key) or f"{{}}{node}"] = _Lost(node, key, error)
            if node in self._tried:
                return
            self._tried.add(node)
            self._closed.clear()
        thread = threading.Thread(
            target=self._try, args=[node], name="alligator-lost-node", daemon=True
        )
        thread.start()

    def answered(self) -> bool:
        """Whether :meth:`take_back` would return something."""
        return bool(self) and any(each.answers for each in list(self._lost.values()))

    def take_back(self) -> set[str]:
        """Return the queues that can be reached again, and list them no more."""
        if not self:
            return set()
        with self._lock:
            back = {name for name, each in self._lost.items() if each.answers}
            for name in back:
                del self._lost[name]
        return back

    def reasons(self, queue_names: Iterable[str]) -> dict[str, Exception]:
        """Return which of these queues are listed, and why."""
        if not self:
            return {}
        with self._lock:
            return {name: self._lost[name].error for name in queue_names if name in self._lost}

    def close(self) -> None:
        """Try no node any more, and take all for reachable."""
        if self._is_ours():
            with self._lock:
                self._lost.clear()
                self._closed.set()

    # -- In the thread. -----------------------------------------------------------------------

    def _try(self, node: str) -> None:
        pause = FIRST_PAUSE
        while (key := self._key_to_try(node)) is not None:
            if self._answers(key):
                with self._lock:
                    for each in self._lost.values():
                        each.answers = each.answers or each.node == node
            else:
                self._closed.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _key_to_try(self, node: str) -> bytes | None:
        with self._lock:
            if time.monotonic() - self._asked > FORGET_AFTER:
                self._lost = {name: it for name, it in self._lost.items() if it.node != node}
            pending = [it for it in self._lost.values() if it.node == node and not it.answers]
            if not pending:
                self._tried.discard(node)
                return None
            return pending[0].key

    def _answers(self, key: bytes) -> bool:
        try:
            self._probe(key)
        except DRIVER_ERRORS as err:
            return is_answer(err)
        except Exception:
            return False
        return True
