"""Test the metrics for Prometheus: what is counted and measured, under which names and labels."""

import json
import logging
import re
import shutil
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from alligator import Gator, Worker
from alligator.cli import commands as cli
from alligator.contrib.prometheus import GatorCollector, PrometheusMiddleware, exporter
from alligator.contrib.prometheus.labels import Labels
from alligator.monitoring.activity_counts import BUCKETS
from alligator.monitoring.rows import ActivityRow
from alligator.testing import FakeClock
from tests.support import ROOT, jobs
from tests.support.helpers import let_pass

NOTE, FAIL = f"{jobs.__name__}.note", f"{jobs.__name__}.fail"


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def make(registry):
    return lambda dsn=None, **options: Gator(
        dsn or f"locmem://{uuid.uuid4().hex}",
        "q",
        middleware=[PrometheusMiddleware(registry)],
        **options,
    )


def text_of(registry):
    """Return what a scrape gets, but for the times at which series began."""
    lines = generate_latest(registry).decode().split("\n")
    return "\n".join(line for line in lines if "_created" not in line)


def samples(registry):
    """Return the value of each series, by its name and the values of its labels."""
    return {
        (each.name, *sorted(each.labels.values())): each.value
        for family in text_string_to_metric_families(text_of(registry))
        for each in family.samples
    }


# -- What is counted. -------------------------------------------------------------------------


def test_pushes_and_ends_are_counted(make, registry):
    gator = make()
    for number in range(3):
        gator.task(jobs.note, number)
    with gator.batch() as batch:
        batch.task(jobs.note)
    gator.options(queue_name="other").task(f"{jobs.__name__}:note")
    gator.options(retries=1).task(jobs.fail)
    gator.run_all()
    found = samples(registry)
    assert found["alligator_tasks_pushed_total", "q", NOTE] == 4
    assert found["alligator_tasks_pushed_total", "other", NOTE] == 1
    assert found["alligator_tasks_pushed_total", "q", FAIL] == 1
    assert found["alligator_tasks_finished_total", "q", "succeeded", NOTE] == 4
    assert found["alligator_tasks_finished_total", "dead", "q", FAIL] == 1
    assert found["alligator_tasks_retried_total", "q", FAIL] == 1
    assert found["alligator_task_errors_total", "q", FAIL] == 2
    assert found["alligator_leases_expired_total", "q", FAIL] == 0
    assert found["alligator_task_duration_seconds_count", "q", NOTE] == 4
    assert found["alligator_task_wait_seconds_count", "q", NOTE] == 4


def test_it_counts_what_the_activity_counts(make, registry):
    """The same numbers, since both come from there: nothing is counted twice."""
    gator = make()
    with gator.batch() as batch:
        for number in range(500):
            batch.task(jobs.note, number)
    gator.options(expires=0.001).task(jobs.note)
    let_pass(gator, 0.05)
    Worker(gator, burst=True, log_level=logging.CRITICAL).run_forever()
    found, rows = samples(registry), gator.activity()
    assert sum(row.succeeded for row in rows) == 500
    assert sum(row.expired for row in rows) == 1
    for outcome in ("succeeded", "expired", "dead", "canceled"):
        counted = sum(getattr(row, outcome) for row in rows)
        assert found["alligator_tasks_finished_total", *sorted([outcome, "q", NOTE])] == counted
    runs = found["alligator_task_duration_seconds_count", "q", NOTE]
    assert runs == sum(sum(row.duration_buckets) for row in rows)
    total = found["alligator_task_duration_seconds_sum", "q", NOTE]
    assert total == pytest.approx(sum(row.duration_sum for row in rows))


def test_what_is_no_push_is_not_counted(make, registry):
    """What runs here, and what stands for a task that is pending."""
    gator = make()
    gator.options(is_async=False).task(jobs.note)
    for _ in range(3):
        gator.options(unique=True).task(jobs.note, 1)
    with gator.batch() as batch:
        batch.task(jobs.note, 2)
        batch.options(unique=True).task(jobs.note, 1)
        batch.options(is_async=False).task(jobs.note)
    assert samples(registry)["alligator_tasks_pushed_total", "q", NOTE] == 2


def test_a_push_that_fails_is_not_counted(make, registry, monkeypatch):
    gator = make()
    monkeypatch.setattr(gator.client, "push_many", lambda *arguments: 1 / 0)
    monkeypatch.setattr(gator.client, "push", lambda *arguments, **more: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        gator.task(jobs.note)
    with pytest.raises(ZeroDivisionError), gator.batch() as batch:
        batch.task(jobs.note)
    assert not [key for key in samples(registry) if key[0] == "alligator_tasks_pushed_total"]


def test_each_tick_of_a_schedule_is_counted_once(registry):
    clock, dsn = FakeClock(), f"locmem://{uuid.uuid4().hex}"
    gators = [
        Gator(dsn, "q", clock=clock, middleware=[PrometheusMiddleware(registry)]) for _ in "ab"
    ]
    for gator in gators:
        gator.every(60, jobs.note)
        gator.schedules.fire()
    clock.advance(60)
    for gator in gators:
        gator.schedules.fire()
    assert samples(registry)["alligator_tasks_pushed_total", "q", NOTE] == 1


def test_without_a_recorded_activity(make, registry):
    gator = make(activity=False)
    gator.task(jobs.note)
    gator.run_all()
    assert gator.activity() == []
    assert samples(registry)["alligator_tasks_finished_total", "q", "succeeded", NOTE] == 1


def test_several_middleware_share_a_registry(registry):
    dsn = f"locmem://{uuid.uuid4().hex}"
    for name in ("a", "b"):
        gator = Gator(dsn, name, middleware=[PrometheusMiddleware(registry)])
        gator.task(jobs.note)
    assert samples(registry)["alligator_tasks_pushed_total", "a", NOTE] == 1
    assert samples(registry)["alligator_tasks_pushed_total", "b", NOTE] == 1


def row_of(queue="q", function=NOTE, *, runs=1, **counts):
    """Return a row of activity with so many runs of a millisecond."""
    zeros = (0,) * len(BUCKETS)
    return ActivityRow(
        60, queue, function, duration_buckets=(runs, *zeros), wait_buckets=(0, *zeros), **counts
    )


def test_each_series_begins_with_zero(registry):
    """So that the first failure of a function is seen as an increase."""
    PrometheusMiddleware(registry).activity([row_of(succeeded=1)])
    found = samples(registry)
    assert found["alligator_tasks_finished_total", "dead", "q", NOTE] == 0
    assert found["alligator_leases_expired_total", "q", NOTE] == 0
    assert found["alligator_task_duration_seconds_bucket", "0.001", "q", NOTE] == 1
    assert found["alligator_task_duration_seconds_bucket", "3600.0", "q", NOTE] == 1


# -- Labels. ----------------------------------------------------------------------------------


def test_labels_are_bounded(registry):
    middleware = PrometheusMiddleware(registry, max_functions=8)
    for number in range(100):
        for queue in ("q", f"q{number}"):
            middleware.activity([row_of(queue, f"f{number}", succeeded=1)])
    found = [key for key in samples(registry) if key[0] == "alligator_tasks_retried_total"]
    assert len(found) == 8 + 8 + 1
    total = sum(
        value
        for key, value in samples(registry).items()
        if key[0] == "alligator_tasks_finished_total"
    )
    assert total == 200
    assert ("alligator_tasks_retried_total", "(others)", "(others)") in found


def test_names_that_were_never_found_leave_places_for_functions():
    labels = Labels(8)
    for number in range(100):
        labels.of("q", f"evil.f{number}", is_known=False)
    assert labels.of("q", "evil.f1", is_known=False) == ("q", "evil.f1")
    assert labels.of("q", "evil.f9", is_known=False) == ("q", "(others)")
    assert labels.of("q", "myapp.f", is_known=True) == ("q", "myapp.f")
    assert labels.of("q", "", is_known=True) == ("q", "(others)")


HOSTILE = [
    'x"} 1\nevil_total{a="',
    "\\",
    "a\\nb",
    "\u2028\x00\x1b[31m",
    "\ud800",
    "x" * 5000,
    "é ✓",
]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_breaks_the_text(registry, name):
    middleware = PrometheusMiddleware(registry)
    gator = Gator(f"locmem://{uuid.uuid4().hex}")
    collector = GatorCollector(gator)
    registry.register(collector)
    gator.client.push("all", "1", "not a task")
    middleware.activity([row_of(name, name)])
    queues = gator.queues
    gator.queues = lambda: [*queues(), *(_renamed(each, name) for each in queues())]
    found = list(text_string_to_metric_families(text_of(registry)))
    assert {family.name for family in found} <= NAMES
    for family in found:
        for sample in family.samples:
            assert all(len(value) <= 200 for value in sample.labels.values())
    assert lint(text_of(registry)) == []


def _renamed(row, name):
    return type(row)(name, *(getattr(row, each) for each in list(row.__slots__)[1:]))


# -- Queues and workers. ----------------------------------------------------------------------


@pytest.fixture
def measured(registry):
    gator = Gator(f"locmem://{uuid.uuid4().hex}", "q", clock=FakeClock())
    registry.register(GatorCollector(gator))
    return gator


def test_queues_are_measured(measured, registry):
    assert ("alligator_queue_tasks", "q", "waiting") not in samples(registry)
    measured.task(jobs.note)
    measured.options(delay_by=60).task(jobs.note)
    measured.task(jobs.fail)
    measured.get(measured.tasks("waiting")[0].task_id)
    measured.client.clock.advance(7)
    measured.options(queue_name="other").task(jobs.note)
    measured.pause("other")
    found = samples(registry)
    assert found["alligator_queue_tasks", "q", "waiting"] == 1
    assert found["alligator_queue_tasks", "delayed", "q"] == 1
    assert found["alligator_queue_tasks", "dead", "q"] == 0
    assert found["alligator_queue_tasks", "q", "running"] == 0
    assert found["alligator_queue_oldest_task_age_seconds", "q"] == pytest.approx(7)
    assert found["alligator_queue_paused", "q"] == 0
    assert found["alligator_queue_paused", "other"] == 1
    assert found["alligator_queue_workers", "q"] == 0
    measured.client.drop_all("q")
    measured.client.drop_all("other")
    measured.resume("other")
    assert not [key for key in samples(registry) if key[0].startswith("alligator_queue_")]


def test_workers_are_measured_and_a_lost_one_is_no_live_one(measured, registry):
    from alligator.workers.heartbeat import COUNTS

    worker = Worker(measured, concurrency=3)
    heart = worker._heartbeat()
    heart._beat(COUNTS)
    heart._report(COUNTS)
    found = samples(registry)
    assert found["alligator_workers", "live"] == found["alligator_queue_workers", "q"] == 1
    assert found["alligator_workers", "lost"] == 0
    assert found["alligator_workers_concurrency",] == 3
    measured.client.clock.advance(COUNTS + 1)
    found = samples(registry)
    assert (found["alligator_workers", "live"], found["alligator_workers", "lost"]) == (0, 1)
    assert found["alligator_workers_concurrency",] == 0
    assert ("alligator_queue_workers", "q") not in found


def test_queues_are_bounded(registry):
    gator = Gator(f"locmem://{uuid.uuid4().hex}", "q0")
    registry.register(GatorCollector(gator, max_queues=3))
    for number in range(5):
        gator.options(queue_name=f"q{number}").task(jobs.note)
    found = samples(registry)
    assert found["alligator_queue_tasks", "(others)", "waiting"] == 2
    assert found["alligator_queue_tasks", "q2", "waiting"] == 1
    gator.client.drop_all("q1")
    gator.options(queue_name="a").task(jobs.note)  # before the others by name
    found = samples(registry)
    assert found["alligator_queue_tasks", "q2", "waiting"] == 1, "it keeps its place"
    assert found["alligator_queue_tasks", "a", "waiting"] == 1
    assert sum(v for k, v in found.items() if "waiting" in k) == 5


def test_a_registry_does_not_read_the_store_before_it_is_asked(registry):
    from prometheus_client import CollectorRegistry

    gator = Gator(f"locmem://{uuid.uuid4().hex}")
    gator.queues = lambda: 1 / 0
    CollectorRegistry(auto_describe=True).register(GatorCollector(gator))


def test_a_store_that_fails_fails_no_scrape(measured, registry, caplog):
    measured.task(jobs.note)
    queues, measured.queues = measured.queues, lambda: 1 / 0
    for _ in range(2):
        found = samples(registry)
        assert found["alligator_scrape_failed", "queues"] == 1
        assert found["alligator_scrape_failed", "workers"] == 0
        assert ("alligator_queue_tasks", "q", "waiting") not in found
    assert caplog.text.count("The queues could not be read for a scrape: ZeroDiv") == 1
    measured.queues = queues
    assert samples(registry)["alligator_scrape_failed", "queues"] == 0
    assert samples(registry)["alligator_queue_tasks", "q", "waiting"] == 1


def test_a_store_that_hangs_blocks_no_scrape(registry):
    """One look hangs, however many scrapes come; once it is over, the next one is answered."""
    gator = Gator(f"locmem://{uuid.uuid4().hex}", "q")
    registry.register(GatorCollector(gator, timeout=0.05))
    gator.task(jobs.note)
    goes_on, queues, calls = threading.Event(), gator.queues, []

    def hang():
        calls.append(1)
        goes_on.wait(30)
        return queues()

    gator.queues = hang
    for _ in range(3):
        found = samples(registry)
        assert found["alligator_scrape_failed", "queues"] == 1
        assert found["alligator_scrape_failed", "workers"] == 1
    assert len(calls) == 1
    goes_on.set()
    registry._names_to_collectors["alligator_queue_tasks"]._look.done.wait(30)
    registry._names_to_collectors["alligator_queue_tasks"].timeout = 30
    assert samples(registry)["alligator_queue_tasks", "q", "waiting"] == 1


def test_without_a_store_there_are_no_workers(registry, beanstalk_dsn):
    gator = Gator(beanstalk_dsn, "prometheus")
    gator.client.drop_all("prometheus")
    gator.task(jobs.note)
    registry.register(GatorCollector(gator))
    found = samples(registry)
    assert found["alligator_queue_tasks", "prometheus", "waiting"] == 1
    assert found["alligator_scrape_failed", "workers"] == 0
    assert not [key for key in found if key[0] == "alligator_workers"]
    gator.client.drop_all("prometheus")  # other tests look at all queues of this server


# -- Names, the dashboard and the alerts. -----------------------------------------------------

NAMES = {
    "alligator_tasks_pushed",
    "alligator_tasks_finished",
    "alligator_tasks_retried",
    "alligator_task_errors",
    "alligator_leases_expired",
    "alligator_task_duration_seconds",
    "alligator_task_wait_seconds",
    "alligator_queue_tasks",
    "alligator_queue_oldest_task_age_seconds",
    "alligator_queue_paused",
    "alligator_queue_workers",
    "alligator_workers",
    "alligator_workers_concurrency",
    "alligator_scrape_failed",
}

#: Series of a metric, by its type.
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}

#: What ``promtool check metrics`` objects to in a name, as parts of it.
TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}
ABBREVIATIONS = {
    *("s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"),
    *("kib", "mib", "gib", "bytes_per_second"),
}
OTHER_UNITS = {
    *("milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "weeks"),
    *("kilobytes", "megabytes", "gigabytes", "bits", "percent", "kelvin", "fahrenheit"),
}


def lint(text):
    """Return what ``promtool check metrics`` would object to."""
    problems = []
    for family in text_string_to_metric_families(text):
        name, parts = family.name, family.name.split("_")
        names = {each.name for each in family.samples}
        series = {(each.name, *sorted(each.labels.items())) for each in family.samples}
        if len(series) != len(family.samples):
            problems.append(f"{name}: a series stands there twice")
        if not family.documentation.strip():
            problems.append(f"{name}: no help")
        if family.type not in SUFFIXES:
            problems.append(f"{name}: {family.type}")
            continue
        wanted = {name + suffix for suffix in SUFFIXES[family.type]}
        if not names <= wanted:
            problems.append(f"{name}: {sorted(names - wanted)}")
        if family.type == "gauge" and name.endswith(("_total", "_count", "_sum", "_bucket")):
            problems.append(f"{name}: the suffix of another type")
        if ":" in name or name != name.lower() or not re.fullmatch(r"[a-z][a-z0-9_]+", name):
            problems.append(f"{name}: characters")
        if bad := set(parts) & (TYPES | ABBREVIATIONS | OTHER_UNITS):
            problems.append(f"{name}: {sorted(bad)}")
        for sample in family.samples:
            if "le" in sample.labels and not sample.name.endswith("_bucket"):
                problems.append(f"{name}: le")
            if sample.name.endswith("_total") and family.type != "counter":
                problems.append(f"{name}: total")
    return problems


@pytest.fixture
def everything(make, registry):
    """Return the text with all metrics in it."""
    gator = make()
    registry.register(GatorCollector(gator))
    gator.task(jobs.note)
    gator.options(delay_by=60).task(jobs.note)
    gator.run_all()
    return text_of(registry)


def promtool(*arguments, text=""):
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("there is no promtool here; it comes with Prometheus")
    done = subprocess.run(
        [program, *arguments], input=text, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


def test_the_names_are_these(everything):
    assert {family.name for family in text_string_to_metric_families(everything)} == NAMES


def test_the_text_is_clean(everything):
    assert lint(everything) == []


@pytest.mark.parametrize(
    "text",
    [
        "# HELP a_b x\n# TYPE a_b counter\na_b 1\n",
        "# TYPE a_total counter\na_total 1\n",
        "# HELP a_ms x\n# TYPE a_ms gauge\na_ms 1\n",
        "# HELP a_minutes x\n# TYPE a_minutes gauge\na_minutes 1\n",
        "# HELP a_gauge x\n# TYPE a_gauge gauge\na_gauge 1\n",
        "# HELP aB x\n# TYPE aB gauge\naB 1\n",
        "# HELP a_total x\n# TYPE a_total gauge\na_total 1\n",
        "# HELP a x\n# TYPE a gauge\na 1\na 2\n",
        "a 1\n",
    ],
)
def test_the_lint_finds_what_promtool_finds(text):
    assert lint(text)


def test_promtool_finds_the_text_clean(everything):
    assert promtool("check", "metrics", text=everything) == (0, "")


GRAFANA = ROOT / "examples" / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboard.json").read_text())
ALERTS = (GRAFANA / "alerts.yml").read_text()


def expressions(node):
    """Return each query in a part of the dashboard."""
    if isinstance(node, dict):
        here = [node[key] for key in ("expr", "definition", "query") if key in node]
        texts = [each for each in here if isinstance(each, str) and "alligator" in each]
        return texts + [each for value in node.values() for each in expressions(value)]
    if isinstance(node, list):
        return [each for value in node for each in expressions(value)]
    return []


def exported(text):
    return {each.name for f in text_string_to_metric_families(text) for each in f.samples}


@pytest.mark.parametrize("queries", [expressions(DASHBOARD), [ALERTS]], ids=["dashboard", "alerts"])
def test_grafana_and_the_alerts_name_what_is_exported(queries, everything):
    named = {name for query in queries for name in re.findall(r"\balligator_\w+", query)}
    assert len(named) > 5
    assert named <= exported(everything)


def test_each_metric_is_on_the_dashboard(everything):
    named = {n for q in expressions(DASHBOARD) for n in re.findall(r"\balligator_\w+", q)}
    sums = {f"alligator_task_{name}_seconds_{each}" for name in ("duration", "wait")
            for each in ("sum", "count")}  # fmt: skip
    assert exported(everything) - named - sums == set()


def test_labels_and_values_in_queries_are_real(everything):
    real = {}
    for family in text_string_to_metric_families(everything):
        for sample in family.samples:
            for label, value in sample.labels.items():
                real.setdefault(label, set()).add(value)
    real["state"] |= {"live", "lost"}
    for query in [*expressions(DASHBOARD), ALERTS]:
        for label, value in re.findall(r'(\w+)="([^"$]*)"', query):
            assert value in real[label], f'{label}="{value}" in {query}'
        for labels in re.findall(r"\bby \(([^)]*)\)", query):
            assert set(labels.split(", ")) <= {*real, "le", "instance"}, query


def test_the_dashboard_has_a_variable_for_the_queue_and_whole_panels():
    names = [each["name"] for each in DASHBOARD["templating"]["list"]]
    assert names == ["datasource", "queue"]
    panels = [each for each in DASHBOARD["panels"] if each["type"] != "row"]
    ids = [each["id"] for each in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        assert panel["targets"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    places = [each["gridPos"] for each in DASHBOARD["panels"]]
    cells = [
        (x, y)
        for p in places
        for x in range(p["x"], p["x"] + p["w"])
        for y in range(p["y"], p["y"] + p["h"])
    ]
    assert len(set(cells)) == len(cells), "panels overlap"
    assert max(x for x, _ in cells) == 23


def test_promtool_finds_the_alerts_well_formed():
    code, out = promtool("check", "rules", str(GRAFANA / "alerts.yml"))
    assert (code, "rules found" in out) == (0, True), out


def test_the_alerts_fire_when_they_should():
    code, out = promtool("test", "rules", str(GRAFANA / "alerts_test.yml"))
    assert code == 0, out


# -- The command line. ------------------------------------------------------------------------


def run_command(*arguments, capsys):
    code = cli.main(list(arguments))
    return code, capsys.readouterr().err


def test_a_missing_extra_is_one_line(capsys, monkeypatch, sqlite_dsn):
    for name in [name for name in sys.modules if "prometheus" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    code, err = run_command(sqlite_dsn, "--metrics-port", "0", "--burst", capsys=capsys)
    assert code == 2
    assert err.splitlines() == [
        "latergator.py: Metrics need prometheus_client; install it: "
        "pip install 'alligator[prometheus]'"
    ]


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The place for directories of metrics, of this test alone."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return lambda: list(tmp_path.glob("alligator_metrics_*"))


@pytest.mark.parametrize("processes", [[], ["--processes", "2"]], ids=["one", "supervisor"])
def test_a_port_in_use_is_one_line(capsys, sqlite_dsn, folders, processes):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        flags = ["--metrics-port", port, "--burst", *processes]
        code, err = run_command(sqlite_dsn, *flags, capsys=capsys)
    assert code == 2
    assert err.splitlines() == [
        f"latergator.py: Metrics cannot be served on 127.0.0.1, port {port}: address already in "
        "use; choose another one with --metrics-port."
    ]
    assert folders() == []


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--metrics-port", "70000"], "70000 is no port: 0 to 65535"),
        (["--metrics-port", "http"], "http is no port"),
        (["--metrics-port", "-1"], "port"),
        (["--metrics-host", "0.0.0.0"], "--metrics-host needs --metrics-port."),
        (["--metrics-port", "0", "--metrics-host", "no.such.host.invalid"], "cannot be served on"),
    ],
)
def test_other_bad_flags_are_one_line(capsys, sqlite_dsn, folders, flags, says):
    try:
        code, err = run_command(sqlite_dsn, "--burst", *flags, capsys=capsys)
    except SystemExit as end:
        code, err = end.code, capsys.readouterr().err
    assert code == 2
    assert says in err
    assert len(err.splitlines()) == 1
    assert folders() == []


def test_no_room_for_a_directory_is_one_line(capsys, sqlite_dsn, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    code, err = run_command(sqlite_dsn, "--metrics-port", "0", "--burst", capsys=capsys)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "No directory for metrics can be made" in err


def test_a_full_disk_is_one_line(capsys, sqlite_dsn, monkeypatch, folders):
    """It does not kill the process later, when it writes to a file that is mapped."""

    def no_room(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporter.os, "posix_fallocate", no_room)
    code, err = run_command(sqlite_dsn, "--metrics-port", "0", "--burst", capsys=capsys)
    assert (code, len(err.splitlines())) == (2, 1)
    assert "Metrics cannot be written to" in err
    assert folders() == []


def test_an_application_that_counts_is_not_counted_twice(registry):
    own = PrometheusMiddleware(registry)
    gator = Gator("locmem://", middleware=[own])
    exporter.count_tasks(gator)
    assert gator.middleware == (own,)
    plain = Gator("locmem://", middleware=[])
    exporter.count_tasks(plain)
    assert [type(each) for each in plain.middleware] == [PrometheusMiddleware]


def test_abandoned_directories_are_removed_and_no_others(folders, tmp_path):
    with exporter.Exporter("127.0.0.1", 0) as first:
        abandoned = tmp_path / "alligator_metrics_abandoned"
        being_made = tmp_path / "alligator_metrics_new"
        used = tmp_path / "alligator_metrics_used"
        for each in (abandoned, being_made, used):
            each.mkdir()
        for each in (abandoned, used):
            (each / "owner.lock").touch()
        (used / "0.lock").touch()
        with (used / "0.lock").open("r+") as file:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
            with exporter.Exporter("127.0.0.1", 0) as second:
                here = {Path(first.folder), Path(second.folder), being_made, used}
                assert set(folders()) == here
    assert set(folders()) == {being_made, used}
