"""Test processes that a task forks: they can end, use the Gator, and wait for no lost lock."""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import uuid
from pathlib import Path

import pytest

from alligator import Gator, Worker
from alligator.backends.legacy import LegacyClient
from alligator.runtime.event_loop import EventLoop
from alligator.workers.signals import Handlers
from tests.support import ROOT

JOBS = """
import asyncio, multiprocessing, os, signal, sys, time
from alligator import Gator, Worker, current_task
from alligator.exceptions import TaskTimeout

gator = Gator(os.environ["JOBS_DSN"])
lines = os.environ["JOBS_LINES"]
fork = multiprocessing.get_context("fork")

def note(text):
    with open(lines, "a") as out:
        out.write(f"{text}\\n")

def pool():
    with fork.Pool(2) as pool:
        found = pool.map(abs, [-1, -2])
    note(f"pool {found}")

def terminate():
    children = [fork.Process(target=time.sleep, args=(60,)) for _ in range(5)]
    for each in children:
        each.start()
        each.terminate()
    for each in children:
        each.join(10)
    note(f"terminate {[each.exitcode for each in children]}")

def kill():
    codes = []
    for number in (signal.SIGTERM, signal.SIGURG, signal.SIGKILL):
        child = os.fork()
        if child == 0:
            time.sleep(1.0 if number == signal.SIGURG else 60)
            os._exit(3)
        time.sleep(0.05)
        os.kill(child, number)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    note(f"kill {codes}")

def spawned(method):
    child = multiprocessing.get_context(method).Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.join(10)
    note(f"{method} {child.exitcode}")

def handlers():
    def look():
        as_before = (
            signal.getsignal(signal.SIGINT) is signal.default_int_handler,
            signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
            signal.getsignal(signal.SIGURG) == signal.SIG_DFL,
            signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set(),
            signal.set_wakeup_fd(-1) == -1,
            signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0),
        )
        note(f"handlers {all(as_before)}")
    child = fork.Process(target=look)
    child.start()
    child.join()
    note(f"parent {signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()}")

async def coroutine(what):
    await asyncio.sleep(0)
    return what

def spin():
    while True:
        time.sleep(0.001)

def uses():
    parent = current_task()
    def use():
        assert current_task() is parent
        gator.task(note, "pushed by a child")
        told = gator.options(is_async=False).task(coroutine, "of a coroutine").result
        try:
            gator.options(is_async=False, timeout=0.05).task(spin)
        except TaskTimeout:
            note(f"uses {told}")
    child = fork.Process(target=use)
    child.start()
    child.join(10)
    note(f"used {child.exitcode}")
    child.kill()

async def forks_in_a_loop():
    await asyncio.sleep(0)
    uses()

def push_all():
    for each in (pool, terminate, kill, handlers, uses):
        gator.options(timeout=50).task(each)
    for each in ("spawn", "forkserver"):
        gator.task(spawned, each)
    gator.options(timeout=50).task(forks_in_a_loop)

if __name__ == "__main__":
    if sys.argv[1] == "push":
        push_all()
    else:
        from fork_jobs import gator
        Worker(gator, burst=True, concurrency=int(sys.argv[2])).run_forever()
"""

EXPECTED = sorted(
    [
        "pool [1, 2]",
        "terminate [-15, -15, -15, -15, -15]",
        "kill [-15, 3, -9]",
        "spawn -15",
        "forkserver -15",
        "handlers True",
        "parent True",
        *["pushed by a child", "uses of a coroutine", "used 0"] * 2,
    ]
)


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("way", ["command line", "embedded"])
def test_a_task_ends_its_children_and_they_use_the_gator(tmp_path, way, concurrency):
    (tmp_path / "fork_jobs.py").write_text(JOBS)
    out = tmp_path / "lines"
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{tmp_path}",
        "JOBS_DSN": f"sqlite://{tmp_path}/q.db",
        "JOBS_LINES": str(out),
    }

    def python(*arguments):
        """Run it; whatever hangs in it ends with it, as they are a process group."""
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=(tmp_path / "out").open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            assert process.wait(40) == 0, (tmp_path / "out").read_text()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    python("-c", "import fork_jobs; fork_jobs.push_all()")
    if way == "embedded":
        python("fork_jobs.py", "work", str(concurrency))
    else:
        app = ("--app", "fork_jobs:gator")
        python("-m", "alligator", *app, "--burst", "--concurrency", str(concurrency))
    assert sorted(out.read_text().splitlines()) == EXPECTED, (tmp_path / "out").read_text()
    gator = Gator(environment["JOBS_DSN"])
    assert (len(gator.dead()), gator.len()) == (0, 0)
    gator.close()


gators = {}


def push_from_a_child(queue_name):
    """A task whose child uses the very Gator of the worker."""

    def push():
        gators[queue_name].task(nothing)
        assert gators[queue_name].stats()["running"] or gators[queue_name].len()

    child = multiprocessing.get_context("fork").Process(target=push)
    child.start()
    child.join(20)
    code = child.exitcode
    child.kill()
    assert code == 0


def test_a_child_pushes_on_every_backend_while_the_worker_goes_on(durable_gator):
    queue_name = f"forks-{uuid.uuid4().hex[:8]}"
    gator = gators[queue_name] = durable_gator(queue_name)
    for _ in range(3):
        gator.task(push_from_a_child, queue_name)
    worker = Worker(gator, max_tasks=6, concurrency=4)
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert worker.tasks_complete == 6
    assert gator.dead() == []


# -- One thing at a time, in children of this process. ------------------------------------------


def in_child(call, within=20.0):
    """Call it in a forked child; return how that ended. It fails if it takes too long."""
    child = os.fork()
    if child == 0:
        try:
            call()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    deadline = time.monotonic() + within
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise AssertionError(f"The child has not ended within {within} s.")
        time.sleep(0.01)


@contextlib.contextmanager
def held_by_another_thread(lock):
    taken, done = threading.Event(), threading.Event()

    def hold():
        with lock:
            taken.set()
            done.wait(30)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert taken.wait(20)
    yield
    done.set()
    thread.join()


def nothing():
    """A task."""


class OldClient:
    """A client as of 1.0."""

    conn_string = "old://"

    def len(self, queue_name):
        return 7


def schedules(tmp_path):
    gator = Gator(f"sqlite://{tmp_path}/q.db")
    return gator.schedules._lock, lambda: gator.every(10, nothing)


def legacy(tmp_path):
    client = LegacyClient(OldClient())
    return client._lock, lambda: client.len("all")


def watched(tmp_path):
    gator = Gator(f"locmem://{tmp_path}")
    task = gator.options(save_results=60).task(nothing)
    with gator.store.watch([task.task_id]) as watch:
        pass
    gator.store._memory.records.watches[task.task_id] = [watch]  # as if a thread waited
    return watch.told._cond, gator.run_all


def event_loop(tmp_path):
    loop = EventLoop()
    assert loop.run(asyncio.sleep(0, "in the parent")) == "in the parent"

    def run():
        assert loop.run(asyncio.sleep(0, "in the child")) == "in the child"
        loop.close()  # its thread is not to be met by another test

    return loop._lock, run


@pytest.mark.parametrize("case", [schedules, legacy, watched, event_loop])
def test_a_lock_that_another_thread_held_at_the_fork_holds_up_no_child(tmp_path, case):
    lock, use = case(tmp_path)
    with held_by_another_thread(lock):
        assert in_child(use) == 0
    use()


def test_the_loop_of_the_parent_goes_on_whatever_a_child_does_with_its_own():
    loop = EventLoop()
    assert loop.run(asyncio.sleep(0, 1)) == 1

    def run():
        assert loop.run(asyncio.sleep(0, 2)) == 2
        loop.close()

    assert in_child(run) == 0
    assert loop.run(asyncio.sleep(0, 3)) == 3
    loop.close()


def test_nested_handlers_are_all_given_back_and_those_of_a_task_stay():
    def counts(number):
        raise AssertionError("of the parent")

    def look():
        assert signal.getsignal(signal.SIGTERM) == before
        assert signal.getsignal(signal.SIGINT) is own

    def own(number, frame):
        """A handler that a task set."""

    before = signal.getsignal(signal.SIGTERM)
    with Handlers(counts), Handlers(counts):
        chained = signal.signal(signal.SIGINT, own)
        assert in_child(look) == 0
        signal.signal(signal.SIGINT, chained)
        assert signal.getsignal(signal.SIGTERM) != before


def test_a_handler_of_a_task_that_calls_the_one_before_it_ends_the_child():
    counted = []
    with Handlers(counted.append):
        ours = signal.getsignal(signal.SIGTERM)

        def own(number, frame):
            ours(number, frame)

        signal.signal(signal.SIGTERM, own)
        assert in_child(lambda: os.kill(os.getpid(), signal.SIGTERM)) == -signal.SIGTERM
        signal.signal(signal.SIGTERM, ours)
        os.kill(os.getpid(), signal.SIGTERM)  # of the parent
    assert counted == [signal.SIGTERM]


def test_a_child_is_no_reader_of_the_wake_up_calls_that_its_parent_waits_for(tmp_path):
    gator = Gator(f"sqlite://{tmp_path}/q.db")
    stop = threading.Event()
    waits = threading.Thread(
        target=lambda: gator.client.reserve(["all"], 1, 30.0, 30.0, stop=stop.is_set)
    )
    waits.start()

    def readers(pid):
        links = []
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                links.append(str(each.readlink()))
        return [each for each in links if each.endswith(".wake")]

    deadline = time.monotonic() + 10
    while not readers("self"):
        assert time.monotonic() < deadline
        time.sleep(0.01)

    def look():
        assert readers("self") == []

    try:
        assert in_child(look) == 0
    finally:
        stop.set()
        waits.join(20)
        gator.close()


WATCHDOG = """
import os, sys, time
from alligator.runtime import timeouts, watchdog

watchdog.SLACK = 0.5
timeouts._watch._watchdog.cover(time.monotonic() + 3)
child = os.fork()
if child == 0:
    timeouts._watch._watchdog.cover(time.monotonic() + 60)  # waits for no thread of the parent
    sys.exit(5)  # nor does the interpreter as it ends
print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
time.sleep(30)
"""


def test_a_fork_neither_ends_the_watch_over_the_parent_nor_hangs_the_child():
    done = subprocess.run(
        [sys.executable, "-c", WATCHDOG],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "child 5\n"
    assert done.returncode == 1
    assert "Timeout" in done.stderr


def test_a_child_does_not_hand_back_what_its_parents_worker_holds():
    """Nested timeouts of a child are not the business of the worker around its parent."""
    from alligator.runtime.timeouts import Overrun, overrun, overruns_tell

    def look():
        assert overrun.get() is None

    with overruns_tell(Overrun(1.0, lambda: None)):
        assert in_child(look) == 0
        assert overrun.get() is not None


def test_a_pool_in_a_thread_of_a_worker_in_the_main_thread():
    """A pool forks its later processes from its own threads."""
    counted = []
    with Handlers(counted.append):
        with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
            assert pool.map(abs, range(6), 1) == list(range(6))
        assert counted == []
