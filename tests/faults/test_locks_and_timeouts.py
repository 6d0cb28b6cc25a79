"""Test timeouts while a function holds a lock, or another one does: nothing waits for ever."""

import importlib
import io
import logging
import os
import queue
import subprocess
import sys
import threading
import time

import pytest

from alligator import Gator
from alligator.common.log import PATIENCE, worker_logger
from alligator.exceptions import TaskTimeout
from alligator.runtime import safe_points
from alligator.runtime.timeouts import call_within
from tests.support import ROOT
from tests.support.helpers import eventually


def is_free(lock):
    """Whether a thread of its own gets a lock."""
    got = []

    def take():
        got.append(lock.acquire(timeout=20))
        if got[0]:
            lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    return got[0]


# -- Where the exception comes. ----------------------------------------------------------------


def time_out(function, rounds, seconds=0.01):
    """Have four threads time out in a function again and again."""
    ended = []

    def body():
        for _ in range(rounds):
            try:
                call_within(seconds, function)
            except TaskTimeout:
                ended.append(1)

    threads = [threading.Thread(target=body, daemon=True) for _ in range(4)]
    for each in threads:
        each.start()
    deadline = time.monotonic() + 60
    for each in threads:
        each.join(max(0.0, deadline - time.monotonic()))
    assert len(ended) == 4 * rounds, "a thread waits for a lock that was left held"


def test_no_lock_of_logging_is_left_held(tmp_path):
    logger = logging.Logger("storm")
    handlers = [logging.FileHandler(tmp_path / name) for name in ("one", "two")]
    for each in handlers:
        logger.addHandler(each)

    def storm():
        while True:
            logger.info("on and on")

    time_out(storm, 30)
    assert [is_free(each.lock) for each in handlers] == [True, True]
    for each in handlers:
        each.close()


def test_no_lock_of_a_shared_queue_is_left_held():
    shared = queue.Queue()

    def storm():
        while True:
            shared.put(1)
            shared.get()

    time_out(storm, 3)
    assert is_free(shared.mutex)


@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock])
def test_a_lock_that_is_taken_by_with_is_given_back(kind):
    lock = kind()

    def storm():
        while True:
            with lock:
                pass

    time_out(storm, 15, 0.001)
    assert is_free(lock)


class _Slow(io.StringIO):
    """Block each writer of this stream until a test lets it go on."""

    def __init__(self):
        super().__init__()
        self.entered, self.go_on = threading.Event(), threading.Event()

    def write(self, text):
        self.entered.set()
        while not self.go_on.is_set():
            time.sleep(0.001)
        return len(text)


def in_a_thread(call):
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def longest_put_off(thread):
    return safe_points.look(thread.ident)[1]


def test_it_is_put_off_before_a_lock_and_not_behind_its_try():
    handler = logging.StreamHandler(stream := _Slow())
    record = logging.LogRecord("n", logging.INFO, "p", 1, "m", None, None)
    holder = in_a_thread(lambda: handler.handle(record))
    assert stream.entered.wait(20)
    waiter = in_a_thread(lambda: handler.handle(record))
    waits = lambda: sys._current_frames()[waiter.ident].f_code.co_name == "acquire"  # noqa: E731
    eventually(waits)
    assert longest_put_off(waiter) == safe_points.LONGEST
    assert longest_put_off(holder) == 0.0, "the handler releases its lock in any case"
    stream.go_on.set()
    holder.join(20)
    waiter.join(20)


def test_it_is_put_off_in_calls_of_alligator_and_imports(tmp_path, monkeypatch):
    go_on, gator = threading.Event(), Gator("locmem://spared")
    monkeypatch.setattr(gator.client, "len", lambda name: go_on.wait(20) and 0)
    calling = in_a_thread(gator.len)
    eventually(lambda: longest_put_off(calling) == safe_points.LONGEST_CALL)
    go_on.set()
    calling.join(20)
    (tmp_path / "slow_module.py").write_text(
        "import time\nend = time.monotonic() + 20\n"
        "import threading\nwhile not getattr(threading, 'go_on', 0): time.sleep(0.001)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importing = in_a_thread(lambda: importlib.import_module("slow_module"))
    eventually(lambda: longest_put_off(importing) == safe_points.LONGEST_CALL)
    monkeypatch.setattr(threading, "go_on", 1, raising=False)
    importing.join(20)


def test_who_stays_in_such_a_call_is_interrupted_all_the_same():
    started, gator = time.monotonic(), Gator("locmem://stays")
    task = gator.task("tests.support.jobs.note")
    with pytest.raises(TaskTimeout):
        call_within(0.1, task.wait)
    assert time.monotonic() - started < 15


def test_who_ends_while_it_is_put_off_has_failed_and_hears_nothing():
    gator = Gator("locmem://ends")
    gator.client.len = lambda name: [time.sleep(0.002) for _ in range(150)] and 0
    strays = []
    try:
        with pytest.raises(TaskTimeout):
            call_within(0.1, gator.len)
        for _ in range(100):
            time.sleep(0.001)
    except BaseException as err:
        strays.append(err)
    assert strays == []


# -- What is left held all the same. -----------------------------------------------------------


def test_a_handler_that_the_thread_left_locked_is_released():
    handler = logging.StreamHandler(io.StringIO())

    def leaves_it_locked():
        handler.acquire()
        handler.acquire()
        while True:
            time.sleep(0.001)

    with pytest.raises(TaskTimeout):
        call_within(0.05, leaves_it_locked)
    assert is_free(handler.lock)


def test_what_goes_on_inside_logging_keeps_its_lock():
    held = []

    class Runs(logging.Handler):
        def emit(self, record):
            with pytest.raises(TaskTimeout):
                call_within(0.05, lambda: [time.sleep(0.001) for _ in range(20_000)])
            held.append(self.lock._is_owned())

    Runs().handle(logging.LogRecord("n", logging.INFO, "p", 1, "m", None, None))
    assert held == [True]


def test_a_worker_does_not_wait_for_a_handler_whose_lock_is_held(capsys):
    handler = logging.StreamHandler(text := io.StringIO())
    logging.getLogger("alligator.workers").addHandler(handler)
    logger = worker_logger("INFO")
    held, let_go = threading.Event(), threading.Event()

    def hold():
        with handler.lock:
            held.set()
            let_go.wait(30)

    holder = in_a_thread(hold)
    try:
        assert held.wait(20)
        ended = threading.Event()

        def say():
            for number in range(20):
                logger.info("line %s", number)
            ended.set()

        in_a_thread(say)
        assert ended.wait(10 * PATIENCE), "it waits once, and not for each line"
        let_go.set()
        holder.join(20)
        logger.info("the last")
    finally:
        logging.getLogger("alligator.workers").removeHandler(handler)
    assert text.getvalue() == "the last\n"
    out = capsys.readouterr().out
    assert all(f" line {number}\n" in out for number in range(20)), "what it missed is written"


# -- The rescue. -------------------------------------------------------------------------------

JOBS = """
import logging, os, sys, threading, time
from alligator import Gator

gator = Gator(os.environ["QUEUE"])
handler = logging.StreamHandler(sys.stderr)
logging.getLogger().addHandler(handler)

def stubborn():
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            time.sleep(0.05)
        except BaseException:
            pass

def holds_logging():
    handler.acquire()
    logging._lock.acquire()
    for each in logging._handlerList:
        each().acquire()
    stubborn()

def holds_the_client():
    gator.client.release = lambda *args: time.sleep(60)
    stubborn()

def neighbour():
    time.sleep(60)
"""


@pytest.mark.parametrize("function", ["holds_logging", "holds_the_client"])
def test_neighbours_are_handed_back_whatever_the_stuck_one_holds(tmp_path, sqlite_dsn, function):
    (tmp_path / "holding_jobs.py").write_text(JOBS)
    gator = Gator(sqlite_dsn)
    for _ in range(4):
        gator.task("holding_jobs.neighbour")
    gator.options(timeout=0.5).task(f"holding_jobs.{function}")
    command = [sys.executable, "-m", "alligator", "--app=holding_jobs:gator", "--lease=60"]
    started = time.monotonic()
    done = subprocess.run(
        [*command, "--grace=0.5", "--concurrency=5"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "QUEUE": sqlite_dsn},
        capture_output=True,
        text=True,
        timeout=110,
    )
    out = done.stdout + done.stderr
    assert (done.returncode, time.monotonic() - started < 55) == (1, True), out
    back = [
        (each.task_id, each.deaths)
        for _ in range(4)
        for each in gator.client.reserve(["all"], 1, 30).deliveries
    ]
    assert [deaths for _, deaths in back] == [0] * 4, out
    assert gator.stats()["running"] == 5, "the stuck one waits for its lease to run out"
    assert "could not be stopped within 0.5 s" in out
    gator.close()
