"""Test the commands that show and steer what runs, beside a real worker."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from alligator import CANCELED, Gator
from alligator.cli import commands as cli
from tests.support import ROOT, jobs
from tests.support.helpers import eventually

QUEUE = "commands"


@pytest.fixture
def dsn(tmp_path):
    return f"sqlite://{tmp_path}/q.db"


@pytest.fixture
def gator(dsn):
    gator = Gator(dsn, QUEUE)
    yield gator
    gator.close()


@pytest.fixture
def worker(dsn, gator):
    """A worker that is told to stop at the end."""
    argv = [sys.executable, "-m", "alligator", dsn, "--queue", QUEUE, "--concurrency", "2"]
    process = subprocess.Popen(
        argv, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL
    )
    yield process
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def asked(capsys, command, dsn, *arguments):
    code = cli.main([command, dsn, "--queue", QUEUE, *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_what_runs_and_who_runs_it(dsn, gator, worker, capsys, tmp_path):
    slow = gator.options(history=600)(jobs.rest, 30)
    gator.options(save_results=600)("operator.truediv", 1, 0)

    def runs():
        rows = asked(capsys, "running", dsn)[1]["running"]
        return next((each for each in rows if each["task_id"] == slow.id and each["started"]), None)

    row = eventually(runs, "it runs")
    assert (row["task_id"], row["function"]) == (slow.id, "tests.support.jobs.rest")
    assert row["worker"] == f"{socket.gethostname()}:{worker.pid}"

    def both_told():
        (found,) = asked(capsys, "workers", dsn)[1]["workers"]
        return found if found["failed"] and found["running"] else None

    found = eventually(both_told, "it told what it has done")
    assert (found["pid"], found["queues"], found["concurrency"]) == (worker.pid, [QUEUE], 2)
    (failed,) = eventually(lambda: asked(capsys, "recent", dsn)[1]["recent"], "it is recorded")
    assert (failed["state"], failed["args"]) == ("failed", "1, 0")
    assert "ZeroDivisionError" in failed["error"]
    _, history = asked(capsys, "history", dsn, failed["task_id"])
    (attempt,) = history["history"]["attempts"]
    assert "ZeroDivisionError" in attempt["traceback"]
    for command in ("running", "workers", "recent"):
        assert cli.main([command, dsn, "--queue", QUEUE]) == 0
        assert "\n" in capsys.readouterr().out
    assert cli.main(["history", dsn, failed["task_id"], "--queue", QUEUE]) == 0
    assert "attempt 1: failed, started" in capsys.readouterr().out
    assert cli.main(["health", dsn, "--queue", "other", "--queue", QUEUE]) == 0
    assert "was seen" in capsys.readouterr().out
    assert cli.main(["cancel", dsn, slow.id, "--queue", QUEUE]) == 1
    assert "--running" in capsys.readouterr().err
    assert cli.main(["cancel", dsn, slow.id, "--queue", QUEUE, "--running"]) == 0
    assert capsys.readouterr().out == f"{QUEUE}: {slow.id} is asked to end\n"
    eventually(lambda: gator.status(slow.id) == CANCELED, "its worker noticed")


def test_health_without_a_worker(dsn, gator, capsys):
    gator.task(jobs.note)
    assert cli.main(["health", dsn, "--queue", QUEUE]) == 1
    assert "no worker of" in capsys.readouterr().out
    gator.store.beat("elsewhere:1:f", [QUEUE], 90)
    assert cli.main(["health", dsn, "--queue", QUEUE]) == 1
    gator.store.beat(f"{socket.gethostname()}:1:f", [QUEUE], 90)
    assert cli.main(["health", dsn, "--queue", QUEUE]) == 0
    assert cli.main(["health", dsn, "--queue", QUEUE, "--within", "0"]) == 1
    assert cli.main(["health", "beanstalk://127.0.0.1:1/"]) == 2
    assert cli.main(["health", "redis://127.0.0.1:1/"]) == 1, "Docker knows 0 and 1"
    assert cli.main(["health", "redis://127.0.0.1:1/", "--or-unknown"]) == 0
    assert cli.main(["health", "beanstalk://127.0.0.1:1/", "--or-unknown"]) == 2
    assert cli.main(["health", dsn, "--queue", "other", "--or-unknown"]) == 1, "that is known"
    assert "it is not known" in capsys.readouterr().err


def test_a_queue_is_paused_and_resumed(dsn, gator, capsys):
    gator.task(jobs.note)
    assert cli.main(["pause", dsn, "--queue", QUEUE]) == 0
    assert capsys.readouterr().out == f"{QUEUE}: paused\n"
    assert gator.run_all() == 0
    assert asked(capsys, "status", dsn)[1]["queues"][0]["paused"] is True
    assert cli.main(["status", dsn]) == 0
    assert "paused" in capsys.readouterr().out
    assert cli.main(["resume", dsn, "--queue", QUEUE]) == 0
    assert cli.main(["resume", dsn, "--queue", QUEUE]) == 1
    assert capsys.readouterr().out == f"{QUEUE}: resumed\n{QUEUE}: was not paused\n"
    assert cli.main(["pause", dsn, "--queue", QUEUE, "--seconds", "60"]) == 0
    assert capsys.readouterr().out.startswith(f"{QUEUE}: paused until 2")


def test_tasks_by_state_page_by_page(dsn, gator, capsys):
    sent = [gator.task(jobs.note, number).id for number in range(5)]
    later = gator.options(delay_by=600)(jobs.note, secret="x" * 10).id
    _, found = asked(capsys, "tasks", dsn, "--limit", "3")
    assert [each["task_id"] for each in found["tasks"]] == sent[:3]
    _, found = asked(capsys, "tasks", dsn, "--limit", "3", "--after", found["next"])
    assert [each["task_id"] for each in found["tasks"]] == sent[3:]
    assert found["next"] is None
    _, found = asked(capsys, "tasks", dsn, "--state", "delayed")
    assert [each["task_id"] for each in found["tasks"]] == [later]
    assert cli.main(["tasks", dsn, "--queue", QUEUE, "--state", "delayed"]) == 0
    shown = capsys.readouterr().out
    assert "tests.support.jobs.note(secret='***')" in shown


def test_a_waiting_task_is_canceled(dsn, gator, capsys):
    task = gator.task(jobs.note)
    assert cli.main(["cancel", dsn, "--queue", "other", "--queue", QUEUE, task.id]) == 0
    assert capsys.readouterr().out == f"{QUEUE}: {task.id} canceled\n"
    assert gator.len() == 0
    assert cli.main(["cancel", dsn, "--queue", QUEUE, task.id]) == 1


def test_status_of_all_queues(dsn, gator, capsys):
    gator.task(jobs.note)
    gator.options(queue_name="low", delay_by=600)(jobs.note)
    assert cli.main(["status", dsn]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split()[:3] == ["queue", "waiting", "delayed"]
    assert [line.split()[:3] for line in shown[1:4]] == [
        ["all", "0", "0"],
        [QUEUE, "1", "0"],
        ["low", "0", "1"],
    ]
    warned = [line for line in shown[4:] if "no live worker" in line]
    assert len(warned) == 3
    assert cli.main(["status", dsn, "--watch", "--json"]) == 2
    assert "--watch" in capsys.readouterr().err


def test_status_is_refreshed(dsn, gator, worker):
    """With rates, once there was something to compare; Ctrl-C ends it in order."""
    argv = [sys.executable, "-m", "alligator", "status", dsn, "--watch", "--every", "0.2"]
    process = subprocess.Popen(
        argv, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )
    try:
        gator.task("operator.add", 1, 2)
        lines = iter(process.stdout.readline, "")
        titles = next(line for line in lines if "out/min" in line).split()
        assert titles[:7] == [
            *("queue", "waiting", "delayed", "running", "dead", "oldest", "workers"),
        ]
        assert titles[7:9] == ["in/min", "out/min"]

        def rate():
            gator.task("operator.add", 1, 2)
            row = next(line for line in lines if line.startswith(QUEUE)).split()
            return row[8] not in ("0", "-")

        eventually(rate, "what a worker did is seen")
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("kind", ["redis", "beanstalk", "sqs"])
def test_listings_of_other_backends(kind, request, tmp_path, capsys):
    dsn = request.getfixturevalue(f"{kind}_dsn")
    store = [] if kind == "redis" else ["--store", f"sqlite://{tmp_path}/store.db"]
    gator = Gator(dsn, QUEUE, store=store[1] if store else None)
    if kind == "sqs":
        gator.client.conn.create_queue(QueueName=QUEUE)
    else:
        gator.client.drop_all(QUEUE)
    for number in range(2):
        gator.task(jobs.note, number)
    if store:
        gator.store.beat("host:1:f", [QUEUE], 90)
    for command in ("status", "running", "workers", "recent"):
        code, found = asked(capsys, command, dsn, *store)
        assert (code, next(iter(found))) == (0, "queues" if command == "status" else command)
    assert cli.main(["status", dsn, "--queue", QUEUE, *store]) == 0
    assert f"{QUEUE}  " in capsys.readouterr().out
    code = cli.main(["tasks", dsn, "--queue", QUEUE, *store])
    shown = capsys.readouterr()
    if kind == "sqs":
        assert (code, shown.err.count("\n")) == (2, 1)
    else:
        assert (code, "tests.support.jobs.note(0)" in shown.out) == (0, True)
        assert ("1 more are there, which the server cannot list." in shown.out) is bool(store)
    assert cli.main(["pause", dsn, "--queue", QUEUE, *store]) == 0
    assert cli.main(["resume", dsn, "--queue", QUEUE, *store]) == 0
    gator.client.drop_all(QUEUE)
    gator.close()


def test_without_a_store_one_line_says_what_would_work(beanstalk_dsn, capsys):
    for command in ("running", "workers", "recent", "pause"):
        assert cli.main([command, beanstalk_dsn, "--queue", QUEUE]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "store=" in said
    assert cli.main(["status", beanstalk_dsn]) == 0
