"""Test ``latergator.py backup``: a copy of a file that is in use."""

import sqlite3
import stat
import threading
import time

import pytest

from alligator import Gator, Worker
from alligator.backends.base import Message
from alligator.backends.sqlite_backend import Client
from alligator.cli import commands as cli
from alligator.exceptions import ConnectionLost, InvalidTask, QueueNotFound, UnsupportedOption
from tests.support import jobs


@pytest.fixture
def gator(sqlite_dsn):
    gator = Gator(sqlite_dsn, "q")
    yield gator
    gator.close()


def test_a_copy_made_under_load_is_of_one_moment_and_runs(gator, sqlite_dsn, tmp_path):
    """What one process pushes and one works off in order is a row without gaps in the copy."""
    stop, told = threading.Event(), []

    def push():
        pusher = Gator(sqlite_dsn, "q")
        while not stop.is_set():
            pusher.task(jobs.note, len(told))
            told.append(len(told))
        pusher.close()

    worker = Worker(Gator(sqlite_dsn, "q"), log_level=50)
    threads = [threading.Thread(target=each) for each in (push, worker.run_forever)]
    jobs.seen.clear()
    for each in threads:
        each.start()
    targets = [tmp_path / f"copy {n}.db" for n in range(3)]
    try:
        for target in targets:
            before, until = len(told), time.monotonic() + 60
            while len(told) < before + 100 or len(jobs.seen) < 20:
                assert time.monotonic() < until
                time.sleep(0.01)
            done, pushed = len(jobs.seen), len(told)
            assert cli.main(["backup", sqlite_dsn, str(target)]) == 0
            target.with_suffix(".from").write_text(f"{done} {pushed}")
    finally:
        stop.set()
        worker.keep_running = False
        for each in threads:
            each.join(60)
    for target in targets:
        done, pushed = map(int, target.with_suffix(".from").read_text().split())
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        copy = Gator(f"sqlite://{target}", "q")
        assert copy.client.conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        copy.client.conn.execute("UPDATE alligator_tasks SET lease_ends = 1 WHERE state = 6")
        stats = copy.client.stats("q")
        jobs.seen.clear()
        assert Worker(copy, burst=True, log_level=50).run_forever() == 0
        ran = sorted(call[0][0] for call in jobs.seen)
        assert len(ran) == stats.waiting + stats.running
        if ran:
            assert ran == list(range(ran[0], ran[-1] + 1))
            assert ran[-1] >= pushed - 1  # nothing is missing of what was there before
        copy.close()
    assert not list(tmp_path.glob("*.partial*"))


def test_a_copy_has_what_was_on_record(gator, tmp_path):
    with gator.options(save_results=60) as saved:
        task = saved.task(jobs.note, 1)
    gator.run_all()
    gator.client.backup(str(tmp_path / "copy.db"))
    copy = Gator(f"sqlite://{tmp_path}/copy.db", "q")
    assert copy.result(task.task_id) == gator.result(task.task_id)
    copy.close()


def test_it_overwrites_nothing(gator, sqlite_dsn, tmp_path, capsys):
    gator.task(jobs.note, 1)
    target = tmp_path / "precious"
    target.write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for each in (target, tmp_path / "link"):
        with pytest.raises(InvalidTask, match="is there already"):
            gator.client.backup(str(each))
        assert cli.main(["backup", sqlite_dsn, str(each)]) == 2
    assert target.read_text() == "x"
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(QueueNotFound, match="create it first"):
        gator.client.backup(str(tmp_path / "no folder" / "copy.db"))


def test_what_goes_wrong_leaves_nothing_behind(gator, tmp_path, monkeypatch):
    gator.task(jobs.note, 1)

    def refuse(*_):
        raise sqlite3.OperationalError("database or disk is full")

    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr("alligator.backends.sqlite.backup._sync", refuse)
    with pytest.raises(ConnectionLost, match=r"No backup was made as .*disk is full\."):
        gator.client.backup(str(tmp_path / "copy.db"))
    assert sorted(tmp_path.iterdir()) == before


def test_from_the_command_line(gator, sqlite_dsn, tmp_path, capsys, monkeypatch):
    gator.task(jobs.note, 1)
    assert cli.main(["backup", sqlite_dsn]) == 2
    assert "TARGET" in capsys.readouterr().err
    assert cli.main(["backup", f"sqlite://{tmp_path}/none.db", str(tmp_path / "copy.db")]) == 2
    assert "There is no file" in capsys.readouterr().err
    monkeypatch.setattr(jobs, "gator", gator, raising=False)
    target = tmp_path / "of an app.db"
    assert cli.main(["backup", "--app", "tests.support.jobs:gator", str(target)]) == 0
    assert Client(f"sqlite://{target}").len("q") == 1


def test_servers_have_means_of_their_own(capsys, tmp_path):
    with pytest.raises(UnsupportedOption, match="sqlite://"):
        Gator("locmem://").client.backup(str(tmp_path / "copy"))
    assert cli.main(["backup", "redis://:secret@localhost:1/0", str(tmp_path / "copy")]) == 2
    said = capsys.readouterr().err
    assert "on a server" in said
    assert "secret" not in said


def test_the_room_of_what_was_dropped_is_used_again(gator, sqlite_dsn, tmp_path):
    file, sizes = tmp_path / "queue.db", []
    for _ in range(3):
        gator.client.push_many("q", [Message(f"{n}", "x" * 200) for n in range(5000)])
        gator.client.drop_all("q")
        gator.client.conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        sizes.append(file.stat().st_size)
    assert sizes[-1] < 1.1 * sizes[0], sizes
    gator.client.backup(str(tmp_path / "copy.db"))
    assert (tmp_path / "copy.db").stat().st_size < sizes[0] / 5
