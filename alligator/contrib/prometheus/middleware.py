"""Count the tasks that this process pushes, and the tasks that end in it.

Pushes are counted one by one. How tasks end comes from what the process counts anyway, once a
second (see ``alligator.execution.activity_report``): so it knows outcomes that no middleware around
a run sees, and a task costs nothing more.
"""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from alligator.contrib.prometheus.labels import Labels
from alligator.monitoring.activity_counts import BUCKETS
from alligator.monitoring.rows import ActivityRow
from alligator.tasks.functions import wire_name
from alligator.tasks.task import Task

#: The values of the label ``outcome``; each is a field of a row of activity.
OUTCOMES = ("succeeded", "dead", "expired", "canceled")

_NAMES = ("queue", "function")


class _Histogram(Histogram):
    """A histogram that takes what was counted elsewhere, with the same buckets."""

    def add(self, counts: Sequence[int], total: float) -> None:
        """Add so many observations to each bucket.

        :param total: their sum.
        """
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        if total:
            self._sum.inc(total)


class _TaskMetrics:
    """The metrics about tasks in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.pushed = Counter(
            "alligator_tasks_pushed_total", "Tasks put on a queue.", _NAMES, registry=registry
        )
        self.finished = Counter(
            "alligator_tasks_finished_total",
            "Tasks that ended, by outcome; dead and expired ones are dead letters.",
            (*_NAMES, "outcome"),
            registry=registry,
        )
        self.retried = Counter(
            "alligator_tasks_retried_total",
            "Runs after which the task runs again.",
            _NAMES,
            registry=registry,
        )
        self.errors = Counter(
            "alligator_task_errors_total",
            "Runs that raised an exception, and messages that could not be read.",
            _NAMES,
            registry=registry,
        )
        self.leases_expired = Counter(
            "alligator_leases_expired_total",
            "Leases that ran out, as the worker died or stood still.",
            _NAMES,
            registry=registry,
        )
        self.duration = _Histogram(
            "alligator_task_duration_seconds",
            "How long runs took, hooks included.",
            _NAMES,
            registry=registry,
            buckets=BUCKETS,
        )
        self.wait = _Histogram(
            "alligator_task_wait_seconds",
            "How long tasks waited for their first run, from the push or the time they were due.",
            _NAMES,
            registry=registry,
            buckets=BUCKETS,
        )

    def add(self, row: ActivityRow, labels: tuple[str, str]) -> None:
        """Add a row of activity; each series begins with 0."""
        for outcome in OUTCOMES:
            self.finished.labels(*labels, outcome).inc(getattr(row, outcome))
        self.retried.labels(*labels).inc(row.retried)
        self.errors.labels(*labels).inc(row.failed)
        self.leases_expired.labels(*labels).inc(row.lost)
        self.duration.labels(*labels).add(row.duration_buckets, row.duration_sum)
        self.wait.labels(*labels).add(row.wait_buckets, row.wait_sum)


_of_registry: WeakKeyDictionary[CollectorRegistry, _TaskMetrics] = WeakKeyDictionary()


class PrometheusMiddleware:
    """Counts pushes and ends of tasks in this process.

    ::

        gator = Gator('redis://localhost:6379/0', middleware=[PrometheusMiddleware()])

    Several Gators may share it, or have one each.

    :param registry: where the metrics go; by default, the registry of ``prometheus_client``.
    :param max_functions: how many pairs of queue and function have series of their own; further
        ones count as ``(others)``.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, *, max_functions: int = 100) -> None:
        found = _of_registry.get(registry)
        if found is None:
            found = _of_registry.setdefault(registry, _TaskMetrics(registry))
        self._metrics, self._labels = found, Labels(max_functions)

    def push(self, task: Task, call_next: Callable[[], Any]) -> None:
        """Push a task, and count it unless it ran here, or stands for one that is pending."""
        if call_next() is not None and task.is_pushed:  # else it is of a batch, or came too late
            self._count(task)

    def push_batch(self, tasks: Sequence[Task], call_next: Callable[[], Any]) -> None:
        """Push the tasks of a batch, and count them."""
        call_next()
        for task in tasks:
            self._count(task)

    def _count(self, task: Task) -> None:
        if task.is_async and not task.is_duplicate:
            labels = self._labels.of(task.queue_name or "", _name_of(task.func), is_known=True)
            self._metrics.pushed.labels(*labels).inc()

    def activity(self, rows: Sequence[ActivityRow]) -> None:
        """Count what ended."""
        for row in rows:
            ran = any(row.duration_buckets)
            labels = self._labels.of(row.queue_name, row.function, is_known=ran)
            self._metrics.add(row, labels)


def _name_of(func: Any) -> str:
    if isinstance(func, str):
        return func.replace(":", ".")
    try:
        return ".".join(wire_name(func))
    except Exception:  # of a Task class of the user's own: it is pushed, so no error is due
        return ""
