"""Exchange documents with the store about the tasks that run here.

Their progress goes there, and the requests to cancel them come from there. In a worker that is part
of its report, once a second. Elsewhere a thread does it, at most twice a second.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from alligator.backends.base import Delivery
from alligator.backends.store import Store
from alligator.backends.types import Report
from alligator.exceptions import AlligatorException
from alligator.monitoring import cancel_requests, progress
from alligator.results.recorder import Recorder
from alligator.runtime.timeouts import Overrun
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
    """A delivery that runs, or has ended while the store shows its progress."""

    delivery: Delivery  # kept, so that no other object gets its id()
    key: str  # of its record
    task: Task | None = None  # known once it has reported progress
    sent: tuple[float, str] | None = None
    sent_at: float = 0.0  # monotonic
    ended: bool = False
    told: bool = False  # to end, as it is canceled

    @property
    def progress_key(self) -> str:
        return progress.document_key(self.key)


class TaskDocuments:
    """Exchanges documents with a store about the tasks that run here.

    :param store: None: there is none, and nothing is exchanged.
    :param running: returns what runs, each with when it started.
    :param overrun: returns what to do if a task that is canceled does not end.
    """

    def __init__(
        self,
        store: Store | None,
        recorder: Recorder,
        running: Callable[[], list[tuple[Delivery, float]]],
        overrun: Callable[[Delivery, Task], Overrun | None],
    ) -> None:
        self.store = store if store is not None and store.monitors else None
        self.recorder, self.running, self.overrun = recorder, running, overrun
        self._runs: dict[int, _Run] = {}  # by id() of the delivery
        self._stale: set[str] = set()  # keys of requests that are about no task that runs here
        self._next = 0.0
        #: Held during an exchange.
        self.exchanging = threading.Lock()

    def look(self) -> None:
        """Make an exchange in a thread of its own, if it is time and a task runs or has ended.

        Call it several times a second, from one thread.
        """
        now = time.monotonic()
        if self.store is None or now < self._next or self.exchanging.locked():
            return
        self._next = now + EVERY
        documents, keys = self.documents(), self.keys()
        if documents or keys:
            exchange = threading.Thread(
                target=self._exchange,
                args=[documents, keys],
                daemon=True,
                name="alligator-exchange",
            )
            try:
                exchange.start()
            except RuntimeError:  # the system has no room for a thread: the next time, then
                return

    def _exchange(self, documents: Documents, keys: Sequence[str]) -> None:
        with self.exchanging:
            if self.store is None:
                return
            try:
                if documents:
                    found = self.store.report(Report("", documents=documents, ask=keys))
                    self.were_sent(documents)
                else:
                    found = self.store.documents(keys)
            except AlligatorException:  # the next time, then
                return
            self.answered(keys, found)

    # -- Progress. ----------------------------------------------------------------------------

    def documents(self) -> dict[str, tuple[str, float]]:
        """Return what the store is to be told. Call :meth:`were_sent` if that got through."""
        if self.store is None:
            return {}
        running = self._note_runs()
        for task in that_report_progress():
            if task.delivery is not None and (run := self._runs.get(id(task.delivery))):
                run.task = task
        found, now = dict[str, tuple[str, float]](), time.monotonic()
        for key in self._stale:
            found[key] = "", 0.0
        for number, each in list(self._runs.items()):
            if number not in running:
                each.ended = True
                if each.sent is None:
                    del self._runs[number]
                else:
                    found[each.progress_key] = "", 0.0
        for each in self._runs.values():  # last: one may be the retry of one that has ended
            known = None if each.ended or each.task is None else each.task.progress()
            if known is not None and (known != each.sent or now - each.sent_at > _REFRESH):
                found[each.progress_key] = progress.to_text(*known), progress.KEEP
        return found

    def _note_runs(self) -> set[int]:
        """Note what runs; return the id() of each delivery."""
        running = [delivery for delivery, _ in self.running()]
        for each in running:
            if id(each) not in self._runs:
                self._runs[id(each)] = _Run(each, self.recorder.key_in(each))
        return set(map(id, running))

    def were_sent(self, documents: Documents) -> None:
        """Note what the store has been told."""
        now = time.monotonic()
        self._stale.difference_update(documents)
        for number, each in list(self._runs.items()):
            if each.progress_key not in documents:
                continue
            if each.ended:
                self._runs.pop(number, None)
            else:
                text, _ = documents[each.progress_key]
                each.sent, each.sent_at = progress.from_text(text), now

    # -- Requests to cancel. ------------------------------------------------------------------

    def keys(self) -> list[str]:
        """Return the keys of the documents to ask the store for; see :meth:`answered`."""
        return [
            cancel_requests.document_key(each.key)
            for each in list(self._runs.values())
            if not (each.ended or each.told)
        ]

    def answered(self, keys: Sequence[str], texts: Sequence[str | None]) -> None:
        """Cancel the tasks that the store has a request for.

        :param keys: as :meth:`keys` returned them.
        :param texts: what the store has under them.
        """
        requests = {key: text for key, text in zip(keys, texts, strict=True) if text is not None}
        if not requests:
            return
        tasks = {id(each.delivery): each for each in Task.that_run()}
        for each in list(self._runs.values()):
            key = cancel_requests.document_key(each.key)
            if key not in requests:
                continue
            if not cancel_requests.is_about(requests[key], each.delivery.data):
                self._stale.add(key)  # about an earlier push of that id
            elif (task := tasks.get(id(each.delivery))) is not None:
                each.told = True
                delivery = each.delivery
                task.cancel_run(self.overrun(delivery, task), partial(self._is_over, delivery))

    def _is_over(self, delivery: Delivery) -> bool:
        return all(each is not delivery for each, _ in self.running())

    def close(self) -> None:
        """Delete the progress of all that ran: nothing runs on these leases any more."""
        if self.store is None or not self._runs or not self.exchanging.acquire(timeout=_LAST):
            return
        try:
            runs, self._runs = self._runs, {}
            if keys := [each.progress_key for each in runs.values() if each.sent]:
                self.store.delete_documents(keys)
        except AlligatorException:  # they expire
            return
        finally:
            self.exchanging.release()
