"""Test connections that a firewall forgot, a restart closed, or that broke before a reply."""

import contextlib
import socket
import threading
import time
import uuid
from importlib.resources import files

import pytest
import redis
import urllib3.util.connection

from alligator import Gator
from alligator.backends import keepalive
from alligator.backends.base import Message, Reason
from alligator.backends.beanstalk import client as beanstalk_client
from alligator.backends.redis import client as redis_client
from alligator.backends.redis.scripts import script
from alligator.backends.sqs import client as sqs_client
from alligator.backends.store import Record
from alligator.common.ids import new_task_id
from alligator.constants import SUCCESS
from alligator.exceptions import ConnectionLost
from tests.support import jobs
from tests.support.servers import redis as servers
from tests.support.servers.beanstalk import Beanstalkd
from tests.support.servers.process import free_port
from tests.support.servers.proxy import Proxy
from tests.support.servers.sqs import MotoServer, make_queue, use_emulator

SOON = 7.0  # seconds; a call that waits for what never comes takes ten


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory):
    server = servers.start(tmp_path_factory.mktemp("redis"))
    load_scripts(server)
    yield server
    server.stop()


def load_scripts(server):
    """Let the server know them all, so that each call is one exchange."""
    with redis.Redis(port=server.port) as conn:
        for path in files("alligator.backends.redis").joinpath("lua").iterdir():
            if path.name.endswith(".lua"):
                conn.script_load(script(path.name.removesuffix(".lua")).text)


@pytest.fixture(scope="module")
def beanstalkd(tmp_path_factory):
    server = Beanstalkd(tmp_path_factory.mktemp("beanstalkd")).start()
    yield server
    server.stop()


class Road:
    """Return a client behind a proxy, and one that sees the outcome."""

    def __init__(self, name, server, proxy):
        self.name, self.proxy = name, proxy
        self.queue = f"q-{uuid.uuid4().hex[:12]}"
        make = {"redis": redis_client.Client, "beanstalk": beanstalk_client.Client}[name]
        self.dsn = server.dsn.replace(str(server.port), str(proxy.port))
        self.client, self.direct = make(self.dsn), make(server.dsn)

    def push(self, *ids):
        return [self.direct.push(self.queue, each or new_task_id(), "data") for each in ids]


@contextlib.contextmanager
def road(name, server):
    with Proxy(server.port) as proxy:
        found = Road(name, server, proxy)
        yield found
        for each in (found.direct, found.client):
            with contextlib.suppress(ConnectionLost):
                each.drop_all(found.queue)
            each.close()


@pytest.fixture(params=["redis", "beanstalk"])
def any_road(request):
    server = {"redis": "redis_server", "beanstalk": "beanstalkd"}[request.param]
    with road(request.param, request.getfixturevalue(server)) as found:
        yield found


@pytest.fixture
def redis_road(redis_server):
    with road("redis", redis_server) as found:
        yield found


@pytest.fixture
def beanstalk_road(beanstalkd):
    with road("beanstalk", beanstalkd) as found:
        yield found


def record(state=SUCCESS):
    return Record(state, "1", "", "", time.time(), 1, 5.0, "")


# -- Forgotten while they were unused. --------------------------------------------------------


def quiet_spell(road, monkeypatch):
    """Let all that is open be forgotten, for want of use."""
    monkeypatch.setattr(keepalive, "RENEW_AFTER", 0.1)
    road.proxy.forget_all()
    time.sleep(0.15)


AFTER_A_WHILE = {
    "push": lambda road: road.client.push(road.queue, new_task_id(), "data"),
    "push_many": lambda road: road.client.push_many(road.queue, [Message("1", "data")]),
    "len": lambda road: road.client.len(road.queue),
    "stats": lambda road: road.client.stats(road.queue),
    "reserve": lambda road: road.client.reserve([road.queue]),
    "reserve and wait": lambda road: road.client.reserve([road.queue], wait=1.05),
    "dead": lambda road: road.client.dead(road.queue),
}


@pytest.mark.parametrize("what", AFTER_A_WHILE)
def test_what_was_forgotten_is_not_waited_for(any_road, monkeypatch, what):
    call = AFTER_A_WHILE[what]
    call(any_road)
    quiet_spell(any_road, monkeypatch)
    began = time.monotonic()
    call(any_road)
    assert time.monotonic() - began < SOON
    assert any_road.proxy.accepted > 1, "over a new connection"


def test_all_that_were_forgotten_are_left(any_road, monkeypatch):
    """Also connections that were needed once, deep in the pool."""
    crowd(any_road.client, any_road.queue)
    quiet_spell(any_road, monkeypatch)
    began = time.monotonic()
    crowd(any_road.client, any_road.queue)
    assert time.monotonic() - began < SOON


def crowd(client, queue, size=4):
    """Let several threads use a client at once."""
    ready, errors = threading.Barrier(size), []

    def use():
        ready.wait()
        try:
            client.reserve([queue], wait=1.05)
        except ConnectionLost as err:
            errors.append(err)

    threads = [threading.Thread(target=use) for _ in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_wait_for_an_end_after_a_quiet_spell(redis_road, monkeypatch):
    gator = Gator(redis_road.dsn)
    with gator.options(save_results=60) as opts:
        task = opts.task(jobs.note, 1)
    assert not gator.wait(task, 0.1)
    quiet_spell(redis_road, monkeypatch)
    began = time.monotonic()
    assert not gator.wait(task, 0.1)
    assert time.monotonic() - began < SOON
    gator.client.close()


def test_a_connection_that_holds_jobs_is_kept(beanstalk_road, monkeypatch):
    """Closing it would hand them to others."""
    monkeypatch.setattr(keepalive, "RENEW_AFTER", 0.05)
    client, queue = beanstalk_road.client, beanstalk_road.queue
    beanstalk_road.push("")
    held = client.reserve([queue]).deliveries
    time.sleep(0.1)
    assert client.stats(queue).running == 1
    assert beanstalk_road.direct.reserve([queue]).deliveries == []
    assert client.extend(held, 30) == []
    assert client.ack(held) == []


def test_the_kernel_probes_what_is_quiet(any_road, tmp_path):
    any_road.client.len(any_road.queue)
    if any_road.name == "redis":
        sock = any_road.client._connections._idle[0][0]._sock
    else:
        sock = any_road.client._pool.all()[0]._socket.raw
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert keepalive.TCP_OPTIONS, "this platform has some"
    for option, value in keepalive.TCP_OPTIONS.items():
        assert sock.getsockopt(socket.IPPROTO_TCP, option) == value


def test_a_connection_in_use_is_kept(tmp_path):
    """Also over TLS, whose own messages are no sign of an end."""
    server, port, cert = servers.start_tls(tmp_path)
    for dsn in (f"rediss://localhost:{port}/0?ssl_ca_certs={cert}", server.dsn):
        client = redis_client.Client(dsn)
        client.push("q", "1", "data")
        ((connection, _),) = client._connections._idle
        sock = connection._sock
        for _ in range(3):
            time.sleep(0.05)  # long enough to look at it
            client.len("q")
        ((connection, _),) = client._connections._idle
        assert connection._sock is sock
        client.close()
    server.stop()


# -- Closed by a restart. ---------------------------------------------------------------------


@pytest.mark.parametrize("what", ["push", "len", "reserve", "begin_reserve"])
def test_the_first_call_after_a_restart(tmp_path, what):
    server = servers.start(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    client = redis_client.Client(server.dsn)
    try:
        client.push("q", "1", "data")
        crowd_of_connections(client)
        server.server.kill()
        server.server.start()
        if what == "push":
            client.push("q", "2", "data")
        elif what == "len":
            assert client.len("q") == 1
        elif what == "reserve":
            assert len(client.reserve(["q"]).deliveries) == 1
        else:
            assert len(client.begin_reserve(["q"]).read().deliveries) == 1
    finally:
        client.close()
        server.stop()


def crowd_of_connections(client):
    """Let the client have several unused connections, all used within this moment."""
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(client._connections.borrow(()))
    assert len(client._connections._idle) == 4


@pytest.mark.parametrize("what", ["push", "len", "reserve"])
def test_the_first_call_after_a_restart_of_beanstalkd(tmp_path, what):
    server = Beanstalkd(tmp_path, binlog=True).start()
    client = beanstalk_client.Client(server.dsn)
    try:
        client.push("q", "", "data")
        server.kill()
        server.start()
        if what == "push":
            client.push("q", "", "data")
        elif what == "len":
            assert client.len("q") == 1
        else:
            assert len(client.reserve(["q"]).deliveries) == 1
    finally:
        client.close()
        server.stop()


# -- Broken before the reply came. ------------------------------------------------------------


def held(road):
    road.push("task")
    return road.client.reserve([road.queue], lease=30).deliveries


def buried(road):
    (delivery,) = held(road)
    road.client.bury(delivery, None, Reason("ValueError: no"))
    return delivery.task_id


def id_of_pushed(road):
    return road.push("task")[0]


#: What is done before, the call that loses its reply, what it returns (None: whatever).
REPEATED = {
    "len": (id_of_pushed, lambda r, _: r.client.len(r.queue), 1),
    "stats": (id_of_pushed, lambda r, _: r.client.stats(r.queue).waiting, 1),
    "find": (id_of_pushed, lambda r, it: r.client.find(r.queue, it).state, None),
    "peek": (id_of_pushed, lambda r, it: r.client.peek(r.queue, it), "data"),
    "dead": (buried, lambda r, _: [each.error for each in r.client.dead(r.queue)], None),
    "drop_all": (id_of_pushed, lambda r, _: r.client.drop_all(r.queue), None),
    "durability": (id_of_pushed, lambda r, _: r.client.durability_warning(), None),
}
REPEATED_ON_REDIS = {
    "push": (lambda r: None, lambda r, _: r.client.push(r.queue, "new", "data"), "new"),
    "push again": (id_of_pushed, lambda r, it: r.client.push(r.queue, it, "2"), "task"),
    "push later": (lambda r: None, lambda r, _: r.client.push(r.queue, "1", "2", 2**33), "1"),
    "push_many": (
        lambda r: None,
        lambda r, _: r.client.push_many(r.queue, [Message("1", "a"), Message("2", "b")]),
        ["1", "2"],
    ),
    "ack": (held, lambda r, it: r.client.ack(it), []),
    "extend": (held, lambda r, it: r.client.extend(it, 30), []),
    "note": (lambda r: None, lambda r, _: r.client.store.note("id", record(), 60), True),
    "record": (lambda r: None, lambda r, _: r.client.store.record("none"), None),
    "forget": (lambda r: None, lambda r, _: r.client.store.forget(["none"]), None),
    "note_stop": (held, lambda r, it: r.client.note_stop(it), None),
    "confirm": (lambda r: None, lambda r, _: r.client.store.confirm("key", 60), None),
    "beat": (lambda r: None, lambda r, _: r.client.store.beat("me", [r.queue], 60), None),
    "workers": (lambda r: None, lambda r, _: r.client.store.workers(r.queue), []),
    "watch": (lambda r: None, lambda r, _: watch(r), None),
}
#: Likewise, but what the call leased is asked for: to repeat it would lease more.
ASKED_ON_REDIS = {
    "reserve": (lambda r: r.push("1", "2"), lambda r, _: ids(r.client.reserve([r.queue])), ["1"]),
    "begin_reserve": (
        lambda r: r.push("1", "2", "3"),
        lambda r, _: ids(r.client.begin_reserve([r.queue], 2).read()),
        ["1", "2"],
    ),
    "get": (id_of_pushed, lambda r, it: r.client.get(r.queue, it), "data"),
    "pop": (id_of_pushed, lambda r, it: r.client.pop(r.queue), "data"),
}


def ids(reserved):
    return [each.task_id for each in reserved.deliveries]


def watch(road):
    with road.client.store.watch(["id"]):
        pass


def warm(road):
    """Have a connection, so that a call is one exchange."""
    road.client.len(road.queue)


def begin(road):
    """Have a connection, and a queue whose history has begun, so that a push is one exchange."""
    road.client.push(road.queue, new_task_id(), "data")
    road.direct.pop(road.queue)


def check_that_it_is_repeated(road, how, before, call, expected):
    made = before(road)
    warm(road)
    accepted = road.proxy.accepted
    road.proxy.lose_next(how=how)
    found = call(road, made)
    assert road.proxy.broken == 1
    assert road.proxy.accepted == accepted + 1, "over one new connection"
    if expected is not None:
        assert found == expected


@pytest.mark.parametrize("how", ["cut", "reset"])
@pytest.mark.parametrize("what", REPEATED)
def test_what_does_no_harm_is_tried_once_more(any_road, what, how):
    check_that_it_is_repeated(any_road, how, *REPEATED[what])


@pytest.mark.parametrize("how", ["cut", "reset"])
@pytest.mark.parametrize("what", REPEATED_ON_REDIS)
def test_what_does_no_harm_is_tried_once_more_on_redis(redis_road, what, how):
    check_that_it_is_repeated(redis_road, how, *REPEATED_ON_REDIS[what])


@pytest.mark.parametrize("how", ["cut", "reset"])
@pytest.mark.parametrize("what", ASKED_ON_REDIS)
def test_what_was_leased_without_a_reply_is_asked_for(redis_road, what, how):
    check_that_it_is_repeated(redis_road, how, *ASKED_ON_REDIS[what])


NEVER = {
    "release": (held, lambda r, it: r.client.release(it[0])),
    "bury": (held, lambda r, it: r.client.bury(it[0], None, Reason("no"))),
    "revive": (buried, lambda r, it: r.client.revive(r.queue, it)),
    "purge_dead": (buried, lambda r, _: r.client.purge_dead(r.queue)),
}
NEVER_ON_BEANSTALKD = {
    "reserve": (id_of_pushed, lambda r, _: r.client.reserve([r.queue])),
    "get": (id_of_pushed, lambda r, it: r.client.get(r.queue, it)),
    "pop": (id_of_pushed, lambda r, it: r.client.pop(r.queue)),
}
NEVER_ON_REDIS = {
    "claim": (lambda r: None, lambda r, _: r.client.store.claim(f"{r.queue}/key", 60)),
    "unclaim": (lambda r: None, lambda r, _: r.client.store.unclaim(f"{r.queue}/key")),
    "push_once": (
        lambda r: None,
        lambda r, _: r.client.store.push_once(
            r.client, "key", 60, r.queue, Message(new_task_id(), "data")
        ),
    ),
}


def check_that_it_is_not_repeated(road, before, call):
    made = before(road)
    warm(road)
    accepted = road.proxy.accepted
    road.proxy.lose_next()
    with pytest.raises(ConnectionLost):
        call(road, made)
    assert (road.proxy.broken, road.proxy.accepted) == (1, accepted)


@pytest.mark.parametrize("what", NEVER)
def test_what_could_do_harm_is_not(any_road, what):
    check_that_it_is_not_repeated(any_road, *NEVER[what])


@pytest.mark.parametrize("what", NEVER_ON_BEANSTALKD)
def test_what_could_do_harm_is_not_on_beanstalkd(beanstalk_road, what):
    check_that_it_is_not_repeated(beanstalk_road, *NEVER_ON_BEANSTALKD[what])


@pytest.mark.parametrize("what", NEVER_ON_REDIS)
def test_what_could_do_harm_is_not_on_redis(redis_road, what):
    check_that_it_is_not_repeated(redis_road, *NEVER_ON_REDIS[what])


def test_a_reserve_whose_reply_got_lost_leased_but_once(redis_road):
    client, queue = redis_road.client, redis_road.queue
    redis_road.push("0", "1", "2", "3")
    done = client.reserve([queue]).deliveries
    redis_road.proxy.lose_next()
    found, refused = client.reserve([queue], 2, acks=done)
    assert ([each.task_id for each in found], refused) == (["1", "2"], [])
    stats = redis_road.direct.stats(queue)
    assert (stats.waiting, stats.running) == (1, 2)
    assert client.ack(found) == []
    assert redis_road.direct.stats(queue).running == 0


def test_a_reserve_that_got_lost_on_its_way_leased_nothing(redis_road):
    """Nor does it count as a look at an empty queue."""
    redis_road.push("1")
    redis_road.client.reserve(["other"])
    redis_road.proxy.lose_next("requests")
    with pytest.raises(ConnectionLost, match="had leased nothing"):
        redis_road.client.reserve([redis_road.queue], 1)
    stats = redis_road.direct.stats(redis_road.queue)
    assert (stats.waiting, stats.running) == (1, 0)


def test_a_lease_that_ran_out_is_not_asked_for(redis_road):
    client, direct, queue = redis_road.client, redis_road.direct, redis_road.queue
    redis_road.push("1")
    client.reserve(["other"])
    redis_road.proxy.before_loss = lambda: direct.reserve(["other"], wait=0.2)
    redis_road.proxy.lose_next()
    with pytest.raises(ConnectionLost, match="had leased nothing"):
        client.reserve([queue], lease=0.1)
    (again,) = direct.reserve([queue]).deliveries
    assert (again.attempt, again.deaths) == (2, 1)


def test_a_put_whose_reply_got_lost_is_told_and_put_but_once(beanstalk_road):
    """The server gives ids, so that a put twice is two tasks."""
    warm(beanstalk_road)
    beanstalk_road.client.push(beanstalk_road.queue, "", "data")
    beanstalk_road.proxy.lose_next()
    with pytest.raises(ConnectionLost):
        beanstalk_road.client.push(beanstalk_road.queue, "", "data")
    assert beanstalk_road.direct.len(beanstalk_road.queue) == 2


@pytest.mark.parametrize("count", [1, 3])
def test_a_push_that_got_lost_on_its_way_arrives_once(redis_road, count):
    begin(redis_road)
    redis_road.proxy.lose_next("requests")
    ids = [new_task_id() for _ in range(count)]
    redis_road.client.push_many(redis_road.queue, [Message(each, "data") for each in ids])
    found = redis_road.direct.reserve([redis_road.queue], 10).deliveries
    assert [each.task_id for each in found] == ids


@pytest.mark.parametrize("count", [1, 3])
def test_a_push_whose_task_a_worker_has_begun_is_not_run_again(redis_road, count):
    direct, queue, taken = redis_road.direct, redis_road.queue, []
    begin(redis_road)
    redis_road.proxy.before_loss = lambda: taken.extend(direct.reserve([queue]).deliveries)
    redis_road.proxy.lose_next()
    ids = [new_task_id() for _ in range(count)]
    if count == 1:
        redis_road.client.push(queue, ids[0], "data")
    else:
        redis_road.client.push_many(queue, [Message(each, "data") for each in ids])
    assert [each.task_id for each in taken] == ids[:1]
    assert direct.ack(taken) == []
    assert direct.len(queue) == count - 1


def test_a_batch_of_which_a_task_has_ended_is_not_pushed_again(redis_road):
    direct, queue = redis_road.direct, redis_road.queue
    begin(redis_road)
    redis_road.proxy.before_loss = lambda: direct.pop(queue)
    redis_road.proxy.lose_next()
    ids = [new_task_id() for _ in range(3)]
    redis_road.client.push_many(queue, [Message(each, "data") for each in ids])
    found = direct.reserve([queue], 10).deliveries
    assert [each.task_id for each in found] == ids[1:]


def test_new_data_for_a_task_is_not_taken_for_the_old(redis_road):
    """Neither where it waits, nor where it runs, with an id of our making or of the caller's."""
    client, direct, queue = redis_road.client, redis_road.direct, redis_road.queue
    for task_id in (new_task_id(), "invoice"):
        direct.push(queue, task_id, "old")
        warm(redis_road)
        redis_road.proxy.lose_next("requests")
        client.push(queue, task_id, "new")
        assert direct.peek(queue, task_id) == "new"
        (running,) = direct.reserve([queue]).deliveries
        redis_road.proxy.lose_next("requests")
        client.push(queue, task_id, "newer")
        assert direct.ack([running]) == []
        assert direct.pop(queue) == "newer"


def test_an_ack_told_twice_still_says_what_was_overtaken(redis_road):
    client, direct, queue = redis_road.client, redis_road.direct, redis_road.queue
    redis_road.push("1", "2")
    client.ack(client.reserve(["other"]).deliveries)
    mine, overtaken = client.reserve([queue], 2, lease=0.05).deliveries
    time.sleep(0.1)
    client.extend([mine], 30)
    assert [each.task_id for each in direct.reserve([queue]).deliveries] == ["2"]
    redis_road.proxy.lose_next()
    assert client.ack([mine, overtaken]) == [overtaken]
    assert direct.stats(queue).running == 1


# -- A server that is away, or slow. ----------------------------------------------------------


def test_one_more_try_and_no_other(any_road):
    """Where the second one breaks as well, it is told."""
    any_road.client.len(any_road.queue)
    accepted = any_road.proxy.accepted
    for _ in range(3):
        any_road.proxy.lose_next("requests")
    with pytest.raises(ConnectionLost):
        any_road.client.len(any_road.queue)
    assert any_road.proxy.accepted == accepted + 1
    any_road.proxy._next.clear()


@pytest.mark.parametrize("make", [redis_client.Client, beanstalk_client.Client])
def test_a_server_that_is_away_is_told_at_once(make):
    scheme = "redis" if make is redis_client.Client else "beanstalk"
    client = make(f"{scheme}://127.0.0.1:{free_port()}")
    began = time.monotonic()
    with pytest.raises(ConnectionLost):
        client.push("q", "1", "data")
    assert time.monotonic() - began < 5


def test_what_took_too_long_is_not_tried_again(redis_server):
    with Proxy(redis_server.port) as proxy:
        client = redis_client.Client(f"redis://127.0.0.1:{proxy.port}/0?timeout=0.4")
        client.len("q")
        proxy.forget_all()
        began = time.monotonic()
        with pytest.raises(ConnectionLost, match="Timeout"):
            client.len("q")
        assert time.monotonic() - began < 5
        assert proxy.accepted == 1, "no second try"
        assert client.len("q") == 0, "the next call has a new connection"
        client.close()


# -- Sentinels and clusters. ------------------------------------------------------------------


def test_sentinels_that_were_forgotten_are_not_waited_for(tmp_path, monkeypatch):
    found = servers.start_sentinels(tmp_path, count=1)
    try:
        with Proxy(found.sentinels[0].port) as proxy:
            client = redis_client.Client(f"redis+sentinel://127.0.0.1:{proxy.port}/mymaster/0")
            client.push("q", "1", "data")
            proxy.forget_all()
            monkeypatch.setattr(keepalive, "RENEW_AFTER", 0.05)
            time.sleep(0.1)
            began = time.monotonic()
            assert client.len("q") == 1
            assert time.monotonic() - began < SOON
            client.close()
    finally:
        found.stop()


def test_a_cluster(tmp_path, monkeypatch):
    nodes = servers.start_cluster(tmp_path)
    client = redis_client.Client(servers.cluster_dsn(nodes))
    try:
        client.push("q", "1", "data")
        assert client.len("q") == 1
        before = own_ports(client)
        client.len("q")
        assert own_ports(client) == before
        monkeypatch.setattr(keepalive, "RENEW_AFTER", 0.05)
        time.sleep(0.1)
        assert client.len("q") == 1
        assert own_ports(client).isdisjoint(before), "it has been renewed"
        breaking_off(monkeypatch)
        assert client.len("q") == 1
        breaking_off(monkeypatch)
        client.push("q", "2", "data")
        breaking_off(monkeypatch)
        with pytest.raises(ConnectionLost):
            client.reserve(["q"])
        breaking_off(monkeypatch)
        with client.store.watch(["id"]) as watch:
            assert not watch.wait(0)
        stats = client.stats("q")
        assert (stats.waiting, stats.running) in ((1, 1), (2, 0)), "leased once, if at all"
    finally:
        client.close()
        for node in nodes:
            node.stop()


def breaking_off(monkeypatch):
    """Let the connection break, and the next reply be lost."""
    real = redis.Connection.read_response

    def read_response(self, *args, **options):
        monkeypatch.setattr(redis.Connection, "read_response", real)
        self._sock.recv(65536)  # the reply is thrown away
        self._sock.shutdown(socket.SHUT_RDWR)
        return real(self, *args, **options)

    monkeypatch.setattr(redis.Connection, "read_response", read_response)


def own_ports(client):
    """Return our ends of the connections to the node of the queue."""
    conn = client._connections.conn
    pool = conn.get_redis_connection(conn.get_node_from_key("alligator:{q}:data")).connection_pool
    found = pool._available_connections
    for each in found:
        assert each._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    return {each._sock.getsockname()[1] for each in found}


# -- SQS. -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    server = MotoServer(tmp_path_factory.mktemp("moto")).start()
    yield server
    server.stop()


@pytest.fixture
def sqs(moto, monkeypatch):
    """Return a client behind a proxy, the proxy, and a client that sees the outcome."""
    use_emulator(monkeypatch)
    direct = sqs_client.Client(moto.dsn)
    with Proxy(moto.port) as proxy:
        client = sqs_client.Client(moto.dsn.replace(str(moto.port), str(proxy.port)))
        yield client, proxy, direct
        client.close()
    direct.close()


def new_queue(client, suffix=""):
    name = f"q-{uuid.uuid4().hex[:12]}{suffix}"
    make_queue(client.conn, name)
    return name


def test_what_does_no_harm_is_tried_once_more_on_sqs(sqs):
    client, proxy, direct = sqs
    queue = new_queue(direct)
    proxy.lose_next()
    assert client.len(queue) == 0, "also the look-up of its address"
    proxy.lose_next()
    assert client.len(queue) == 0
    direct.push(queue, "1", "data")
    held = client.reserve([queue], wait=5).deliveries
    proxy.lose_next()
    assert client.extend(held, 60) == []
    proxy.lose_next("requests")
    assert client.ack(held) == []
    assert proxy.broken == 4
    assert direct.stats(queue).running == 0


def test_a_fifo_queue_gets_a_message_that_was_sent_twice_but_once(sqs):
    client, proxy, direct = sqs
    queue = new_queue(direct, ".fifo")
    client.len(queue)
    for way in ("replies", "requests"):
        proxy.lose_next(way)
        client.push(queue, way, "data")
    assert proxy.broken == 2
    assert direct.len(queue) == 2


def test_what_could_do_harm_is_not_on_sqs(sqs):
    client, proxy, direct = sqs
    queue = new_queue(direct)
    client.len(queue)
    for call in (lambda: client.push(queue, "1", "data"), lambda: client.reserve([queue])):
        before = proxy.accepted
        proxy.lose_next()
        with pytest.raises(ConnectionLost):
            call()
        assert proxy.accepted == before + 1
    stats = direct.stats(queue)
    assert (stats.waiting, stats.running) == (0, 1), "it was leased, and comes back by its lease"


def test_the_kernel_probes_what_is_quiet_on_sqs(sqs, monkeypatch):
    client, _, direct = sqs
    real, seen = urllib3.util.connection.create_connection, []

    def connect(*args, **options):
        sock = real(*args, **options)
        seen.append([sock.getsockopt(socket.IPPROTO_TCP, name) for name in keepalive.TCP_OPTIONS])
        seen.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        return sock

    monkeypatch.setattr(urllib3.util.connection, "create_connection", connect)
    client.len(new_queue(direct))
    assert list(keepalive.TCP_OPTIONS.values()) in seen
    assert 0 not in seen
