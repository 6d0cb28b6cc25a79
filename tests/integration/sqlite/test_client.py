"""Test the features of the SQLite backend beyond the contract: a file, processes, forks."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest

from alligator.backends.base import MAX_LEASE, Message
from alligator.backends.sqlite_backend import Client
from alligator.backends.types import Report
from alligator.exceptions import ConnectionLost, InvalidDSN
from alligator.testing import FakeClock
from tests.support import ROOT
from tests.support.helpers import eventually


@pytest.fixture
def client(sqlite_dsn):
    client = Client(sqlite_dsn)
    yield client
    client.close()


def child(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


DRAIN = """
import sys
from alligator.backends.sqlite_backend import Client
client = Client(sys.argv[1])
while found := client.reserve(["q"], 3).deliveries:
    for each in found:
        print(each.data, flush=True)
    assert client.ack(found) == []
"""

HOLD = """
import sys, time
from alligator.backends.sqlite_backend import Client
print(Client(sys.argv[1]).reserve(["q"], 1, 0.5).deliveries[0].data, flush=True)
time.sleep(60)
"""


def test_processes_share_the_file_and_run_each_task_once(client, sqlite_dsn):
    client.push_many("q", [Message(f"{n:04}", f"{n:04}") for n in range(500)])
    drains = [child(DRAIN, sqlite_dsn) for _ in range(3)]
    found = [line for each in drains for line in each.communicate(timeout=120)[0].split()]
    assert sorted(found) == [f"{n:04}" for n in range(500)]
    assert client.stats("q").running == 0


def test_a_killed_process_gives_its_task_back_after_the_lease(client, sqlite_dsn):
    client.push("q", "x", "data")
    holder = child(HOLD, sqlite_dsn)
    assert holder.stdout.readline() == "data\n"
    started = time.monotonic()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    (delivery,) = client.reserve(["q"], 1, 30.0, 30.0).deliveries
    assert time.monotonic() - started < 10, "not at the end of the wait"
    assert (delivery.data, delivery.deaths) == ("data", 1)


def test_dsns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    relative = Client("sqlite://own.db")
    monkeypatch.chdir("/")
    relative.push("q", "x", "1")
    absolute = Client(f"sqlite://{tmp_path}/own.db?synchronous=full")
    assert absolute.pop("q") == "1"
    assert absolute.conn.execute("PRAGMA synchronous").fetchone() == (2,)
    for bad in (
        "sqlite://",
        "sqlite://:memory:",
        "sqlite://x?mode=ro",
        "sqlite://x?synchronous=OFF",
    ):
        with pytest.raises(InvalidDSN):
            Client(bad)
    relative.close()
    absolute.close()


def test_files_are_for_their_owner_only(client, tmp_path):
    client.push("q", "x", "1")
    wake = tmp_path / "queue.db.wake"
    eventually(lambda: client.reserve(["q2"], 1, 30, 0.05) and wake.exists())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}, modes
    assert {"queue.db", "queue.db.lock", "queue.db.wake"} <= set(modes)


def test_setup_tables_does_no_harm(client):
    client.setup_tables()
    client.push("q", "x", "1")
    client.setup_tables()
    assert client.len("q") == 1


def test_what_is_no_database_is_said_with_its_path(tmp_path):
    (tmp_path / "notes.db").write_text("these are notes, and not a database at all" * 100)
    (tmp_path / "folder.db").mkdir()
    for name in ("notes.db", "folder.db", "missing/q.db"):
        with pytest.raises(ConnectionLost, match=name.partition("/")[0]) as caught:
            Client(f"sqlite://{tmp_path}/{name}").push("q", "x", "1")
        assert caught.value.__cause__ is not None or "missing" in name
    assert (tmp_path / "notes.db").read_text().startswith("these are notes")


def test_a_client_used_before_a_fork_works_after_it(client):
    client.push("q", "parent", "1")
    pid = os.fork()
    if pid == 0:
        try:
            client.push("q", "child", "2")
            code = 0 if client.len("q") == 2 else 1
        except BaseException:
            code = 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert [client.pop("q"), client.pop("q"), client.pop("q")] == ["1", "2", None]


def test_clock_steps_hide_nothing_and_no_lease_is_immortal(sqlite_dsn):
    clock = FakeClock()
    client = Client(sqlite_dsn, clock=clock)
    client.push("q", "x", "1")
    clock.step(-3600)
    (held,) = client.reserve(["q"], 1, 30.0).deliveries
    clock.step(-7 * 86400)
    assert client.reserve(["q"]).deliveries == []
    clock.advance(MAX_LEASE + 1)
    (again,) = client.reserve(["q"]).deliveries
    assert again.deaths == 1
    assert client.ack([held]) == [held]
    client.close()


def test_the_next_task_is_found_by_index_and_len_by_counter(client):
    client.push("q", "x", "1")
    plan = client.conn.execute(
        "EXPLAIN QUERY PLAN SELECT id FROM alligator_tasks WHERE queue = ? AND state = 0 "
        "ORDER BY priority DESC, place LIMIT ?",
        ["q", 1],
    ).fetchall()
    assert "alligator_ready" in str(plan)
    assert "TEMP B-TREE" not in str(plan)
    assert client.conn.execute(
        "SELECT n FROM alligator_counters WHERE queue = 'q' AND state = 0"
    ).fetchone()


def test_counters_stay_right_through_every_change(client):
    client.push_many("q", [Message(f"{n}", "d") for n in range(20)])
    client.push("q", "3", "again", delay_until=time.time() + 3600)
    held = client.reserve(["q"], 5).deliveries
    client.ack(held[:2])
    client.release(held[2])
    client.release(held[3], "retry", time.time() + 3600)
    client.get("q", "19")
    client.drop_all("other")
    rows = client.conn.execute(
        "SELECT state, count(*) FROM alligator_tasks GROUP BY state"
    ).fetchall()
    counted = client.conn.execute(
        "SELECT state, n FROM alligator_counters WHERE queue = 'q' AND n > 0"
    )
    assert sorted(rows) == sorted(counted.fetchall())
    assert client.len("q") == 16


def test_a_push_in_the_same_process_wakes_a_waiting_thread(client):
    found = []
    thread = threading.Thread(
        target=lambda: found.extend(client.reserve(["q"], 1, 30.0, 30.0).deliveries)
    )
    thread.start()
    started = time.monotonic()
    client.push("q", "x", "1")
    thread.join(40)
    assert [each.data for each in found] == ["1"]
    assert time.monotonic() - started < 10, "not at the end of the wait"


def test_a_wait_goes_on_to_a_file_that_took_the_place_of_the_first(client, sqlite_dsn):
    """Also with the FIFO gone, through which it would be woken."""
    found = []
    waiting = threading.Thread(
        target=lambda: found.extend(client.reserve(["q"], 1, 30.0, 30.0).deliveries)
    )
    folder = client.database.path.parent
    client.setup_tables()
    waiting.start()
    eventually(lambda: list(folder.glob("*.wake")), "it waits")
    for each in folder.glob(client.database.path.name + "*"):
        each.unlink()
    other = Client(sqlite_dsn)
    started = time.monotonic()
    other.push("q", "x", "1")
    waiting.join(40)
    assert [each.data for each in found] == ["1"]
    assert time.monotonic() - started < 15, "not at the end of the wait"
    other.close()


COME_AND_GO = """
import sys
from alligator.backends.sqlite_backend import Client
client = Client(sys.argv[1])
print(client.len("q"))
client.close()
"""


def test_two_clients_of_a_process_keep_their_locks(sqlite_dsn):
    """To close any descriptor of the file drops SQLite's locks, and then its log is deleted."""
    first, second = Client(sqlite_dsn), Client(sqlite_dsn)
    first.push("q", "1", "a")
    second.push("q", "2", "b")
    for expected in ("2", "3", "4"):
        assert child(COME_AND_GO, sqlite_dsn).communicate(timeout=120)[0].strip() == expected
        first.push("q", f"again-{expected}", "c")
    assert second.len("q") == 5
    first.close()
    second.close()


def test_a_report_is_one_commit_and_none_where_it_only_asks(client):
    store = client.store
    store.put_document("cancel:1", "text", 60)
    before = client.database.commits
    report = Report("host:1:a", "{}", 60, [(0, "q", "f", (1,))], ["{}"], {"progress:1": ("x", 60)})
    store.report(report)
    assert client.database.commits == before + 1
    assert store.report(Report("host:1:a", seconds=60, ask=["cancel:1", "x"])) == ["text", None]
    assert client.database.commits == before + 1
    store.report(Report("host:1:a", seconds=600))
    assert client.database.commits == before + 2, "it counts as alive for longer now"
    assert [each.until - each.seen for each in store.live_workers()] == [pytest.approx(600)]


def test_a_file_of_version_1_1_gets_the_tables_of_reports(client, sqlite_dsn):
    client.push("q", "1", "data")
    with client.database.transaction() as tx:
        for name in ("live", "activity", "recent", "documents"):
            tx.execute(f"DROP TABLE alligator_{name}")
    client.close()
    again = Client(sqlite_dsn)
    assert again.store.report(Report("host:1:a", "{}", 60, ask=["x"])) == [None]
    assert again.len("q") == 1
    again.close()
