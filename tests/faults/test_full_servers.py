"""Test real servers that are full, draining or throttling: the worker keeps leases and outcomes.

``tests/behaviour/test_full_queue.py`` has the same, simulated, on every backend and in every way of
running.
"""

import shutil
import signal
import subprocess
import time
import uuid
from collections import Counter

import pytest
import redis

from alligator import SUCCESS, Gator
from alligator.exceptions import QueueFull
from tests.behaviour.test_full_queue import ended, eventually, fail, note, ran, running, value
from tests.support.servers import redis as redis_servers
from tests.support.servers.beanstalk import Beanstalkd
from tests.support.servers.sqs import MotoServer, ThrottlingProxy, use_emulator

DISK = 8 << 20  # bytes


@pytest.fixture(autouse=True)
def _clean():
    ran.clear()


def is_full(gator):
    try:
        gator.task(note, "refused or run")
    except QueueFull:
        return True
    return False


def test_beanstalkd_in_drain_mode_until_it_is_started_again(tmp_path):
    """A server that drains stays so until its end; what it knows of leases ends with it.

    The worker has the leases back before it takes anything else: nothing runs once more.
    """
    server = Beanstalkd(tmp_path, binlog=True).start()
    gator = Gator(f"{server.dsn}?ttr=2", "drained")
    try:
        for number in range(3):
            gator.options(retries=1)(fail, f"again {number}")
        gator.task(fail, "never")
        gator.task(note, "done")
        server.process.send_signal(signal.SIGUSR1)
        eventually(lambda: is_full(gator))
        ran[:] = []
        worker, said, thread = running(gator)
        first = Counter(["again 0", "again 1", "again 2", "never", "done"])
        eventually(lambda: not first - Counter(ran), said)
        time.sleep(3.0)  # more than the ttr
        ran[:] = [each for each in ran if each != "refused or run"]
        assert Counter(ran) == first
        assert gator.stats()["running"] == 4
        assert said.count("takes no more for now (beanstalkd takes no more tasks (Draining))") == 1
        assert said.count("reach") == 0
        server.stop()
        server.start()
        eventually(lambda: len(gator.dead()) == 4, said)
        assert Counter(ran) == first + Counter(["again 0", "again 1", "again 2"])
        assert {each.error for each in gator.dead()} == {"ValueError: too much"}
        eventually(lambda: said.count("takes everything again"), said)
        assert said.count("takes no more") == said.count("takes everything again") == 1
        ended(worker, thread)
    finally:
        gator.close()
        server.stop()


def test_what_a_draining_beanstalkd_did_not_take_is_handed_back_at_a_stop(tmp_path):
    server = Beanstalkd(tmp_path).start()
    gator = Gator(server.dsn, "drained")
    try:
        gator.options(retries=2)(fail, "again")
        server.process.send_signal(signal.SIGUSR1)
        worker, said, thread = running(gator, grace=0.3)
        eventually(lambda: said.count("takes no more"), said)
        ended(worker, thread)
        (delivery,) = gator.client.reserve(["drained"]).deliveries
        assert (gator.codec.decode(delivery).retries, delivery.deaths) == (2, 0)
    finally:
        gator.close()
        server.stop()


def test_beanstalkd_out_of_memory(tmp_path):
    server = Beanstalkd(tmp_path, size=4 << 20)
    server.argv = ["/bin/sh", "-c", 'ulimit -v 40000; exec "$@"', "sh", *server.argv]
    server.start()
    gator = Gator(f"{server.dsn}?ttr=2", "full")
    ballast = gator.options(queue_name="ballast")
    try:
        gator.options(retries=1)(fail, "x" * (2 << 20))
        gator.task(note, "done")
        with pytest.raises(QueueFull, match="OutOfMemory"):
            for _ in range(100):
                ballast(note, "x" * (1 << 20))
        worker, said, thread = running(gator)
        eventually(lambda: len(ran) == 2, said)
        time.sleep(2.5)  # more than the ttr
        assert len(ran) == 2
        assert said.count("OutOfMemory") == said.count("takes no more") == 1, said.lines
        while gator.client.pop("ballast"):  # (to peek at a job takes memory, too)
            pass
        eventually(lambda: len(gator.dead()) == 1, said)
        assert len(ran) == 3
        assert gator.dead()[0].error == "ValueError: too much"
        eventually(said.once, said)
        ended(worker, thread)
    finally:
        gator.close()
        server.stop()


def test_redis_at_its_maxmemory(tmp_path):
    """It takes every outcome all the same, and no push; a tick waits, and comes once."""
    server = redis_servers.start(tmp_path)
    gator = Gator(server.dsn, "full")
    admin = redis.Redis(port=server.port)
    try:
        gator.options(retries=1)(fail, "again")
        saved = gator.options(save_results=60)(value, "saved")
        gator.options(catch_up=True).every(0.5, note, "tick")
        gator.schedules.fire()
        admin.config_set("maxmemory", 1)
        worker, said, thread = running(gator)
        eventually(lambda: len(gator.dead()) == 1 and gator.status(saved) == SUCCESS, said)
        assert gator.result(saved) == "saved"
        eventually(lambda: said.count("cannot be queued"), said)
        assert is_full(gator)
        time.sleep(1.0)
        assert Counter(ran) == Counter(["again", "again", "saved"])
        admin.config_set("maxmemory", 0)
        eventually(lambda: ran.count("tick") >= 3, said)
        ended(worker, thread)
        assert said.count("cannot be queued") == said.count("is queued again") == 1
        assert not said.count("reach")
    finally:
        admin.close()
        gator.close()
        server.stop()


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    program = shutil.which("mount")
    argv = [program or "", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    if not program or subprocess.run(argv, capture_output=True).returncode:
        pytest.skip("it takes root to mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_sqlite_on_a_disk_with_no_room_for_dead_letters(disk):
    gator = Gator(f"sqlite://{disk}/queue.db", "full")
    for number in range(3):
        gator.task(fail, f"{number}")
    gator.task(note, "done")
    (disk / "film").write_bytes(b"x" * (DISK - (1 << 20)))
    worker, said, thread = running(gator)
    eventually(lambda: len(ran) == 4, said)
    time.sleep(1.5)  # more than a lease
    assert Counter(ran) == Counter(["0", "1", "2", "done"])
    assert gator.stats()["running"] == 3
    assert is_full(gator)
    (disk / "film").unlink()
    eventually(lambda: len(gator.dead()) == 3, said)
    assert {each.error for each in gator.dead()} == {"ValueError: too much"}
    eventually(said.once, said)
    ended(worker, thread)
    assert len(ran) == 4
    gator.close()


@pytest.mark.slow
def test_sqs_that_throttles(tmp_path, monkeypatch):
    use_emulator(monkeypatch)
    moto = MotoServer(tmp_path).start()
    proxy = ThrottlingProxy(moto.url)
    gator = Gator(proxy.dsn, f"q-{uuid.uuid4().hex[:8]}")
    try:
        for name in (gator.queue_name, f"{gator.queue_name}-dead"):
            gator.client.conn.create_queue(QueueName=name)
        gator.options(retries=1)(fail, "again")
        gator.task(fail, "never")
        gator.task(note, "done")
        proxy.throttled = {"SendMessage", "SendMessageBatch"}
        with pytest.raises(QueueFull, match="RequestThrottled"):
            gator.task(note, "refused")
        worker, said, thread = running(gator)
        eventually(lambda: len(ran) == 3, said)
        proxy.throttled = {*proxy.throttled, "ReceiveMessage", "DeleteMessageBatch"}
        time.sleep(2.5)  # more than a lease
        assert Counter(ran) == Counter(["again", "never", "done"])
        assert proxy.refused > 3
        proxy.throttled = set()
        eventually(lambda: len(gator.dead()) == 2, said)
        assert Counter(ran) == Counter(["again", "again", "never", "done"])
        assert {each.error for each in gator.dead()} == {"ValueError: too much"}
        eventually(said.once, said)
        ended(worker, thread)
    finally:
        gator.close()
        proxy.close()
        moto.stop()
