"""Test tasks that outlived their worker: they run alone next time, and others do not wait."""

import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from alligator import Gator, Worker
from alligator.backends.sqs.encoding import FREE_RECEIVES
from alligator.constants import FAILED
from alligator.workers import suspects
from tests.support.processes import processes

JOBS = """
import os, signal, sys, time

def record(folder, line):
    descriptor = os.open(os.path.join(folder, "lines"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line} {os.getpid()} {time.time()}\\n".encode())
    os.close(descriptor)

def short(folder, name):
    record(folder, name)

def long(folder, name):
    record(folder, name)
    while not os.path.exists(os.path.join(folder, "enough")):
        time.sleep(0.02)
    record(folder, f"{name}-end")

def poison(folder, name):
    record(folder, name)
    os.kill(os.getpid(), signal.SIGKILL)

if os.path.exists("broken") and any(each.startswith("--isolated") for each in sys.argv):
    sys.exit(3)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "orphan_jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("orphan_jobs", None)


@pytest.fixture(params=["sqlite", "redis", "beanstalk"])
def gator(request):
    dsn = request.getfixturevalue(f"{request.param}_dsn")
    gator = Gator(dsn, f"orphans-{uuid.uuid4().hex[:8]}")
    yield gator
    gator.client.drop_all(gator.queue_name)
    gator.close()


@pytest.fixture
def start(folder):
    with processes(folder) as run:

        def start(gator, *flags):
            flags = (f"--queue={gator.queue_name}", "--lease=1.5", *flags)
            return run("-m", "alligator", gator.conn_string, *flags)

        yield start
        (folder / "enough").touch()


def lines(folder):
    """Return where and when each was recorded, by name."""
    path = folder / "lines"
    rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return {name: (int(pid), float(at)) for name, pid, at in rows}


def eventually(check, folder=None, within=20.0):
    deadline = time.monotonic() + within
    while not check():
        said = (folder / "out").read_text()[-3000:] if folder else ""
        assert time.monotonic() < deadline, f"not within {within} s; it said:\n{said}"
        time.sleep(0.02)


def orphan(gator, *call):
    """Push a task and let a lease of it run out, as a worker does that is killed."""
    with gator.options(delay_by=600) as options:
        task = options.task(*call)  # no worker that is there already gets it before
    die(gator, task.task_id)
    return task


def die(gator, task_id):
    other = Gator(gator.conn_string, gator.queue_name)  # a connection, on beanstalkd, of its own
    (found,) = other.client.reserve([gator.queue_name], 1, 0.1, task_id=task_id).deliveries
    assert found.task_id == task_id
    other.close()
    time.sleep(0.12)


def test_others_go_on_and_it_runs_in_a_process_of_its_own(gator, folder, start):
    """Beside a task that goes on and on; on the tree before, nothing else was even fetched."""
    import orphan_jobs as jobs

    gator.task(jobs.long, str(folder), "hour")
    worker = start(gator, "--concurrency", "4")
    eventually(lambda: "hour" in lines(folder), folder)
    orphan(gator, jobs.long, str(folder), "orphan")
    gator.task(jobs.short, str(folder), "first")
    orphan(gator, jobs.short, str(folder), "second")
    for number in range(30):
        gator.task(jobs.short, str(folder), f"short-{number}")
    eventually(lambda: len(lines(folder)) == 34, folder)
    found = lines(folder)
    assert found.pop("orphan")[0] not in (worker.pid, found.pop("second")[0])
    assert {pid for pid, _ in found.values()} == {worker.pid}

    worker.terminate()  # both ends are waited for, here and there
    (folder / "enough").touch()
    assert worker.wait(20) == 0
    assert {"hour-end", "orphan-end"} <= set(lines(folder))
    assert gator.len() == gator.client.stats(gator.queue_name).running == 0


def test_what_kills_its_process_takes_no_neighbour_with_it(redis_dsn, folder, start):
    import orphan_jobs as jobs

    gator = Gator(redis_dsn, f"orphans-{uuid.uuid4().hex[:8]}")
    gator.task(jobs.long, str(folder), "neighbour")
    worker = start(gator, "--concurrency", "4")
    eventually(lambda: "neighbour" in lines(folder), folder)
    orphan(gator, jobs.poison, str(folder), "poison")
    eventually(lambda: gator.client.stats(gator.queue_name).dead, folder, within=30)
    (letter,) = gator.client.dead(gator.queue_name)
    assert "3 deaths" in letter.error
    (folder / "enough").touch()
    eventually(lambda: "neighbour-end" in lines(folder), folder)
    assert lines(folder)["neighbour"][0] == lines(folder)["neighbour-end"][0] == worker.pid
    assert worker.poll() is None
    gator.client.drop_all(gator.queue_name)


def test_one_whose_parent_is_killed_ends_its_task_and_then_itself(redis_dsn, folder, start):
    import orphan_jobs as jobs

    gator = Gator(redis_dsn, f"orphans-{uuid.uuid4().hex[:8]}")
    gator.task(jobs.long, str(folder), "hour")
    worker = start(gator, "--concurrency", "4")
    eventually(lambda: "hour" in lines(folder), folder)
    orphan(gator, jobs.long, str(folder), "orphan")
    eventually(lambda: "orphan" in lines(folder), folder)
    worker.kill()
    worker.wait()
    (folder / "enough").touch()
    eventually(lambda: "orphan-end" in lines(folder), folder)

    def has_ended():
        stat = Path(f"/proc/{lines(folder)['orphan'][0]}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"

    eventually(has_ended, folder)
    gator.client.drop_all(gator.queue_name)


def test_where_no_process_can_be_started_it_runs_here(sqlite_dsn, folder, start):
    import orphan_jobs as jobs

    gator = Gator(sqlite_dsn, "orphans")
    orphan(gator, jobs.short, str(folder), "orphan")
    (folder / "broken").touch()
    flags = ["--app", "orphan_app:gator", "--concurrency", "4", "--burst"]
    (folder / "orphan_app.py").write_text(
        "import orphan_jobs\nfrom alligator import Gator\n"
        f"gator = Gator({sqlite_dsn!r}, 'orphans')\n"
    )
    worker = start(gator, *flags)
    assert worker.wait(20) == 0
    assert lines(folder)["orphan"][0] == worker.pid
    assert "No process could be started" in (folder / "out").read_text()


# -- In a worker that has no processes for that. ----------------------------------------------


class Log:
    """What ran, in which worker; some go on until they are told."""

    def __init__(self):
        self.seen, self.enough = [], threading.Event()


LOG = Log()


def quick(name):
    LOG.seen.append((name, threading.current_thread().name))


def slow(name):
    LOG.seen.append((name, threading.current_thread().name))
    assert LOG.enough.wait(20)
    LOG.seen.append((f"{name}-end", ""))


def names():
    return [name for name, _ in LOG.seen]


@pytest.fixture(params=["locmem", "sqlite", "redis", "beanstalk"])
def shared(request, tmp_path, monkeypatch):
    """Make Gators on one queue, each with connections of its own."""
    global LOG
    LOG = Log()
    monkeypatch.setattr(suspects, "_ASIDE", 0.2)
    queue_name = f"orphans-{uuid.uuid4().hex[:8]}"
    if request.param == "locmem":
        dsn = f"locmem://{tmp_path}"
    else:
        dsn = request.getfixturevalue(f"{request.param}_dsn")
    made = []

    def make(suffix=""):
        made.append(Gator(dsn, queue_name + suffix))
        return made[-1]

    yield make
    for gator in made:
        gator.client.drop_all(gator.queue_name)
        gator.close()


@pytest.fixture
def run():
    """Start workers in threads."""
    started = []

    def run(gator, **options):
        worker = Worker(gator, concurrency=4, lease=2.0, **options)
        thread = threading.Thread(target=worker.run_forever, daemon=True)
        thread.start()
        started.append((worker, thread))
        return worker

    yield run
    LOG.enough.set()
    for worker, _ in started:
        worker.keep_running = False
    for _, thread in started:
        thread.join(20)
        assert not thread.is_alive()


def test_the_bound_of_the_wait(shared, run, monkeypatch):
    """Others go on for PATIENCE; then it runs as soon as what runs has ended."""
    monkeypatch.setattr(suspects, "PATIENCE", 60.0)
    gator = shared()
    gator.task(slow, "hour")
    run(gator)
    eventually(lambda: names() == ["hour"])
    orphan(gator, quick, "orphan")
    for number in range(5):
        gator.task(quick, f"short-{number}")
    eventually(lambda: len(names()) == 6)
    assert "orphan" not in names()
    monkeypatch.setattr(suspects, "PATIENCE", 0.7)
    late, deadline = [], time.monotonic() + 15
    while len(late) < 15 or not set(names()).isdisjoint(late[-15:]):
        assert time.monotonic() < deadline, "it goes on for ever and makes no room"
        late.append(f"late-{len(late)}")
        gator.task(quick, late[-1])  # there is always something else to do
        time.sleep(0.1)
    assert "orphan" not in names()  # never beside another
    LOG.enough.set()
    eventually(lambda: "orphan" in names())
    at = names().index("orphan")
    assert names()[at - 1] == "hour-end"  # at once, before all that waits
    eventually(lambda: late[-1] in names())


def test_one_worker_makes_room_and_the_others_go_on(shared, run, monkeypatch):
    """Each of two has a task that takes long; before, both fetched nothing more."""
    monkeypatch.setattr(suspects, "PATIENCE", 0.5)
    monkeypatch.setattr(suspects, "_KEPT", 0.8)
    first = shared()
    for name in ("one", "two"):
        own = shared(f"-{name}")  # so that each worker has its own
        own.task(slow, name)
        run(own, to_consume=[own.queue_name, first.queue_name])
    eventually(lambda: len(names()) == 2)
    orphan(first, quick, "orphan")
    until, number = time.monotonic() + 2.5, 0
    while time.monotonic() < until:
        first.task(quick, f"short-{number}")
        eventually(lambda name=f"short-{number}": name in names())
        number += 1
        time.sleep(0.05)
    assert "orphan" not in names()
    LOG.enough.set()
    eventually(lambda: "orphan" in names())


def test_a_burst_stays_until_it_has_run(shared, run):
    gator = shared()
    gator.task(slow, "long")
    worker = run(gator, burst=True)
    eventually(lambda: names() == ["long"])
    orphan(gator, quick, "orphan")
    gator.task(quick, "short")
    eventually(lambda: "short" in names())
    LOG.enough.set()
    eventually(lambda: not worker.keep_running)
    assert "orphan" in names()


def test_one_that_has_died_too_often_is_buried_at_once(shared, run):
    gator = shared()
    task = orphan(gator, quick, "poison")
    die(gator, task.task_id)
    die(gator, task.task_id)
    gator.task(slow, "hour")
    run(gator)
    eventually(lambda: gator.client.find(gator.queue_name, task.task_id).state == FAILED)
    assert "poison" not in names()


def test_where_it_cannot_be_found_by_its_id(sqs_dsn, monkeypatch, run):
    """On SQS: others go on for PATIENCE as well, and it runs alone at last."""
    global LOG
    LOG = Log()
    monkeypatch.setattr(suspects, "PATIENCE", 0.5)
    gator = Gator(sqs_dsn, f"orphans-{uuid.uuid4().hex[:8]}")
    other = Gator(sqs_dsn, f"{gator.queue_name}-more")
    for each in (gator, other):
        gator.client.conn.create_queue(QueueName=each.queue_name)
    gator.task(quick, "orphan")
    for _ in range(FREE_RECEIVES):
        (found,) = gator.client.reserve([gator.queue_name], wait=5).deliveries
        gator.client._connection.change(gator.queue_name, [found.receipt.handle], 0)
    other.task(slow, "hour")
    worker = run(other)
    eventually(lambda: names() == ["hour"])
    worker.to_consume = [gator.queue_name, other.queue_name]
    for number in range(5):
        other.task(quick, f"short-{number}")
    eventually(lambda: len(names()) == 6)
    time.sleep(0.6)
    other.task(quick, "last")
    assert "orphan" not in names()
    LOG.enough.set()
    eventually(lambda: "orphan" in names())
    eventually(lambda: "last" in names())
