"""Test the commands that show and steer what runs, beside a real worker."""

import json
import os
import socket
import subprocess
import sys

import pytest

from alligator import Gator
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
    slow = gator.options(history=600)("time.sleep", 30)
    gator.options(save_results=600)("operator.truediv", 1, 0)

    def runs():
        return asked(capsys, "running", dsn)[1]["running"]

    (row,) = eventually(runs, "it runs")
    assert (row["task_id"], row["function"]) == (slow.id, "time.sleep")
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
    assert "it is not known" in capsys.readouterr().err
