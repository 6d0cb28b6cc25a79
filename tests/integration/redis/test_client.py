"""Test the features of the redis backend beyond the contract: failures, DSNs, waits, memory."""

import os
import signal
import threading
import time
from contextlib import ExitStack

import pytest
import redis

from alligator import Gator, Worker
from alligator.backends.base import Message, Reason
from alligator.backends.redis.config import parse_target
from alligator.backends.redis.encoding import MAX_SIZE
from alligator.backends.redis_backend import Client
from alligator.backends.store import Record
from alligator.common.ids import new_task_id
from alligator.constants import SUCCESS
from alligator.exceptions import ConnectionLost, InvalidDSN, InvalidTask, QueueFull
from alligator.scheduling.scheduler import Schedules
from tests.support import jobs
from tests.support.helpers import eventually
from tests.support.servers import redis as servers
from tests.support.servers.process import free_port


@pytest.fixture
def client(own_redis):
    found = Client(own_redis.dsn)
    found.conn.flushall()
    yield found
    found.conn.config_set("maxmemory", 0)
    found.conn.config_set("maxmemory-policy", "noeviction")
    found.close()


# -- DSNs. --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dsn",
    [
        "redis://localhost/0?no_such=1",
        "redis://localhost/?ssl_ca_certs=/x",
        "redis://localhost/first",
        "redis://a,b/0",
        "redis://localhost/?timeout=-1",
        "redis+unix://",
        "redis+sentinel://localhost",
        "redis+cluster://localhost/3",
        "rediss://localhost/?ssl_check_hostname=maybe",
        "http://localhost",
    ],
)
def test_a_bad_dsn_is_refused_at_once(dsn):
    with pytest.raises(InvalidDSN):
        Client(dsn)


def test_defaults_and_credentials():
    target = parse_target("redis://localhost:")
    assert (target.options["host"], target.options["port"]) == ("localhost", 6379)
    target = parse_target("valkeys://us%40er:p%2Fw@example.com:1234/5?ssl_ca_certs=/ca.pem")
    assert (target.options["username"], target.options["password"]) == ("us@er", "p/w")
    assert (target.options["port"], target.options["db"]) == (1234, 5)
    assert target.options["ssl_cert_reqs"] == "required"
    assert target.options["ssl_check_hostname"] is True
    assert target.options["ssl_ca_certs"] == "/ca.pem"
    assert "p/w" not in repr(target)
    assert "p%2Fw" not in repr(Client("redis://u:p%2Fw@localhost/"))


def test_sentinel_dsn():
    target = parse_target("redis+sentinel://:pw@h1,h2:7/main/2?sentinel_password=other")
    assert target.hosts == [("h1", 26379), ("h2", 7)]
    assert (target.master, target.options["db"]) == ("main", 2)
    assert target.options["password"] == "pw"
    assert target.sentinel_options["password"] == "other"


def test_constructing_connects_to_nothing():
    client = Client(f"redis://127.0.0.1:{free_port()}/")
    assert isinstance(client.conn, redis.Redis)
    client.close()


# -- Failures. ----------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster", "redis+sentinel"])
def test_nobody_there_fails_fast(scheme):
    path = "/master/0" if scheme.endswith("sentinel") else ""
    client = Client(f"{scheme}://127.0.0.1:{free_port()}{path}")
    started = time.monotonic()
    with pytest.raises(ConnectionLost):
        client.push("q", "1", "data")
    with pytest.raises(ConnectionLost):
        client.reserve(["q"], wait=5)
    assert time.monotonic() - started < 3


def test_wrong_password(tmp_path):
    server = servers.start(tmp_path, "--requirepass", "right@/one")
    try:
        for credentials in ("", ":wrong-secret@"):
            client = Client(server.dsn.replace("127", f"{credentials}127", 1))
            with pytest.raises(ConnectionLost, match="password") as caught:
                client.push("q", "1", "data")
            assert "wrong-secret" not in str(caught.value)
            client.close()
        client = Client(server.dsn.replace("127", ":right%40%2Fone@127", 1))
        assert client.push("q", "1", "data") == "1"
        client.close()
    finally:
        server.stop()


def test_certificates_are_verified(tmp_path):
    server, port, cert = servers.start_tls(tmp_path)
    known = f"?ssl_ca_certs={cert}"
    try:
        with pytest.raises(ConnectionLost, match=r"(?i)certificate"):
            Client(f"rediss://localhost:{port}/").len("q")
        with pytest.raises(ConnectionLost, match=r"(?i)not valid for '127.0.0.1'"):
            Client(f"rediss://127.0.0.1:{port}/{known}").len("q")
        assert Client(f"rediss://localhost:{port}/{known}").len("q") == 0
    finally:
        server.stop()


def test_scripts_are_sent_again_after_a_flush(client):
    client.push("q", "1", "data")
    client.conn.script_flush()
    client.push("q", "2", "data")
    client.conn.script_flush()
    assert len(client.reserve(["q"], 5).deliveries) == 2


def test_a_full_server_refuses_and_can_be_drained(client):
    client.push_many("q", [Message(f"{number}", "x" * 1000) for number in range(50)])
    client.conn.config_set("maxmemory", 1)
    with pytest.raises(QueueFull):
        client.push("q", "new", "data")
    assert client.find("q", "new") is None
    (first,) = client.reserve(["q"]).deliveries
    assert client.release(first) is True
    (first,) = client.reserve(["q"]).deliveries
    assert client.extend([first], 30) == []
    assert client.release(first, "retry") is True
    (buried,) = client.reserve(["q"]).deliveries
    assert client.bury(buried, None, Reason("ValueError: too much", "Traceback")) is True
    acks, count = [], 0
    while acks or not count:
        acks = client.reserve(["q"], 10, acks=acks).deliveries
        count += len(acks)
    assert count == 49
    assert (client.len("q"), client.stats("q").running) == (0, 0)


def test_a_restarted_server_is_found_again(tmp_path):
    server = servers.start(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    client = Client(server.dsn)
    try:
        client.push("q", "1", "data")
        server.server.kill()
        with pytest.raises(ConnectionLost):
            client.push("q", "2", "data")
        with pytest.raises(ConnectionLost):
            client.len("q")
        server.server.start()
        assert [each.data for each in client.reserve(["q"]).deliveries] == ["data"]
    finally:
        client.close()
        server.stop()


def test_a_waiting_reserve_tells_of_a_lost_server(tmp_path):
    server = servers.start(tmp_path)
    client = Client(server.dsn)
    timer = threading.Timer(0.3, server.server.kill)
    timer.start()
    try:
        started = time.monotonic()
        with pytest.raises(ConnectionLost):
            client.reserve(["q"], wait=60)
        assert time.monotonic() - started < 30
    finally:
        timer.join()
        client.close()
        server.stop()


def test_idle_connections_cut_by_the_server_are_no_error(client):
    client.push("q", "1", "data")
    client.conn.client_kill_filter(_type="normal", skipme=True)
    connections = client._connections
    connections._idle = [
        (connection, 0.0) for connection, _ in connections._idle
    ]  # as if long unused
    assert client.len("q") == 1


def test_a_client_from_before_a_fork(client):
    client.push("q", "parent", "1")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            client.push("q", "child", "2")
            status = int(client.len("q") != 2)
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert client.len("q") == 2
    assert [each.data for each in client.reserve(["q"], 5).deliveries] == ["1", "2"]


class Interrupted(BaseException):
    """Raised by a signal handler."""


@pytest.mark.parametrize("busy", [True, False])
def test_an_interrupted_command_leaves_no_reply_behind(client, busy):
    def interrupt(number, frame):
        raise Interrupted

    client.push("q", "1", "data")
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        if busy:  # the reply comes only after the pause
            client.conn.client_pause(1000)
        with pytest.raises(Interrupted):
            signal.setitimer(signal.ITIMER_REAL, 0.15)
            client.reserve(["q" if busy else "empty"], wait=10)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert client.stats("other").waiting == 0
    assert client.peek("q", "1") == "data"
    assert client.len("other") == 0


# -- Waiting. -----------------------------------------------------------------------------


def test_a_burst_wakes_everybody_in_turn(client, own_redis):
    others = [Client(own_redis.dsn) for _ in range(4)]
    found = []

    def work(one):
        found.extend(one.reserve(["q", "r"], 1, 30, 30).deliveries)

    threads = [threading.Thread(target=work, args=[one]) for one in others]
    for thread in threads:
        thread.start()
    eventually(lambda: blocked(client) == 4)
    started = time.monotonic()
    client.push_many("r", [Message(f"{number}", "data") for number in range(4)])
    for thread in threads:
        thread.join()
    assert time.monotonic() - started < 10, "not at the end of the wait"
    assert sorted(each.task_id for each in found) == list("0123")


def blocked(client):
    """Return how many connections wait in a blocking command."""
    return client.conn.info("clients")["blocked_clients"]


def test_a_delayed_push_is_noticed_by_who_waits(client, own_redis):
    other, found = Client(own_redis.dsn), []
    thread = threading.Thread(
        target=lambda: found.extend(other.reserve(["q"], 1, 30, 30).deliveries)
    )
    thread.start()
    eventually(lambda: blocked(client) == 1)
    due = time.time() + 0.4
    client.push("q", "1", "data", due)
    thread.join(40)
    assert len(found) == 1
    assert due - 0.01 <= time.time() < due + 10, "not at the end of the wait"


DELAYS = []


def note_delay(pushed):
    DELAYS.append(time.time() - pushed)


def test_ordinary_tasks_start_at_once_beside_a_schedule_of_short_steps(client, monkeypatch):
    """The workers' waits end at the next tick: now and then less than half a millisecond away."""
    monkeypatch.setattr(Schedules, "seconds_left", lambda _: 0.0004)
    DELAYS.clear()
    workers = []
    for _ in range(2):
        gator = Gator(client.conn_string, "q")
        gator.every(0.01, jobs.note)
        workers.append(Worker(gator, log_level="CRITICAL"))
    threads = [threading.Thread(target=each.run_forever) for each in workers]
    for thread in threads:
        thread.start()
    producer = Gator(client.conn_string, "q")
    try:
        eventually(lambda: len(workers[0].gator.client.store.workers("q")) == 2)
        for _ in range(10):
            time.sleep(0.05)
            producer.task(note_delay, time.time())
        eventually(lambda: len(DELAYS) == 10)
    finally:
        for each in workers:
            each.keep_running = False
        for thread in threads:
            thread.join(20)
    assert sorted(DELAYS)[5] < 0.3, sorted(DELAYS)


def test_times_are_never_rounded_to_nothing(client):
    """To the server 0 means for ever in one place, and is an error in another."""
    store = client.store
    for seconds in (1e-9, 0.0004, 0.0015):
        started = time.monotonic()
        assert client.reserve(["q"], wait=seconds).deliveries == []
        assert time.monotonic() - started < 10
        assert store.claim(f"key-{seconds}", seconds) is True
        store.confirm(f"key-{seconds}", seconds)
        assert store.push_once(client, f"{seconds}", seconds, "other", Message("id", "x"))
        assert store.note(f"{seconds}", Record(SUCCESS), seconds)
        store.beat("worker", ["q"], seconds)
    store.confirm("long", 1e300)
    eventually(
        lambda: [k for k in client.conn.keys("*") if b"mark" in k] == [b"alligator:mark:long"]
    )
    eventually(lambda: client.conn.keys("alligator:record:*") == [])


def test_nothing_is_left_behind_where_nobody_waits(client):
    client.push("q", "1", "data")
    assert client.conn.exists("alligator:{q}:wake") == 0
    client.pop("q")
    assert client.reserve(["q"], wait=0.2).deliveries == []
    client.push("q", "2", "data")  # a worker might still be there
    assert 0 < client.conn.pttl("alligator:{q}:wake") <= 60_000
    assert 0 < client.conn.pttl("alligator:{q}:waiting") <= 2_000


def test_names_of_queues_cost_no_search_each_time(client):
    def searches():
        return client.conn.info("commandstats").get("cmdstat_scan", {}).get("calls", 0)

    client.push("old", "1", "data")
    client.conn.delete("alligator:queues")  # as Alligator 1.1 left it
    assert client.queue_names() == ["old"]
    client.push("new", "1", "data")
    for number in range(1500):
        client.conn.set(f"other:{number}", "x")
    before = searches()
    assert client.queue_names() == ["new", "old"]
    client.drop_all("old")
    assert client.queue_names() == ["new"]
    assert searches() == before
    client.conn.delete("alligator:queues:searched")  # an hour later
    client.push("old", "2", "data")
    assert client.queue_names() == ["new", "old"]
    assert searches() > before


def test_a_search_for_names_goes_on_where_it_ended(client, monkeypatch):
    monkeypatch.setattr("alligator.backends.redis.queue_names._LONGEST", 0.0001)
    for number in range(5000):
        client.conn.set(f"other:{number}", "x")
    client.push("old", "1", "data")
    client.conn.delete("alligator:queues")
    eventually(lambda: client.queue_names() == ["old"])
    eventually(
        lambda: client.queue_names() and client.conn.get("alligator:queues:searched") == b"done"
    )


def test_who_may_only_read_is_told_the_names(client):
    client.push("q", "1", "data")
    client.conn.execute_command(
        "ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+@connection"
    )
    port = client.conn.connection_pool.connection_kwargs["port"]
    reader = Client(f"redis://reader:pw@127.0.0.1:{port}/0")
    assert reader.queue_names() == ["q"]
    reader.close()


def test_pushes_onto_a_paused_queue_wake_nobody_twice(client):
    def looks():
        return client.conn.info("commandstats").get("cmdstat_blpop", {}).get("calls", 0)

    found = []
    waiting = threading.Thread(
        target=lambda: found.extend(client.reserve(["q"], wait=60.0).deliveries)
    )
    waiting.start()
    eventually(lambda: client.conn.info("clients")["blocked_clients"])
    before = looks()
    client.pause("q")
    for number in range(50):
        client.push("q", f"t-{number}", "data")
        time.sleep(0.002)  # so that each push could wake it
    assert looks() - before <= 2
    assert found == []
    client.resume("q")
    waiting.join(30)
    assert [each.task_id for each in found] == ["t-0"]


def test_a_queue_that_is_not_paused_costs_a_reserve_nothing_more(client):
    def commands(reserve):
        before = client.conn.info("commandstats")
        assert len(reserve().deliveries) == 1
        after = client.conn.info("commandstats")
        names = [name for name in after if name not in ("cmdstat_info", "cmdstat_evalsha")]
        calls = {
            name: after[name]["calls"] - before.get(name, {"calls": 0})["calls"] for name in names
        }
        return {name: count for name, count in calls.items() if count}

    client.push_many("q", [Message(new_task_id(), "data") for _ in range(3)])
    client.reserve(["q"])
    plain = commands(lambda: client.reserve(["q"]))
    assert sum(plain.values()) == 8, plain  # as before pauses
    client.pause("q")
    client.resume("q")
    assert client.conn.exists("alligator:{q}:controls") == 0
    client.conn.delete("alligator:{q}:waiting")
    assert commands(lambda: client.reserve(["q"])) == plain


def test_connections_that_were_needed_once_are_closed(client):
    connections = client._connections
    with ExitStack() as stack:
        crowd = [stack.enter_context(connections.borrow(())) for _ in range(5)]
    client.len("q")
    assert len(connections._idle) == 5, "not at once"
    connections._idle[:4] = [
        (connection, time.monotonic() - 61) for connection, _ in connections._idle[:4]
    ]
    for left in (4, 3, 2, 1, 1):
        client.len("q")
        assert len(connections._idle) == left
    assert sum(connection._sock is not None for connection in crowd) == 1


def test_an_idle_worker_is_quiet(client):
    client.reserve(["q"])
    before = client.conn.info("stats")["total_commands_processed"]
    scripts = client.conn.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
    client.reserve(["q"], wait=1.5)
    after = client.conn.info("commandstats")
    assert after["cmdstat_evalsha"]["calls"] - scripts == 1
    assert client.conn.info("stats")["total_commands_processed"] - before < 25


def test_stop_lets_a_token_go_to_the_next(client, own_redis):
    assert client.reserve(["q"], wait=5, stop=lambda: True).deliveries == []
    asked = []
    assert client.reserve(["q"], wait=5, stop=lambda: asked.append(1) or len(asked) > 2) == ([], [])
    client.push("q", "1", "data")
    other = Client(own_redis.dsn)
    assert len(other.reserve(["q"], wait=1).deliveries) == 1


# -- Size and durability. -----------------------------------------------------------------


def test_too_large_or_not_text(client):
    assert client.max_size() == MAX_SIZE
    client.push("q", "1", "x" * MAX_SIZE)
    client.push("q", "2", b"x" * MAX_SIZE)
    for data in ("x" * (MAX_SIZE + 1), b"x" * (MAX_SIZE + 1)):
        with pytest.raises(InvalidTask, match=f"{MAX_SIZE + 1}.*{MAX_SIZE}"):
            client.push("q", "3", data)
    with pytest.raises(InvalidTask):
        client.push("q", "3", "\ud800")
    assert client.len("q") == 2


def test_a_large_batch(client):
    ids = client.push_many("q", [Message(f"{number:05}", "x") for number in range(20_000)])
    taken = client.reserve(["q"], 5_000).deliveries
    assert [each.task_id for each in taken] == ids[: len(taken)]
    assert client.ack(taken) == []
    assert client.len("q") == 20_000 - len(taken)


def test_a_queued_task_is_small(client):
    def used():
        return client.conn.info("memory")["used_memory"]

    gator = Gator(client.conn_string, "q")
    before, count = used(), 32_000  # just below a doubling of the server's hash tables
    for _ in range(count // 100):
        with gator.batch() as batch:
            for _ in range(100):
                batch.task(jobs.note, 1, "abc", x=2)
    gator.close()
    assert (used() - before) / count <= 330


def test_oldest_is_read_from_the_id(client):
    client.push("q", new_task_id(), "data")
    assert 0 <= client.stats("q").oldest < 5
    client.pop("q")
    client.push("q", "an id of another program", "data")
    assert client.stats("q").oldest is None


def test_emptied_queues_leave_next_to_nothing(client):
    client.push("q", "1", "data", priority=5)
    client.pop("q")
    assert sorted(client.conn.keys("*")) == [
        b"alligator:queues",
        b"alligator:{q}:data",
        b"alligator:{q}:seq",
        b"alligator:{q}:since",
    ]
    assert client.conn.hlen("alligator:{q}:data") == 1  # where the history begins
    client.drop_all("q")
    assert client.conn.keys("*") == []


def test_durability(client):
    assert "memory only" in client.durability_warning()
    client.conn.config_set("maxmemory-policy", "allkeys-lru")
    assert "allkeys-lru" in client.durability_warning()
    client.conn.config_set("maxmemory-policy", "noeviction")
    client.conn.config_set("save", "900 1")
    assert client.durability_warning() is None
    client.conn.config_set("save", "")
    client.conn.acl_setuser(
        "plain", enabled=True, nopass=True, keys=["*"], categories=["+@all", "-@dangerous"]
    )
    limited = Client(client.conn_string.replace("127", "plain:x@127", 1))
    assert limited.push("q", "1", "data") == "1"
    assert limited.durability_warning() is None
    limited.close()


@pytest.mark.parametrize("stale", ["ready", "delayed"])
def test_a_lease_is_capped(client, stale):
    client.push("q", "1", "data", None if stale == "ready" else time.time() + 0.01)
    eventually(lambda: client.reserve(["q"], 1, 1e9).deliveries)
    (_, ends), *_ = client.conn.zrange("alligator:{q}:leases", 0, -1, withscores=True)
    assert ends / 1e6 - time.time() < 43_201
    name = client.conn.zrange("alligator:{q}:leases", 0, 0)[0]
    client.conn.zadd("alligator:{q}:leases", {name: ends * 2})  # as if the clock was set back
    client.reserve(["q"])
    assert client.conn.zscore("alligator:{q}:leases", name) / 1e6 - time.time() < 43_201


def test_a_noted_stop_is_kept_where_a_lease_is_capped(client):
    client.push("q", "1", "data")
    (delivery,) = client.reserve(["q"]).deliveries
    key, name = "alligator:{q}:leases", delivery.receipt
    assert client.conn.zscore(key, name) % 1 == 0
    client.note_stop([delivery])
    assert client.conn.zscore(key, name) % 1 == 0.5
    client.conn.zadd(key, {name: client.conn.zscore(key, name) + 1e12})
    client.reserve(["q"])
    assert client.conn.zscore(key, name) / 1e6 - time.time() < 43_201
    assert client.conn.zscore(key, name) % 1 == 0.5
    client.conn.zadd(key, {name: 1.5})
    (again,) = client.reserve(["q"]).deliveries
    assert (again.deaths, again.attempt) == (0, 2)
    assert client.conn.zscore(key, again.receipt) % 1 == 0
    client.conn.zadd(key, {again.receipt: 1})
    assert client.reserve(["q"]).deliveries[0].deaths == 1
