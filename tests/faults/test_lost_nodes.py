"""Test a cluster with a node that hangs, dies, or fails over: workers go on with the others."""

import logging
import resource
import signal
import subprocess
import sys
import threading
import time
import uuid

import pytest
import redis

from alligator import Gator, Worker
from alligator.backends.redis_backend import Client
from alligator.cli import commands as cli
from alligator.exceptions import ConnectionLost, NodeLost
from tests.support.helpers import eventually
from tests.support.servers import redis as servers
from tests.support.servers.process import free_port

ran: list = []


def note(name):
    ran.append(name)


def slow(name, seconds):
    time.sleep(seconds)
    ran.append(name)


class Cluster:
    """Three masters; the first has a replica, which takes over when it is told that it may."""

    def __init__(self, folder):
        self.options = ["--cluster-require-full-coverage", "no", "--cluster-node-timeout", "2000"]
        self.nodes = servers.start_cluster(folder, *self.options)
        bus = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
        allowed = ["--cluster-replica-no-failover", "yes", "--cluster-replica-validity-factor", "0"]
        quick = ["--repl-diskless-sync-delay", "0"]
        self.replica = servers.start(folder / "replica", *self.options, *bus, *allowed, *quick)
        self.dsn = f"{servers.cluster_dsn(self.nodes)}?timeout=1&connect_timeout=1"

    def begin(self):
        first = redis.Redis(port=self.nodes[0].port)
        replica = redis.Redis(port=self.replica.port)
        bus = int(first.config_get("cluster-port")["cluster-port"])
        replica.execute_command("CLUSTER MEET", "127.0.0.1", self.nodes[0].port, bus)
        name = first.execute_command("CLUSTER MYID")
        eventually(lambda: self.follows(replica, name), "the replica knows its master")
        eventually(
            lambda: replica.info("replication").get("master_link_status") == "up", "it has copied"
        )
        first.close()
        replica.close()

    @staticmethod
    def follows(replica, name):
        try:
            replica.execute_command("CLUSTER REPLICATE", name)
        except redis.ResponseError:
            return False
        return True

    def queues(self):
        """Return the name of a new queue on each master, in their order."""
        found = {}
        with redis.RedisCluster(host="127.0.0.1", port=self.nodes[1].port) as conn:
            while len(found) < 3:
                name = f"n-{uuid.uuid4().hex[:8]}"
                node = conn.get_node_from_key(f"alligator:{{{name}}}:data")
                found.setdefault(node.port, name)
        return [found[each.port] for each in self.nodes]

    def signal(self, number):
        self.nodes[0].server.process.send_signal(number)

    def stop(self):
        for each in [*self.nodes, self.replica]:
            if each.server.process is not None:
                each.server.process.send_signal(signal.SIGCONT)
                each.stop()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    found = Cluster(tmp_path_factory.mktemp("nodes"))
    try:
        found.begin()
        yield found
    finally:
        found.stop()


@pytest.fixture
def cluster(made):
    yield made
    if made.nodes[0].server.process is not None:
        made.signal(signal.SIGCONT)
        eventually(lambda: servers.answers(port=made.nodes[0].port), "it is back")


@pytest.fixture
def client(cluster):
    found = Client(cluster.dsn)
    yield found
    found.close()


@pytest.fixture
def work(cluster, caplog):
    """Start workers in threads."""
    caplog.set_level(logging.INFO)
    ran.clear()
    started = []

    class Quiet(Worker):
        def get_log(self, log_level=logging.INFO):
            return logging.getLogger("alligator.test")

    def start(names, **options):
        gator = Gator(cluster.dsn, names[0])
        worker = Quiet(gator, to_consume=names, **options)
        thread = threading.Thread(target=worker.run_forever, daemon=True)
        thread.start()
        started.append((worker, thread, gator))
        eventually(lambda: worker.keep_running, "it runs")
        return worker

    yield start
    for worker, thread, gator in started:
        worker.keep_running = False
        thread.join(20)
        assert not thread.is_alive()
        gator.close()


def said(caplog, text):
    return [each for each in caplog.messages if text in each]


@pytest.mark.slow
def test_a_worker_serves_the_queues_on_other_nodes(cluster, work, caplog):
    names = cluster.queues()
    gator = Gator(cluster.dsn, names[1])
    first, last = (gator.options(queue_name=name) for name in (names[0], names[2]))
    first.task(note, "before")
    work(names, lease=10)
    eventually(lambda: ran == ["before"], "the first queue is served")
    cluster.signal(signal.SIGSTOP)
    gator.task(slow, "b0", 1.5)
    eventually(lambda: said(caplog, "Cannot be reached"), "it is told")
    for number in range(3):
        last.task(note, f"c{number}")
        gator.task(note, f"b{number + 1}")
    eventually(lambda: len(ran) == 8, "the others are served")
    for number in range(20):
        last.task(note, number)
    eventually(lambda: len(ran) == 28, "and go on being served")
    cluster.signal(signal.SIGCONT)
    # Not sooner: a reserve that it got before may take effect now, without a reader.
    eventually(lambda: said(caplog, "Can be reached again"), "it is told")
    first.task(note, "after")
    eventually(lambda: ran[-1] == "after", "the first queue is served again")
    assert len(ran) == len(set(ran)), "each once"
    assert said(caplog, "reach") == [
        *said(caplog, f"Cannot be reached: queue {names[0]!r}"),
        f"Can be reached again: queue {names[0]!r}.",
    ]
    assert len(said(caplog, f"Cannot be reached: queue {names[0]!r}")) == 1
    gator.close()


def test_what_is_held_of_a_lost_node_is_settled_when_it_is_back(cluster, work, caplog, client):
    names = cluster.queues()
    gator = Gator(cluster.dsn, names[1])
    first = gator.options(queue_name=names[0])
    first.task(slow, "long", 2)
    first.task(note, "short")
    work(names, lease=6, concurrency=2)
    eventually(lambda: "short" in ran, "the other one runs")
    cluster.signal(signal.SIGSTOP)
    for number in range(4):
        gator.options(save_results=60).task(note, number)
    eventually(lambda: len(ran) == 6, "all have run, of whichever node")
    eventually(lambda: not client.stats(names[1]).waiting, "none waits")
    cluster.signal(signal.SIGCONT)
    for name in names[:2]:
        eventually(lambda name=name: not client.stats(name).running, "all have been settled")
        assert not client.stats(name).waiting
    assert sorted(map(str, ran)) == ["0", "1", "2", "3", "long", "short"], "each ran once"
    gator.close()


def test_a_batch_over_several_nodes_counts_where_it_can(cluster, request):
    names, client = cluster.queues(), Client(cluster.dsn.replace("timeout=1", "timeout=2"))
    request.addfinalizer(client.close)

    def lease():
        for name in names:
            client.push(name, name, "data")
        held = client.reserve(names, 10).deliveries
        assert [each.queue_name for each in held] == names
        return held

    for each in lease():
        client.ack([each])
    held = lease()
    cluster.signal(signal.SIGSTOP)
    for call in (lambda: client.extend(held, 30), lambda: client.note_stop(held)):
        with pytest.raises(NodeLost) as caught:
            call()
        assert (caught.value.untold, caught.value.refused) == (held[:1], [])
        assert caught.value.queue_names == names[:1]
    client.push(names[2], "next", "data")
    began = time.monotonic()
    with pytest.raises(NodeLost) as caught:
        client.reserve(names, 10, wait=5, acks=held)
    assert caught.value.untold == held[:1]
    assert [client.stats(name).running for name in names[1:]] == [0, 0]
    assert [each.task_id for each in client.reserve(names, 10).deliveries] == ["next"]
    assert list(client.out_of_reach(names)) == names[:1]
    assert time.monotonic() - began < 1.9, "nothing waits for a node that is known to hang"
    with pytest.raises(ConnectionLost) as lost:
        client.reserve(names[:1])
    assert not isinstance(lost.value, NodeLost), "of these queues none can be reached"
    cluster.signal(signal.SIGCONT)
    eventually(lambda: not (client.reserve(names), client.out_of_reach(names))[1], "it is back")
    assert client.ack(held[:1]) == []
    assert client.stats(names[0]).running == 0


def test_a_wait_ends_when_a_node_is_lost_and_when_it_is_back(cluster, client):
    names = cluster.queues()
    client.reserve(names)
    cluster.signal(signal.SIGSTOP)
    client.reserve(names)
    assert list(client.out_of_reach(names)) == names[:1]
    timer = threading.Timer(0.5, cluster.signal, [signal.SIGCONT])
    timer.start()
    began = time.monotonic()
    assert client.reserve(names, wait=15).deliveries == []
    assert time.monotonic() - began < 14
    timer.join()
    client.push(names[0], "1", "data")
    eventually(lambda: client.reserve(names, wait=0.1).deliveries, "it is served again")


def test_a_burst_does_not_take_a_lost_node_for_empty(cluster, work):
    names = cluster.queues()
    gator = Gator(cluster.dsn, names[1])
    cluster.signal(signal.SIGSTOP)
    gator.task(note, 1)
    worker = work(names, burst=True)
    eventually(lambda: ran == [1], "the others are served")
    gator.task(note, 2)
    eventually(lambda: ran == [1, 2], "also later")
    assert worker.keep_running
    cluster.signal(signal.SIGCONT)
    eventually(lambda: not worker.keep_running, "it ends")
    gator.close()


def test_the_command_line_starts_a_worker_all_the_same(cluster):
    names = cluster.queues()
    gator = Gator(cluster.dsn, names[1])
    gator.task(note, "there")
    cluster.signal(signal.SIGSTOP)
    ran.clear()
    options = ["--max-tasks", "1", "--log-level", "CRITICAL"]
    queues = [part for name in names for part in ("--queue", name)]
    assert cli.main([cluster.dsn, *queues, *options]) == 0
    assert ran == ["there"]
    gator.close()


FULL = """
import resource, socket, sys, threading, time, uuid
from alligator import Gator
from alligator.backends.base import Message
resource.setrlimit(resource.RLIMIT_NOFILE, (3000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
held = [socket.socket() for _ in range(1100)]
assert held[-1].fileno() > 1024
for dsn in sys.argv[1:]:
    gator = Gator(dsn, "full-" + uuid.uuid4().hex[:8])
    names = [f"{gator.queue_name}-{number}" for number in range(3)]
    timer = threading.Timer(0.3, lambda: Gator(dsn).client.push(names[1], "1", "data"))
    timer.start()
    (found,) = gator.client.reserve(names, wait=10).deliveries
    assert gator.client.ack([found]) == []
    if gator.store is not None:
        with gator.store.watch(["x"], names) as watch:
            assert not watch.wait(0.1)
    timer.join()
print("fine")
"""


def test_more_descriptors_than_select_takes(
    cluster_dsn, redis_dsn, beanstalk_dsn, sqlite_dsn, tmp_path
):
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 3000:
        pytest.skip("no process may have so many here")
    done = subprocess.run(
        [sys.executable, "-c", FULL, cluster_dsn, redis_dsn, beanstalk_dsn, sqlite_dsn],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "fine\n", done.stderr


@pytest.mark.slow
def test_a_replica_that_takes_over_is_served(cluster, work, caplog):
    # The last one: the cluster is not the same after it.
    names = cluster.queues()
    gator = Gator(cluster.dsn, names[1])
    gator.options(queue_name=names[0]).task(note, "before")
    work(names)
    eventually(lambda: ran == ["before"], "it is served")
    with redis.Redis(port=cluster.replica.port) as replica:
        replica.config_set("cluster-replica-no-failover", "no")
    cluster.nodes[0].server.kill()
    gator.task(note, "meanwhile")
    eventually(lambda: "meanwhile" in ran, "the others are served")

    def push():
        try:
            gator.options(queue_name=names[0], task_id="after").task(note, "after")
        except ConnectionLost:
            return False
        return True

    eventually(push, "the replica takes over", within=40)
    eventually(lambda: "after" in ran, "it is served")
    assert len(said(caplog, "Cannot be reached")) == len(said(caplog, "Can be reached again")) == 1
    gator.close()
