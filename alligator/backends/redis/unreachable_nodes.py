"""Remember which nodes of a cluster are lost, by the calls that failed.

A thread per lost node tries it again, so that no caller waits for a node that hangs. The thread
ends when the node answers, or when no call has asked about it for a while.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from alligator.backends.redis.encoding import queue_of
from alligator.backends.redis.errors import DRIVER_ERRORS, is_answer

#: Seconds between two attempts: at first, and at most.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 1.0

#: Seconds without a call about a node after which the attempts end.
FORGET_AFTER = 60.0


@dataclass(slots=True, eq=False)
class _Lost:
    node: str
    key: bytes  # on that node
    error: Exception
    regained: bool = False  # the node answers again


class LostNodes:
    """The nodes that one client cannot reach, and the queues on them.

    A queue whose node answers again stays listed until :meth:`forget_regained`, so that its workers
    can settle what they have on lease before they reserve more.

    :param probe: runs a harmless command on the node of a key, and lets its errors out.
    """

    def __init__(self, probe: Callable[[bytes], object]) -> None:
        self._probe = probe
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._lost: dict[str, _Lost] = {}  # by queue; a key of no queue by '{}' and its node
        self._tried: set[str] = set()  # nodes that a thread tries
        self._closed = threading.Event()
        self._asked = 0.0  # when a call last asked, monotonic

    def __bool__(self) -> bool:
        return bool(self._lost) and self._is_ours()

    def _is_ours(self) -> bool:
        if self._pid == os.getpid():
            return True
        self._lock, self._closed = (
            threading.Lock(),
            threading.Event(),
        )  # not the parent's
        self._lost, self._tried, self._pid = {}, set(), os.getpid()
        return False

    def find(self, node: str, key: bytes) -> Exception | None:
        """Return why a key cannot be reached; None: it can, as far as is known."""
        if not self:
            return None
        queue_name = queue_of(key)
        with self._lock:
            self._asked = time.monotonic()
            known = self._lost.get(queue_name) if queue_name else None
            if known is not None:
                return None if known.regained else known.error
            for each in self._lost.values():
                if each.node == node and not each.regained:
                    if queue_name:
                        self._lost[queue_name] = _Lost(node, key, each.error)
                    return each.error
        return None

    def add(self, node: str, key: bytes, error: Exception) -> None:
        """Note that a call failed, and start to try the node from time to time."""
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

    def any_regained(self) -> bool:
        """Whether :meth:`forget_regained` would return something."""
        return bool(self) and any(each.regained for each in list(self._lost.values()))

    def forget_regained(self) -> set[str]:
        """Return the queues whose nodes answer again, and list them no more."""
        if not self:
            return set()
        with self._lock:
            regained = {name for name, each in self._lost.items() if each.regained}
            for name in regained:
                del self._lost[name]
        return regained

    def reasons(self, queue_names: Iterable[str]) -> dict[str, Exception]:
        """Return the listed ones of these queues, with their errors."""
        if not self:
            return {}
        with self._lock:
            return {name: self._lost[name].error for name in queue_names if name in self._lost}

    def close(self) -> None:
        """Stop all attempts, and take all nodes for reachable."""
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
                        each.regained = each.regained or each.node == node
            else:
                self._closed.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    def _key_to_try(self, node: str) -> bytes | None:
        with self._lock:
            if time.monotonic() - self._asked > FORGET_AFTER:
                self._lost = {name: it for name, it in self._lost.items() if it.node != node}
            pending = [it for it in self._lost.values() if it.node == node and not it.regained]
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
