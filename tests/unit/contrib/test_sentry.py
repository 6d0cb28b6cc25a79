"""Test what Sentry is sent about pushes and runs, by a transport of our own."""

import asyncio
import importlib
import json
import logging
import sys
import threading
import time

import pytest
import sentry_sdk
from opentelemetry import baggage as otel_baggage
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sentry_sdk.consts import DEFAULT_OPTIONS
from sentry_sdk.transport import Transport

from alligator import Gator, Worker, current_task
from alligator.contrib.opentelemetry import OpenTelemetryMiddleware
from alligator.contrib.sentry import SentryMiddleware
from alligator.exceptions import MissingDriver
from tests.support import ROOT
from tests.support.processes import processes


class Kept(Transport):
    """Keeps what it is to send."""

    def __init__(self):
        super().__init__()
        self.envelopes = []

    def capture_envelope(self, envelope):
        self.envelopes.append(envelope)

    def items(self, kind):
        found = [item for each in self.envelopes for item in each.items]
        return [item.payload.json for item in found if item.type == kind]

    @property
    def text(self):
        return b"".join(each.serialize() for each in self.envelopes).decode()


@pytest.fixture
def start():
    """Return a function that starts the SDK with these options, and returns its transport."""

    def start(**options):
        transport = Kept()
        sentry_sdk.init(
            dsn="http://key@127.0.0.1:9/1",
            transport=transport,
            traces_sample_rate=1.0,
            auto_enabling_integrations=False,
            **options,
        )
        return transport

    yield start
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


@pytest.fixture
def make(tmp_path):
    def make(middleware=None, **options):
        middleware = middleware or SentryMiddleware()
        return Gator(f"locmem://{tmp_path}", "mail", middleware=[middleware], **options)

    return make


def work(value=None, password=""):
    return value


async def work_later(value=None):
    await asyncio.sleep(0)
    return value


def fail(value="", password=""):
    copy = [value, password]
    raise ConnectionError(f"no reply to {len(copy)}")


async def fail_later():
    await asyncio.sleep(0)
    raise ConnectionError("no reply")


def postpone():
    current_task().retry(0)


def overrun():
    started.set()
    time.sleep(20)


def log_an_error(value):
    logging.getLogger("myapp").error("it went wrong", stack_info=True)
    try:
        float(len(value) * "x")
    except ValueError:
        sentry_sdk.capture_exception()


def process_span(transaction):
    (span,) = [each for each in transaction["spans"] if each["op"] == "queue.process"]
    return span


def test_a_push_is_a_span_with_the_data_of_the_queues_page(start, make):
    transport = start()
    with sentry_sdk.start_transaction(op="http.server", name="a request"):
        task = make().task(work, "é")
    (transaction,) = transport.items("transaction")
    (span,) = transaction["spans"]
    assert (span["op"], span["description"]) == ("queue.publish", f"{__name__}.work")
    data = {name: value for name, value in span["data"].items() if name.startswith("messaging")}
    assert data == {
        "messaging.system": "alligator",
        "messaging.message.id": task.task_id,
        "messaging.destination.name": "mail",
        "messaging.message.body.size": len(task.serialize()),
    }
    assert span["status"] == "ok"
    assert span["span_id"] in task.headers["sentry-trace"]
    assert "sentry-trace_id" in task.headers["baggage"]


@pytest.mark.parametrize("func", [work, work_later])
def test_a_run_is_a_transaction_that_continues_the_trace(start, make, func):
    transport, gator = start(), make()
    with sentry_sdk.start_transaction(op="http.server", name="a request"):
        gator.options(retries=1, priority=0).task(func, 1)
    Worker(gator, burst=True).run_forever()
    request, run = transport.items("transaction")
    (publish,) = request["spans"]
    trace = run["contexts"]["trace"]
    assert run["transaction"] == f"{__name__}.{func.__name__}"
    assert run["transaction_info"] == {"source": "task"}
    assert trace["op"] == "queue.task.alligator"
    assert trace["status"] == "ok"
    assert trace["trace_id"] == request["contexts"]["trace"]["trace_id"]
    assert trace["parent_span_id"] == publish["span_id"]
    span = process_span(run)
    assert span["status"] == "ok"
    data = span["data"]
    assert data["messaging.destination.name"] == "mail"
    assert data["messaging.message.id"] == run["contexts"]["alligator"]["task_id"]
    assert data["messaging.message.retry.count"] == 0
    assert 0 <= data["messaging.message.receive.latency"] < 60_000
    assert data["messaging.message.body.size"] == publish["data"]["messaging.message.body.size"]
    assert transport.items("event") == []


@pytest.mark.parametrize("func", [fail, fail_later])
def test_a_failure_is_one_error_though_the_worker_logs_it(start, make, func):
    transport, gator = start(), make()
    task = gator.task(func)
    Worker(gator, burst=True).run_forever()
    (event,), (run,) = transport.items("event"), transport.items("transaction")
    (error,) = event["exception"]["values"]
    assert error["type"] == "ConnectionError"
    assert error["mechanism"] == {"type": "alligator", "handled": False}
    assert event["contexts"]["trace"]["trace_id"] == run["contexts"]["trace"]["trace_id"]
    assert event["transaction"] == f"{__name__}.{func.__name__}"
    assert event["tags"] == {"alligator.queue_name": "mail"}
    assert event["contexts"]["alligator"] == {
        "task_id": task.task_id,
        "queue_name": "mail",
        "function": f"{__name__}.{func.__name__}",
        "attempt": 1,
    }
    assert run["contexts"]["trace"]["status"] == "internal_error"
    assert process_span(run)["status"] == "internal_error"


@pytest.mark.parametrize(("report", "errors"), [(False, 1), (True, 2)])
def test_a_failure_that_is_retried_is_an_error_if_one_wants_it(start, make, report, errors):
    transport, gator = start(), make(SentryMiddleware(report_retried=report))
    gator.options(retries=1).task(fail)
    Worker(gator, burst=True).run_forever()
    assert len(transport.items("event")) == errors
    first, last = transport.items("transaction")
    assert first["contexts"]["trace"]["status"] == "internal_error"
    counts = [process_span(each)["data"]["messaging.message.retry.count"] for each in (first, last)]
    assert counts == [0, 1]
    assert first["contexts"]["trace"]["trace_id"] == last["contexts"]["trace"]["trace_id"]


def test_a_task_that_asks_to_run_again_is_no_error(start, make):
    transport, gator = start(), make()
    gator.options(retries=1).task(postpone)
    assert gator.pop() is not None
    assert transport.items("event") == []
    assert transport.items("transaction")[0]["contexts"]["trace"]["status"] == "aborted"


def test_a_task_that_is_canceled_is_no_error(start, make):
    transport, gator = start(), make()
    task = gator.task(overrun)
    worker = Worker(gator, burst=True)
    started.clear()

    def cancel():
        started.wait(20)
        gator.cancel(task, running=True)

    thread = threading.Thread(target=cancel)
    thread.start()
    worker.run_forever()
    thread.join()
    assert transport.items("event") == []
    (run,) = transport.items("transaction")
    assert run["contexts"]["trace"]["status"] == "cancelled"


def test_a_task_that_takes_too_long_is_an_error_with_a_status_of_its_own(start, make):
    transport, gator = start(), make()
    gator.options(timeout=0.05).task(overrun)
    Worker(gator, burst=True).run_forever()
    (event,), (run,) = transport.items("event"), transport.items("transaction")
    assert event["exception"]["values"][-1]["type"] == "TaskTimeout"
    assert run["contexts"]["trace"]["status"] == "deadline_exceeded"


started = threading.Event()

SECRET, VALUE = "hunter2-hunter2", "a-value-of-a-customer"


@pytest.mark.parametrize(
    ("sdk", "middleware", "are_sent"),
    [
        ({}, {}, False),
        ({"send_default_pii": True}, {}, True),
        ({"send_default_pii": True}, {"send_arguments": False}, False),
        ({}, {"send_arguments": True}, True),
        ({"data_collection": {"queues": False}}, {}, False),
        ({"data_collection": {"queues": True}}, {}, True),
    ],
)
def test_arguments_are_sent_with_consent_alone(start, make, sdk, middleware, are_sent):
    """In no event, whether the middleware or the task captures it, nor in its local variables."""
    if not sdk.keys() <= DEFAULT_OPTIONS.keys():
        pytest.skip("this version of the SDK has no such option")
    transport, gator = start(**sdk), make(SentryMiddleware(**middleware))
    gator.task(fail, VALUE, password=SECRET)
    gator.task(log_an_error, VALUE)
    Worker(gator, burst=True).run_forever()
    assert len(transport.items("event")) == 3
    assert (VALUE in transport.text) is are_sent
    if are_sent:
        event = transport.items("event")[0]
        shown = event["contexts"]["alligator"]["arguments"]
        assert shown == f"{VALUE!r}, password='***'"
    else:
        assert SECRET not in transport.text


def test_an_unreadable_message_is_an_error_of_the_worker(start, make):
    """Which no run reports, as there is none."""
    transport, gator = start(), make()
    plain = Gator(gator.conn_string, "mail")
    plain.task("tests.unit.contrib.test_sentry.work", VALUE)
    gator = make(allowed=["elsewhere.*"])
    Worker(gator, burst=True).run_forever()
    (event,) = transport.items("event")
    assert "became a dead letter" in event["logentry"]["message"]
    assert VALUE not in transport.text


def test_a_task_that_is_not_async_runs_inside_of_its_push(start, make):
    transport, gator = start(), make()
    with sentry_sdk.start_transaction(op="http.server", name="a request"):
        gator.options(is_async=False).task(work)
    (transaction,) = transport.items("transaction")
    publish, process = sorted(transaction["spans"], key=lambda each: each["start_timestamp"])
    assert (publish["op"], process["op"]) == ("queue.publish", "queue.process")
    assert process["parent_span_id"] == publish["span_id"]


def test_tasks_share_no_scope(start, make):
    transport, gator = start(), make()
    gator.task(set_a_tag)
    gator.task(fail)
    Worker(gator, burst=True).run_forever()
    (event,) = transport.items("event")
    assert "left" not in event["tags"]


def set_a_tag():
    sentry_sdk.set_tag("left", "behind")


def test_without_init_nothing_happens(make):
    gator = make()
    task = gator.task(work, 1)
    assert task.headers == {}
    assert gator.run_all() == 1


def test_the_baggage_of_others_is_kept(start, make):
    start()
    with sentry_sdk.start_transaction(name="a request"):
        task = make().options(headers={"baggage": "tenant=ada"}).task(work)
    assert task.headers["baggage"].startswith("tenant=ada,sentry-")


@pytest.mark.parametrize("size", [8000, 8180])
def test_no_push_fails_for_want_of_room_in_the_headers(start, make, caplog, size):
    start()
    gator = make()
    for _ in range(2):
        with sentry_sdk.start_transaction(name="a request"):
            task = gator.options(headers={"own": "x" * size}).task(work)
    assert set(task.headers) == ({"own", "sentry-trace"} if size == 8000 else {"own"})
    assert sum("has no room in its headers" in each for each in caplog.messages) == 1


@pytest.mark.parametrize("func", [work, work_later])
@pytest.mark.parametrize("broken", ["start_span", "continue_trace", "isolation_scope"])
def test_an_sdk_that_raises_changes_nothing(start, make, caplog, monkeypatch, func, broken):
    start()
    gator = make()

    def raises(*arguments, **options):
        raise RuntimeError("the SDK broke")

    monkeypatch.setattr(sentry_sdk, broken, raises)
    task = gator.options(save_results=60).task(func, 7)
    gator.task(fail)
    assert gator.run_all() == 2
    gator.refresh(task)
    assert task.result == 7
    assert [each.error for each in gator.dead()] == ["ConnectionError: no reply to 2"]
    assert caplog.messages.count("Sentry raised; tasks go on. Said once.") == 1


def test_a_transport_that_raises_changes_nothing(start, make):
    class Broken(Transport):
        def capture_envelope(self, envelope):
            raise RuntimeError("the transport broke")

    start()
    # Integrations of what else is installed would change this process for the tests that follow.
    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1",
        transport=Broken(),
        traces_sample_rate=1.0,
        auto_enabling_integrations=False,
    )
    gator = make()
    gator.task(work)
    gator.task(fail)
    assert gator.run_all() == 2
    assert [each.error for each in gator.dead()] == ["ConnectionError: no reply to 2"]


def test_without_the_package_there_is_one_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    monkeypatch.delitem(sys.modules, "alligator.contrib.sentry")
    with pytest.raises(MissingDriver, match=r"pip install 'alligator\[sentry\]'"):
        importlib.import_module("alligator.contrib.sentry")


APP = """
import json, os, signal, threading, time
import sentry_sdk
from sentry_sdk.transport import Transport
from alligator import Gator
from alligator.contrib.sentry import SentryMiddleware

class Slow(Transport):
    "Holds all of it until it is flushed, as a thread that sends would."
    def __init__(self):
        super().__init__()
        self.held = []

    def capture_envelope(self, envelope):
        self.held.append(envelope)

    def flush(self, timeout, callback=None):
        held, self.held = self.held, []
        with open(f"sent-{os.getpid()}", "ab") as out:
            for envelope in held:
                for item in envelope.items:
                    out.write(json.dumps([item.type, item.payload.json]).encode() + b"\\n")

sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", transport=Slow(), traces_sample_rate=1.0)
gator = Gator(os.environ["DSN"], "traced", middleware=[SentryMiddleware()])

def fail():
    raise ConnectionError("no reply")

def fork_and_return():
    if os.fork() == 0:
        sentry_sdk.capture_message("in a child")
    else:
        os.wait()

def hang():
    sentry_sdk.capture_message("it hangs")
    os.kill(os.getpid(), signal.SIGTERM)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
"""


@pytest.fixture
def run_worker(tmp_path, monkeypatch):
    """Return a function that runs a worker of the application, and returns its exit code."""
    (tmp_path / "sentry_app.py").write_text(APP)

    def run(dsn, *flags):
        monkeypatch.setenv("DSN", dsn)
        with processes(tmp_path) as start:
            program = [str(ROOT / "bin" / "latergator.py"), "--app", "sentry_app:gator", "--burst"]
            return start(*program, *flags).wait(120)

    return run


def sent(folder):
    lines = [line for each in folder.glob("sent-*") for line in each.read_text().splitlines()]
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("backend", ["sqlite", "redis"])
def test_a_trace_across_two_processes(backend, request, tmp_path, start, run_worker):
    dsn, transport = request.getfixturevalue(f"{backend}_dsn"), start()
    gator = Gator(dsn, "traced", middleware=[SentryMiddleware()])
    gator.client.drop_all("traced")
    with sentry_sdk.start_transaction(op="http.server", name="a request"):
        gator.task("sentry_app.fail")
    gator.close()
    assert run_worker(dsn) == 0, (tmp_path / "out").read_text()
    (request_,) = transport.items("transaction")
    (event,) = [each for kind, each in sent(tmp_path) if kind == "event"]
    (run,) = [each for kind, each in sent(tmp_path) if kind == "transaction"]
    for each in (event, run):
        trace = each["contexts"]["trace"]
        assert trace["trace_id"] == request_["contexts"]["trace"]["trace_id"]
    assert run["contexts"]["trace"]["parent_span_id"] == request_["spans"][0]["span_id"]
    assert event["exception"]["values"][0]["value"] == "no reply"


@pytest.mark.parametrize(
    ("func", "text", "code"), [("fork_and_return", "in a child", 0), ("hang", "it hangs", 1)]
)
def test_what_is_held_is_sent_before_a_hard_exit(tmp_path, run_worker, func, text, code):
    """Of a forked child that returns, and of a worker that a task keeps from ending."""
    dsn = f"sqlite://{tmp_path}/q.db"
    gator = Gator(dsn, "traced")
    gator.task(f"sentry_app.{func}")
    gator.close()
    assert run_worker(dsn, "--grace", "0.2") == code, (tmp_path / "out").read_text()
    messages = [each.get("message") for kind, each in sent(tmp_path) if kind == "event"]
    assert text in messages


@pytest.mark.parametrize("is_first", [True, False])
def test_it_goes_along_with_opentelemetry(start, tmp_path, is_first):
    """Both have the header baggage, in which each keeps the items of the other."""
    start()
    tracers, exporter = TracerProvider(), InMemorySpanExporter()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    both = [SentryMiddleware(), OpenTelemetryMiddleware(tracer_provider=tracers)]
    gator = Gator(f"locmem://{tmp_path}", "mail", middleware=both if is_first else both[::-1])
    token = otel_context.attach(otel_baggage.set_baggage("tenant", "ada"))
    with sentry_sdk.start_transaction(name="a request"):
        task = gator.task(work)
        gator.push(task, work)  # again, with what it has by then
    otel_context.detach(token)
    names = [item.partition("=")[0] for item in task.headers["baggage"].split(",")]
    assert names.count("tenant") == names.count("sentry-trace_id") == 1
    assert {"traceparent", "sentry-trace"} <= set(task.headers)
    assert gator.run_all() == 1, "as it has the same id"
    names = [each.name for each in exporter.get_finished_spans()]
    assert names == ["send mail", "send mail", "process mail"]
