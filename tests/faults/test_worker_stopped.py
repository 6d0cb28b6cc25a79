"""Stop real worker processes, and kill them before they end: no task gets a death for it."""

import itertools
import os
import re
import signal
import sqlite3
import sys
import uuid
from contextlib import closing
from unittest.mock import Mock

import pytest

from alligator import Gator, Worker
from tests.support.helpers import eventually
from tests.support.processes import processes

JOBS = """
import asyncio, hashlib, os, time

def record(folder, line):
    descriptor = os.open(os.path.join(folder, "lines"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line} {os.getpid()}\\n".encode())
    os.close(descriptor)

def slow(folder):
    record(folder, "start")
    while not os.path.exists(os.path.join(folder, "done")):
        time.sleep(0.02)
    record(folder, "end")

async def slow_coroutine(folder):
    record(folder, "start")
    while not os.path.exists(os.path.join(folder, "done")):
        await asyncio.sleep(0.02)
    record(folder, "end")

def busy_in_c(folder):
    record(folder, "start")
    hashlib.pbkdf2_hmac("sha256", b"x", b"y", 1_000_000_000)

def quick(folder):
    record(folder, "quick")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "stop_jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("stop_jobs", None)


@pytest.fixture
def start(folder):
    numbers = itertools.count()
    with processes(folder, start_new_session=True) as run:

        def start(dsn, *flags):
            out = f"out-{next(numbers)}"
            process = run("-m", "alligator", dsn, *flags, out=out)
            process.out = folder / out
            return process

        yield start


def lines(folder, name):
    path = folder / "lines"
    found = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [int(pid) for said, pid in found if said == name]


def end(worker, pid, how):
    """End the process that runs the task: stopped (S), then killed; or killed (K) at once."""
    if how == "S":
        worker.send_signal(signal.SIGTERM)
        # The worker itself logs it, whichever process got the signal.
        told = re.compile(rf"Worker \(#{pid}\) was told to stop")
        eventually(lambda: told.search(worker.out.read_text()), "it is told to stop")
    os.kill(pid, signal.SIGKILL)
    worker.kill()
    worker.wait()


def interrupt(gator, folder, start, dsn, hows, flags):
    """Push a long task, and end each of its workers in turn."""
    flags = ["--queue", gator.queue_name, *flags]
    for number, how in enumerate(hows):
        worker = start(dsn, *flags)
        pids = eventually(lambda n=number: lines(folder, "start")[n:], f"start {number}")
        end(worker, pids[0], how)
    (folder / "done").touch()
    return start(dsn, *flags)


ONE_BY_ONE = ["--lease", "0.8", "--prefetch", "4"]
WAYS = {
    "inline": ("slow", ONE_BY_ONE),
    "threads": ("slow", ["--lease", "0.8", "--concurrency", "3"]),
    "coroutines": ("slow_coroutine", ["--lease", "0.8", "--concurrency", "3"]),
    "processes": ("slow", ["--lease", "1", "--processes", "2"]),
}


def completes(gator, folder, start, dsn, hows, way="inline"):
    func, flags = WAYS[way]
    gator.task(f"stop_jobs.{func}", str(folder))
    for _ in range(3):
        gator.task("stop_jobs.quick", str(folder))
    worker = interrupt(gator, folder, start, dsn, hows, flags)
    eventually(lambda: lines(folder, "end"), "it ends")
    # A neighbour that had run, and was not acknowledged when its worker was killed, runs again.
    eventually(lambda: len(lines(folder, "quick")) >= 3, "its neighbours have run")
    eventually(lambda: gator.len() == gator.stats()["running"] == 0, "all are acked")
    worker.terminate()
    assert worker.wait(20) == 0
    assert len(lines(folder, "start")) == len(hows) + 1
    assert len(lines(folder, "end")) == 1
    assert gator.dead() == []
    stats = gator.stats()
    assert (stats["waiting"], stats["running"]) == (0, 0)


@pytest.mark.parametrize("way", WAYS)
def test_three_stops_that_were_cut_short_are_no_deaths(way, sqlite_dsn, folder, start):
    with closing(Gator(sqlite_dsn, "stops")) as gator:
        completes(gator, folder, start, sqlite_dsn, "SSS", way)


def test_so_on_redis(redis_dsn, folder, start):
    with closing(Gator(redis_dsn, f"stops-{uuid.uuid4().hex[:8]}")) as gator:
        completes(gator, folder, start, redis_dsn, "SSS")


def test_a_stop_leaves_the_deaths_on_record_as_they_are(sqlite_dsn, folder, start):
    with closing(Gator(sqlite_dsn, "stops")) as gator:
        completes(gator, folder, start, sqlite_dsn, "KSKS")


def test_a_stop_that_comes_between_two_looks_is_noted_before_it_is_said(monkeypatch):
    """Else a kill right after that line would count as a death."""
    worker, leases, steps = Worker(Gator("locmem://between"), log_level="CRITICAL"), Mock(), []
    leases.note_stop.side_effect = lambda: steps.append("noted")
    monkeypatch.setattr(worker, "interrupt", lambda: steps.append("said"))
    monkeypatch.setattr(worker, "_hand_back_paused", lambda leases: None)
    monkeypatch.setattr(worker, "_is_told_to_stop", lambda: False)  # it comes right after this
    worker._signals.count = 1
    worker._watch(leases, None)
    assert steps == ["noted", "said"]


@pytest.mark.parametrize("hows", ["KKK", "KSKSK"])
def test_kills_without_warning_still_make_a_dead_letter(hows, sqlite_dsn, folder, start):
    with closing(Gator(sqlite_dsn, "stops")) as gator:
        gator.task("stop_jobs.slow", str(folder))
        interrupt(gator, folder, start, sqlite_dsn, hows, ONE_BY_ONE)
        eventually(lambda: gator.stats()["dead"] == 1, "it is a dead letter")
        assert "3 deaths of its worker" in gator.dead()[0].error
        assert len(lines(folder, "start")) == len(hows)
        assert lines(folder, "end") == []


def test_a_stop_is_noted_while_the_main_thread_is_in_c_code(sqlite_dsn, tmp_path, folder, start):
    with closing(Gator(sqlite_dsn, "stops")) as gator:
        gator.task("stop_jobs.busy_in_c", str(folder))
        worker = start(sqlite_dsn, "--queue", "stops", "--lease", "0.5")
        eventually(lambda: lines(folder, "start"), "it starts")
        worker.send_signal(signal.SIGTERM)
        database = sqlite3.connect(tmp_path / "queue.db")

        def is_noted():
            return database.execute("SELECT deaths FROM alligator_tasks").fetchone() == (-1,)

        eventually(is_noted, "the stop is noted")
        worker.kill()
        worker.wait()
        database.close()
        (delivery,) = gator.client.reserve(["stops"], wait=5.0).deliveries
        assert (delivery.deaths, delivery.attempt) == (0, 2)
