"""Measure queues and workers when Prometheus asks.

These are facts of the store, the same for each process that asks, so none counts them. They are
read in a thread of its own. If that takes too long, or fails, a scrape gets the other metrics
without them.
"""

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from alligator.common.text import describe_error
from alligator.contrib.prometheus.labels import OTHERS, clean
from alligator.gator import Gator
from alligator.monitoring.rows import QueueRow, WorkerRow

log = logging.getLogger(__name__)

#: The values of the label ``state`` of tasks; each is a field of a row of a queue.
STATES = ("waiting", "delayed", "running", "dead")

#: What is read, as the label ``source`` names it.
_SOURCES = ("queues", "workers")


class GatorCollector(Collector):
    """Tells of the queues and workers that a Gator sees, at each scrape.

    ::

        REGISTRY.register(GatorCollector(gator))

    :param timeout: seconds after which a scrape goes on without them.
    :param max_queues: how many queues have series of their own; the others are one more,
        ``(others)``.
    """

    def __init__(self, gator: Gator, *, timeout: float = 5.0, max_queues: int = 100) -> None:
        self.gator: Gator = gator
        self.timeout: float = timeout
        self.max_queues: int = max_queues
        self._lock = threading.Lock()
        self._look: _Look | None = None
        self._named: list[str] = []  # the queues with series of their own
        self._failed = False

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without values, so that a registry need not read them."""
        return _Gauges().all()

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as they are now."""
        look, gauges = self._looked(), _Gauges()
        errors = {**dict.fromkeys(_SOURCES, "it takes too long"), **look.found}
        for source, error in errors.items():
            gauges.failed.add_metric([source], float(bool(error)))
        self._log(errors)
        for row in self._bounded(look.queues):
            gauges.add_queue(row)
        if look.workers is not None:
            gauges.add_workers(look.workers)
        return gauges.all()

    def _looked(self) -> "_Look":
        """Return a look that is over, or has taken too long; only one goes on at a time."""
        with self._lock:
            look = self._look
            if look is None or look.done.is_set():
                look = self._look = _Look(self.gator)
                look.start()
        look.done.wait(self.timeout)
        return look

    def _log(self, errors: dict[str, str]) -> None:
        failed = {source: error for source, error in errors.items() if error}
        if failed and not self._failed:
            for source, error in failed.items():
                log.warning("The %s could not be read for a scrape: %s", source, error)
        self._failed = bool(failed)

    def _bounded(self, rows: Sequence[QueueRow]) -> list[QueueRow]:
        """Return at most so many rows, and one that stands for all further ones."""
        with self._lock:
            present = {clean(row.name): row for row in rows}
            kept = [name for name in self._named if name in present]
            new = [name for name in present if name not in kept]
            self._named = (kept + new)[: self.max_queues]
            named = list(self._named)
        found = [replace(present[name], name=name) for name in named]
        alone = [present[name] for name in named]
        others = [row for row in rows if all(row is not each for each in alone)]
        return [*found, _merged(others)] if others else found


class _Look:
    """One look at the queues and workers, in a thread of its own."""

    def __init__(self, gator: Gator) -> None:
        self.gator, self.done = gator, threading.Event()
        self.queues: list[QueueRow] = []
        self.workers: list[WorkerRow] | None = None  # None: not known
        self.found: dict[str, str] = {}  # the error by source; '': it was read

    def start(self) -> None:
        threading.Thread(target=self._run, name="alligator-metrics", daemon=True).start()

    def _run(self) -> None:
        for source, read in zip(_SOURCES, (self._read_queues, self._read_workers), strict=True):
            try:
                read()
                self.found[source] = ""
            except Exception as err:
                self.found[source] = describe_error(err)
        self.done.set()

    def _read_queues(self) -> None:
        self.queues = self.gator.queues()

    def _read_workers(self) -> None:
        store = self.gator.store
        if store is not None and store.monitors:  # else nothing is known of workers
            self.workers = self.gator.workers()


class _Gauges:
    """The gauges of one scrape."""

    def __init__(self) -> None:
        self.tasks = GaugeMetricFamily(
            "alligator_queue_tasks", "Tasks on a queue, by state.", labels=("queue", "state")
        )
        self.oldest = GaugeMetricFamily(
            "alligator_queue_oldest_task_age_seconds",
            "How long ago the task that runs next was pushed; 0 if none waits.",
            labels=("queue",),
        )
        self.paused = GaugeMetricFamily(
            "alligator_queue_paused", "1 if a queue is paused, else 0.", labels=("queue",)
        )
        self.served = GaugeMetricFamily(
            "alligator_queue_workers", "Live workers that serve a queue.", labels=("queue",)
        )
        self.workers = GaugeMetricFamily(
            "alligator_workers",
            "Workers that live, or were lost in the last hour.",
            labels=("state",),
        )
        self.places = GaugeMetricFamily(
            "alligator_workers_concurrency", "Tasks that the live workers can run at a time."
        )
        self.failed = GaugeMetricFamily(
            "alligator_scrape_failed",
            "1 if this could not be read for this scrape, else 0.",
            labels=("source",),
        )

    def all(self) -> list[Metric]:
        return [
            *(self.tasks, self.oldest, self.paused, self.served),
            *(self.workers, self.places, self.failed),
        ]

    def add_queue(self, row: QueueRow) -> None:
        for state in STATES:
            self.tasks.add_metric([row.name, state], getattr(row, state))
        if row.oldest is not None or not row.waiting:
            self.oldest.add_metric([row.name], row.oldest or 0.0)
        self.paused.add_metric([row.name], float(row.paused))
        self.served.add_metric([row.name], row.workers)

    def add_workers(self, rows: Sequence[WorkerRow]) -> None:
        live = [row for row in rows if not row.is_lost]
        self.workers.add_metric(["live"], len(live))
        self.workers.add_metric(["lost"], len(rows) - len(live))
        self.places.add_metric([], sum(row.concurrency for row in live))


def _merged(rows: Sequence[QueueRow]) -> QueueRow:
    """Return one row for several queues: sums; and the oldest, the paused, the least served one."""
    waiting, delayed, running, dead = (sum(getattr(row, each) for row in rows) for each in STATES)
    oldest = max((row.oldest for row in rows if row.oldest is not None), default=None)
    paused, workers = any(row.paused for row in rows), min(row.workers for row in rows)
    return QueueRow(OTHERS, waiting, delayed, running, dead, oldest, paused, workers)
