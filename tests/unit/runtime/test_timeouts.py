"""Test ``timeout`` and ``expires``: functions that take too long, and tasks that start too late."""

import asyncio
import contextlib
import ctypes
import math
import os
import signal
import subprocess
import sys
import threading
import time
import uuid

import pytest

from alligator import Gator, Task, Worker, current_task
from alligator.exceptions import AlligatorException, InvalidTask, TaskFailed, TaskTimeout
from alligator.runtime.timeouts import Alarm, Overrun, TimeIsUp, _Watch, call_within, overrun
from alligator.testing import FakeClock
from tests.support import ROOT, jobs
from tests.support.helpers import eventually, let_pass

seen: list = []
started, over = threading.Event(), threading.Event()
leases_asked: list = []


def sleep(seconds):
    time.sleep(seconds)
    seen.append("slept on")


def turn(seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pass
    seen.append("turned on")


def step_by_step(seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.005)
    seen.append("went on")


def careless(seconds):
    try:
        step_by_step(seconds)
    except Exception:
        seen.append("swallowed")


def tidy(seconds):
    try:
        step_by_step(seconds)
    except BaseException as err:
        seen.append(type(err).__name__)
        raise RuntimeError("its own words") from err
    finally:
        seen.append("tidied up")


def stubborn(seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            step_by_step(deadline - time.monotonic())
        except BaseException:
            seen.append("no")
    return "done, if late"


def stubborn_until_over():
    started.set()
    while not over.is_set():
        try:
            over.wait(60)
        except BaseException:
            seen.append("no")


def until_two_were_asked():
    eventually(lambda: len(leases_asked) >= 2, "a heartbeat")


async def slow_coroutine(seconds):
    try:
        await asyncio.sleep(seconds)
    except Exception:
        seen.append("swallowed")
    seen.append("went on")


async def stubborn_coroutine(seconds):
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        return "done, if late"


def note_start(task):
    seen.append("start")


def slow_hook(task, *extra):
    step_by_step(0.3)
    seen.append("hook")


def nest(outer, inner):
    gator = Gator("locmem://nested")
    try:
        gator.options(is_async=False, timeout=inner).task(step_by_step, 10)
    except TaskTimeout:
        seen.append("inner")
    step_by_step(outer)


@pytest.fixture(autouse=True)
def nothing_seen():
    seen.clear()


@pytest.fixture
def gator():
    return Gator(f"locmem://{uuid.uuid4().hex}")


def inline(gator, options, func, *args):
    gator.options(is_async=False, **options).task(func, *args)


def popped(gator, options, func, *args):
    gator.options(**options).task(func, *args)
    while gator.len():
        gator.pop()


def worked(concurrency):
    def work(gator, options, func, *args):
        gator.options(**options).task(func, *args)
        Worker(gator, burst=True, log_level="CRITICAL", concurrency=concurrency).run_forever()
        if letters := gator.dead():
            assert letters[0].error.startswith("TaskTimeout: ")
            raise TaskTimeout(letters[0].traceback)

    return work


def in_a_thread(gator, options, func, *args):
    errors = []

    def body():
        try:
            inline(gator, options, func, *args)
        except BaseException as err:
            errors.append(err)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def in_a_loop(gator, options, func, *args):
    async def body():
        inline(gator, options, func, *args)

    asyncio.run(body())


WAYS = {
    "inline": inline,
    "pop": popped,
    "worker": worked(1),
    "threads": worked(3),
    "a thread": in_a_thread,
    "a loop": in_a_loop,
}
every_way = pytest.mark.parametrize("run", WAYS.values(), ids=WAYS)


@every_way
@pytest.mark.parametrize("func", [turn, step_by_step, careless, slow_coroutine])
def test_it_is_raised_inside(gator, run, func):
    started = time.monotonic()
    with pytest.raises(TaskTimeout):
        run(gator, {"timeout": 0.1}, func, 20)
    assert time.monotonic() - started < 15
    assert seen == []


@every_way
@pytest.mark.parametrize("func", [step_by_step, slow_coroutine])
def test_what_is_in_time_is_left_alone(gator, run, func):
    run(gator, {"timeout": 30}, func, 0.01)
    assert seen == ["went on"]


@pytest.mark.parametrize("run", [inline, popped, worked(1)], ids=["inline", "pop", "worker"])
def test_the_main_thread_is_woken_from_a_call_that_waits(gator, run):
    started = time.monotonic()
    with pytest.raises(TaskTimeout):
        run(gator, {"timeout": 0.1}, sleep, 20)
    assert time.monotonic() - started < 15
    assert seen == []


TRACED = """
import os, sys, threading, time
from alligator.exceptions import TaskTimeout
from alligator.runtime.timeouts import Overrun, call_within, overrun

def trace(frame, event, arg):
    return trace

def limited(seconds, call, *args):
    started = time.monotonic()
    try:
        call_within(seconds, lambda: call(*args))
    except TaskTimeout:
        ends.append(time.monotonic() - started)

def nothing():
    pass

def longest_pause(thread):
    longest, before = 0.0, time.monotonic()
    while thread.is_alive():
        nothing()
        now = time.monotonic()
        longest, before = max(longest, now - before), now
    return longest

def turn():
    while True:
        nothing()

ends = []
threading.settrace(trace)
sys.settrace(trace)
"""


@pytest.mark.parametrize(
    "script",
    [
        # A call that waits, and one that does not; in the main thread, and in another.
        "limited(0.1, time.sleep, 20); limited(0.1, turn); assert len(ends) == 2",
        "other = threading.Thread(target=limited, args=(0.1, turn)); other.start(); other.join()\n"
        "assert len(ends) == 1",
        # Another thread waits in C code, after its time: this one goes on.
        "other = threading.Thread(target=limited, args=(0.1, time.sleep, 3)); other.start()\n"
        "pause = longest_pause(other); assert pause < 2, pause; assert len(ends) == 1",
        # The same, and it is acted on the overrun in the meantime.
        "acted = threading.Event()\n"
        "def stuck():\n"
        "    overrun.set(Overrun(0.2, acted.set))\n"
        "    limited(0.1, time.sleep, 60)\n"
        "threading.Thread(target=stuck, daemon=True).start()\n"
        "assert acted.wait(30); os._exit(0)",
        # C code that waits several times, and takes the interpreter's lock in between.
        "reads, writes = os.pipe(); acted = threading.Event(); file = open(reads, 'rb')\n"
        "def stuck():\n"
        "    overrun.set(Overrun(1.0, acted.set))\n"
        "    limited(0.1, file.read)\n"
        "threading.Thread(target=stuck, daemon=True).start()\n"
        "end = time.monotonic() + 30\n"
        "while not acted.is_set() and time.monotonic() < end:\n"
        "    os.write(writes, b'x'); time.sleep(0.05)\n"
        "assert acted.is_set(); os._exit(0)",
    ],
    ids=["main-thread", "other-thread", "beside-c-code", "overrun", "waits-of-c-code"],
)
def test_a_trace_function_stops_no_timeout(script):
    """Debuggers and measurements of coverage set one."""
    done = subprocess.run(
        [sys.executable, "-c", TRACED + script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_it_is_and_where_it_came_from(gator):
    gator.options(timeout=0.1).task(step_by_step, 20)
    with pytest.raises(TaskTimeout, match=r"ran for more than its 0\.1 s") as caught:
        gator.pop()
    assert isinstance(caught.value, TaskFailed)
    assert isinstance(caught.value, AlligatorException)
    assert isinstance(caught.value.__cause__, TimeIsUp)
    assert not isinstance(caught.value.__cause__, Exception)
    (letter,) = gator.dead()
    assert letter.error == "TaskTimeout: It ran for more than its 0.1 s."
    assert "in step_by_step" in letter.traceback, "it shows where the time went"


@every_way
def test_it_may_tidy_up_and_raise_what_it_likes(gator, run):
    for _ in range(5):
        with pytest.raises(TaskTimeout):
            run(gator, {"timeout": 0.1}, tidy, 20)
        if seen:  # else its time was over before its first line
            break
        gator.purge_dead()
    assert seen == ["TimeIsUp", "tidied up"]


@every_way
@pytest.mark.parametrize("func", [stubborn, stubborn_coroutine])
def test_who_swallows_it_has_failed_all_the_same(gator, run, func):
    with pytest.raises(TaskTimeout):
        run(gator, {"timeout": 0.1}, func, 0.4)


@every_way
def test_retries_apply(gator, run):
    with pytest.raises(TaskTimeout):
        run(gator, {"timeout": 0.1, "retries": 2, "on_start": note_start}, tidy, 20)
    assert seen.count("start") == 3
    runs = " ".join(seen).split("start")[1:]
    # The time of a run may be over before the first line of the function.
    assert {each.strip() for each in runs} <= {"TimeIsUp tidied up", ""}
    assert any(runs)


@every_way
@pytest.mark.parametrize("func", [jobs.note, jobs.coroutine])
def test_hooks_take_their_time(run, func):
    options = {"timeout": 0.1, "on_start": slow_hook, "on_success": slow_hook}
    for _ in range(5):
        seen.clear()
        with contextlib.suppress(TaskTimeout):  # a busy machine took the time of the function
            run(Gator(f"locmem://{uuid.uuid4().hex}"), options, func)
            break
    assert seen == ["went on", "hook"] * 2


def test_on_error_gets_it_and_takes_its_time(gator):
    jobs.seen.clear()
    with pytest.raises(TaskTimeout):
        inline(gator, {"timeout": 0.1, "on_error": jobs.on_error}, step_by_step, 20)
    assert jobs.seen[0][2] == "TaskTimeout"
    with pytest.raises(TaskTimeout):
        inline(gator, {"timeout": 0.1, "on_error": slow_hook}, step_by_step, 20)
    assert seen == ["went on", "hook"]


def test_one_inside_another(gator):
    inline(gator, {"timeout": 30}, nest, 0.01, 0.1)
    assert seen == ["inner", "went on"]
    with pytest.raises(TaskTimeout, match=r"0\.2 s"):
        inline(gator, {"timeout": 0.2}, nest, 0.01, 30)
    assert seen == ["inner", "went on"], "the outer one ends both"


@pytest.mark.parametrize("threads", [1, 4])
def test_nothing_is_raised_after_the_end(threads):
    """Functions that end just as their time is up: only they get the exception, if any."""
    timeouts, strays = [], []

    def body(limit):
        try:
            for number in range(300):
                try:
                    call_within(limit, lambda wait=limit * (0.5 + number * 3e-3): turn(wait))
                except TaskTimeout:
                    timeouts.append(number)
                for _ in range(50):
                    pass
        except BaseException as err:
            strays.append(err)

    for limit in (0.001, 0.01, 0.1):
        timeouts.clear()
        others = [threading.Thread(target=body, args=[limit]) for _ in range(threads - 1)]
        for each in others:
            each.start()
        body(limit)
        for each in others:
            each.join()
        assert strays == []
        if len(timeouts) < 300 * threads:  # else the machine is too slow for this limit
            break
    assert 0 < len(timeouts) < 300 * threads


def test_who_ended_at_the_last_moment_is_not_acted_upon():
    acted = []
    token = overrun.set(Overrun(0.0, lambda: acted.append("too late")))
    try:
        in_time, rung, stuck = (Alarm(seconds, None) for seconds in (30.0, 0.0, 0.0))
    finally:
        overrun.reset(token)
    in_time.disarm()
    rung.look(rung.rings_at - 0.0)
    acted.clear()
    for alarm in (in_time, rung):
        alarm.disarm()
        alarm.look(alarm.rings_at + 1)
    assert (acted, in_time.rang, rung.rang) == ([], False, True)
    stuck.look(stuck.rings_at + 1)
    stuck.look(stuck.rings_at + 2)
    assert acted == ["too late"], "once"


class _Looked:
    """Stands for an alarm that is due a hair after each look, with a call every other time."""

    overrun, acts_at, rings_at = None, math.inf, 0.0

    def __init__(self, watch, looks):
        self.watch, self.looks, self.done = watch, looks, threading.Event()
        self.other = Alarm(3600.0, None)

    def look(self, now):
        self.looks -= 1
        if not self.looks:
            self.watch.remove(self)
            self.done.set()
        elif self.looks % 2:
            self.watch.add(self.other)
        return time.monotonic() + 1e-7


@pytest.fixture
def watch():
    watch = _Watch()
    yield watch
    watch._turn = lambda: 1e6  # so that its thread takes no turns from those of later tests
    watch._wake_up.call()


def test_a_due_time_a_hair_away_does_not_stop_the_watch(watch):
    looked = _Looked(watch, 5000)
    watch.add(looked)
    assert looked.done.wait(60), f"it stopped {looked.looks} looks before the end"


def test_a_wake_up_that_gets_lost_delays_a_timeout_and_no_more(watch):
    watch.add(Alarm(3600.0, None))
    eventually(lambda: watch._next < math.inf, "it waits for the first alarm")
    alarm = _Looked(watch, 1)
    watch._alarms[id(alarm)] = alarm  # and no call follows
    assert alarm.done.wait(30)


def test_no_other_code_waits_by_what_may_block_for_ever():
    """``SimpleQueue.get(timeout=…)`` does, in Python 3.11 and 3.12."""
    sources = {path: path.read_text() for path in (ROOT / "alligator").rglob("*.py")}
    assert [path.name for path, text in sources.items() if "SimpleQueue(" in text] == []


def test_who_took_too_long_has_failed_though_nobody_looked(monkeypatch):
    monkeypatch.setattr(Alarm, "look", lambda alarm, now: math.inf)
    with pytest.raises(TaskTimeout):
        call_within(0.01, lambda: time.sleep(0.05))
    assert call_within(30, lambda: "in time") == "in time"


def test_without_any_grace_a_timeout_is_still_a_failure(tmp_path, sqlite_dsn):
    (tmp_path / "stuck_jobs.py").write_text(JOBS)
    gator = Gator(sqlite_dsn)
    gator.options(timeout=0.2).task("stuck_jobs.neighbour", str(tmp_path))
    code, out = end_of_process(tmp_path, sqlite_dsn, "--grace=0", "--max-tasks=1")
    assert code == 0, out
    assert gator.dead()[0].error.startswith("TaskTimeout: ")
    gator.close()


@pytest.mark.parametrize("value", [0, -1, -0.0, math.nan, math.inf, "soon", True, "30", []])
@pytest.mark.parametrize("name", ["timeout", "expires"])
def test_no_such_time(gator, name, value):
    with pytest.raises(InvalidTask, match=name):
        gator.options(**{name: value})
    with pytest.raises(InvalidTask, match=name):
        Task(**{name: value})


def test_on_the_wire_only_where_set(gator):
    task = Task()
    task.to_call(jobs.note)
    assert "timeout" not in task.serialize()
    assert "expires" not in task.serialize()
    task = gator.options(timeout=30, expires=60).task(jobs.note)
    read = Task.deserialize(gator.client.peek("all", task.task_id))
    assert (read.timeout, read.expires, read.expires_at) == (30.0, None, task.expires_at)
    assert task.expires_at - time.time() == pytest.approx(60, abs=20)


def test_the_lease_covers_timeout_and_grace(gator, monkeypatch):
    asked, extend = leases_asked, gator.client.extend
    asked.clear()

    def noted(deliveries, lease):
        asked.append((lease, time.monotonic() - began))
        return extend(deliveries, lease)

    monkeypatch.setattr(gator.client, "extend", noted)
    gator.options(timeout=50).task(until_two_were_asked)
    began = time.monotonic()
    Worker(gator, max_tasks=1, lease=0.6, grace=7).run_forever()
    assert asked[0][0] == 57, "before it starts"
    assert all(57 - since <= lease < 57 for lease, since in asked[1:])
    assert asked[1:], "and no heartbeat takes it back"


def test_an_embedded_worker_says_so_and_lets_the_lease_run_out(gator, capsys):
    started.clear()
    over.clear()
    gator.options(timeout=0.1).task(stubborn_until_over)
    worker = Worker(gator, max_tasks=1, lease=0.3, grace=0.2)
    other = threading.Thread(target=worker.run_forever, daemon=True)
    other.start()
    assert started.wait(30)
    eventually(lambda: gator.client.reserve(["all"], 1, 30).deliveries, "its lease ran out")
    assert other.is_alive(), "its host goes on"
    over.set()
    other.join(30)
    out = capsys.readouterr().out
    assert "could not be stopped within 0.2 s after its timeout; its lease is left" in out


JOBS = """
import ctypes, os, time

def record(folder, line):
    with open(os.path.join(folder, "lines"), "a") as lines:
        lines.write(f"{line} {os.getpid()}\\n")

def stubborn(folder):
    record(folder, "start")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            time.sleep(0.05)
        except BaseException:
            pass

def in_c_code(folder):
    record(folder, "start")
    ctypes.PyDLL(None).sleep(60)  # which holds the interpreter's lock

async def blocks_the_loop(folder):
    record(folder, "start")
    time.sleep(60)

def neighbour(folder, seconds=1.5):
    record(folder, "neighbour starts")
    time.sleep(seconds)
    record(folder, "neighbour ends")
"""


def end_of_process(folder, dsn, *flags):
    command = [sys.executable, "-m", "alligator", dsn, "--lease=1", "--grace=0.5", *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("stubborn", "could not be stopped within 0.5 s"),
        ("blocks_the_loop", "could not be stopped within 0.5 s"),
        ("in_c_code", "in in_c_code"),
    ],
)
def test_its_own_process_is_ended_and_it_counts_as_a_death(tmp_path, sqlite_dsn, function, says):
    (tmp_path / "stuck_jobs.py").write_text(JOBS)
    gator = Gator(sqlite_dsn)
    gator.options(timeout=0.2).task(f"stuck_jobs.{function}", str(tmp_path))
    started = time.monotonic()
    code, out = end_of_process(tmp_path, sqlite_dsn)
    assert (code, says in out) == (1, True), out
    assert time.monotonic() - started < 50, "the task takes 60 s"
    reserved = gator.client.reserve(["all"], 1, 30, wait=30)
    assert [each.deaths for each in reserved.deliveries] == [1]
    gator.close()


def test_neighbours_of_one_that_is_ended_are_handed_back(tmp_path, sqlite_dsn):
    (tmp_path / "stuck_jobs.py").write_text(JOBS)
    gator = Gator(sqlite_dsn)
    gator.task("stuck_jobs.neighbour", str(tmp_path), 60)
    gator.options(timeout=0.2).task("stuck_jobs.stubborn", str(tmp_path))
    code, out = end_of_process(tmp_path, sqlite_dsn, "--concurrency=2")
    assert code == 1, out
    deaths = [
        each.deaths
        for _ in range(2)
        for each in gator.client.reserve(["all"], 1, 30, wait=30).deliveries
    ]
    assert sorted(deaths) == [0, 1], out
    gator.close()


def test_the_supervisor_replaces_it_until_it_is_given_up(tmp_path, sqlite_dsn):
    (tmp_path / "stuck_jobs.py").write_text(JOBS)
    gator = Gator(sqlite_dsn)
    gator.options(timeout=0.2).task("stuck_jobs.stubborn", str(tmp_path))
    command = [sys.executable, "-m", "alligator", sqlite_dsn, "--lease=1", "--grace=0.2"]
    process = subprocess.Popen(
        [*command, "--processes=2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        eventually(gator.dead, "it becomes a dead letter", within=90)
    finally:
        process.send_signal(signal.SIGTERM)
        out = process.communicate(timeout=30)[0]
    assert gator.dead()[0].error.startswith("WorkerDied: 3 deaths")
    assert len(set((tmp_path / "lines").read_text().split()) - {"start"}) == 3, out
    assert out.count("exited with 1; starting another") >= 3, out
    gator.close()


@pytest.mark.slow
def test_a_timer_of_c_code_is_moved_on_while_all_is_well():
    """What the watchdog is set to must not end a process whose tasks end in time."""
    script = (
        "from alligator.runtime import watchdog; watchdog.SLACK = 0.3\n"
        "import time\n"
        "from alligator.runtime.timeouts import Overrun, call_within, overrun\n"
        "overrun.set(Overrun(0.3, lambda: None, ends_process=True))\n"
        "end = time.monotonic() + 4\n"
        "while time.monotonic() < end: call_within(1.0, lambda: time.sleep(0.01))\n"
        "time.sleep(2.5)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- expires. ----------------------------------------------------------------------------------


def test_what_comes_too_late_is_set_aside_and_can_be_revived():
    clock = FakeClock()
    gator = Gator(f"locmem://{uuid.uuid4().hex}", clock=clock)
    jobs.seen.clear()
    gator.options(expires=60, on_error=jobs.on_error, on_start=jobs.on_start).task(jobs.note, 1)
    gator.options(expires=60).task(jobs.note, 2)
    gator.pop()
    assert [each for each in jobs.seen if each[0] == (1,)], "in time"
    jobs.seen.clear()
    clock.advance(60)
    Worker(gator, burst=True, log_level="CRITICAL").run_forever()
    assert jobs.seen == []
    (letter,) = gator.dead()
    assert letter.error.startswith("Expired: it was to start before ")
    assert gator.revive() == 1
    gator.pop()
    assert jobs.seen == [((2,), {})]


def test_pop_and_get_say_so():
    clock = FakeClock()
    gator = Gator(f"locmem://{uuid.uuid4().hex}", clock=clock)
    tasks = [gator.options(expires=5).task(jobs.note) for _ in range(2)]
    clock.advance(6)
    with pytest.raises(AlligatorException, match="Expired"):
        gator.pop()
    with pytest.raises(AlligatorException, match="Expired"):
        gator.get(tasks[1].task_id)
    assert len(gator.dead()) == 2


def test_retries_do_not_put_it_off():
    clock = FakeClock()
    gator = Gator(f"locmem://{uuid.uuid4().hex}", clock=clock)
    gator.options(expires=60, retries=5, retry_delay=25).task(jobs.fail)
    ran = 0
    for _ in range(6):
        ran += gator.run_all()
        clock.advance(25)
    assert ran == 4, "at 0, 25, 50; at 75 it is buried"
    assert gator.dead()[0].error.startswith("Expired: ")


def test_now_is_never_too_late(gator):
    assert gator.options(is_async=False, expires=1e-9).task(jobs.note).result


def test_before_it_is_due_is_no_time_to_expire(gator):
    with pytest.raises(InvalidTask, match="before the task is due"):
        gator.options(expires=5, delay_by=5).task(jobs.note)
    with pytest.raises(InvalidTask, match="before the task is due"):
        gator.options(expires=5, delay_until=time.time() + 60).task(jobs.note)
    gator.options(expires=60, delay_by=5).task(jobs.note)


def test_expiry_holds_on_a_real_server(durable_gator):
    gator = durable_gator(f"expires-{uuid.uuid4().hex[:8]}")
    jobs.seen.clear()
    gator.options(expires=0.001).task(jobs.note, "late")
    gator.options(expires=600, timeout=60).task(jobs.note, "in time")
    let_pass(gator, 0.05)
    Worker(gator, max_tasks=2, log_level="CRITICAL").run_forever()
    assert jobs.seen == [(("in time",), {})]
    assert [letter.error.partition(":")[0] for letter in gator.dead()] == ["Expired"]


def test_a_timeout_holds_on_a_real_server(durable_gator):
    gator = durable_gator(f"times-{uuid.uuid4().hex[:8]}")
    gator.options(timeout=0.1, retries=1).task(step_by_step, 20)

    def run_it():
        gator.run_all()
        return gator.dead()

    letters = eventually(run_it, "it is dead")
    assert letters[0].error == "TaskTimeout: It ran for more than its 0.1 s."
    assert gator.len() == 0


def test_the_task_is_known_inside(gator):
    task = gator.options(timeout=5, is_async=False).task(jobs.which_task)
    assert task.result == task.task_id
    assert current_task() is None


def test_python_sees_it_when_c_code_returns(gator):
    with pytest.raises(TaskTimeout):
        inline(gator, {"timeout": 0.1}, c_code, 1)
    assert seen == []


def c_code(seconds):
    ctypes.PyDLL(None).sleep(seconds)
    step_by_step(20)  # the thread that raises it may need a moment to be scheduled
