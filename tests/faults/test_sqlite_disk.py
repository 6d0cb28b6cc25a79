"""Test a queue file whose disk runs full, turns read-only, or damages the file."""

import contextlib
import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from alligator import Gator, Worker
from alligator.backends.sqlite import disk_reserve
from alligator.backends.sqlite_backend import Client
from alligator.cli import main
from alligator.exceptions import ConnectionLost, QueueFull
from tests.support import jobs

DISK = 6 << 20  # bytes
PLAIN_USER = 65534  # a user whom permissions bind even if the tests run as root


class Said(logging.Handler):
    """All that a worker logs."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())

    def found(self, part):
        return any(part in line for line in self.lines)


@contextlib.contextmanager
def working(gator):
    """Run a worker meanwhile, which has to be there still at the end; gives what it says."""
    worker, said = Worker(gator, log_level=logging.CRITICAL), Said()
    worker.log.setLevel(logging.INFO)
    worker.log.handlers[:] = [said]
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    try:
        yield said
        assert thread.is_alive(), f"the worker has left: {said.lines}"
    finally:
        worker.keep_running = False
        thread.join(30)
    assert not thread.is_alive()


def eventually(check, said, within=20.0):
    deadline = time.monotonic() + within
    while not check():
        assert time.monotonic() < deadline, said.lines[-10:]
        time.sleep(0.01)


def names_run():
    return Counter(call[0][0] for call in jobs.seen)


# -- A full disk. ---------------------------------------------------------------------------


@pytest.fixture
def mounted(tmp_path):
    """A file system of 6 MB; None where this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    program = shutil.which("mount")
    options = f"size={DISK},mode=0777"
    argv = [program or "", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if not program or subprocess.run(argv, capture_output=True).returncode:
        yield None
        return
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def disk(mounted, tmp_path, monkeypatch):
    """The same, or else a folder where no more seems to be free than on such a one."""
    if mounted:
        return mounted
    folder = tmp_path / "disk"

    def statvfs(path):
        used = sum(each.stat().st_size for each in folder.iterdir())
        return SimpleNamespace(f_bavail=max(0, DISK - used), f_frsize=1)

    monkeypatch.setattr(disk_reserve.os, "statvfs", statvfs)
    return folder


def fail_or_note(name, padding):
    """Every tenth becomes a dead letter."""
    jobs.seen.append(((name,), {}))
    if name.endswith("0"):
        raise ValueError("always")


def test_a_disk_full_of_tasks_can_be_drained_and_filled_again(disk):
    jobs.seen.clear()
    gator = Gator(f"sqlite://{disk}/queue.db")
    for prefix in ("first-", "second-"):
        taken = []
        with pytest.raises(QueueFull, match=r"queue\.db"):
            for number in range(100_000):
                count = 20 if number % 3 == 0 else 1
                names = [f"{prefix}{number}-{index}" for index in range(count)]
                with gator.batch() as batch:
                    for name in names:
                        batch.task(fail_or_note, name, "x" * 5000)
                taken += names
        assert len(taken) > 200
        for _ in range(3):
            with pytest.raises(QueueFull):
                gator.task(fail_or_note, "refused", "x" * 200_000)
        gator.close()  # the next process has to work, too
        assert gator.len() == len(taken)
        jobs.seen.clear()
        with working(gator) as said:
            eventually(lambda: not gator.len() and not gator.stats()["running"], said, 60)
        assert names_run() == Counter(taken)
        assert not said.found("cannot be reached")
        failed = {name for name in taken if name.endswith("0")}
        assert gator.stats()["dead"] == len(failed)
        gator.client.purge_dead(gator.queue_name)
    gator.close()


@pytest.mark.slow
def test_a_worker_outlives_a_disk_that_others_fill(mounted):
    """All of a sudden: the log cannot be copied into the database any more."""
    if not mounted:
        pytest.skip("it takes root to mount a small disk")
    jobs.seen.clear()
    gator = Gator(f"sqlite://{mounted}/queue.db")
    names = [str(number) for number in range(300)]
    with gator.batch() as batch:
        for name in names:
            batch.task(slow_note, name)
    with working(gator) as said:
        eventually(lambda: len(jobs.seen) > 20, said)
        with (
            (mounted / "film").open("wb", buffering=0) as film,
            (mounted / "queue.db.lock").open() as lock,
        ):
            fcntl.flock(lock, fcntl.LOCK_EX)  # so that no other process writes meanwhile
            with pytest.raises(OSError, match="No space"):
                while True:
                    film.write(b"x" * 4096)
        with pytest.raises(QueueFull, match=r"queue\.db"):
            gator.task(slow_note, "refused")
        eventually(lambda: said.found("takes no more for now (There is no room"), said)
        assert gator.stats()["waiting"] > 0
        assert len(jobs.seen) < len(names)
        (mounted / "film").unlink()
        gator.task(slow_note, "more")
        eventually(lambda: not gator.len() and not gator.stats()["running"], said)
        assert names_run() == Counter([*names, "more"])
        eventually(lambda: said.found("takes everything again"), said)
        assert not said.found("reach")
    assert gator.dead() == []
    gator.close()


def test_a_disk_that_others_fill_bit_by_bit_can_still_be_drained(mounted):
    """There is time to copy the log into the database; its old place is enough to go on."""
    if not mounted:
        pytest.skip("it takes root to mount a small disk")
    jobs.seen.clear()
    gator = Gator(f"sqlite://{mounted}/queue.db")
    names = [str(number) for number in range(500)]
    with gator.batch() as batch:
        for name in names:
            batch.task(slow_note, name)
    with working(gator) as said:
        with (mounted / "film").open("wb", buffering=0) as film, contextlib.suppress(OSError):
            while True:
                film.write(b"x" * 65_536)
                ran = len(jobs.seen)
                eventually(lambda ran=ran: len(jobs.seen) > ran, said)
        full_at = len(jobs.seen)
        for _ in range(20):  # they must not cost the worker its last room
            with pytest.raises(QueueFull, match=r"queue\.db"):
                gator.task(slow_note, "refused")
        eventually(lambda: not gator.len() and not gator.stats()["running"], said)
        assert os.statvfs(mounted).f_bavail < 16
    assert 50 < full_at < 400
    assert names_run() == Counter(names)
    gator.close()


def test_where_there_is_no_room_to_take_many_at_once_they_are_taken_one_by_one(mounted):
    if not mounted:
        pytest.skip("it takes root to mount a small disk")
    client = Client(f"sqlite://{mounted}/queue.db")
    for number in range(12):
        client.push("all", str(number), "x" * 100_000)
    client.close()  # and the log is gone
    free = os.statvfs(mounted)
    (mounted / "film").write_bytes(b"x" * (free.f_bavail * free.f_frsize - 500_000))
    assert drain(client, 12) == [str(number) for number in range(12)]
    client.close()


def slow_note(name):
    time.sleep(0.003)
    jobs.note(name)


# -- Nothing may be written. ----------------------------------------------------------------


@pytest.fixture
def own_folder():
    """A folder of a user whom permissions bind, who the test then is."""
    with tempfile.TemporaryDirectory(prefix="alligator-") as name:
        if os.geteuid():
            yield Path(name)
            return
        os.chown(name, PLAIN_USER, PLAIN_USER)
        os.seteuid(PLAIN_USER)
        try:
            yield Path(name)
        finally:
            os.seteuid(0)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_is_read_only_is_said_and_then_used_again(own_folder, what, capsys):
    jobs.seen.clear()
    path = own_folder / "queue.db"
    gator = Gator(f"sqlite://{path}")
    for number in range(3):
        gator.task(jobs.note, number)
    gator.close()
    locked, mode = (path, 0o444) if what == "file" else (own_folder, 0o555)
    before = locked.stat().st_mode & 0o777
    locked.chmod(mode)
    try:
        with pytest.raises(ConnectionLost, match=r"queue\.db") as caught:
            gator.task(jobs.note, "refused")
        assert caught.value.__cause__ is not None
        assert main([gator.conn_string]) == 2
        error = capsys.readouterr().err
        assert str(path) in error
        assert f"this user may not write to {'it' if what == 'file' else 'its folder'}" in error
        with working(gator) as said:
            eventually(lambda: said.found(f"cannot be reached (SQLite file {path}"), said)
            locked.chmod(before)
            eventually(lambda: len(jobs.seen) == 3, said)
    finally:
        locked.chmod(before)
    assert sorted(names_run()) == [0, 1, 2]
    gator.close()


# -- A broken file. -------------------------------------------------------------------------

CALLS = {
    "push": lambda client: client.push("all", "new", "data"),
    "len": lambda client: client.len("all"),
    "stats": lambda client: client.stats("all"),
    "reserve": lambda client: client.reserve(["all"]),
    "get": lambda client: client.get("all", "x"),
    "dead": lambda client: client.dead("all"),
    "drop": lambda client: client.drop_all("all"),
}


def filled(tmp_path, count=120):
    """Return the path of a queue with so many tasks, closed and whole."""
    gator = Gator(f"sqlite://{tmp_path}/queue.db")
    with gator.batch() as batch:
        for number in range(count):
            batch.task(jobs.note, number, "x" * 700)
    gator.close()
    assert not (tmp_path / "queue.db-wal").exists()
    return tmp_path / "queue.db"


HEADERS = {"zeros": b"\0" * 100, "a5": b"\xa5" * 100, "magic": b"SQLite format 3\0" + b"\xff" * 84}


@pytest.mark.parametrize("junk", HEADERS.values(), ids=HEADERS)
def test_a_file_without_its_header_is_an_error_and_left_alone(tmp_path, junk, capsys):
    path = filled(tmp_path)
    spoilt = junk + path.read_bytes()[len(junk) :]
    path.write_bytes(spoilt)
    inode = path.stat().st_ino
    for name, call in CALLS.items():
        client = Client(f"sqlite://{path}")
        with pytest.raises(ConnectionLost, match=r"queue\.db"):
            pytest.fail(f"{name} returned {call(client)}")
        client.close()
    assert main([f"sqlite://{path}"]) == 2
    assert str(path) in capsys.readouterr().err
    with working(Gator(f"sqlite://{path}")) as said:
        eventually(lambda: said.found(f"cannot be reached (SQLite file {path}"), said)
    assert (path.read_bytes(), path.stat().st_ino) == (spoilt, inode)


def drain(client, at_once=7):
    """Return the ids of all that can be reserved."""
    found = []
    while taken := client.reserve(["all"], at_once).deliveries:
        found += [each.task_id for each in taken]
        assert client.ack(taken) == []
    return found


@pytest.mark.parametrize("junk", [b"\0", b"\xa5", b"\xff"], ids=["zeros", "a5", "ff"])
def test_whichever_page_is_spoilt_no_task_is_missing_without_an_error(tmp_path, junk):
    whole = filled(tmp_path).read_bytes()
    size, ids, said = 4096, None, Counter()
    for page in [None, *range(1, len(whole) // size)]:  # the first one is the test above
        folder = tmp_path / f"page-{page}"
        folder.mkdir()
        path = folder / "queue.db"
        path.write_bytes(whole)
        if page is not None:
            with path.open("r+b") as file:
                file.seek(page * size)
                file.write(junk * size)
        client = Client(f"sqlite://{path}")
        try:
            found = drain(client)
            ids = ids or sorted(found)
            assert sorted(found) == ids, f"page {page} of {len(whole) // size}"
            said["all there"] += 1
        except ConnectionLost:
            said["error"] += 1
        client.close()
        assert path.stat().st_size >= len(whole)
    assert len(ids) == 120
    assert said["error"] > 20, said
