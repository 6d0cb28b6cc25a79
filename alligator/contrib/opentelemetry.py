"""Trace tasks with OpenTelemetry, after its conventions for messaging (v1.44).

::

    gator = Gator('redis://localhost:6379/0', middleware=[OpenTelemetryMiddleware()])

It needs the extra ``opentelemetry``, and the SDK where something is to be exported. See
:doc:`/middleware`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from typing import Any, NamedTuple

from alligator.common.hard_exit import before_hard_exit
from alligator.common.text import describe_error
from alligator.contrib import tracing
from alligator.exceptions import MissingDriver
from alligator.tasks.task import Task

try:
    from opentelemetry import context, metrics, propagate, trace
    from opentelemetry.metrics import get_meter_provider
    from opentelemetry.trace import Link, SpanKind, Status, StatusCode
except ImportError as err:
    raise MissingDriver(
        "Tracing needs opentelemetry-api; install it: pip install 'alligator[opentelemetry]'"
    ) from err

#: The conventions that names and attributes follow.
SCHEMA = "https://opentelemetry.io/schemas/1.44.0"

#: Bounds of the histograms, in seconds, as the conventions advise.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

_OPERATION, _TYPE = "messaging.operation.name", "messaging.operation.type"
_DESTINATION, _MESSAGE_ID = "messaging.destination.name", "messaging.message.id"

_Attributes = dict[str, str | int | bool]


class _Begun(NamedTuple):
    """What goes on."""

    span: trace.Span
    token: "Token[context.Context]"
    at: float  # monotonic
    measured: _Attributes  # those of the metrics


class OpenTelemetryMiddleware:
    """Makes a span of each push and of each run, and measures them.

    A push is ``send QUEUE``, or ``create QUEUE`` in a batch and with ``is_async=False``; a batch
    is one ``send QUEUE`` more. A run is ``process QUEUE``, a span for each attempt.

    :param parent: whether the push is the parent of the runs. False: a run links to it, and is in
        a trace of its own, or in that of the code around it.
    :param tracer_provider: None: the global one.
    :param meter_provider: None: the global one.
    """

    def __init__(
        self,
        *,
        parent: bool = False,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self.parent = parent
        self._providers = tracer_provider, meter_provider
        self._quietly = tracing.Quiet("OpenTelemetry")
        # Items of Sentry's are written by its own middleware.
        self._headers = tracing.Headers(lambda item: not item.startswith("sentry-"))
        self._tracer = trace.get_tracer("alligator", None, tracer_provider, SCHEMA)
        self._metrics = _Metrics(metrics.get_meter("alligator", "", meter_provider, SCHEMA))
        before_hard_exit(self._flush)

    def push(self, task: Task, call_next: Callable[[], Any]) -> None:
        """Trace a push, and let the task carry the context of its span."""
        pushed: Any = None

        def end(begun: _Begun | None, error: BaseException | None) -> None:
            self._end_push(begun, task, error, is_pushed=pushed is not None)

        with self._quietly.around(lambda: self._begin_push(task), end):
            pushed = call_next()

    def push_batch(self, tasks: Sequence[Task], call_next: Callable[[], Any]) -> None:
        """Trace the push of a batch, whose tasks have passed :meth:`push`."""
        with self._quietly.around(
            lambda: self._begin_batch(tasks),
            lambda begun, error: self._end_batch(begun, tasks, error),
        ):
            call_next()

    async def run(self, task: Task, call_next: Callable[[], Any]) -> None:
        """Trace a run."""
        with self._quietly.around(
            lambda: self._begin_run(task),
            lambda begun, error: self._end_run(begun, task, error),
        ):
            await call_next()

    # -- Pushes. ------------------------------------------------------------------------------

    def _begin_push(self, task: Task) -> _Begun:
        begun = self._begin("send", tracing.queue_name(task), SpanKind.PRODUCER, task)
        self._quietly(self._write_headers, task)
        return begun

    def _write_headers(self, task: Task) -> None:
        found: dict[str, str] = {}
        propagate.inject(found)
        self._headers.write(task, found, propagate.get_global_textmap().fields)

    def _end_push(
        self, begun: _Begun | None, task: Task, error: BaseException | None, *, is_pushed: bool
    ) -> None:
        if begun is None:
            return
        span, is_sent = begun.span, task.is_async
        if error is None and is_pushed and task.is_async and not task.is_pushed:
            is_sent = False  # a task of a batch
        if not is_sent:
            span.update_name(f"create {begun.measured[_DESTINATION]}")
            span.set_attributes({_OPERATION: "create", _TYPE: "create"})
        is_new = is_pushed and not task.is_duplicate
        if error is None and not is_new:
            span.set_attribute("alligator.task.is_duplicate", True)
            span.set_attribute(_MESSAGE_ID, task.task_id)
        took = self._end(begun, error)
        if is_sent:
            self._metrics.sent(begun.measured, took, int(is_new or error is not None))

    def _begin_batch(self, tasks: Sequence[Task]) -> _Begun:
        names = {tracing.queue_name(task) for task in tasks}
        contexts = (_producer(task.headers) for task in tasks)
        return self._begin(
            "send",
            names.pop() if len(names) == 1 else "",
            SpanKind.CLIENT,
            links=[Link(each) for each in contexts if each.is_valid],
            further={"messaging.batch.message_count": len(tasks)},
        )

    def _end_batch(
        self, begun: _Begun | None, tasks: Sequence[Task], error: BaseException | None
    ) -> None:
        if begun is None:
            return
        took = self._end(begun, error)
        count = sum(not task.is_duplicate for task in tasks)
        self._metrics.sent(begun.measured, took, count)

    # -- Runs. --------------------------------------------------------------------------------

    def _begin_run(self, task: Task) -> _Begun:
        around = context.get_current()
        found = propagate.extract(task.headers, around)
        producer, links = _producer(task.headers), []
        if producer.is_valid and not self.parent:
            links = [Link(producer)]
        if not (producer.is_valid and self.parent):  # of the context, keep the baggage alone
            found = trace.set_span_in_context(trace.get_current_span(around), found)
        return self._begin(
            "process",
            tracing.queue_name(task),
            SpanKind.CONSUMER,
            task,
            within=found,
            links=links,
            further={"alligator.task.attempt": tracing.attempt(task)},
        )

    def _end_run(self, begun: _Begun | None, task: Task, error: BaseException | None) -> None:
        if begun is None:
            return
        outcome = tracing.outcome(task, error)
        begun.span.set_attribute("alligator.task.outcome", outcome)
        took = self._end(begun, error if tracing.is_failure(outcome) else None)
        self._metrics.processed(begun.measured, took, is_delivered=task.delivery is not None)

    # -- Spans. -------------------------------------------------------------------------------

    def _begin(
        self,
        operation: str,
        queue_name: str,
        kind: SpanKind,
        task: Task | None = None,
        *,
        within: context.Context | None = None,
        links: Sequence[Link] = (),
        further: Mapping[str, int] | None = None,
    ) -> _Begun:
        measured: _Attributes = {"messaging.system": "alligator", _OPERATION: operation}
        measured[_TYPE] = operation
        if queue_name:
            measured[_DESTINATION] = queue_name
        attributes: _Attributes = {**measured, **(further or {})}
        if task is not None:
            attributes[_MESSAGE_ID] = task.task_id
            attributes["alligator.task.function"] = tracing.function_name(task)
        span = self._tracer.start_span(
            f"{operation} {queue_name}".strip(), within, kind, attributes, links
        )
        token = context.attach(trace.set_span_in_context(span, within))
        return _Begun(span, token, time.monotonic(), measured)

    def _end(self, begun: _Begun, error: BaseException | None) -> float:
        """End a span, and return how many seconds it took."""
        took = time.monotonic() - begun.at
        context.detach(begun.token)
        try:
            if error is not None:
                kind = type(error)
                where = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
                begun.measured["error.type"] = f"{where}{kind.__qualname__}"
                begun.span.set_attribute("error.type", begun.measured["error.type"])
                begun.span.set_status(Status(StatusCode.ERROR, describe_error(error)))
                begun.span.record_exception(error)
        finally:
            begun.span.end()
        return took

    def _flush(self, seconds: float) -> None:
        """Export what the SDK holds, before the process ends hard."""
        tracers, meters = self._providers
        tracers, meters = tracers or trace.get_tracer_provider(), meters or get_meter_provider()
        for each in (tracers, meters):
            if (flush := getattr(each, "force_flush", None)) is not None:  # the SDK's has it
                flush(int(seconds * 1000))


class _Metrics:
    """The metrics of the conventions."""

    def __init__(self, meter: metrics.Meter) -> None:
        self._duration = meter.create_histogram(
            "messaging.client.operation.duration",
            "s",
            "Duration of messaging operation initiated by a producer or consumer client.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self._sent = meter.create_counter(
            "messaging.client.sent.messages",
            "{message}",
            "Number of messages producer attempted to send to the broker.",
        )
        self._consumed = meter.create_counter(
            "messaging.client.consumed.messages",
            "{message}",
            "Number of messages that were delivered to the application.",
        )
        self._process = meter.create_histogram(
            "messaging.process.duration",
            "s",
            "Duration of processing operation.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )

    def sent(self, attributes: _Attributes, took: float, count: int) -> None:
        self._duration.record(took, attributes)
        if count:
            self._sent.add(count, _without_type(attributes))

    def processed(self, attributes: _Attributes, took: float, *, is_delivered: bool) -> None:
        attributes = _without_type(attributes)
        self._process.record(took, attributes)
        if is_delivered:
            self._consumed.add(1, attributes)


def _producer(headers: Mapping[str, str]) -> trace.SpanContext:
    """Return the context that a push has written into these headers; it may be invalid."""
    found = propagate.extract(headers, context.Context())
    return trace.get_current_span(found).get_span_context()


def _without_type(attributes: _Attributes) -> _Attributes:
    return {name: value for name, value in attributes.items() if name != _TYPE}
