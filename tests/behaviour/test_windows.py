"""Test that Alligator works without what only a Unix has, as tests/support/windows.py shows it."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from alligator import Gator
from alligator.constants import FAILED, SUCCESS
from tests.support import ROOT
from tests.support.helpers import eventually

JOBS = """
import multiprocessing, time
from pathlib import Path

def double(number):
    return 2 * number

def double_elsewhere(number):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(double, (number,))

async def double_later(number):
    return 2 * number

def never_end():
    while True:
        pass

def take_a_while():
    Path("started").touch()
    time.sleep(0.5)
    Path("ended").touch()

def take_until_told():
    Path("started").touch()
    while not Path("told").exists():
        time.sleep(0.01)
    time.sleep(0.2)
"""

IMPORT_ALL = """
import importlib, pkgutil
from tests.support import windows
windows.simulate()
import alligator
import django
from django.conf import settings
apps = [f"django.contrib.{each}" for each in ("admin", "auth", "contenttypes", "messages")]
settings.configure(INSTALLED_APPS=[*apps, "alligator.contrib.django"])
django.setup()
names = [each.name for each in pkgutil.walk_packages(alligator.__path__, "alligator.")]
for name in names:
    if not name.endswith("__main__"):
        try:
            importlib.import_module(name)
        except alligator.exceptions.AlligatorException as err:
            print(f"{name}: {err}")
print(len(names))
"""

LOCMEM = """
from tests.support import windows
windows.simulate()
import jobs
from alligator import Gator, Worker
gator = Gator("locmem://")
kept = gator.options(save_results=60)
tasks = [kept.task(jobs.double, 4), kept.task(jobs.double_later, 5)]
Worker(gator, burst=True, concurrency=2, log_level="ERROR").run_forever()
now = gator.options(is_async=False).task(jobs.double, 6)
print(*(gator.result(each) for each in tasks), now.result)
"""

COMMANDS = """
import sys
from tests.support import windows
windows.simulate()
from alligator import cli
dsn = sys.argv[1]
for command in (["status", dsn], ["doctor", dsn], ["tasks", dsn], ["backup", dsn, "copy.db"]):
    assert cli.main(command) == 0, command
"""

AWAITED = """
import asyncio, jobs, sys
from tests.support import windows
windows.simulate()
from alligator import Gator
gator = Gator(sys.argv[1])

async def main():
    task = await gator.options(save_results=60).atask(jobs.double, 4)
    await gator.arun_all()
    print(await gator.aresult(task, 10), [each.state async for each in gator.aevents(task)])
    await gator.aclose()

asyncio.run(main())
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "jobs.py").write_text(JOBS)
    return tmp_path


@pytest.fixture
def jobs(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    yield __import__("jobs")
    sys.modules.pop("jobs")


def start(folder, *command, **options):
    path = f"{ROOT}{os.pathsep}{folder}"
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(
        [sys.executable, *command], cwd=folder, env=environment, **said, **options
    )


def run(folder, *command):
    """Run Python; return its exit code and what it printed."""
    process = start(folder, *command)
    try:
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    return process.returncode, said


def latergator(folder, *arguments):
    return run(folder, "-m", "tests.support.windows", *arguments)


def test_all_of_it_can_be_imported(folder):
    code, said = run(folder, "-c", IMPORT_ALL)
    *refused, count = said.splitlines()
    assert code == 0, said
    assert int(count) > 200
    assert [each.partition(":")[0] for each in refused] == [
        "alligator.contrib.prometheus.exporter"
    ], "it would need fcntl"


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_worker_on_sqlite(folder, jobs, concurrency):
    dsn = f"sqlite://{folder}/queue.db"
    gator = Gator(dsn)
    kept = gator.options(save_results=60)
    functions = (jobs.double, jobs.double_elsewhere, jobs.double_later)
    done = [kept.task(each, 4) for each in functions]
    broken_off = gator.options(timeout=0.3, save_results=60).task(jobs.never_end)
    code, said = latergator(folder, dsn, "--burst", f"--concurrency={concurrency}")
    assert code == 0, said
    assert [gator.result(each) for each in done] == [8, 8, 8], said
    assert gator.status(broken_off.task_id) == FAILED
    assert "ran for more than its 0.3 s" in gator.dead()[0].error
    gator.close()


@pytest.mark.parametrize("backend", ["redis", "beanstalk"])
def test_a_worker_on_a_server(folder, jobs, backend, request):
    gator = Gator(request.getfixturevalue(f"{backend}_dsn"), "windows")
    for _ in range(3):
        gator.task(jobs.take_a_while)
    code, said = latergator(
        folder, gator.conn_string, "--queue=windows", "--burst", "--concurrency=3"
    )
    assert (code, said.count("succeeded")) == (0, 3), said
    assert gator.len() == 0
    gator.close()


def test_locmem(folder):
    assert run(folder, "-c", LOCMEM) == (0, "8 10 12\n")


def test_awaitable_calls(folder):
    dsn = f"sqlite://{folder}/queue.db"
    assert run(folder, "-c", AWAITED, dsn) == (0, "8 ['success']\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_lets_the_running_task_finish(folder, jobs, number):
    dsn = f"sqlite://{folder}/queue.db"
    gator = Gator(dsn)
    tasks = [gator.options(save_results=60).task(jobs.take_until_told) for _ in range(3)]
    process = start(folder, "-m", "tests.support.windows", dsn)
    try:
        eventually(Path(folder, "started").exists, "a task starts")
        process.send_signal(number)
        Path(folder, "told").touch()
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    assert gator.status(tasks[0].task_id) == SUCCESS, said
    assert gator.stats()["waiting"] == 2
    gator.close()


def test_the_commands(folder, jobs):
    dsn = f"sqlite://{folder}/queue.db"
    with closing(Gator(dsn)) as gator:
        gator.task(jobs.double, 4)
    assert run(folder, "-c", COMMANDS, dsn)[0] == 0
    with closing(Gator(f"sqlite://{folder}/copy.db")) as gator:
        assert gator.len() == 1


@pytest.mark.parametrize(
    ("flag", "advice"),
    [
        ("--processes=2", "start as many workers as you need instead"),
        ("--metrics-port=0", "serve the metrics in a program of your own"),
    ],
)
def test_what_needs_a_unix_is_told_in_one_line(folder, flag, advice):
    code, said = latergator(folder, f"sqlite://{folder}/queue.db", "--burst", flag)
    assert code == 2, said
    assert len(said.splitlines()) == 1, said
    assert advice in said
    assert f"{flag.partition('=')[0]} is not supported on this system" in said


def test_a_ctrl_break_asks_as_sigterm_does(folder):
    """SIGBREAK has the number 21 there, which is SIGTTIN here."""
    code = (
        "import signal; from tests.support import windows; windows.simulate();"
        "signal.SIGBREAK = 21; from alligator.workers.signals import STOPS, StopSignals;"
        "stops = StopSignals(); stops.raises = False; counts = [];\n"
        "for now in range(5): counts.append(stops._counts(21, now))\n"
        "print(STOPS == (signal.SIGINT, signal.SIGTERM, 21), counts, stops.count)"
    )
    assert run(folder, "-c", code) == (0, f"True {[False] * 5} 1\n")
