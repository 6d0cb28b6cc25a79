"""Test latergator.py as a user runs it: real processes on a real file."""

import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from alligator import FAILED, WAITING, Gator
from alligator.cli import commands as cli
from alligator.workers import signals
from tests.support import ROOT
from tests.support.helpers import eventually

SCRIPT = ROOT / "bin" / "latergator.py"

JOBS = """
import os, time
from alligator import Gator, Task, Worker

gator = Gator(os.environ.get("JOBS_DSN", "locmem://"), queue_name="mine")

def record(path, line):
    with open(path, "a") as out:
        out.write(f"{line} {os.getpid()}\\n")

def slow(path, seconds):
    record(path, "start")
    time.sleep(seconds)
    record(path, "end")

def until_there(path, file):
    record(path, "start")
    while not os.path.exists(file):
        time.sleep(0.01)
    record(path, "end")

def fail():
    raise ValueError("too much")

class LoudWorker(Worker):
    def starting(self):
        print("LOUD AND EARLY", flush=True)

class UpperTask(Task):
    def to_call(self, func, *args, **kwargs):
        super().to_call(func, *[a.upper() if a == "shout" else a for a in args], **kwargs)

not_a_gator = 3
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a module of tasks in it, importable here as well."""
    (tmp_path / "cli_jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "cli_jobs", raising=False)
    yield tmp_path
    sys.modules.pop("cli_jobs", None)


@pytest.fixture
def dsn(place):
    return f"sqlite://{place}/q.db"


@pytest.fixture
def gator(dsn):
    gator = Gator(dsn)
    yield gator
    gator.close()


def command(*arguments):
    return [sys.executable, str(SCRIPT), *map(str, arguments)]


def environment(**extra):
    return {**os.environ, "PYTHONPATH": str(ROOT), **extra}


def run(place, *arguments, **extra):
    return subprocess.run(
        command(*arguments),
        cwd=place,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def start(place):
    started = []

    def begin(*arguments):
        process = subprocess.Popen(
            command(*arguments),
            cwd=place,
            env=environment(),
            stdout=(place / "out").open("ab"),
            stderr=subprocess.STDOUT,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def test_burst_runs_what_is_there_and_ends(place, dsn, gator):
    out = place / "lines"
    for number in range(20):
        gator.task("cli_jobs.record", str(out), str(number))
    done = run(place, dsn, "--burst", "--log-level", "info")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in lines(out)] == [str(number) for number in range(20)]
    assert "starting & consuming" in done.stdout
    assert "Consumed 20 tasks." in done.stdout


def test_python_m_alligator_is_the_same(place, dsn, gator):
    gator.task("cli_jobs.record", str(place / "lines"), "x")
    done = subprocess.run(
        [sys.executable, "-m", "alligator", dsn, "--max-tasks=1", "--concurrency=2"],
        cwd=place,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert len(lines(place / "lines")) == 1


def test_app_worker_and_task_classes(place, dsn):
    own = Gator(dsn, "mine")
    own.task("cli_jobs.record", str(place / "lines"), "shout")
    done = run(
        place,
        "--app=cli_jobs:gator",
        "--worker=cli_jobs:LoudWorker",
        "--task=cli_jobs:UpperTask",
        "--burst",
        JOBS_DSN=dsn,
    )
    own.close()
    assert done.returncode == 0, done.stderr
    assert "LOUD AND EARLY" in done.stdout
    assert lines(place / "lines")[0].startswith("SHOUT ")


def test_several_queues_in_strict_order(place, dsn, gator):
    for name in ("low", "high"):
        for number in range(2):
            gator.options(queue_name=name)(
                "cli_jobs.record", str(place / "lines"), f"{name}{number}"
            )
    done = run(place, dsn, "--queue", "high", "--queue", "low", "--burst", "--prefetch", "1")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in lines(place / "lines")] == [
        "high0",
        "high1",
        "low0",
        "low1",
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["mongodb://x"], "known schemes"),
        (["redis://127.0.0.1:1/"], "127.0.0.1:1"),
        (["sqlite://q.db", "--queue", "a b"], "1 to 80 letters"),
        (["sqlite://q.db", "--lease", "x"], "--lease"),
        (["sqlite://q.db", "--concurrency", "0"], "--concurrency"),
        (["--app", "no_such_module:gator"], "no_such_module"),
        (["--app", "cli_jobs"], "module:name"),
        (["--app", "cli_jobs:not_a_gator"], "no Gator"),
        (["--app", "cli_jobs:missing"], "missing"),
        (["sqlite://q.db", "--worker", "cli_jobs:fail"], "subclass of alligator.Worker"),
        (["sqlite://q.db", "--unknown"], "--unknown"),
        (["stats", "sqlite://q.db"], "did you mean 'status'?"),
        (["frobnicate"], "--help lists the commands"),
        (["sqlite://q.db", "--store", "mongodb://u:secret@h"], "known schemes"),
        (["sqlite://q.db", "--store", "redis://u:secret@127.0.0.1:1/"], "127.0.0.1:1"),
        (["sqlite://q.db", "--store", "redis://u:secret@h:x"], "'redis://u:***@h"),
        (["sqlite://q.db", "--store", ""], "known schemes"),
        (["sqlite://q.db", "--store", "sqs://eu-west-1/"], "is no store"),
        (["--app", "cli_jobs:gator", "--store", "redis://u:secret@h"], "store=…"),
        (["status", "--app", "cli_jobs:gator", "--store", "locmem://"], "store=…"),
        (["schedule", "sqlite://q.db"], "--app"),
        (["schedule", "--app", "cli_jobs:gator", "--next", "0"], "--next"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_2(place, arguments, says):
    done = run(place, *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [[], ["--burst"], *([name] for name in ("status", "dead", "revive", "drop"))]
)
def test_without_a_queue_the_usage_is_shown(place, arguments):
    """As 1.0 did."""
    done = run(place, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    command = "".join(f" {each}" for each in arguments if not each.startswith("-"))
    assert done.stderr.startswith(f"usage: latergator.py{command} [-h] ")
    assert done.stderr.endswith(
        "\nlatergator.py: Give a DSN such as redis://localhost:6379/0, or --app.\n"
    )


LOOKING = [
    ["status"],
    ["dead"],
    ["dead", "--show", "x"],
    ["dead", "--pytest", "x"],
    ["dead", "--purge", "0"],
    ["explain", "x"],
    ["revive"],
    ["drop", "--yes"],
]


@pytest.mark.parametrize("arguments", LOOKING, ids=" ".join)
def test_to_look_makes_no_file(place, dsn, arguments, capsys, monkeypatch):
    """A slip in its path shows."""
    name, *rest = arguments
    assert cli.main([name, dsn, *rest]) == 2
    app = [name, "--app", "cli_jobs:gator", *rest]
    monkeypatch.setenv("JOBS_DSN", dsn)
    assert cli.main(app) == 2
    assert cli.main([name, "locmem://cli", "--store", dsn, *rest]) == 2
    said = capsys.readouterr().err
    assert said.count(f"latergator.py: There is no file {place}/q.db: nothing was ever") == 3
    assert said.count("\n") == 3
    assert [each.name for each in place.iterdir() if each.name != "__pycache__"] == ["cli_jobs.py"]


def test_a_schedule_is_shown_with_no_file_made(place, dsn, monkeypatch, capsys):
    (place / "cli_schedules.py").write_text(SCHEDULES)
    monkeypatch.setenv("JOBS_DSN", dsn)
    assert cli.main(["schedule", "--app", "cli_schedules:gator", "--next", "1"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 2, "one of each at least"
    assert " cli_jobs.record(" in shown[0]
    assert " cli_jobs.fail(" in shown[1]
    assert not list(place.glob("q.db*"))
    monkeypatch.delitem(sys.modules, "cli_schedules")


def test_a_worker_makes_the_file(place, dsn):
    assert run(place, dsn, "--burst").returncode == 0
    assert run(place, "status", dsn).returncode == 0


def answered(place, answer, *arguments):
    """Run the script on a terminal, and type an answer; return its exit code and what it shows."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        command(*arguments),
        cwd=place,
        env=environment(),
        stdin=its,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    os.write(ours, answer)
    shown, _ = process.communicate(timeout=120)
    os.close(ours)
    os.close(its)
    return process.returncode, shown


def test_drop_asks_about_all_that_goes(place, dsn, gator):
    for _ in range(2):
        gator.task("cli_jobs.fail")
    gator.run_all()
    running = gator.task("cli_jobs.fail")
    gator.client.reserve(["all"], lease=600)
    gator.options(delay_by=3600)("cli_jobs.fail")
    for _ in range(3):
        gator.task("cli_jobs.fail")
    gator.options(depends_on=[running])("cli_jobs.fail")
    what = (
        "Drop all 8 tasks of 'all' (3 waiting, 1 delayed, 1 running, 2 dead, 1 held back until "
        "others are done)? [y/N] "
    )
    for answer in (b"\n", b"n\n", b"\x04"):
        code, shown = answered(place, answer, "drop", dsn)
        assert (code, shown.strip()) == (1, what.strip())
    done = run(place, "drop", dsn)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Nothing was dropped" in done.stderr
    assert "--yes" in done.stderr
    stats = gator.client.stats("all")
    assert (stats.waiting, stats.delayed, stats.running) == (3, 1, 1)
    assert (stats.dead, stats.held) == (2, 1)
    code, shown = answered(place, b"y\n", "drop", dsn)
    assert (code, shown) == (0, f"{what}all: dropped\n")
    assert (gator.len(), gator.dead(), gator.client.stats("all").held) == (0, [], 0)
    code, shown = answered(place, b"y\n", "drop", dsn)
    assert (code, shown) == (0, "Drop all 0 tasks of 'all'? [y/N] all: dropped\n")


def test_the_newest_dead_of_all_queues(place, dsn, capsys):
    queues = {name: Gator(dsn, name) for name in ("high", "low")}
    ids = []
    for name in ("low", "high", "high", "low", "low"):
        ids.append(queues[name].task("cli_jobs.fail").id)
        queues[name].run_all()
    shown = ["dead", dsn, "--queue", "high", "--queue", "low"]
    assert cli.main([*shown, "--limit", "3"]) == 0
    lines = [line.split()[2:4] for line in capsys.readouterr().out.splitlines()]
    assert lines == [["low", ids[4]], ["low", ids[3]], ["high", ids[2]]]
    assert cli.main(shown) == 0
    lines = [line.split()[3] for line in capsys.readouterr().out.splitlines()]
    assert lines == list(reversed(ids))
    for each in queues.values():
        each.close()


def test_a_store_for_a_queue_that_keeps_no_results(place, beanstalk_dsn, dsn):
    """The worker records outcomes, and releases the children."""
    gator = Gator(beanstalk_dsn, "cli-store", store=dsn)
    sums = gator.options(save_results=60)
    parent = sums("operator.add", 18, 24)
    child = gator.options(save_results=60, depends_on=[parent])("operator.add", 1, 1)
    worker = (beanstalk_dsn, "--queue", "cli-store", "--store", dsn, "--burst")
    done = run(place, *worker)
    assert done.returncode == 0, done.stderr
    assert "has no store" not in done.stdout
    assert (gator.result(parent.id), gator.result(child.id)) == (42, 2)
    gator.client.drop_all("cli-store")
    gator.close()


def test_what_is_revived_is_no_longer_on_record_as_failed(place, dsn, gator):
    task = gator.options(save_results=60)("cli_jobs.fail")
    gator.run_all()
    assert gator.status(task.id) == FAILED
    assert run(place, "revive", dsn, task.id).stdout == "1 revived\n"
    assert gator.status(task.id) == WAITING


def test_a_missing_driver_names_its_extra(place):
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_DRIVER, "beanstalk://127.0.0.1:1/"],
        cwd=place,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert "pip install 'alligator[beanstalk]'" in done.stderr
    assert done.stderr.count("\n") == 1


_WITHOUT_DRIVER = """
import sys
sys.modules["greenstalk"] = None
from alligator.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_status_dead_revive_drop(place, dsn, gator):
    gator.task("cli_jobs.fail")
    gator.task("cli_jobs.record", str(place / "lines"), "x")
    gator.run_all()
    gator.options(delay_by=3600)("cli_jobs.fail")
    letter = gator.dead()[0]
    status = run(place, "status", dsn).stdout.splitlines()
    titles = ["queue", "waiting", "delayed", "running", "dead", "oldest", "workers"]
    assert status[0].split() == titles
    assert status[1].split() == ["all", "0", "1", "0", "1", "-", "0"]
    dead = run(place, "dead", dsn)
    assert letter.task_id in dead.stdout
    assert "ValueError: too much" in dead.stdout
    assert run(place, "revive", dsn, "no-such-id").returncode == 1
    assert run(place, "revive", dsn, letter.task_id).stdout == "1 revived\n"
    assert gator.stats()["waiting"] == 1
    gator.run_all()
    assert "1 deleted" in run(place, "dead", dsn, "--purge", "0").stdout
    assert run(place, "drop", dsn, "--yes").stdout == "all: dropped\n"
    assert gator.len() == 0


def test_explain(place, dsn, gator):
    first = gator.task("cli_jobs.fail")
    second = gator.options(queue_name="low")("cli_jobs.fail")
    said = run(place, "explain", dsn, first.id)
    line = "waiting as the next task on 'all', no live worker there in the last day\n"
    assert (said.returncode, said.stdout) == (0, line)
    said = run(place, "explain", dsn, "--queue", "all", "--queue", "low", second.id)
    assert "on 'low'" in said.stdout
    said = run(place, "explain", "--app", "cli_jobs:gator", first.id, JOBS_DSN=dsn)
    assert said.returncode == 1
    assert said.stdout.startswith("unknown on 'mine'")
    forged = '{"options": {"retried": 1, "last_error": "\\u001b[2J"}}'
    gator.client.push("all", "forged", forged)
    said = run(place, "explain", dsn, "forged", "--store", dsn)
    assert said.stdout.startswith("tried 1 time (\\x1b[2J), to be retried: waiting behind 1 ")
    refused = run(place, "explain", "sqs://us-west-2/", first.id)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Name a store that can" in refused.stderr


def test_ids_with_an_app(place, dsn, gator):
    """Where the DSN stands otherwise."""
    own = Gator(dsn, "mine")
    tasks = [own.task("cli_jobs.fail") for _ in range(2)]
    own.run_all()
    ids = [each.id for each in tasks]
    done = run(place, "revive", "--app", "cli_jobs:gator", *ids, JOBS_DSN=dsn)
    assert (done.stdout, done.stderr) == ("2 revived\n", "")
    own.close()


SCHEDULES = """
import os, time
from alligator import Gator
from cli_jobs import record

gator = Gator(os.environ["JOBS_DSN"])
gator.every(0.2, record, "lines", "tick")
with gator.options(queue_name="low", tz="Europe/Berlin") as opts:
    opts.cron("0 5 1 7 *", "cli_jobs.fail", number=1)
"""


def test_schedules_of_an_app(place, dsn):
    (place / "cli_schedules.py").write_text(SCHEDULES)
    app = ("--app", "cli_schedules:gator")
    shown = run(place, "schedule", *app, "--next", "3", JOBS_DSN=dsn)
    assert shown.returncode == 0, shown.stderr
    assert len(shown.stdout.splitlines()) == 3
    assert "+00:00  all  cli_jobs.record('lines', 'tick')  every 0.2 s" in shown.stdout
    low = run(place, "schedule", *app, "--queue", "low", "--next", "1", JOBS_DSN=dsn).stdout
    assert "-07-01 05:00:00+02:00  low  cli_jobs.fail(number=1)  0 5 1 7 * (Europe/Berlin)" in low
    none = run(place, "schedule", *app, "--queue", "other", JOBS_DSN=dsn)
    assert none.stdout == "cli_schedules:gator has no schedules there.\n"
    done = run(place, *app, "--max-tasks", "3", JOBS_DSN=dsn)
    assert done.returncode == 0, done.stderr
    assert len(lines(place / "lines")) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_task_in_progress(place, dsn, gator, start, number):
    out = place / "lines"
    gator.task("cli_jobs.until_there", str(out), str(place / "go"))
    gator.task("cli_jobs.record", str(out), "left")
    process = start(dsn)
    eventually(lambda: lines(out), "the task starts")
    process.send_signal(number)
    eventually(lambda: "told to stop" in (place / "out").read_text(), "it has heard")
    (place / "go").touch()
    assert process.wait(60) == 0
    assert [line.split()[0] for line in lines(out)] == ["start", "end"]
    said = (place / "out").read_text()
    assert "shutting down. Consumed 1 tasks." in said
    assert "told to stop" in said
    assert (gator.stats()["waiting"], gator.stats()["running"]) == (1, 0)


def test_an_idle_worker_stops_at_once(place, dsn, start):
    process = start(dsn)
    eventually(lambda: "never die" in (place / "out").read_text(), "it starts")
    started = time.monotonic()
    process.terminate()
    assert process.wait(60) == 0
    assert time.monotonic() - started < 10


def test_second_signal_of_a_person_leaves_at_once_and_the_task_is_back(place, dsn, gator, start):
    out = place / "lines"
    gator.task("cli_jobs.slow", str(out), 60)
    process = start(dsn)
    eventually(lambda: lines(out), "the task starts")
    process.send_signal(signal.SIGINT)
    eventually(lambda: "told to stop" in (place / "out").read_text(), "it has heard")
    time.sleep(signals.PAUSE)  # sooner, it would be the same one
    process.send_signal(signal.SIGINT)
    assert process.wait(50) == 1, "the task takes 60 s"
    assert (gator.stats()["waiting"], gator.stats()["running"]) == (1, 0)


def test_grace_ends_a_task_that_does_not(place, dsn, gator, start):
    out = place / "lines"
    gator.task("cli_jobs.slow", str(out), 60)
    process = start(dsn, "--grace", "0.5")
    eventually(lambda: lines(out), "the task starts")
    process.terminate()
    started = time.monotonic()
    assert process.wait(50) == 1
    assert time.monotonic() - started < 30, "the task takes 60 s"
    assert (gator.stats()["waiting"], gator.stats()["running"]) == (1, 0)


def pids(path):
    return {int(line.split()[1]) for line in lines(path)}


@pytest.mark.slow
def test_processes_share_the_work_and_a_killed_one_is_replaced(place, dsn, gator, start):
    out = place / "lines"
    supervisor = start(dsn, "--processes", "2", "--lease", "1", "--prefetch", "1")

    def feed():  # no more than they soon work off: all has to be done at the end
        for _ in range(4 - gator.len()):
            gator.task("cli_jobs.slow", str(out), 0.05)
        return len(pids(out)) >= 2

    eventually(feed, "both processes work")
    victim = min(pids(out))
    assert victim != supervisor.pid
    os.kill(victim, signal.SIGKILL)
    before = pids(out)

    def feed_on():
        feed()
        return len(pids(out) - before) >= 1

    eventually(feed_on, "a third process has taken its place")
    assert "was killed by signal 9" in (place / "out").read_text()
    eventually(lambda: gator.len() == 0, "all done")
    supervisor.terminate()
    assert supervisor.wait(60) == 0
    for pid in pids(out):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert gator.dead() == []


def test_one_process_asked_for_is_supervised_too(place, dsn, gator, start):
    out = place / "lines"
    supervisor = start(dsn, "--processes", "1", "--lease", "1")
    gator.task("cli_jobs.record", str(out), "x")
    eventually(lambda: pids(out), "it works")
    (first,) = pids(out)
    assert first != supervisor.pid
    os.kill(first, signal.SIGKILL)
    gator.task("cli_jobs.record", str(out), "y")
    eventually(lambda: len(pids(out)) == 2, "another has taken its place")
    supervisor.terminate()
    assert supervisor.wait(60) == 0


def test_workers_stop_when_their_supervisor_is_killed(place, dsn, gator, start):
    out = place / "lines"
    supervisor = start(dsn, "--processes", "2")
    gator.task("cli_jobs.record", str(out), "x")
    eventually(lambda: pids(out), "one works")
    supervisor.kill()
    supervisor.wait()

    def gone():
        try:
            os.kill(min(pids(out)), 0)
        except ProcessLookupError:
            return True
        return False

    eventually(gone, "the orphan has stopped")


def test_burst_with_processes_ends(place, dsn, gator):
    for number in range(10):
        gator.task("cli_jobs.record", str(place / "lines"), str(number))
    done = run(place, dsn, "--processes", "2", "--burst")
    assert done.returncode == 0, done.stderr
    assert len(lines(place / "lines")) == 10


def test_max_tasks_recycles_a_process(place, dsn, gator, start):
    out = place / "lines"
    for number in range(9):
        gator.task("cli_jobs.record", str(out), str(number))
    start(dsn, "--processes", "2", "--max-tasks", "2")
    eventually(lambda: len(lines(out)) == 9, "all ran")
    assert len(pids(out)) >= 3


def test_help_names_everything(capsys):
    with pytest.raises(SystemExit) as exit_:
        cli.main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--queue", "--max-tasks", "--nap", "--burst", "--concurrency", "--processes"):
        assert flag in text
    for flag in ("--lease", "--prefetch", "--grace", "--log-level", "--app", "--worker", "--task"):
        assert flag in text
    assert json.dumps("leash") not in text
