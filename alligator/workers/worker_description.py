"""Say what a worker is, and what it runs now: for ``gator.workers()`` and ``gator.running()``."""

import os
import sys
import time
from collections.abc import Callable, Sequence

from alligator.backends.base import Delivery
from alligator.common.clock import Clock
from alligator.execution.activity_report import Recording, host
from alligator.monitoring.encoding import LONGEST_NAME, MOST_RUNNING, live_text
from alligator.monitoring.message_summary import Described, describe_briefly
from alligator.monitoring.rows import NowRow, WorkerRow
from alligator.tasks.attempt_numbers import number_of

#: What runs: each delivery with when it started (monotonic).
Running = Callable[[], list[tuple[Delivery, float]]]


class LiveView:
    """The live view of one worker.

    :param recording: told of tasks whose history is kept, when they are first seen to run.
    :param running: returns what runs.
    """

    def __init__(
        self,
        recording: Recording,
        clock: Clock,
        queue_names: Sequence[str],
        concurrency: int,
        running: Running,
    ) -> None:
        self._recording, self._clock, self._running = recording, clock, running
        self._queue_names, self._concurrency = tuple(queue_names), concurrency
        self._started = clock.time()
        # What was read of the deliveries that run, by id(); with the deliveries, so that no other
        # object gets that id. And when each started, a Unix timestamp that stays as it is, and
        # which attempt it is.
        self._seen: dict[int, tuple[Delivery, Described, float, int]] = {}

    def text(self) -> str:
        """Return it as text, and note the starts of tasks whose history is kept."""
        now, moment = self._clock.time(), time.monotonic()
        running = sorted(self._running(), key=lambda each: each[1])[:MOST_RUNNING]
        before, self._seen = self._seen, {}
        for delivery, started in running:
            known = before.get(id(delivery))
            if known is None:
                found = describe_briefly(delivery.data)
                known = delivery, found, now - (moment - started), number_of(delivery)
                if known[1].kept_for:
                    self._recording.note_running(*known[:3])
            self._seen[id(delivery)] = known
        return live_text(
            WorkerRow(
                host=host(),
                pid=os.getpid(),
                queues=self._queue_names,
                concurrency=self._concurrency,
                version=_version(),
                started=self._started,
                last_seen=now,
                done=self._recording.done,
                failed=self._recording.failed,
                running=tuple(
                    NowRow(
                        delivery.task_id[:LONGEST_NAME],
                        found.function,
                        delivery.queue_name,
                        number,
                        started,
                    )
                    for delivery, found, started, number in self._seen.values()
                ),
            )
        )


def _version() -> str:
    # Not imported: the package itself imports this file.
    version = getattr(sys.modules["alligator"], "__version__", ())
    return ".".join(map(str, version))
