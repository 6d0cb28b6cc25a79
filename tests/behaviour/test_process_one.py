"""Test latergator.py as process 1 of a container, which a PID namespace stands for."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from alligator import Gator
from tests.support import ROOT
from tests.support.helpers import eventually

NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child"]


def may_make_a_namespace():
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True, timeout=20).returncode == 0


pytestmark = pytest.mark.skipif(
    not may_make_a_namespace(), reason="needs unshare, and the right to make a PID namespace"
)

JOBS = """
import os, subprocess, sys, time

def note(path, text):
    with open(path, "a") as out:
        out.write(f"{text}\\n")

def leave_orphans(path):
    for _ in range(3):
        subprocess.run(["sh", "-c", "sleep 0.02 & sleep 0.04 &"], check=True)
    statuses = {subprocess.run(["sh", "-c", "exit 7"]).returncode for _ in range(20)}
    note(path, f"{sorted(statuses)}")

def slow(path):
    note(path, "start")
    time.sleep(0.5)
    note(path, "end")
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "orphan_jobs.py").write_text(JOBS)
    return tmp_path


@pytest.fixture
def gator(place):
    gator = Gator(f"sqlite://{place}/q.db")
    yield gator
    gator.close()


@pytest.fixture
def start(place):
    """Start latergator.py as process 1; return unshare's process, which ends as it does."""
    started = []

    def begin(*arguments):
        process = subprocess.Popen(
            [*NAMESPACE, sys.executable, "-m", "alligator", *arguments],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=(place / "out").open("ab"),
            stderr=subprocess.STDOUT,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def processes():
    """Yield the id, state and parent of each process, as this one sees them."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        state, parent = text.rpartition(")")[2].split()[:2]
        yield int(path.parent.name), state, int(parent)


def children(pid):
    return {each: state for each, state, parent in processes() if parent == pid}


def process_one(unshare):
    (pid,) = eventually(lambda: children(unshare.pid), "process 1 is there")
    return pid


def lines(place):
    path = place / "lines"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("flags", [[], ["--concurrency", "4"], ["--processes", "2"]])
def test_orphans_are_reaped_and_no_task_loses_the_status_of_its_own(place, gator, start, flags):
    for _ in range(4):
        gator.task("orphan_jobs.leave_orphans", str(place / "lines"))
    unshare = start(gator.conn_string, *flags)
    one = process_one(unshare)
    eventually(lambda: len(lines(place)) == 4, "all tasks have run")
    assert set(lines(place)) == {"[7]"}
    eventually(lambda: "Z" not in children(one).values(), "no zombie is left")
    eventually(lambda: len(children(one)) == 1, "only what process 1 itself has started is left")
    os.kill(one, signal.SIGTERM)
    assert unshare.wait(20) == 0
    assert gator.dead() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_process_one_finishes_the_task_in_progress(place, gator, start, number):
    gator.task("orphan_jobs.slow", str(place / "lines"))
    unshare = start(gator.conn_string)
    one = process_one(unshare)
    eventually(lambda: lines(place), "the task has begun")
    os.kill(one, number)
    assert unshare.wait(20) == 0
    assert lines(place) == ["start", "end"]
    assert gator.stats()["running"] == 0


def test_a_signal_that_comes_at_once_is_not_lost(place, gator, start):
    unshare = start(gator.conn_string)
    one = process_one(unshare)
    eventually(lambda: children(one), "it has started its child")
    os.kill(one, signal.SIGTERM)
    assert unshare.wait(20) in (0, 128 + signal.SIGTERM)


def test_the_exit_code_is_that_of_the_worker(place, gator, start):
    assert start("nonsense://").wait(20) == 2
    assert start(gator.conn_string, "--burst").wait(20) == 0
    unshare = start(gator.conn_string)
    one = process_one(unshare)
    (worker,) = eventually(lambda: children(one), "it has started its child")
    os.kill(worker, signal.SIGKILL)
    assert unshare.wait(20) == 128 + signal.SIGKILL
