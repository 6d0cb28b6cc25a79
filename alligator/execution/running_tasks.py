"""Exchange documents with the store about the tasks that run here: their progress.

A thread that no task waits for makes the exchange, now and then, if there is something to say.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from alligator.backends.base import Delivery
from alligator.backends.store import Store
from alligator.backends.types import Report
from alligator.exceptions import AlligatorException
from alligator.execution.leases import Leases
from alligator.monitoring import progress
from alligator.results.records import Recorder
from alligator.tasks.task import Task, that_report_progress

#: Seconds between two exchanges, at least.
EVERY = 0.5

#: Seconds after which progress is written again although it is the same: it would expire.
_REFRESH = progress.KEEP / 3

#: Seconds that the end of a run waits at most for an exchange that goes on.
_LAST = 1.0

#: What an exchange sets: documents by key, each with the seconds to keep it; '' deletes one.
Documents = Mapping[str, tuple[str, float]]


@dataclass(slots=True, eq=False)
class _Run:
    """A delivery that runs and has reported progress; or it has ended, and the store shows it."""

    delivery: Delivery  # kept, so that no other object gets its id()
    task: Task
    document_key: str
    sent: tuple[float, str] | None = None
    sent_at: float = 0.0  # monotonic
    ended: bool = False


class RunningTasks:
    """Tells a store about the tasks that run on some leases.

    :param store: None: there is none, and nothing is told.
    """

    def __init__(self, store: Store | None, recorder: Recorder, leases: Leases) -> None:
        self.store = store if store is not None and store.monitors else None
        self.recorder, self.leases = recorder, leases
        self._runs: dict[int, _Run] = {}  # by id() of the delivery
        self._next = 0.0
        self._exchanging = threading.Lock()

    def look(self) -> None:
        """Make an exchange in a thread of its own, if it is time and there is something to say.

        Call it several times a second, from one thread.
        """
        now = time.monotonic()
        if self.store is None or now < self._next or self._exchanging.locked():
            return
        self._next = now + EVERY
        if documents := self.documents():
            exchange = threading.Thread(target=self._exchange, args=[documents], daemon=True)
            try:
                exchange.start()
            except RuntimeError:  # the system has no room for a thread: the next time, then
                return

    def _exchange(self, documents: Documents) -> None:
        with self._exchanging:
            try:
                if self.store is not None:
                    self.store.report(Report("", documents=documents))
                    self.were_sent(documents)
            except AlligatorException:  # they are sent with the next one
                return

    def documents(self) -> dict[str, tuple[str, float]]:
        """Return what the store is to be told. Call :meth:`were_sent` if that got through."""
        running = {id(delivery) for delivery, _ in self.leases.running()}
        for task in that_report_progress():
            delivery = task.delivery
            if delivery is not None and id(delivery) in running:
                key = progress.document_key(self.recorder.key_of(task, delivery))
                self._runs.setdefault(id(delivery), _Run(delivery, task, key))
        found, now = dict[str, tuple[str, float]](), time.monotonic()
        for number, each in list(self._runs.items()):
            if number not in running:
                each.ended = True
                if each.sent is None:
                    del self._runs[number]
                else:
                    found[each.document_key] = "", 0.0
        for each in self._runs.values():  # last: one may be the retry of one that has ended
            known = None if each.ended else each.task.progress()
            if known is not None and (known != each.sent or now - each.sent_at > _REFRESH):
                found[each.document_key] = progress.to_text(*known), progress.KEEP
        return found

    def were_sent(self, documents: Documents) -> None:
        """Note what the store has been told."""
        now = time.monotonic()
        for number, each in list(self._runs.items()):
            if each.document_key not in documents:
                continue
            if each.ended:
                self._runs.pop(number, None)
            else:
                text, _ = documents[each.document_key]
                each.sent, each.sent_at = progress.from_text(text), now

    def close(self) -> None:
        """Delete the progress of all that ran: nothing runs on these leases any more."""
        if self.store is None or not self._runs or not self._exchanging.acquire(timeout=_LAST):
            return
        try:
            if keys := [each.document_key for each in self._runs.values() if each.sent]:
                self.store.delete_documents(keys)
        except AlligatorException:  # they expire
            return
        finally:
            self._exchanging.release()
