"""Test forked children that return from the task: they end there, and are no second worker."""

import os
import signal
import subprocess
import sys
from contextlib import closing, suppress

import pytest

from alligator import SUCCESS, Gator
from tests.support import ROOT

JOBS = """
import asyncio, os, sys, time
from alligator import Gator, Worker, current_task

gator = Gator(os.environ["JOBS_DSN"])
parent = os.environ["JOBS_LINES"]

def note(*what):
    descriptor = os.open(os.environ["JOBS_LINES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (" ".join(map(str, what)) + "\\n").encode())
    os.close(descriptor)

def wait_for(child):
    for _ in range(1000):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    return "never"

def come_out(how):
    if how == "return":
        return "of the child"
    if how == "raise":
        raise ValueError("of the child")
    if how == "retry":
        current_task().retry()
    sys.exit({"exit": 7, "exit text": "a last word", "exit none": None}[how])

def forks(how):
    child = os.fork()
    if not child:
        note("child")
        return come_out(how)
    note("exit", wait_for(child))
    return "of the parent"

async def forks_in_a_coroutine(how):
    beside = [asyncio.create_task(tick()) for _ in range(3)]
    await asyncio.sleep(0)
    child = os.fork()
    if not child:
        note("child")
        if how == "await":
            await asyncio.sleep(0)
            note("never")
        return come_out(how)
    code = await asyncio.to_thread(wait_for, child)
    await asyncio.gather(*beside)
    note("exit", code)
    return "of the parent"

async def tick():
    await asyncio.sleep(0)
    note("tick")

def started(task):
    note("started")

def succeeded(task, result):
    note("succeeded", result)

def failed(task, error):
    note("failed")

def forks_too(task, *result):
    child = os.fork()
    note("child") if not child else wait_for(child)

def after():
    note("after")

class ResultForks(Worker):
    def result(self, result):
        if result:
            forks_too(None)

class OneByOne(Worker):
    def check_and_run_task(self):
        return super().check_and_run_task()

def push(func, *args, **hooks):
    options = {name: globals()[hook] for name, hook in hooks.items()}
    gator.options(retries=1, save_results=60, **options).task(f"fork_jobs.{func}", *args)
    gator.task("fork_jobs.after")

WAYS = {
    "inline": lambda: Worker(gator, burst=True).run_forever(),
    "threads": lambda: Worker(gator, burst=True, concurrency=4).run_forever(),
    "one by one": lambda: OneByOne(gator, burst=True).run_forever(),
    "check_and_run_task": lambda: (Worker(gator).check_and_run_task(), gator.run_all()),
    "run_all": lambda: gator.run_all(),
    "pop": lambda: (note(gator.pop().result), gator.pop()),
    "result": lambda: ResultForks(gator, burst=True).run_forever(),
    "result in threads": lambda: ResultForks(gator, burst=True, concurrency=4).run_forever(),
}

if __name__ == "__main__":
    import fork_jobs
    from fork_jobs import WAYS, note
    eval(f"fork_jobs.push({sys.argv[2]})")
    WAYS[sys.argv[1]]()
    note("over")
"""


class Place:
    def __init__(self, folder):
        (folder / "fork_jobs.py").write_text(JOBS)
        self.folder, self.lines, self.dsn = folder, folder / "lines", f"sqlite://{folder}/q.db"
        self.said = ""

    def python(self, *arguments, code=0):
        """Run it; nothing that it has started is there when it has ended."""
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT}:{self.folder}",
                "JOBS_DSN": self.dsn,
                "JOBS_LINES": str(self.lines),
            },
            stdout=(self.folder / "out").open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            assert process.wait(40) == code, (self.folder / "out").read_text()
            with pytest.raises(ProcessLookupError):
                os.killpg(process.pid, 0)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self.said = (self.folder / "out").read_text()

    def run(self, way, push):
        self.python("fork_jobs.py", way, push)
        return sorted(self.lines.read_text().splitlines())


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


HOOKS = "on_start='started', on_success='succeeded', on_error='failed'"
CODES = {"return": 0, "raise": 1, "exit": 7, "exit none": 0, "exit text": 1, "retry": 1}


def check(place, way, how, code):
    found = place.run(way, f"'forks', {how!r}, {HOOKS}")
    expected = ["after", "child", f"exit {code}", "over", "started", "succeeded of the parent"]
    assert found == sorted(expected + ["of the parent"] * (way == "pop")), place.said
    with closing(Gator(place.dsn)) as gator:
        stats = gator.stats()
        assert (stats["waiting"], stats["delayed"], stats["running"], stats["dead"]) == (0,) * 4
    assert ("of the child" in place.said) == (how == "raise")
    assert ("a last word" in place.said) == (how == "exit text")


@pytest.mark.parametrize(
    "way", ["inline", "threads", "one by one", "check_and_run_task", "run_all", "pop"]
)
@pytest.mark.parametrize("how", ["return", "raise"])
def test_a_child_that_comes_out_of_its_task_ends_there(place, way, how):
    check(place, way, how, CODES[how])


@pytest.mark.parametrize("how", [each for each in CODES if each not in ("return", "raise")])
def test_its_exit_code_says_how(place, how):
    check(place, "threads" if how == "exit" else "inline", how, CODES[how])


@pytest.mark.parametrize("way", ["inline", "threads", "run_all"])
@pytest.mark.parametrize("how", ["return", "raise"])
def test_so_does_that_of_a_coroutine(place, way, how):
    found = place.run(way, f"'forks_in_a_coroutine', {how!r}, {HOOKS}")
    assert found == sorted(
        ["after", "child", f"exit {CODES[how]}", "over", "started", "succeeded of the parent"]
        + ["tick"] * 3
    )


@pytest.mark.parametrize("way", ["inline", "threads", "run_all"])
def test_that_of_a_coroutine_runs_nothing_on_the_loop_of_its_parent(place, way):
    found = place.run(way, "'forks_in_a_coroutine', 'await'")
    assert found == sorted(["after", "child", "exit 1", "over", *["tick"] * 3]), place.said
    assert "cannot await" in place.said


@pytest.mark.parametrize(
    ("way", "hook", "func"),
    [
        ("inline", "on_start", "after"),
        ("threads", "on_start", "tick"),
        ("threads", "on_success", "tick"),
        ("run_all", "on_success", "after"),
    ],
)
def test_a_child_of_a_hook_runs_no_task(place, way, hook, func):
    found = place.run(way, f"'{func}', {hook}='forks_too'")
    assert found == sorted(["after", func, "child", "over"]), place.said


@pytest.mark.parametrize("way", ["result", "result in threads"])
def test_a_child_of_what_a_worker_calls_is_no_second_one(place, way):
    found = place.run(way, "'forks', 'return'")
    assert found == sorted(["after", "child", "child", "exit 0", "over"]), place.said


def test_a_worker_of_the_command_line_goes_on_alone(place):
    place.python("-c", f"import fork_jobs; fork_jobs.push('forks', 'return', {HOOKS})")
    place.python("-m", "alligator", "--app", "fork_jobs:gator", "--burst")
    found = sorted(place.lines.read_text().splitlines())
    assert found == sorted(["after", "child", "exit 0", "started", "succeeded of the parent"])


def test_a_child_of_a_task_that_runs_in_the_caller_comes_back_to_the_caller(tmp_path):
    """Without a lease there is nothing to settle: as with any function, who forks knows why."""
    calls = []

    def forks():
        calls.append(os.getpid())
        if (child := os.fork()) == 0:
            raise ValueError("of the child")
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    origin = os.getpid()
    gator = Gator(f"sqlite://{tmp_path}/q.db")
    globals()["forks_here"] = forks
    forks.__qualname__ = forks.__name__ = "forks_here"
    try:
        task = gator.options(is_async=False, retries=3, save_results=60).task(forks)
    except ValueError:
        os._exit(40 + len(calls) if os.getpid() != origin else 1)
    finally:
        if os.getpid() != origin:
            os._exit(2)
        del globals()["forks_here"]
    assert (task.result, task.status) == (41, SUCCESS)
    assert gator.result(task.task_id) == 41
    gator.close()
