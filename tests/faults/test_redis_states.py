"""Put a redis server into one bad state after the other, under load.

In each the workers stay and go on, nothing that was acknowledged is lost, and no task runs
twice at the same time (but where the fault itself outlasts a lease).
"""

import contextlib
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from alligator import Gator, Worker
from alligator.exceptions import ConnectionLost
from chaos import jobs
from chaos.common import is_empty, wait_until
from chaos.environment import Environment
from chaos.fleet import Fleet
from chaos.ledger import ACKNOWLEDGED, ATTEMPTED, COMPLETED, Ledger
from chaos.load import Load, changes_in
from tests.support.servers import redis as servers
from tests.support.servers.proxy import Fault, Proxy, now_and_then

LEASE = 0.9  # seconds


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    options = ("--appendonly", "yes", "--enable-debug-command", "yes")
    server = servers.start(tmp_path_factory.mktemp("states"), *options)
    yield server
    server.stop()


@pytest.fixture
def admin(server):
    with redis.Redis(port=server.port, retry=None, socket_timeout=10) as admin:
        yield admin


@pytest.fixture
def environment(server, tmp_path):
    return Environment("redis", server.dsn, tmp_path, server=server.server)


class Trouble:
    """What a test does to the server while :func:`load` goes on."""

    def __init__(self, load):
        self.load = load
        self.spans = []  # of faults that a worker cannot see through, in Unix seconds

    @contextmanager
    def lasting(self):
        """Note a fault as long as the block takes."""
        began = time.time()
        yield
        self.spans.append((began, time.time()))


@contextmanager
def under_load(environment, lease=LEASE, **ways):
    """Run a load; after the block, see that all goes on and that all adds up."""
    with Load(environment, lease=lease, **ways) as load:
        load.progress(0, by_all=True)
        trouble = Trouble(load)
        yield trouble
        load.progress(load.size(), by_all=True)
        # Counted and not timed: a busy machine takes its time over them.
        assert wait_until(lambda: load.pushed > 20, within=30), "there was a load"
        load.drain(within=20)
        row = load.row("states", trouble.spans)
    assert row.wrong == [], row
    assert row.lost == 0
    assert row.acknowledged > 20


def answers_to(port, seconds, *command):
    """Return what the server answered to a command sent over and over, errors by their text."""
    found, until = set(), time.monotonic() + seconds
    with redis.Redis(port=port, retry=None) as probe:
        while time.monotonic() < until:
            try:
                probe.execute_command(*command)
                found.add("fine")
            except redis.RedisError as err:
                found.add(f"{type(err).__name__}: {err}")
            time.sleep(0.02)
    return found


def test_scripts_flushed(environment, admin):
    with under_load(environment) as trouble:
        for _ in range(50):
            admin.script_flush("SYNC")
            time.sleep(0.005)
    assert trouble.load.changes() == ["", ""], "no worker even notices"
    assert trouble.load.refused == 0


def test_loading(environment, server, admin):
    admin.mset({f"ballast{number}": "x" * 100 for number in range(600)})
    admin.config_set("key-load-delay", 1000)  # microseconds: 0.6 s in all
    admin.config_set("loading-process-events-interval-bytes", 1024)
    said = set()
    probe = threading.Thread(
        target=lambda: said.update(answers_to(server.port, 1.0, "GET", "x")), daemon=True
    )
    with under_load(environment) as trouble:
        probe.start()
        with trouble.lasting():
            admin.execute_command("DEBUG", "RELOAD")
        admin.config_set("key-load-delay", 0)
        probe.join()
    assert any(each.startswith("BusyLoadingError") for each in said), said
    assert trouble.load.refused > 0


def test_readonly(environment, server, admin):
    with under_load(environment) as trouble, trouble.lasting():
        admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        said = answers_to(server.port, 0.6, "SET", "x", "1")
        wait_until(lambda: trouble.load.refused and all(trouble.load.changes()), within=30)
        admin.execute_command("REPLICAOF", "NO", "ONE")
    assert any(each.startswith("ReadOnlyError") for each in said), said
    assert trouble.load.refused > 0
    assert all(trouble.load.changes())


def test_busy(environment, server, admin):
    admin.config_set("busy-reply-threshold", 50)  # milliseconds

    def spin():
        with (
            redis.Redis(port=server.port, retry=None) as spinner,
            pytest.raises(redis.ResponseError, match="killed"),
        ):
            spinner.eval("while true do end", 0)

    spinning = threading.Thread(target=spin)
    with under_load(environment) as trouble, trouble.lasting():
        spinning.start()
        said = answers_to(server.port, 0.6, "GET", "x")
        wait_until(lambda: trouble.load.refused, within=30)
        admin.script_kill()
        spinning.join()
    assert any("busy" in each.lower() for each in said), said
    assert trouble.load.refused > 0


def test_clients_killed(environment, admin):
    killed = rounds = 0
    with under_load(environment) as trouble:
        while rounds < 15 or (killed <= 30 and rounds < 150):
            killed += admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            rounds += 1
            time.sleep(0.05)
    assert killed > 30
    assert trouble.load.refused < rounds / 5, "a push that broke off is tried once more"


def test_connections_cut_in_the_middle_of_replies(environment, server):
    choose = Fault
    with (
        Proxy(server.port, lambda: choose()) as proxy,
        under_load(environment, dsn=environment.through(proxy)),
    ):
        choose = now_and_then(4_000)
        proxy.cut_all()
        assert wait_until(lambda: proxy.broken >= 15, within=30)
        choose = Fault
        proxy.cut_all()
    assert proxy.broken >= 15


def confirmed_pushes(gator, ledger, conn, stop):
    """Push until told to stop; note as acknowledged what a replica is known to have got."""
    number = 0
    while not stop.is_set():
        number += 1
        ledger.note(ATTEMPTED, f"{number}")
        with contextlib.suppress(ConnectionLost, redis.RedisError):
            gator.task(jobs.work, ledger.path, f"{number}", 0.002)
            with conn.pipeline(transaction=False) as pipeline:
                pipeline.set("marker", number).wait(1, 200)
                if pipeline.execute()[1] >= 1:
                    ledger.note(ACKNOWLEDGED, f"{number}")
        time.sleep(0.002)


@pytest.mark.slow
def test_failover_under_load(tmp_path):
    """The master is killed under load, and the sentinels put its replica in its place.

    Guaranteed: workers and producers find the new master by themselves and go on. A task is
    on it if a replica had confirmed it before, which redis tells by WAIT: a push, then any
    write and WAIT 1 on any connection that answers 1. A push without a WAIT may be
    lost, as redis replicates after it has answered. Leases and acks are replicated like
    that too, so a task may run twice, or be run again after it was done.
    """
    found = servers.start_sentinels(tmp_path / "servers", count=1)
    gator, ledger, stop = (
        Gator(found.dsn, "failover"),
        Ledger(tmp_path / "ledger"),
        threading.Event(),
    )
    try:
        found.wait_until_agreed()
        conn = gator.client.conn
        pushing = threading.Thread(target=confirmed_pushes, args=[gator, ledger, conn, stop])
        flags = ("--lease", f"{LEASE}", "--log-level", "INFO")
        with Fleet(found.dsn, "failover", tmp_path, ledger, *flags, size=2) as fleet:
            pushing.start()
            pids = {worker.pid for worker in fleet.workers}

            def completed_by_each(since=0.0):
                late = [each for each in ledger.entries() if each.at > since]
                return {each.pid for each in late if each.what == COMPLETED} >= pids

            # By each: one that finds no server at its start ends with an error.
            assert wait_until(completed_by_each, within=30), fleet.said()
            assert wait_until(lambda: ledger.count_completed() >= 20, within=30), fleet.said()
            found.nodes[0].server.kill()
            killed_at = time.time()
            assert wait_until(lambda: completed_by_each(killed_at + 0.5), within=30), fleet.said()
            stop.set()
            pushing.join()
            assert wait_until(lambda: is_empty(gator), within=30), fleet.said()
            assert all(worker.is_alive() for worker in fleet.workers)

            def in_step():
                said = changes_in(Path(fleet.log).read_text())
                return said.count("-") == said.count("+")

            assert wait_until(in_step, within=30), fleet.said()
    finally:
        stop.set()
        gator.close()
        found.stop()
    account = ledger.account()
    assert account.lost() == set()
    assert account.unexpected == set()


def test_a_worker_warns_of_a_server_that_evicts(server, admin, capsys):
    admin.config_set("maxmemory-policy", "allkeys-lru")
    try:
        Worker(Gator(server.dsn, "warned"), burst=True).run_forever()
    finally:
        admin.config_set("maxmemory-policy", "noeviction")
    assert "maxmemory-policy is allkeys-lru" in capsys.readouterr().out
