"""Test the spans and metrics of pushes and runs, by the exporters in memory of the SDK."""

import asyncio
import importlib
import json
import logging
import sys

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from alligator import Gator, Worker, current_task
from alligator.contrib import opentelemetry
from alligator.contrib.opentelemetry import OpenTelemetryMiddleware
from alligator.exceptions import ConnectionLost, MissingDriver
from alligator.testing import FakeClock
from tests.support import ROOT
from tests.support.processes import processes

seen: list = []


def note(value=None):
    seen.append((value, dict(baggage.get_all()), trace.get_current_span().get_span_context()))
    return value


async def note_later(value=None):
    await asyncio.sleep(0)
    return note(value)


def fail():
    raise ConnectionError("no reply")


def postpone():
    current_task().retry(0)


class Sdk:
    """The SDK, a middleware that uses it, and what it was given."""

    def __init__(self, **options):
        self.spans, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, self.meters = TracerProvider(), MeterProvider([self.reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.tracer = self.tracers.get_tracer("test")
        self.middleware = OpenTelemetryMiddleware(
            tracer_provider=self.tracers, meter_provider=self.meters, **options
        )

    def named(self, start):
        return [each for each in self.spans.get_finished_spans() if each.name.startswith(start)]

    def one(self, name):
        (found,) = [each for each in self.spans.get_finished_spans() if each.name == name]
        return found

    def points(self, name):
        data = self.reader.get_metrics_data()
        found = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        return [p for metric in found if metric.name == name for p in metric.data.data_points]

    def count(self, name):
        return sum(getattr(p, "value", getattr(p, "count", 0)) for p in self.points(name))


@pytest.fixture(autouse=True)
def _forget():
    seen.clear()


@pytest.fixture
def sdk():
    return Sdk()


@pytest.fixture
def gator(sdk, tmp_path):
    gator = Gator(f"locmem://{tmp_path}", "mail", middleware=[sdk.middleware])
    yield gator
    gator.close()


def test_a_push_and_a_run_are_spans_after_the_conventions(sdk, gator):
    task = gator.task(note, 1)
    gator.run_all()
    send, process = sdk.one("send mail"), sdk.one("process mail")
    assert (send.kind, process.kind) == (trace.SpanKind.PRODUCER, trace.SpanKind.CONSUMER)
    common = {
        "messaging.system": "alligator",
        "messaging.destination.name": "mail",
        "messaging.message.id": task.task_id,
        "alligator.task.function": f"{__name__}.note",
    }
    assert dict(send.attributes) == {
        **common,
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
    }
    assert dict(process.attributes) == {
        **common,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "alligator.task.attempt": 1,
        "alligator.task.outcome": "succeeded",
    }
    assert send.instrumentation_scope.schema_url == "https://opentelemetry.io/schemas/1.44.0"
    assert send.status.is_unset
    assert process.status.is_unset


def test_a_run_links_to_its_push_and_is_in_a_trace_of_its_own(sdk, gator):
    with sdk.tracer.start_as_current_span("request") as request:
        gator.task(note)
    gator.run_all()
    send, process = sdk.one("send mail"), sdk.one("process mail")
    assert send.parent.span_id == request.get_span_context().span_id
    assert [each.context.span_id for each in process.links] == [send.context.span_id]
    assert process.parent is None
    assert process.context.trace_id != send.context.trace_id
    assert seen[0][2].span_id == process.context.span_id, "the function is within the span"
    assert trace.get_current_span() is trace.INVALID_SPAN, "and nothing after it is"


def test_a_push_may_be_the_parent(tmp_path):
    sdk = Sdk(parent=True)
    gator = Gator(f"locmem://{tmp_path}", "mail", middleware=[sdk.middleware])
    gator.task(note)
    with sdk.tracer.start_as_current_span("around"):
        gator.run_all()
    send, process = sdk.one("send mail"), sdk.one("process mail")
    assert process.parent.span_id == send.context.span_id
    assert process.context.trace_id == send.context.trace_id
    assert not process.links


def test_a_coroutine_is_traced_on_its_event_loop(sdk, gator):
    for number in range(5):
        gator.task(note_later, number)
    Worker(gator, concurrency=3, burst=True).run_forever()
    spans = {each.context.span_id for each in sdk.named("process")}
    assert len(spans) == 5
    assert {each[2].span_id for each in seen} == spans


def test_each_attempt_is_a_span_and_a_failure_is_an_error(sdk, gator):
    gator.options(retries=1).task(fail)
    gator.run_all()
    first, last = sdk.named("process")
    assert [each.attributes["alligator.task.attempt"] for each in (first, last)] == [1, 2]
    outcomes = [each.attributes["alligator.task.outcome"] for each in (first, last)]
    assert outcomes == ["retried", "dead letter"]
    for each in (first, last):
        assert each.attributes["error.type"] == "ConnectionError"
        assert each.status.status_code is trace.StatusCode.ERROR
        assert each.status.description == "ConnectionError: no reply"
        assert [event.name for event in each.events] == ["exception"]
        assert [link.context.span_id for link in each.links] == [
            sdk.one("send mail").context.span_id
        ]


def test_a_task_that_asks_to_run_again_has_not_failed(sdk, gator):
    gator.options(retries=1).task(postpone)
    gator.run_all()
    first, last = sdk.named("process")
    assert first.attributes["alligator.task.outcome"] == "postponed"
    assert first.status.is_unset
    assert not first.events
    assert last.attributes["error.type"] == "alligator.exceptions.TaskFailed"


def test_a_push_that_fails_is_an_error(sdk, gator, monkeypatch):
    def refuse(*arguments, **options):
        raise ConnectionLost("no server")

    monkeypatch.setattr(gator.client, "push", refuse)
    with pytest.raises(ConnectionLost):
        gator.task(note)
    send = sdk.one("send mail")
    assert send.attributes["error.type"] == "alligator.exceptions.ConnectionLost"
    assert send.status.status_code is trace.StatusCode.ERROR
    (point,) = sdk.points("messaging.client.operation.duration")
    assert point.attributes["error.type"] == "alligator.exceptions.ConnectionLost"


def test_a_batch_creates_its_tasks_and_sends_them_once(sdk, gator):
    with gator.batch() as batch:
        tasks = [batch.task(note, number) for number in range(3)]
    create, send = sdk.named("create mail"), sdk.one("send mail")
    assert send.kind is trace.SpanKind.CLIENT, "each task has a context of its creation"
    assert send.attributes["messaging.batch.message_count"] == 3
    assert "messaging.message.id" not in send.attributes
    links = [each.context.span_id for each in send.links]
    assert links == [each.context.span_id for each in create]
    assert {each.attributes["messaging.message.id"] for each in create} == {
        each.task_id for each in tasks
    }
    assert all(each.attributes["messaging.operation.type"] == "create" for each in create)
    gator.run_all()
    linked = {each.links[0].context.span_id for each in sdk.named("process")}
    assert linked == {each.context.span_id for each in create}
    assert sdk.count("messaging.client.sent.messages") == 3
    assert sdk.count("messaging.client.operation.duration") == 1


def test_a_task_that_is_not_async_is_created_and_processed(sdk, gator):
    gator.options(is_async=False).task(lambda: note())
    create, process = sdk.one("create mail"), sdk.one("process mail")
    assert process.parent.span_id == create.context.span_id
    assert process.attributes["messaging.destination.name"] == "mail"
    assert sdk.points("messaging.client.sent.messages") == []
    assert sdk.points("messaging.client.consumed.messages") == []
    assert sdk.count("messaging.process.duration") == 1


def test_a_duplicate_names_the_task_that_is_pending(sdk, gator):
    first = gator.options(unique=True).task(note, 1)
    second = gator.options(unique=True).task(note, 1)
    assert second.is_duplicate
    spans = sdk.named("send")
    assert [each.attributes["messaging.message.id"] for each in spans] == [first.task_id] * 2
    assert [each.attributes.get("alligator.task.is_duplicate") for each in spans] == [None, True]
    assert sdk.count("messaging.client.sent.messages") == 1


def test_a_tick_of_a_schedule_is_sent(sdk, tmp_path):
    clock = FakeClock()
    gator, other = (
        Gator(f"locmem://{tmp_path}", "mail", clock=clock, middleware=[sdk.middleware])
        for _ in range(2)
    )
    for each in (gator, other):
        each.every(60, note)
        each.schedules.fire()
    clock.advance(60)
    for each in (gator, other):
        each.schedules.fire()
    gator.run_all()
    spans = sdk.named("send mail")
    assert [each.attributes.get("alligator.task.is_duplicate") for each in spans] == [None, True]
    (run,) = sdk.named("process mail")
    assert run.links[0].context.span_id == spans[0].context.span_id
    assert sdk.count("messaging.client.sent.messages") == 1


def test_the_metrics_of_the_conventions(sdk, gator):
    gator.task(note)
    gator.task(fail)
    gator.run_all()
    assert sdk.count("messaging.client.sent.messages") == 2
    assert sdk.count("messaging.client.consumed.messages") == 2
    assert sdk.count("messaging.client.operation.duration") == 2
    points = sdk.points("messaging.process.duration")
    assert {each.attributes.get("error.type"): each.count for each in points} == {
        None: 1,
        "ConnectionError": 1,
    }
    assert dict(points[0].attributes) == {
        "messaging.system": "alligator",
        "messaging.operation.name": "process",
        "messaging.destination.name": "mail",
    }
    assert points[0].explicit_bounds == opentelemetry.BUCKETS


def with_baggage(size):
    return context.attach(baggage.set_baggage("tenant", "x" * size))


def test_baggage_comes_along(sdk, gator):
    token = with_baggage(3)
    task = gator.task(note)
    context.detach(token)
    assert task.headers["baggage"] == "tenant=xxx"
    gator.run_all()
    assert seen[0][1] == {"tenant": "xxx"}


@pytest.mark.parametrize(
    ("headers", "kept", "missing"),
    [
        ({}, {"traceparent", "baggage"}, None),
        ({"own": "x" * 7000}, {"own", "traceparent"}, "the baggage of its trace"),
        ({"own": "x" * 8150}, {"own"}, "its trace"),
        ({f"own-{n}": "" for n in range(31)}, {"traceparent"}, "the baggage of its trace"),
        ({f"own-{n}": "" for n in range(32)}, set(), "its trace"),
    ],
)
def test_no_push_fails_for_want_of_room_in_the_headers(sdk, gator, caplog, headers, kept, missing):
    token = with_baggage(2000)
    try:
        for _ in range(2):
            task = gator.options(headers=headers).task(note)
    finally:
        context.detach(token)
    assert {name for name in task.headers if not name.startswith("own-")} == kept
    assert headers.items() <= task.headers.items()
    lines = [each.getMessage() for each in caplog.records]
    assert lines == (
        [f"A task has no room in its headers for {missing}, and is pushed without. Said once."]
        if missing
        else []
    )
    gator.run_all()
    assert len(seen) == 2


def test_a_second_push_takes_no_old_context_along(sdk, gator):
    token = with_baggage(3)
    task = gator.task(note)
    context.detach(token)
    first = task.headers["traceparent"]
    gator.push(task, note)
    assert "baggage" not in task.headers
    assert task.headers["traceparent"] != first


@pytest.mark.parametrize(
    "headers",
    [{}, {"traceparent": "nonsense"}, {"traceparent": f"00-{'0' * 32}-{'0' * 16}-01"}],
    ids=["none", "nonsense", "zeros"],
)
def test_a_task_without_a_usable_context_runs(sdk, tmp_path, headers):
    """As one of an older producer."""
    dsn = f"locmem://{tmp_path}"
    Gator(dsn, "mail").options(headers=headers).task(note)
    Gator(dsn, "mail", middleware=[sdk.middleware]).run_all()
    process = sdk.one("process mail")
    assert (process.links, process.parent, len(seen)) == ((), None, 1)


class Raises(SpanProcessor):
    def on_start(self, span, parent_context=None):
        if self.where == "start":
            raise RuntimeError("the exporter broke")

    def on_end(self, span):
        if self.where == "end":
            raise RuntimeError("the exporter broke")


@pytest.mark.parametrize("where", ["start", "end"])
@pytest.mark.parametrize("func", [note, note_later])
def test_an_exporter_that_raises_changes_nothing(sdk, gator, caplog, where, func):
    raises = Raises()
    raises.where = where
    sdk.tracers.add_span_processor(raises)
    gator.task(func, 1)
    with gator.batch() as batch:
        batch.task(func, 2)
    gator.options(retries=1).task(fail)
    assert gator.run_all() == 4
    assert [each[0] for each in seen] == [1, 2]
    assert [each.error for each in gator.dead()] == ["ConnectionError: no reply"]
    errors = [each for each in caplog.records if each.levelno >= logging.ERROR]
    told = [each.getMessage() for each in errors if each.name == "alligator.contrib.tracing"]
    assert told == ["OpenTelemetry raised; tasks go on. Said once."]
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_without_the_package_there_is_one_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "alligator.contrib.opentelemetry")
    with pytest.raises(MissingDriver, match=r"pip install 'alligator\[opentelemetry\]'"):
        importlib.import_module("alligator.contrib.opentelemetry")


APP = """
import atexit, json, os
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from alligator import Gator
from alligator.contrib.opentelemetry import OpenTelemetryMiddleware

class Exporter(InMemorySpanExporter):
    def export(self, spans):
        super().export(spans)
        with open(f"spans-{os.getpid()}", "w") as out:
            json.dump([json.loads(each.to_json()) for each in self.get_finished_spans()], out)
        return 0

trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))
processor = BatchSpanProcessor if os.environ.get("HOLDS") else SimpleSpanProcessor
trace.get_tracer_provider().add_span_processor(processor(Exporter()))
gator = Gator(os.environ["DSN"], "traced", middleware=[OpenTelemetryMiddleware()])

def work():
    gator.task(inner)

async def inner():
    pass

def fork_and_return():
    span = trace.get_tracer("test").start_span("in a child")
    if os.fork() == 0:
        span.end()
    else:
        os.wait()
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "traced_app.py").write_text(APP)
    return tmp_path


def spans_in(folder):
    texts = [each.read_text() for each in folder.glob("spans-*")]
    return [span for text in texts for span in json.loads(text)]


@pytest.mark.parametrize("backend", ["sqlite", "redis"])
def test_a_trace_across_two_processes(backend, request, place, sdk, monkeypatch):
    dsn = request.getfixturevalue(f"{backend}_dsn")
    monkeypatch.setenv("DSN", dsn)
    gator = Gator(dsn, "traced", middleware=[sdk.middleware])
    gator.client.drop_all("traced")
    gator.task("traced_app.work")
    with processes(place) as start:
        program = [str(ROOT / "bin" / "latergator.py"), "--app", "traced_app:gator", "--burst"]
        assert start(*program).wait(120) == 0, (place / "out").read_text()
    gator.close()
    outer, inner = sorted(
        (each for each in spans_in(place) if each["name"] == "process traced"),
        key=lambda each: each["start_time"],
    )
    (pushed,) = [each for each in spans_in(place) if each["name"] == "send traced"]
    sent = sdk.one("send traced").context
    assert outer["links"][0]["context"]["span_id"] == f"0x{sent.span_id:016x}"
    assert outer["links"][0]["context"]["trace_id"] == f"0x{sent.trace_id:032x}"
    assert pushed["parent_id"] == outer["context"]["span_id"]
    assert inner["links"][0]["context"]["span_id"] == pushed["context"]["span_id"]


def test_what_a_forked_child_holds_is_flushed(place, sdk, monkeypatch):
    """Which ends by os._exit, so that the SDK is not told of its end."""
    dsn = f"sqlite://{place}/q.db"
    monkeypatch.setenv("DSN", dsn)
    monkeypatch.setenv("HOLDS", "1")
    gator = Gator(dsn, "traced", middleware=[sdk.middleware])
    gator.task("traced_app.fork_and_return")
    with processes(place) as start:
        program = [str(ROOT / "bin" / "latergator.py"), "--app", "traced_app:gator", "--burst"]
        assert start(*program).wait(120) == 0, (place / "out").read_text()
    gator.close()
    assert "in a child" in [each["name"] for each in spans_in(place)]


def test_without_an_sdk_nothing_is_traced(tmp_path):
    gator = Gator(f"locmem://{tmp_path}", middleware=[OpenTelemetryMiddleware()])
    task = gator.task(note)
    assert gator.run_all() == 1
    assert task.headers == {}
    assert seen[0][2] == trace.INVALID_SPAN_CONTEXT
