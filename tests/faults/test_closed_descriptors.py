"""Test tasks that close descriptors of other code, as code does that starts a daemon."""

import os
import subprocess
import sys
import textwrap
import uuid

import pytest

from tests.support import ROOT
from tests.support.servers.beanstalk import Beanstalkd


def run(code, *arguments, folder):
    """Run a program of its own: all its descriptors are to be closed."""
    (folder / "program.py").write_text(textwrap.dedent(code))
    done = subprocess.run(
        [sys.executable, "program.py", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


WORK = """
    import os, sys
    from alligator import Gator, Worker

    def detach():
        os.closerange(3, 1000)

    def note(name):
        os.write(1, f"ran {name}\\n".encode())

    if __name__ == "__main__":
        import program
        gator = Gator(sys.argv[1], sys.argv[2])
        for n in range(24):
            gator.task(program.note, n)
            if n % 10 == 5:
                gator.task(program.detach)
        worker = Worker(gator, concurrency=int(sys.argv[3]), burst=True)
        worker.run_forever()
        gator = Gator(sys.argv[1], sys.argv[2])  # its sockets were not closed
        stats = gator.client.stats(gator.queue_name)
        assert (stats.waiting, stats.running) == (0, 0), stats
        for row in gator.tasks("dead"):
            print("dead", row.function)
"""


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_worker_goes_on(concurrency, durable_dsn, durable_gator, tmp_path):
    said = run(
        WORK, durable_dsn, durable_gator("detach").queue_name, concurrency, folder=tmp_path
    ).splitlines()
    ran = [line.partition("ran ")[2] for line in said if line.startswith("ran ")]
    assert set(map(int, ran)) == set(range(24))  # none lost
    dead = [line.split() for line in said if line.startswith("dead ")]
    if not durable_dsn.startswith("beanstalk"):
        assert len(ran) == 24, "none twice"
        assert dead == []
    # beanstalkd releases the jobs of a lost connection at once. It cannot tell that from a death of
    # the worker, and a task that closes its own connection in each run may have three of them.
    assert {name for _, name in dead} <= {"program.detach"}, said


@pytest.mark.parametrize("backend", ["sqlite", "redis"])
def test_a_program_goes_on_with_its_loop_and_its_helper(backend, request, tmp_path):
    """A worker that stops in order afterwards.

    With one task at a time: what another closes in the middle of a step, no worker can make good.
    """
    dsn = request.getfixturevalue(f"{backend}_dsn")
    code = """
        import asyncio, os, signal, subprocess, sys, time
        from alligator import Gator

        def note(name):
            os.write(1, f"ran {name}\\n".encode())

        def detach(name):
            os.closerange(3, 256)
            note(name)

        async def sleep(name):
            await asyncio.sleep(0.5)
            note(name)

        async def detach_on_the_loop(name):
            detach(name)

        if __name__ == "__main__":
            import program
            gator = Gator(sys.argv[1], sys.argv[2])
            functions = [
                program.note, program.detach, program.sleep, program.detach_on_the_loop,
                program.sleep, program.note, program.detach, program.note, program.sleep,
            ]
            for n, each in enumerate(functions):
                gator.task(each, n)
            argv = [sys.executable, "-m", "alligator", sys.argv[1], "--queue", sys.argv[2]]
            worker = subprocess.Popen([*argv, "--lease", "4"])
            try:
                deadline = time.monotonic() + 30
                while gator.stats()["waiting"] or gator.stats()["running"]:
                    assert time.monotonic() < deadline, gator.stats()
                    time.sleep(0.05)
                worker.send_signal(signal.SIGTERM)
                assert worker.wait(20) == 0
            finally:
                worker.kill()
    """
    name = f"closed-{uuid.uuid4().hex[:8]}"
    said = run(code, dsn, name, folder=tmp_path)
    assert "Traceback" not in said
    ran = [line.partition("ran ")[2] for line in said.splitlines() if line.startswith("ran ")]
    assert sorted(ran) == [str(n) for n in range(9)]


@pytest.mark.parametrize("looks", [True, False])
def test_redis_loses_no_batch_that_was_sent_for(looks, redis_dsn, tmp_path):
    """Closed before its reply was read, with acks, and tasks of others between."""
    code = """
        import os, sys, time
        from alligator.backends.redis_backend import Client
        client, other = Client(sys.argv[1]), Client(sys.argv[1])
        client.drop_all("closed")
        for n in range(120):
            client.push("closed", str(n), f"data {n}", priority=n % 2)
        done = client.reserve(["closed"], 3).deliveries
        others = other.reserve(["closed"], 3).deliveries
        ahead = client.begin_reserve(["closed"], 100, acks=done)
        until = time.monotonic() + 10
        while other.stats("closed").running < 103 and time.monotonic() < until:
            time.sleep(0.01)
        os.closerange(3, 1000)
        assert sys.argv[2] == "False" or ahead.ready()
        found, refused = ahead.read()
        wanted = [n for n in range(120) if n % 2] + [n for n in range(120) if n % 2 == 0]
        assert [each.data for each in found] == [f"data {n}" for n in wanted[6:106]], found
        assert refused == []
        assert client.ack(found) == client.ack(others) == []
        stats = client.stats("closed")
        assert (stats.waiting, stats.running) == (14, 0), stats
    """
    run(code, redis_dsn, looks, folder=tmp_path)


def test_sqlite_goes_on_with_all_that_was_queued(sqlite_dsn, tmp_path):
    """Also beside another client of the process, and one that was closed before."""
    code = """
        import os, sys
        from alligator.backends.sqlite_backend import Client
        one, two, closed = (Client(sys.argv[1]) for _ in range(3))
        for client in (one, two, closed):
            client.push("q", str(id(client)), "x")
        closed.close()
        for n in range(10):
            os.closerange(3, 1000)
            client = (one, two)[n % 2]
            client.push("q", str(n), "x")
            assert two.len("q") == 3 + n + 1
            assert one.len("q") == 3 + n + 1
        assert one.conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        print(len(os.listdir("/dev/fd")))
        one.close()
        two.close()
        left = [os.readlink(f"/dev/fd/{n}") for n in range(3, 20) if os.path.exists(f"/dev/fd/{n}")]
        assert not [each for each in left if "queue.db" in each or "null" in each], left
    """
    assert int(run(code, sqlite_dsn, folder=tmp_path)) < 15  # none is left open each time


def test_sqlite_writes_to_nobody_elses_file(sqlite_dsn, tmp_path):
    """Nor closes one, as it ends, that was given its number."""
    code = """
        import os, sys
        from alligator.backends.sqlite_backend import Client
        from alligator.exceptions import ConnectionLost
        client, other = Client(sys.argv[1]), Client(sys.argv[1])
        client.push("q", "before", "x")
        other.push("q", "of the other", "x")
        os.closerange(3, 1000)
        files = [open(f"precious {n}", "w+") for n in range(10)]
        for each in files:
            each.write("x" * 10_000)
            each.flush()
        for call in (lambda: client.push("q", "a", "x"), lambda: client.len("q"),
                     lambda: other.reserve(["q"])):
            try:
                call()
            except ConnectionLost as err:
                assert "precious" in str(err), err
            else:
                raise AssertionError("it went on")
        client.close()
        for n, each in enumerate(files):
            each.seek(0)
            assert each.read() == "x" * 10_000, n
        if len(sys.argv) > 2:
            sys.exit()  # with all that is open
        for each in files:
            each.close()
        client.push("q", "after", "x")
        assert client.len("q") == other.len("q") == 3
        client.close()
        other.close()
    """
    run(code, sqlite_dsn, folder=tmp_path)
    run(code, sqlite_dsn, "leave", folder=tmp_path)
    for each in tmp_path.glob("precious *"):
        assert each.read_text() == "x" * 10_000


def test_sqlite_goes_on_when_all_is_closed_in_the_middle_of_a_write(sqlite_dsn, tmp_path):
    """By a task in another thread; its lock file takes no number of the database."""
    code = """
        import os, sys, time
        from alligator.backends.sqlite_backend import Client
        from alligator.exceptions import ConnectionLost
        client = Client(sys.argv[1])
        client.push("q", "before", "x")
        connected = client.database._connected
        def closed_afterwards():
            client.database._connected = connected
            found = connected()
            os.closerange(3, 4096)
            return found
        for n in range(3):
            client.database._connected = closed_afterwards
            began = time.monotonic()
            try:
                client.push("q", str(n), "x")
            except ConnectionLost:
                client.push("q", str(n), "x")
            else:
                raise AssertionError("it went on")
            assert time.monotonic() - began < 5
        assert client.len("q") == 4
    """
    run(code, sqlite_dsn, folder=tmp_path)


def test_a_wait_goes_on_and_reads_from_nobody_elses_file(sqlite_dsn, tmp_path):
    """Nor does it close what has the number of its FIFO."""
    code = """
        import os, sys, threading, time
        from alligator.backends.sqlite_backend import Client
        client, found = Client(sys.argv[1]), []
        client.setup_tables()
        waiting = threading.Thread(target=lambda: found.append(client.reserve(["q"], 1, 30, 20)))
        waiting.start()
        def fifo():
            for n in range(3, 30):
                try:
                    if os.readlink(f"/dev/fd/{n}").endswith(".wake"):
                        return n
                except OSError:
                    pass
        until = time.monotonic() + 10
        while (number := fifo()) is None and time.monotonic() < until:
            time.sleep(0.001)
        reader, writer = os.pipe()
        os.dup2(reader, number)
        os.write(writer, b"precious")
        client.push("q", "x", "x")
        waiting.join(20)
        assert [each.task_id for each in found[0].deliveries] == ["x"]
        assert os.read(number, 8) == b"precious"
        client.close()
    """
    run(code, sqlite_dsn, folder=tmp_path)


TWO_PLACES = """
    import os, sys
    from alligator import Gator
    from alligator.common.descriptors import open_numbers

    one, two = Gator(sys.argv[1], "q"), Gator(sys.argv[2], "q")
    before = open_numbers()
    one.task(print, 1)
    for each in open_numbers() - before:
        os.close(each)
    two.task(print, 2)  # the system gives it the number that is free
    one.task(print, 3)
    one.task(print, 4)
    print([each.client.stats("q").waiting for each in (one, two)])
"""


def check_two_places(one, two, folder):
    said = run(TWO_PLACES, one, two, folder=folder)
    assert said.strip() == "[3, 1]"


@pytest.mark.redis
def test_a_redis_connection_uses_no_socket_of_another(redis_dsn, tmp_path):
    base = redis_dsn.rpartition("/")[0]
    check_two_places(f"{base}/3", f"{base}/4", tmp_path)


@pytest.mark.beanstalk
def test_a_beanstalk_connection_uses_no_socket_of_another(beanstalk_dsn, tmp_path):
    server = Beanstalkd(tmp_path).start()
    try:
        check_two_places(server.dsn, beanstalk_dsn, tmp_path)
    finally:
        server.stop()
