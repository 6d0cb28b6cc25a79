"""Test stop signals: one stop, however often it arrives and from where, and no lease is left."""

import contextlib
import os
import pty
import select
import signal
import sys
import threading
import time
import uuid
from contextlib import closing
from pathlib import Path

import pytest

from alligator import Gator, Worker
from alligator.backends.locmem_backend import Client
from alligator.exceptions import LeaveNow
from alligator.workers.signals import PAUSE, StopSignals
from tests.support import ROOT
from tests.support.helpers import eventually
from tests.support.processes import processes

JOBS = """
import os, time
from alligator import Gator

def record(folder, line):
    descriptor = os.open(os.path.join(folder, "lines"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line} {os.getpid()}\\n".encode())
    os.close(descriptor)

def slow(folder, seconds):
    record(folder, "start")
    time.sleep(seconds)
    record(folder, "end")

def held(folder):
    record(folder, "start")
    while not os.path.exists(os.path.join(folder, "go")):
        time.sleep(0.01)
    record(folder, "end")
"""

SLOW_APP = """
import time
print("importing", flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "storm_jobs.py").write_text(JOBS)
    (tmp_path / "slow_app.py").write_text(SLOW_APP)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("storm_jobs", None)


@pytest.fixture
def gator(folder):
    with closing(Gator(f"sqlite://{folder}/q.db")) as gator:
        yield gator


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def start(folder):
    with processes(folder, start_new_session=True) as run:
        yield lambda *flags, script=("-m", "alligator"): run(*script, *flags)


def lines(folder, name):
    path = folder / "lines"
    found = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [int(pid) for said, pid in found if said == name]


def said(folder):
    path = folder / "out"
    return path.read_text() if path.exists() else ""


def push(gator, folder, count, seconds):
    for _ in range(count):
        gator.task("storm_jobs.slow", str(folder), seconds)


def hold(gator, folder, count):
    """Push tasks that end once there is a file ``go``."""
    for _ in range(count):
        gator.task("storm_jobs.held", str(folder))


def states(gator):
    stats = gator.stats()
    return {name: stats[name] for name in ("waiting", "delayed", "running", "dead")}


def children(pid):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if path.read_text().rpartition(")")[2].split()[1] == str(pid):
                found.append(int(path.parent.name))
    return found


# -- Real processes. --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "numbers",
    [
        [signal.SIGTERM],
        [signal.SIGINT],  # systemd's KillSignal may be that
        [signal.SIGINT, signal.SIGTERM, signal.SIGTERM],
    ],
    ids=["once", "SIGINT", "again and again"],
)
def test_a_stop_that_reaches_all_of_a_control_group_lets_tasks_finish(
    folder, gator, start, numbers
):
    hold(gator, folder, 2)
    supervisor = start(gator.conn_string, "--processes", "2", "--prefetch", "1")
    eventually(lambda: len(lines(folder, "start")) == 2, "both run")
    workers = set(lines(folder, "start"))
    assert len(workers) == 2
    for number in numbers:
        for pid in (supervisor.pid, *workers):
            os.kill(pid, number)
        time.sleep(0.1 * (len(numbers) > 1))
    for pid in workers:
        told = f"(#{pid}) was told to stop"
        eventually(lambda told=told: told in said(folder), "each is told")
    (folder / "go").touch()
    assert supervisor.wait(20) == 0
    assert sorted(lines(folder, "end")) == sorted(workers)
    assert states(gator) == {"waiting": 0, "delayed": 0, "running": 0, "dead": 0}


MIXED = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("flags", [["--concurrency", "8"], ["--prefetch", "8"]])
@pytest.mark.parametrize("numbers", [MIXED, [*MIXED, signal.SIGQUIT]], ids=["asks", "insists"])
def test_a_storm_of_signals_leaves_nothing_on_a_lease(folder, gator, start, flags, numbers):
    at_once = 8 if "--concurrency" in flags else 1
    hold(gator, folder, 12)
    worker = start(gator.conn_string, *flags)
    eventually(lambda: len(lines(folder, "start")) == at_once, "they run")
    for each in range(60):
        worker.send_signal(numbers[each % len(numbers)])
    ended = at_once if numbers is MIXED else 0
    if ended:
        eventually(lambda: "was told to stop" in said(folder), "it is told")
        (folder / "go").touch()
    assert worker.wait(20) == (0 if numbers is MIXED else 1), said(folder)
    assert len(lines(folder, "end")) == ended
    left = {"waiting": 12 - ended, "delayed": 0, "running": 0, "dead": 0}
    assert states(gator) == left


def test_signals_that_go_on_to_its_very_end_leave_an_exit_in_order(folder, gator, start):
    push(gator, folder, 1, 0.2)
    worker = start(gator.conn_string, "--burst")
    eventually(lambda: lines(folder, "start"), "it runs")
    number = 0
    while worker.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            worker.send_signal(MIXED[number > 0])
        number += 1
        time.sleep(0.0005)
        assert number < 100_000
    # The interpreter alone would take some 50 ms after the last line of the worker.
    assert worker.returncode == 0, said(folder)
    assert len(lines(folder, "end")) == 1


MODULE, SCRIPT = ("-m", "alligator"), (str(ROOT / "bin" / "latergator.py"),)


@pytest.mark.parametrize(
    ("number", "script"),
    [(signal.SIGINT, MODULE), (signal.SIGTERM, SCRIPT), (signal.SIGQUIT, MODULE)],
)
def test_a_stop_while_the_app_is_imported_ends_it_in_order(folder, start, number, script):
    worker = start("--app", "slow_app:gator", script=script)
    eventually(lambda: "importing" in said(folder), "it imports the app")
    worker.send_signal(number)
    assert worker.wait(20) == (1 if number == signal.SIGQUIT else 0)
    assert said(folder) == "importing\n"


def test_a_stop_before_the_workers_have_begun_ends_them_in_order(folder, gator, start):
    supervisor = start(gator.conn_string, "--processes", "2")
    workers = eventually(lambda: len(found := children(supervisor.pid)) == 2 and found, "children")
    for pid in (*workers, supervisor.pid):
        os.kill(pid, signal.SIGTERM)
    assert supervisor.wait(20) == 0
    assert "exited with" not in said(folder)
    assert "was killed" not in said(folder)


FLAGS = [[], ["--concurrency", "3"], ["--processes", "2"]]


@pytest.mark.parametrize("flags", FLAGS)
def test_a_sigquit_leaves_at_once_and_hands_back_everything(folder, gator, start, flags):
    push(gator, folder, 6, 60)
    worker = start(gator.conn_string, *flags)
    eventually(lambda: len(lines(folder, "start")) >= max(len(flags), 1), "they run")
    began = time.monotonic()
    worker.send_signal(signal.SIGQUIT)
    assert worker.wait(20) == 1  # and no core dump, which would be -3
    assert time.monotonic() - began < 18
    assert states(gator) == {"waiting": 6, "delayed": 0, "running": 0, "dead": 0}


def test_tasks_that_do_not_end_within_the_grace_are_named(folder, gator, start):
    task = gator.task("storm_jobs.slow", str(folder), 60)
    worker = start(gator.conn_string, "--grace=0.1")
    eventually(lambda: lines(folder, "start"), "it runs")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 1
    told = f"task {task.task_id} storm_jobs.slow did not end within 0.1 s; leaving, and it starts"
    assert told in said(folder)
    assert "ERROR" not in said(folder)
    assert states(gator)["waiting"] == 1


def test_a_sigquit_reaches_a_task_that_runs_in_a_process_of_its_own(folder, gator, start):
    push(gator, folder, 1, 60)
    flags = [gator.conn_string, "--concurrency", "2", "--lease", "1"]
    first = start(*flags)
    eventually(lambda: lines(folder, "start"), "it runs")
    first.kill()  # from here on it may be what ends its worker
    second = start(*flags)
    pid = eventually(lambda: lines(folder, "start")[1:], "it runs again")[0]
    assert pid != second.pid
    second.send_signal(signal.SIGQUIT)
    assert second.wait(20) == 1
    left = {"waiting": 1, "delayed": 0, "running": 0, "dead": 0}
    eventually(lambda: states(gator) == left, "it is handed back")
    eventually(lambda: not is_there(pid), "it is gone")


def is_there(pid):
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # a zombie has none
    except OSError:
        return False


@pytest.fixture
def terminal(folder):
    """Start it in the foreground of a terminal; return its pid and the terminal's other end."""
    started = []

    def begin(*flags):
        pid, master = pty.fork()
        if pid == 0:
            os.chdir(folder)
            os.execve(sys.executable, [sys.executable, "-m", "alligator", *flags], environment())
        started.append((pid, master))
        return pid, master

    yield begin
    for pid, master in started:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(master)


def exit_code(pid, within=20.0):
    def has_ended():
        found, status = os.waitpid(pid, os.WNOHANG)
        return found and [os.waitstatus_to_exitcode(status)]

    return eventually(has_ended, "it ends", within)[0]


def read_until(master, text, within=20.0):
    """Read what a terminal shows until it shows that."""
    shown, deadline = b"", time.monotonic() + within
    while text not in shown:
        ready, _, _ = select.select([master], [], [], deadline - time.monotonic())
        assert ready, shown
        shown += os.read(master, 4096)


CTRL_C, CTRL_BACKSLASH = b"\x03", b"\x1c"


@pytest.mark.parametrize("flags", FLAGS)
def test_ctrl_c_at_a_terminal_lets_tasks_finish(folder, gator, terminal, flags):
    push(gator, folder, 1, 1.0)
    pid, master = terminal(gator.conn_string, *flags)
    eventually(lambda: lines(folder, "start"), "it runs")
    os.write(master, CTRL_C * 3)  # a hand that trembles
    assert exit_code(pid) == 0
    assert len(lines(folder, "end")) == 1


@pytest.mark.parametrize("flags", [FLAGS[0], FLAGS[2]])
@pytest.mark.parametrize("key", [CTRL_C, CTRL_BACKSLASH], ids=["ctrl-c", "ctrl-backslash"])
def test_the_second_key_at_a_terminal_makes_it_leave(folder, gator, terminal, flags, key):
    push(gator, folder, 1, 60)
    pid, master = terminal(gator.conn_string, *flags)
    eventually(lambda: lines(folder, "start"), "it runs")
    os.write(master, CTRL_C)
    read_until(master, b"was told to stop")
    time.sleep(PAUSE + 0.1 if key == CTRL_C else 0.0)  # the pause is what this is about
    os.write(master, key)
    assert exit_code(pid) == 1
    assert states(gator) == {"waiting": 1, "delayed": 0, "running": 0, "dead": 0}


# -- Which signals are one. -------------------------------------------------------------------

INT, TERM, QUIT = signal.SIGINT, signal.SIGTERM, signal.SIGQUIT


@pytest.mark.parametrize(
    ("signals", "count"),
    [
        ([(TERM, 0)], 1),
        ([(TERM, 0), (TERM, 5), (TERM, 60)], 1),
        ([(INT, 0), (TERM, 0.1), (TERM, 20)], 1),
        ([(TERM, 0), (INT, 0.1)], 1),
        ([(INT, 0), *[(INT, 0.01 * each) for each in range(60)]], 1),
        ([(INT, 0), (INT, 0.99)], 1),
        ([(INT, 0), (INT, 1.0)], 2),
        ([(TERM, 0), (INT, 1.5)], 2),
        ([(INT, 0), (INT, 1.5), (INT, 1.6), (TERM, 9), (QUIT, 2.0)], 2),
        ([(QUIT, 0)], 2),
        ([(TERM, 0), (QUIT, 0.001), (QUIT, 0.002)], 2),
        ([(QUIT, 0), (QUIT, 0.5), (QUIT, 1.5)], 3),
    ],
)
def test_which_signals_are_one(signals, count, monkeypatch):
    stops = StopSignals()
    stops.raises = False
    for number, at in signals:
        monkeypatch.setattr("alligator.workers.signals.time.monotonic", lambda at=at: 1000.0 + at)
        stops._handle(number)
    assert stops.count == count
    assert stops.first_at == 1000.0


def test_what_is_told_to_a_server_is_not_cut_short_by_the_first_who_insists(monkeypatch):
    stops = StopSignals()

    def talk():
        stops._handle(QUIT)
        monkeypatch.setattr("alligator.workers.signals.PAUSE", 0.0)
        with pytest.raises(LeaveNow):
            stops._handle(QUIT)  # again, a good while later
        return "said"

    assert stops.shielded(talk) == "said"
    with pytest.raises(LeaveNow):
        stops.interruptible(talk)


# -- A worker in a program of one's own. --------------------------------------------------------

ran = []


def note(what):
    ran.append(what)


def leave(seconds=20):
    ran.append("start")
    os.kill(os.getpid(), QUIT)
    time.sleep(seconds)
    ran.append("never")


def leave_by_another_thread():
    """The signal breaks off nothing that the main thread waits for, as if it came just before."""
    ran.append("start")
    hit = threading.Timer(0.2, lambda: signal.pthread_kill(threading.get_ident(), QUIT))
    hit.start()
    time.sleep(20)
    ran.append("never")


@pytest.fixture
def local():
    ran.clear()
    return Gator(f"locmem://{uuid.uuid4().hex}")


class Interrupting(Client):
    """Its worker is told to leave while a reply is on its way."""

    def reserve(self, *args, **kwargs):
        reserved = super().reserve(*args, **kwargs)
        if reserved.deliveries:
            os.kill(os.getpid(), INT)
            os.kill(os.getpid(), QUIT)
        return reserved


@pytest.mark.parametrize("options", [{"prefetch": 4}, {"concurrency": 3}])
def test_what_was_just_reserved_is_handed_back(options):
    ran.clear()
    gator = Gator(f"locmem://{uuid.uuid4().hex}", backend_class=Interrupting)
    for each in range(6):
        gator.task(note, each)
    Worker(gator, log_level="CRITICAL", **options).run_forever()
    assert len(ran) + gator.stats()["waiting"] == 6
    assert gator.stats()["running"] == 0


class OneByOne(Worker):
    """It has its own idea of running a task."""

    def check_and_run_task(self):
        return super().check_and_run_task()


@pytest.mark.parametrize("worker_class", [Worker, OneByOne])
@pytest.mark.parametrize("task", [leave, leave_by_another_thread])
def test_who_leaves_hands_back_what_runs(local, worker_class, task):
    local.task(task)
    began = time.monotonic()
    worker_class(local, log_level="CRITICAL").run_forever()
    assert time.monotonic() - began < 18
    assert ran == ["start"]
    assert states(local) == {"waiting": 1, "delayed": 0, "running": 0, "dead": 0}


def test_the_handlers_that_stood_before_come_back_and_one_for_sigquit_stays(local):
    def own(number, frame):
        ran.append(number)

    before = [signal.getsignal(each) for each in (INT, TERM)]
    standard = signal.signal(QUIT, own)
    try:
        local.task(leave, 0)
        Worker(local, max_tasks=1, log_level="CRITICAL").run_forever()
        assert ran == ["start", QUIT, "never"]
        assert signal.getsignal(QUIT) is own
        assert [signal.getsignal(each) for each in (INT, TERM)] == before
    finally:
        signal.signal(QUIT, standard)
    local.task(leave)
    Worker(local, max_tasks=1, log_level="CRITICAL").run_forever()
    assert signal.getsignal(QUIT) == standard
