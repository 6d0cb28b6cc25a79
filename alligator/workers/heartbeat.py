"""Tell the store that a worker lives, and what it does.

A thread of its own does it. The store may hang on another server, and leases and acks must not
wait for that. Every 30 seconds it sends a heartbeat, which ``gator.explain`` reads. At most once a
second it sends a report, if there is something new: what the worker runs, and what was recorded
(:mod:`alligator.execution.activity_report`). The report also asks for documents, such as the
requests to cancel what runs here.
"""

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Self

from alligator.backends.store import Store
from alligator.backends.types import Report
from alligator.common.text import describe_error
from alligator.exceptions import NodeLost
from alligator.execution.activity_report import Recording, host
from alligator.execution.backend_trouble import Outage
from alligator.execution.progress_and_cancels import TaskDocuments

#: Seconds between two heartbeats.
EVERY = 30.0

#: Seconds between two reports, at least.
REPORT_EVERY = 1.0

#: Seconds without a heartbeat after which a worker counts as gone: two may get lost.
COUNTS = 3 * EVERY

#: Seconds that a worker takes at most for its last heartbeat, which removes it.
_LAST = 1.0


class Heartbeat:
    """Sends heartbeats and reports to a store, for as long as it is entered.

    A failure is logged once, and has no further effect.

    :param store: None: there is none, and nothing is sent; what was recorded is counted.
    :param look: called after each heartbeat that got through.
    :param sample: called with each heartbeat but the first; it raises nothing.
    :param outage: that of the worker's queue, which logs for itself, if the store is on the same
        backend; None: it is on another.
    :param recording: what there is to report; None: nothing is recorded.
    :param live: returns what the worker does now, as text.
    :param tasks: what to exchange about the tasks that run; None: nothing.
    :param beats: False: the worker serves no queue, so it sends reports only.
    """

    def __init__(
        self,
        store: Store | None,
        queue_names: Sequence[str],
        *,
        log: logging.Logger,
        outage: Outage | None,
        look: Callable[[], None] | None = None,
        sample: Callable[[], None] | None = None,
        recording: Recording | None = None,
        live: Callable[[], str] | None = None,
        tasks: TaskDocuments | None = None,
        beats: bool = True,
    ) -> None:
        self.store, self.queue_names = store, queue_names
        # Each of several containers may be process 1 on a host of the same name.
        self.name = f"{host()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._look, self._sample = look, sample
        self._recording, self._live = recording, live
        self._tasks, self._sends_beats = tasks, beats
        self._beats = _Calls("The heartbeat of this worker", log, outage)
        self._reports = _Calls("The report of what this worker does", log, outage)
        self._sent: str | None = None  # the live view that the store has
        self._log = log
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="alligator-heartbeat", daemon=True)

    def __enter__(self) -> Self:
        if self.store is not None or self._recording is not None:
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def end(self) -> None:
        """Say that the worker ends, for up to a second."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_LAST)

    def _serve(self) -> None:
        due = report_due = 0.0
        is_first = True
        while True:
            now = time.monotonic()
            if now >= due:
                due, report_due = now + EVERY, 0.0
                if self._sample is not None and not is_first:
                    self._sample()
                is_first = False
                self._sent = None  # again: a store that was emptied does not know it
                if self.store is not None and self._sends_beats and self._beat(COUNTS):
                    self._call_look()
            if now >= report_due:
                failures = self._report(COUNTS)
                report_due = now + min(REPORT_EVERY * 2**failures, EVERY)
            elif self._recording is not None and self._recording.listeners:
                self._recording.count()  # the store cannot be reached, and that is not their fault
            pause = max(0.0, min(due, report_due) - time.monotonic())
            if self._stop.wait(min(pause, REPORT_EVERY)):
                break
        if not self._reports.failures:
            self._report(0.0)
        elif self._recording is not None:
            self._recording.count()
        if self.store is None:
            return
        if self._sends_beats and not self._beats.failures:
            self._beat(0.0)

    def _beat(self, seconds: float) -> bool:
        store = self.store
        assert store is not None
        return self._beats.call(lambda: store.beat(self.name, self.queue_names, seconds))

    def _report(self, seconds: float) -> int:
        """Send a report; return how many have failed in a row."""
        if self.store is None and self._recording is not None:
            self._recording.count()
            return 0
        with nullcontext() if self._tasks is None else self._tasks.exchanging:
            self._reports.call(lambda: self._send_report(seconds))
        return min(self._reports.failures, 10)

    def _send_report(self, seconds: float) -> None:
        assert self.store is not None
        tasks, live = (self._tasks if seconds else None), None
        documents = {} if tasks is None else tasks.documents()
        keys = [] if tasks is None else tasks.keys()
        ends = seconds == 0.0 and self._sent is not None

        def make() -> Report:
            nonlocal live
            live = self._live() if self._live is not None and seconds else None
            new = live if live != self._sent else None
            return Report(self.name, new, seconds, documents=documents, ask=keys)

        recording = self._recording
        if recording is not None and recording.store is not None:
            found = recording.flush(make, always=ends)
        else:
            if recording is not None:
                recording.count()
            found = self.store.report(make()) if documents or keys else None
        if live is not None:
            self._sent = live
        if tasks is not None and found is not None:
            tasks.were_sent(documents)
            tasks.answered(keys, found)

    def _call_look(self) -> None:
        if self._look is not None:
            try:
                self._look()
            except Exception as err:  # the look is a courtesy, and may not be allowed
                self._log.debug("It is unknown which queues are served: %s", describe_error(err))


class _Calls:
    """Calls of one kind, whose failures are logged once in a row.

    :param name: of the calls, with which a sentence may begin.
    """

    def __init__(self, name: str, log: logging.Logger, outage: Outage | None) -> None:
        self.name, self.log, self.outage = name, log, outage
        self.failures = 0  # in a row
        self._logged = False

    def call(self, call: Callable[[], object]) -> bool:
        """Make a call; return whether it got through."""
        try:
            call()
        except Exception as err:
            self.failures += 1
            self._complain(err)
            return False
        if self._logged:
            self.log.info("%s gets through again.", self.name)
        self.failures, self._logged = 0, False
        return True

    def _complain(self, err: Exception) -> None:
        # Once; and not at all if it is the queue that cannot be reached.
        outage = self.outage
        if outage is not None and isinstance(err, NodeLost):
            return
        if outage is not None and (outage.lasts or outage.is_full or self.failures < 2):
            return
        if not self._logged:
            self._logged = True
            self.log.warning("%s failed (%s); the worker goes on.", self.name, describe_error(err))
