"""Test faults of the SQLite backend: forks, full disks, foreign files, broken files."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from alligator.backends.base import Message, Reason
from alligator.backends.sqlite import database as sqlite_database
from alligator.backends.sqlite import lock as sqlite_lock
from alligator.backends.sqlite import queue as sqlite_queue
from alligator.backends.sqlite import wakeup
from alligator.backends.sqlite.schema import make_tables
from alligator.backends.sqlite.transaction import Transaction
from alligator.backends.sqlite_backend import Client
from alligator.exceptions import ConnectionLost, InvalidTask, QueueFull
from alligator.testing import FakeClock
from tests.support import ROOT


@pytest.fixture
def client(sqlite_dsn):
    client = Client(sqlite_dsn)
    yield client
    client.close()


@pytest.fixture
def other(sqlite_dsn):
    other = Client(sqlite_dsn)
    yield other
    other.close()


def reserve_in_thread(client, queues, wait=10.0):
    """Return a function that joins the thread and gives what it got, and when."""
    found = []

    def work():
        deliveries = client.reserve(queues, 1, 30.0, wait).deliveries
        found.extend((deliveries, time.monotonic()))

    thread = threading.Thread(target=work)
    thread.start()

    def result():
        thread.join(20)
        return found

    return result


PUSH_FOREVER = """
import itertools, sys
from alligator.backends.sqlite_backend import Client
client = Client(sys.argv[1])
for number in itertools.count():
    client.push("q", str(number), "data")
    print(number, flush=True)
"""


def test_what_was_pushed_outlives_a_kill(client, sqlite_dsn):
    pusher = subprocess.Popen(
        [sys.executable, "-c", PUSH_FOREVER, sqlite_dsn],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    for _ in range(200):
        pusher.stdout.readline()
    pusher.send_signal(signal.SIGKILL)
    rest = pusher.stdout.read().split()  # communicate() would forget what was read ahead
    pusher.communicate(timeout=20)
    acknowledged = 200 + len(rest)
    assert client.len("q") in (acknowledged, acknowledged + 1)
    assert client.peek("q", str(acknowledged - 1)) == "data"


def test_a_child_loses_nothing_when_its_parent_closes(client, sqlite_dsn):
    client.push("q", "parent", "1")
    to_child, to_parent = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            client.push("q", "child 1", "2")
            os.write(to_parent[1], b"!")
            os.read(to_child[0], 1)
            client.push("q", "child 2", "3")
            os._exit(0)
        finally:
            os._exit(1)
    os.read(to_parent[0], 1)
    client.close()
    code = "import sys, sqlite3; c = sqlite3.connect(sys.argv[1]); "
    code += "c.execute('SELECT count(*) FROM alligator_tasks').fetchone(); c.close()"
    path = sqlite_dsn.removeprefix("sqlite://")
    subprocess.run([sys.executable, "-c", code, path], check=True)  # the last to close tidies up
    os.write(to_child[1], b"!")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert client.len("q") == 3
    for descriptor in (*to_child, *to_parent):
        os.close(descriptor)


def test_a_fork_while_other_threads_write(client):
    stop, errors = threading.Event(), []

    def write():
        try:
            for number in range(100_000):
                if stop.is_set():
                    return
                client.push("q", f"{threading.get_ident()}-{number}", "data")
        except BaseException as err:
            errors.append(err)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    codes = []
    for number in range(5):
        pid = os.fork()
        if pid == 0:
            try:
                client.push("child", str(number), "data")
                os._exit(0)
            finally:
                os._exit(1)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    stop.set()
    for thread in threads:
        thread.join(20)
    assert (codes, errors, client.len("child")) == ([0] * 5, [], 5)


def test_a_deleted_file_is_made_anew(client, other, sqlite_dsn):
    client.push("q", "x", "old")
    for path in Path(sqlite_dsn.removeprefix("sqlite://")).parent.iterdir():
        path.unlink()
    other.push("q", "y", "new")
    assert client.pop("q") == "new"


def test_failing_to_open_leaves_no_descriptors_behind(tmp_path):
    (tmp_path / "fullstack").mkdir()
    (tmp_path / "fullstack" / "q.db").write_text("no database at all " * 100)
    client = Client(f"sqlite://{tmp_path}/fullstack/q.db")
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(20):
        with pytest.raises(ConnectionLost, match="fullstack/q.db"):
            client.push("q", "x", "1")
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_full_disk_is_said_and_nothing_is_queued(client):
    client.push("q", "x", "1")
    (pages,) = client.conn.execute("PRAGMA page_count").fetchone()
    client.conn.execute(f"PRAGMA max_page_count={pages + 2}").fetchone()
    with pytest.raises(QueueFull, match="queue.db") as caught:
        client.push_many("q", [Message(f"m-{n}", "d" * 1000) for n in range(100)])
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
    assert client.len("q") == 1
    assert client.pop("q") == "1"


def test_a_stranger_with_the_lock_is_waited_for_but_not_forever(client, sqlite_dsn, monkeypatch):
    monkeypatch.setattr(sqlite_database, "_BUSY_TIMEOUT", 0.2)
    client.setup_tables()
    stranger = sqlite3.connect(sqlite_dsn.removeprefix("sqlite://"), isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    with pytest.raises(ConnectionLost, match=r"queue\.db.*locked"):
        client.push("q", "x", "1")
    assert client.len("q") == 0
    stranger.execute("ROLLBACK")
    stranger.close()
    client.push("q", "x", "1")


def test_a_read_only_database_is_said(client):
    client.conn.execute("PRAGMA query_only=1")
    with pytest.raises(ConnectionLost, match="queue.db"):
        client.push("q", "x", "1")
    client.push("q", "x", "1")  # opened again


def test_what_sqlite_cannot_store_is_refused(client):
    for task_id, data in [("x", "\ud800"), ("\ud800", "x"), ("x", None), ("x", object())]:
        with pytest.raises(InvalidTask):
            client.push("q", task_id, data)
    client.conn.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1000)
    with pytest.raises(InvalidTask):
        client.push("q", "x", "d" * 1001)
    assert client.len("q") == 0
    assert client.max_size() == 1_000_000_000


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, ValueError])
def test_any_exception_half_way_undoes_all(client, interrupt, monkeypatch):
    client.push("q", "x", "1")
    with monkeypatch.context() as patched:

        def finish(self):
            raise interrupt

        patched.setattr(Transaction, "finish", finish)
        with pytest.raises(interrupt):
            client.push_many("q", [Message("y", "2"), Message("z", "3")])
        with pytest.raises(interrupt):
            client.reserve(["q"])
    assert client.stats("q").running == 0
    assert [client.pop("q"), client.pop("q")] == ["1", None]


def test_a_signal_handler_that_writes_spoils_nothing(client, monkeypatch):
    original = Transaction.finish

    def finish(self):
        monkeypatch.setattr(Transaction, "finish", original)
        with pytest.raises(ConnectionLost, match="in the middle"):
            client.push("q", "inner", "2")
        original(self)

    monkeypatch.setattr(Transaction, "finish", finish)
    client.push("q", "outer", "1")
    client.push("q", "later", "3")
    assert [client.pop("q"), client.pop("q"), client.pop("q")] == ["1", "3", None]


def test_without_locks_and_fifos_all_still_works(client, other, monkeypatch, tmp_path):
    def refuse(*arguments):
        raise PermissionError(1, "no FIFOs here")

    monkeypatch.setattr(sqlite_database, "fcntl", None)
    monkeypatch.setattr(sqlite_lock, "fcntl", None)
    monkeypatch.setattr(os, "mkfifo", refuse)
    result = reserve_in_thread(other, ["q"])
    started = time.monotonic()
    client.push("q", "x", "1")
    deliveries, when = result()
    assert [each.data for each in deliveries] == ["1"]
    assert when - started < 5
    assert not (tmp_path / "queue.db.wake").exists()


def test_two_processes_that_add_a_column_at_once(tmp_path):
    """Where no lock can be taken, as on a file system without ``flock``."""

    class Overtaken(sqlite3.Connection):
        def execute(self, sql, *arguments):
            found = super().execute(sql, *arguments)
            if not sql.startswith("PRAGMA table_info"):
                return found
            rows = found.fetchall()
            make_tables(other)
            return SimpleNamespace(fetchall=lambda: rows)

    path = tmp_path / "old.db"
    other = sqlite3.connect(path)
    make_tables(other)
    other.execute("ALTER TABLE alligator_tasks DROP COLUMN controls")
    overtaken = sqlite3.connect(path, factory=Overtaken)
    make_tables(overtaken)
    overtaken.close()
    other.close()


def test_a_planted_file_is_not_written_to(client, other, tmp_path):
    planted = tmp_path / "precious"
    planted.write_text("")
    (tmp_path / "queue.db.wake").symlink_to(planted)
    result = reserve_in_thread(other, ["q"])
    client.push("q", "x", "1")
    assert [each.data for each in result()[0]] == ["1"]
    assert planted.read_text() == ""


def test_a_call_reaches_the_one_it_is_for(client, other, sqlite_dsn, monkeypatch):
    monkeypatch.setattr(wakeup, "_SLICE", 5.0)  # each looks on its own so seldom
    stop = threading.Event()

    def idle():
        own = Client(sqlite_dsn)
        while not stop.is_set():
            own.reserve(["another"], 1, 30.0, 1.0, stop=stop.is_set)
        own.close()

    idlers = [threading.Thread(target=idle) for _ in range(3)]
    for thread in idlers:
        thread.start()
    waits = []
    for number in range(9):
        result = reserve_in_thread(other, ["q"])
        started = time.monotonic()
        client.push("q", str(number), "data")
        deliveries, when = result()
        assert other.ack(deliveries) == []
        waits.append(when - started)
    stop.set()
    for thread in idlers:
        thread.join(10)
    assert sorted(waits)[4] < 2.5, waits


def test_a_wait_sees_a_lease_of_its_own_process_end(client):
    client.push("q", "x", "1")
    (held,) = client.reserve(["q"], 1, 60.0).deliveries
    result = reserve_in_thread(client, ["q"])
    started = time.monotonic()
    assert client.extend([held], 0.3) == []
    deliveries, when = result()
    assert [each.deaths for each in deliveries] == [1]
    assert 0.25 < when - started < 8


def test_a_wait_sees_the_clock_set_forward(sqlite_dsn):
    clock = FakeClock()
    client = Client(sqlite_dsn, clock=clock)
    client.push("q", "x", "1", delay_until=clock.time() + 3600)
    result = reserve_in_thread(client, ["q"])
    started = time.monotonic()
    clock.advance(3601)
    deliveries, when = result()
    assert [each.data for each in deliveries] == ["1"]
    assert when - started < 8
    client.close()


def test_every_look_uses_an_index(client):
    client.setup_tables()
    for sql in sqlite_queue._OUTLOOK, "SELECT sum(n) FROM alligator_counters WHERE queue = ?1":
        plan = str(
            client.conn.execute(f"EXPLAIN QUERY PLAN {sql}", ["q"] * sql.count("?")).fetchall()
        )
        assert "SCAN alligator" not in plan, plan
        assert "TEMP B-TREE" not in plan, plan


def test_counting_costs_the_same_however_many(client):
    client.push_many("q", [Message(f"{n:06}", "d") for n in range(100_000)])
    steps = []
    client.conn.set_progress_handler(lambda: steps.append(1), 1000)
    assert client.len("q") == 100_000
    assert client.stats("q").waiting == 100_000
    client.conn.set_progress_handler(None, 0)
    assert len(steps) < 3


@pytest.mark.parametrize("seed", range(6))
def test_counters_agree_with_a_count_after_anything(sqlite_dsn, seed):
    rng, clock = random.Random(seed), FakeClock()
    client = Client(sqlite_dsn, clock=clock)
    held = []

    def message():
        due = rng.choice([None, clock.time() + rng.uniform(0, 60)])
        return Message(f"t{rng.randrange(12)}", "d", due, rng.choice([0, 0, 5]))

    def settle(each):
        rng.choice(
            [
                lambda: client.ack([each]),
                lambda: client.release(each),
                lambda: client.release(each, "retry", clock.time() + rng.uniform(-5, 30)),
                lambda: client.bury(each, None, Reason("why")),
                lambda: client.extend([each], 5),
            ]
        )()

    actions = [
        lambda: client.push_many("q", [message() for _ in range(rng.randrange(1, 5))]),
        lambda: held.extend(client.reserve(["q"], 3, rng.uniform(1, 40)).deliveries),
        lambda: held.extend(client.reserve(["q"], task_id=f"t{rng.randrange(12)}").deliveries),
        lambda: held and settle(held.pop(rng.randrange(len(held)))),
        lambda: held and settle(rng.choice(held)),
        lambda: clock.advance(rng.uniform(0, 20)),
        lambda: client.revive("q", rng.choice([None, f"t{rng.randrange(12)}"])),
        lambda: rng.random() < 0.1 and client.purge_dead("q", 30),
        lambda: rng.random() < 0.05 and client.drop_all("q"),
    ]
    for _ in range(300):
        rng.choice(actions)()
        counted = client.conn.execute(
            "SELECT state, n FROM alligator_counters WHERE queue = 'q' AND n <> 0 ORDER BY state"
        ).fetchall()
        rows = client.conn.execute(
            "SELECT state, count(*) FROM alligator_tasks GROUP BY state UNION ALL "
            "SELECT 2, count(*) FROM alligator_dead HAVING count(*) > 0 ORDER BY state"
        ).fetchall()
        assert counted == rows
    client.close()
