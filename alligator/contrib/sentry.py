"""Report failures of tasks to Sentry, and trace them for its Queues page.

::

    sentry_sdk.init(dsn='…', traces_sample_rate=1.0)
    gator = Gator('redis://localhost:6379/0', middleware=[SentryMiddleware()])

It needs the extra ``sentry``. See :doc:`/middleware`.
"""

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any, NamedTuple

from alligator.common.hard_exit import before_hard_exit
from alligator.contrib import tracing
from alligator.exceptions import MissingDriver, TaskTimeout
from alligator.monitoring import arguments
from alligator.monitoring.activity_counts import waited
from alligator.tasks.task import Task

try:
    import sentry_sdk
    from sentry_sdk.integrations.logging import EventHandler
    from sentry_sdk.scope import Scope, add_global_event_processor, global_event_processors
    from sentry_sdk.tracing import Span
    from sentry_sdk.utils import event_from_exception
except ImportError as err:
    raise MissingDriver(
        "Reports to Sentry need sentry-sdk; install it: pip install 'alligator[sentry]'"
    ) from err

_ORIGIN = "auto.queue.alligator"
_TRACE = "sentry-trace"

#: Set in an exception that has been reported, since the worker logs it as well.
_REPORTED = "__alligator_reported__"

_STATUSES = {
    "succeeded": "ok",
    "retried": "internal_error",
    "dead letter": "internal_error",
    "canceled": "cancelled",
    "postponed": "aborted",
    "interrupted": "aborted",
}


#: Reports what workers log as errors: the SDK does not see their loggers by itself. Among these are
#: tasks that became dead letters without a run.
_worker_errors = EventHandler(logging.ERROR)

#: The middleware around the run that goes on here.
_running: "ContextVar[SentryMiddleware | None]" = ContextVar("alligator_sentry", default=None)


class _Begun(NamedTuple):
    """What goes on."""

    ends: ExitStack
    span: Span  # queue.publish or queue.process
    whole: Span | None = None  # the transaction around that


class SentryMiddleware:
    """Makes a span of each push, a transaction of each run, and an error of each dead letter.

    It does nothing before ``sentry_sdk.init``.

    :param send_arguments: whether Sentry gets the arguments of tasks, their secrets masked, and
        local variables, which hold arguments, of what it is told during a run. None: as
        ``data_collection`` or ``send_default_pii`` says.
    :param report_retried: whether a failure after which the task is retried is an error, too.
    """

    def __init__(self, *, send_arguments: bool | None = None, report_retried: bool = False) -> None:
        self.send_arguments: bool | None = send_arguments
        self.report_retried: bool = report_retried
        self._quietly = tracing.Quiet("Sentry")
        self._headers = tracing.Headers(lambda item: item.startswith("sentry-"))
        if _process not in global_event_processors:
            add_global_event_processor(_process)
        logging.getLogger("alligator.workers").addHandler(_worker_errors)
        before_hard_exit(_flush)

    def push(self, task: Task, call_next: Callable[[], Any]) -> None:
        """Trace a push, and let the task carry the trace."""
        with self._quietly.around(
            lambda: self._begin_push(task),
            lambda begun, error: self._end_push(begun, task, error),
        ):
            call_next()

    async def run(self, task: Task, call_next: Callable[[], Any]) -> None:
        """Trace a run, and report its failure."""
        with self._quietly.around(
            lambda: self._begin_run(task),
            lambda begun, error: self._end_run(begun, task, error),
        ):
            await call_next()

    # -- Pushes. ------------------------------------------------------------------------------

    def _begin_push(self, task: Task) -> _Begun | None:
        if not sentry_sdk.is_initialized():
            return None
        ends, name = ExitStack(), tracing.function_name(task)
        span = sentry_sdk.start_span(op="queue.publish", name=name, origin=_ORIGIN)
        ends.enter_context(span)
        begun = _Begun(ends, span)
        self._quietly(self._describe_push, begun, task)
        return begun

    def _describe_push(self, begun: _Begun, task: Task) -> None:
        found = {_TRACE: sentry_sdk.get_traceparent(), tracing.BAGGAGE: sentry_sdk.get_baggage()}
        self._headers.write(task, {name: text for name, text in found.items() if text}, found)
        _describe(begun.span, task)
        if begun.span.sampled and task.is_async:  # else it is never sent
            begun.span.set_data("messaging.message.body.size", _size(task.serialize()))

    def _end_push(self, begun: _Begun | None, task: Task, error: BaseException | None) -> None:
        if begun is not None and error is None:
            begun.span.set_data("messaging.message.id", task.task_id)  # it may be a duplicate
        self._end(begun, "ok" if error is None else "internal_error")

    # -- Runs. --------------------------------------------------------------------------------

    def _begin_run(self, task: Task) -> _Begun | None:
        if not sentry_sdk.is_initialized():
            return None
        name, around, ends = tracing.function_name(task), sentry_sdk.get_current_span(), ExitStack()
        whole: Any = None
        _running.set(self)  # the context is that of this run alone
        try:
            scope = ends.enter_context(sentry_sdk.isolation_scope())
            self._quietly(self._describe_scope, scope, task)
            if task.delivery is not None or around is None:  # else it runs inside of its push
                whole = sentry_sdk.start_transaction(
                    sentry_sdk.continue_trace(
                        dict(task.headers), "queue.task.alligator", name, "task", _ORIGIN
                    )
                )
                ends.enter_context(whole)
            span = sentry_sdk.start_span(op="queue.process", name=name, origin=_ORIGIN)
            ends.enter_context(span)
        except BaseException:
            ends.close()
            raise
        self._quietly(self._describe_run, span, task)
        return _Begun(ends, span, whole)

    def _describe_scope(self, scope: Scope, task: Task) -> None:
        scope.clear_breadcrumbs()
        told: dict[str, Any] = {"task_id": task.task_id, "queue_name": tracing.queue_name(task)}
        told |= {"function": tracing.function_name(task), "attempt": tracing.attempt(task)}
        if self.may_send_arguments():
            names = arguments.parameter_names(task.func)
            told["arguments"] = arguments.joined(*arguments.show_task(task, True, names))
        scope.set_context("alligator", told)
        scope.set_tag("alligator.queue_name", told["queue_name"])

    def _describe_run(self, span: Span, task: Task) -> None:
        _describe(span, task)
        span.set_data("messaging.message.retry.count", task.retried)
        if task.delivery is not None:
            span.set_data("messaging.message.body.size", _size(task.delivery.data))
            if (seconds := waited(task, time.time())) is not None:
                span.set_data("messaging.message.receive.latency", round(seconds * 1000, 3))

    def _end_run(self, begun: _Begun | None, task: Task, error: BaseException | None) -> None:
        if begun is None:
            return
        outcome = tracing.outcome(task, error)
        try:
            is_error = outcome == "dead letter" or (outcome == "retried" and self.report_retried)
            if error is not None and is_error:
                self._quietly(_report, error)
        finally:
            is_late = isinstance(error, TaskTimeout) and tracing.is_failure(outcome)
            self._end(begun, "deadline_exceeded" if is_late else _STATUSES[outcome])

    def _end(self, begun: _Begun | None, status: str) -> None:
        if begun is not None:
            for each in (begun.span, begun.whole):
                if each is not None:
                    each.set_status(status)
            begun.ends.close()

    # -- What Sentry gets. --------------------------------------------------------------------

    def may_send_arguments(self) -> bool:
        """Return whether Sentry may get the arguments of tasks."""
        return _is_collected() if self.send_arguments is None else self.send_arguments


def _process(event: Any, hint: dict[str, Any]) -> Any:
    """Drop what is known, and take out local variables, before an event is sent."""
    logged = str(event.get("logger") or "").partition(".")[0] == "alligator"
    error = (hint.get("exc_info") or (None, None))[1]
    if logged and getattr(error, _REPORTED, False):
        return None
    if running := _running.get():
        may_send = running.may_send_arguments()
    else:
        may_send = not logged or _is_collected()
    if not may_send:
        for name in ("exception", "threads", "stacktrace"):
            _drop_variables(event.get(name))
    return event


def _is_collected() -> bool:
    """Return whether the options of the SDK let arguments be sent."""
    options = sentry_sdk.get_client().options
    collected = options.get("data_collection") or {}  # which older SDKs do not have
    return bool(collected.get("queues", options.get("send_default_pii")))


def _describe(span: Span, task: Task) -> None:
    span.set_data("messaging.system", "alligator")
    span.set_data("messaging.message.id", task.task_id)
    span.set_data("messaging.destination.name", tracing.queue_name(task))


def _size(data: Any) -> int:
    return len(data.encode() if isinstance(data, str) else data)


def _report(error: BaseException) -> None:
    event, hint = event_from_exception(
        error,
        client_options=sentry_sdk.get_client().options,
        mechanism={"type": "alligator", "handled": False},
    )
    sentry_sdk.capture_event(event, hint)
    setattr(error, _REPORTED, True)


def _drop_variables(part: Any) -> None:
    if isinstance(part, dict):
        for frame in part.get("frames") or ():
            frame.pop("vars", None)
        part = list(part.values())
    for each in part if isinstance(part, list) else ():
        _drop_variables(each)


def _flush(seconds: float) -> None:
    sentry_sdk.flush(timeout=seconds)
