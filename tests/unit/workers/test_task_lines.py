"""Test the lines that a worker logs of each task, as text and as JSON."""

import json
import logging
import os
import re
import subprocess
import sys
import threading
import time

import pytest

from alligator import Gator, Task, Worker, current_task
from alligator.common.log import JsonFormatter
from alligator.common.text import short_id
from tests.support import ROOT, jobs


@pytest.fixture
def gator(request):
    gator = Gator(f"locmem://lines-{request.node.name}")
    yield gator
    gator.close()


class Kept(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


def run(gator, level="INFO", **options):
    worker = Worker(gator, burst=True, log_level=level, **options)
    kept = Kept()
    worker.log.addHandler(kept)
    worker.run_forever()
    return kept.records


def about_tasks(records):
    return [each for each in records if hasattr(each, "task_id")]


async def add(a, b):
    return a + b


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize(
    ("function", "name"),
    [("operator.add", "_operator.add"), (add, f"{__name__}.add")],
    ids=["function", "coroutine"],
)
def test_a_line_at_the_start_and_one_at_the_end(gator, concurrency, function, name):
    task = gator.task(function, 18, 24)
    start, end = about_tasks(run(gator, concurrency=concurrency))
    short = f"…{task.id[-12:]}"
    name = start.function
    assert name.endswith("add")
    assert start.getMessage() == f"Task {short} {name} starts (queue all, attempt 1)."
    begin, _, rest = end.getMessage().partition(" succeeded in ")
    assert begin == f"Task {short} {name}"
    assert re.fullmatch(r"\d+\.\d+ s \(queue all, attempt 1\)\.", rest)
    for each, outcome in ((start, "started"), (end, "succeeded")):
        assert (each.task_id, each.queue_name, each.attempt) == (task.id, "all", 1)
        assert (each.function, each.outcome, each.levelname) == (name, outcome, "INFO")
    assert 0 <= end.duration < 30
    assert not hasattr(start, "duration")


def test_tasks_that_return_nothing_have_both_lines(gator):
    gator.task(jobs.note, 1)
    assert len(about_tasks(run(gator))) == 2


def test_check_and_run_task_has_them_too(gator):
    gator.task("operator.add", 18, 24)
    worker = Worker(gator)
    kept = Kept()
    worker.log.addHandler(kept)
    assert worker.check_and_run_task() is True
    assert [each.outcome for each in about_tasks(kept.records)] == ["started", "succeeded"]


def test_failures_say_function_queue_attempt_and_duration(gator):
    task = gator.options(retries=1)(jobs.fail)
    records = about_tasks(run(gator))
    assert [each.outcome for each in records] == ["started", "retried", "started", "dead letter"]
    assert [each.levelname for each in records] == ["INFO", "WARNING", "INFO", "ERROR"]
    retried, dead = records[1].getMessage(), records[3].getMessage()
    begin = f"Task {task.id} (failed, with a retry left): ValueError: too much (tests.support.jobs."
    assert retried.startswith(begin)
    assert (
        f"Task {task.id} became a dead letter: ValueError: too much (tests.support.jobs.fail"
        in dead
    )
    assert re.search(
        r", queue all, attempt 2, \d+\.\d+ s\) To run it again: gator\.revive\(its id\)\.$", dead
    )


def test_without_info_nothing_is_made_of_them(gator, monkeypatch):
    from alligator.workers import task_lines

    def refuse(*args):
        raise AssertionError(args)

    monkeypatch.setattr(task_lines.TaskLines, "__init__", refuse)
    gator.task("operator.add", 18, 24)
    assert run(gator, "WARNING") == []


def test_a_message_cannot_forge_a_line(gator):
    gator.task(jobs.note, 1)
    (found,) = gator.client.reserve(["all"]).deliveries
    gator.client.push("all", "a\nb\x1b[2J", found.data)
    records = about_tasks(run(gator))
    assert len(records) == 2
    for each in records:
        assert "\n" not in each.getMessage()
        assert "\x1b" not in each.getMessage()


def test_a_handler_that_raises_fails_no_task(gator):
    class Broken(logging.Handler):
        def handle(self, record):
            raise OSError("the disk is full")

    jobs.seen.clear()
    gator.task(jobs.note, 1)
    worker = Worker(gator, burst=True)
    worker.log.addFilter(lambda record: not hasattr(record, "task_id") or Broken().handle(record))
    worker.run_forever()
    assert (jobs.seen, gator.dead()) == ([((1,), {})], [])


class Anything(Task):
    """Runs by itself, without a function."""

    @classmethod
    def deserialize(cls, data):
        found = cls()
        found.task_id = "own"
        return found

    def run(self):
        self.to_success()
        return 3


def test_a_task_class_without_functions(request):
    gator = Gator(f"locmem://{request.node.name}", task_class=Anything)
    gator.client.push("all", "own", "{}")
    start, end = about_tasks(run(gator))
    assert (start.function, end.outcome) == ("", "succeeded")


def test_ids_are_shortened_to_what_differs():
    assert short_id("0192d1f3-8c1e-7000-a1b2-c3d4e5f60718") == "…c3d4e5f60718"
    assert short_id("user-7") == "user-7"
    assert len(short_id("x" * 100)) == 40
    assert short_id("order-2026-11-03-no-00017", 16) == "order-20…o-00017"


def test_results_are_shortened_and_may_be_hidden(gator, capsys):
    for hides in (False, True):
        gator.task("operator.mul", "secret", 1000)
        worker = Worker(gator, burst=True)
        worker.hides_results = hides
        worker.run_forever()
        shown = capsys.readouterr().out
        assert ("'secretsecret" in shown) is not hides
        assert max(map(len, shown.splitlines())) < 300


def test_own_result_methods_are_called_all_the_same(gator):
    results = []

    class Mine(Worker):
        def result(self, result):
            results.append(result)

    gator.task("operator.add", 18, 24)
    worker = Mine(gator, burst=True, log_level="ERROR")
    worker.hides_results = True
    worker.run_forever()
    assert results == [42]


def test_tracebacks_begin_with_the_code_of_the_task(gator):
    gator.task(jobs.fail)
    (record,) = [each for each in run(gator) if each.exc_info]
    for text in (record.exc_text, gator.dead()[0].traceback):
        frames = [line for line in text.splitlines() if line.lstrip().startswith("File ")]
        assert "tests/support/jobs.py" in frames[0]
        assert "/alligator/execution/" not in text
        assert "ValueError: too much" in text


def test_json_has_one_object_a_line(tmp_path):
    dsn = f"sqlite://{tmp_path}/q.db"
    gator = Gator(dsn)
    good = gator.task("operator.add", 18, 24)
    bad = gator.task("operator.truediv", 1, 0)
    done = subprocess.run(
        [sys.executable, "-m", "alligator", dsn, "--burst", "--log-format=json", "--hide-results"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for each in lines:
        assert {"time", "level", "logger", "message", "process"} <= set(each)
    found = [(each["task_id"], each["outcome"]) for each in lines if "task_id" in each]
    assert found == [
        (good.id, "started"),
        (good.id, "succeeded"),
        (bad.id, "started"),
        (bad.id, "dead letter"),
    ]
    (failed,) = [each for each in lines if "traceback" in each]
    assert failed["function"].endswith("operator.truediv")
    assert "ZeroDivisionError" in failed["traceback"]
    assert failed["duration"] >= 0
    assert not any(each["message"] == "42" for each in lines)
    gator.close()


def test_json_escapes_what_a_message_says():
    record = logging.LogRecord("a", 20, "", 1, "two\nlines \x1b[2J %s", ("ü",), None)
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert line.isascii()
    assert json.loads(line)["message"] == "two\nlines \x1b[2J ü"


def cancel_from_a_thread():
    task = current_task()
    threading.Thread(target=task.cancel_run, args=(None, lambda: False)).start()
    while True:
        time.sleep(0.01)


def test_a_task_that_is_canceled_while_it_runs_says_so(gator):
    """At level INFO, and without an error of the worker."""
    gator.task(cancel_from_a_thread)
    start, end = about_tasks(records := run(gator))
    assert (start.outcome, end.outcome, end.levelname) == ("started", "canceled", "INFO")
    assert "was canceled while it ran" in end.getMessage()
    assert [each for each in records if each.levelno > logging.INFO] == []
