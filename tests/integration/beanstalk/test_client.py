"""Test the features of the beanstalkd backend beyond the contract, on real servers."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid

import greenstalk
import pytest

from alligator import Gator
from alligator.backends.base import Listed, Message, Reason
from alligator.backends.beanstalk import socket as beanstalk_socket
from alligator.backends.beanstalk.connection import Connection
from alligator.backends.beanstalk_backend import Client
from alligator.constants import DELAYED, FAILED, RUNNING, WAITING
from alligator.exceptions import (
    ConnectionLost,
    InvalidDSN,
    InvalidTask,
    QueueFull,
    UnsupportedOption,
)
from alligator.testing import FakeClock
from tests.support import ROOT, jobs
from tests.support.helpers import eventually
from tests.support.servers.beanstalk import Beanstalkd
from tests.support.servers.process import free_port

WHY = Reason("ValueError: no", "Traceback …")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Beanstalkd(tmp_path_factory.mktemp("beanstalkd")).start()
    yield server
    server.stop()


@pytest.fixture
def own_server(tmp_path):
    server = Beanstalkd(tmp_path, binlog=True).start()
    yield server
    server.stop()


@pytest.fixture
def client(server):
    client = Client(server.dsn)
    yield client
    client.close()


@pytest.fixture
def queue():
    return f"q-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def foreign(server, queue):
    """Another producer and consumer, of another library."""
    with greenstalk.Client(("127.0.0.1", server.port), None, use=queue, watch=queue) as other:
        yield other


def one(client, queue, **options):
    (delivery,) = client.reserve([queue], **{"wait": 5.0, **options}).deliveries
    return delivery


# -- Ids, bodies, sizes. --------------------------------------------------------------------


def test_the_servers_id_is_the_tasks_id(client, queue):
    first, second = client.push_many(queue, [Message("own", "1"), Message("own", "2")])
    later = client.push(queue, "own", "3", time.time() + 3600)
    assert len({first, second, later, "own"}) == 4
    assert [client.peek(queue, each) for each in (first, second, later)] == ["1", "2", "3"]
    assert client.find(queue, second).state == WAITING
    place = client.find(queue, later)
    assert (place.state, round(place.due - time.time(), -2)) == (DELAYED, 3600)
    held = one(client, queue)
    assert (held.task_id, client.find(queue, first).state) == (first, RUNNING)
    assert client.get(queue, first) is None
    assert client.get(queue, later) == "3"
    assert client.get("another", second) is None
    assert client.find("another", second) is None
    assert client.peek("another", second) is None
    assert client.get(queue, second) == "2"
    for unknown in ("own", "", "²", "9" * 30, "-1", "999999"):
        assert client.get(queue, unknown) is None
        assert client.find(queue, unknown) is None
        assert client.revive(queue, unknown) == 0


def test_the_server_shows_the_first_of_a_queue(client, queue):
    assert client.list_tasks(queue, WAITING) == client.list_tasks(queue, DELAYED) == ([], None)
    client.push(queue, "x", "low", priority=-5)
    first = client.push(queue, "x", "high", priority=7)
    client.push(queue, "x", "later", time.time() + 7200)
    later = client.push(queue, "x", "late", time.time() + 3600)
    assert client.list_tasks(queue, WAITING) == ([Listed(first, "high", WAITING, 7)], None)
    ((found,), cursor) = client.list_tasks(queue, DELAYED)
    assert (found.task_id, found.data, cursor) == (later, "late", None)
    assert round(found.due - time.time(), -2) == 3600
    with pytest.raises(UnsupportedOption, match="running"):
        client.list_tasks(queue, RUNNING)


def test_dead_letters_are_found_by_the_id_they_had(client, queue):
    task_id = client.push(queue, "x", b"\xff\x00", priority=7)
    assert client.bury(one(client, queue), None, WHY)
    assert client.find(queue, task_id).state == FAILED
    assert client.peek(queue, task_id) == b"\xff\x00"
    assert client.get(queue, task_id) is None
    assert client.stats(queue).dead == 1
    client.push(queue, "x", "less urgent")
    assert client.revive(queue, task_id) == 1
    assert one(client, queue).data == b"\xff\x00"


def test_a_message_of_another_producer(client, queue, foreign):
    body = json.dumps({"task_id": "1", "args": ["ü"]})
    foreign.put(body.encode(), ttr=1)
    assert one(client, queue).data == body
    foreign.put(b"\xfe no text")
    assert one(client, queue).data == b"\xfe no text"
    foreign.put(b"\xffb no mark of ours")
    assert one(client, queue).data == b"\xffb no mark of ours"


def test_text_is_written_plainly(client, queue, foreign):
    client.push(queue, "x", "grün")
    assert foreign.reserve(5).body == "grün".encode()


def test_the_largest_task(client, queue):
    largest = client.max_size()
    assert 65_000 < largest < 65_534
    client.push(queue, "x", b"\xff" * largest)
    delivery = one(client, queue)
    assert client.release(delivery, b"\xfe" * largest)
    delivery = one(client, queue)
    assert client.bury(delivery, None, Reason("err" * 9999, "ü\n" * 99999))
    (letter,) = client.dead(queue)
    assert letter.data == b"\xfe" * largest
    assert letter.error.startswith("err")
    with pytest.raises(InvalidTask, match=rf"{largest + 1} bytes.*{largest}"):
        client.push(queue, "x", "a" * (largest + 1))
    assert client.len(queue) == 0


def test_a_long_traceback_keeps_its_end(client, queue):
    client.push(queue, "x", "1")
    assert client.bury(one(client, queue), None, Reason("err", "ü" * 99_999 + "the end"))
    (letter,) = client.dead(queue)
    assert letter.error == "err"
    assert letter.traceback.endswith("üthe end")


def test_a_foreign_job_without_room_for_a_reason_is_buried_on_the_server(client, queue, foreign):
    job_id = str(foreign.put(b"x" * 65_535))
    assert client.bury(one(client, queue), None, WHY)
    assert client.stats(queue).dead == 1
    (letter,) = client.dead(queue)
    assert (letter.task_id, letter.data) == (job_id, "x" * 65_535)
    assert client.revive(queue) == 1
    assert client.bury(one(client, queue), None, WHY)
    assert client.revive(queue, job_id) == 1
    assert client.bury(one(client, queue), None, WHY)
    assert client.purge_dead(queue, 3600) == 0
    assert client.purge_dead(queue) == 1
    assert client.stats(queue).dead == 0


def test_what_cannot_be_pushed(client, queue):
    for bad in ("-x", "x.dead", "x" * 81, "", "a b"):
        with pytest.raises(InvalidTask, match="Queue name"):
            client.push(bad, "x", "1")
    with pytest.raises(InvalidTask, match="UTF-8"):
        client.push(queue, "x", "\ud800")
    for when in (time.time() + 2**33, float("inf"), float("nan")):
        with pytest.raises(InvalidTask):
            client.push(queue, "x", "1", when)
    with pytest.raises(InvalidTask, match="Priority"):
        client.push(queue, "x", "1", priority=101)
    assert client.len(queue) == 0
    client.push("x" * 80, "x", "1")
    assert client.bury(one(client, "x" * 80), None, WHY)
    client.drop_all("x" * 80)


@pytest.mark.parametrize("dsn", ["?ttr=0", "?ttr=x", "?lease=3", "/0", "me:secret@"])
def test_a_bad_dsn(dsn):
    host = f"{dsn}localhost/" if "@" in dsn else f"localhost/{dsn}"
    with pytest.raises(InvalidDSN) as caught:
        Client(f"beanstalk://{host}")
    assert "secret" not in str(caught.value)


def test_the_lease_is_told():
    assert Client("beanstalk://localhost:/").lease_seconds == 30
    assert Client("beanstalk://localhost/?ttr=0.1").lease_seconds == 2
    assert Client("beanstalk://localhost/?ttr=7.2").lease_seconds == 8
    assert Client("beanstalk://localhost/?ttr=99999").lease_seconds == 43_200


# -- Leases. --------------------------------------------------------------------------------

HOLDER = """
import sys, time
from alligator.backends.beanstalk_backend import Client
from alligator.backends.beanstalk.connection import Connection
client = Client(sys.argv[1])
assert client.reserve([sys.argv[2]]).deliveries
print("held", flush=True)
time.sleep(60)
"""


def test_the_jobs_of_a_killed_process_come_back_at_once(server, client, queue):
    task_id = client.push(queue, "x", "1")
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, server.dsn, queue],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        ) as holder:
            assert holder.stdout.readline() == b"held\n"
            holder.send_signal(signal.SIGKILL)
    started = time.monotonic()
    delivery = one(client, queue)
    assert (delivery.task_id, delivery.deaths) == (task_id, 2)
    assert time.monotonic() - started < 15
    assert client.postpone(delivery, "not run", 0)
    later = one(client, queue)
    assert (later.data, later.deaths) == ("not run", 2)
    assert client.release(later, "retry")
    again = one(client, queue)
    assert (again.data, again.deaths) == ("retry", 0)
    assert again.attempt > later.attempt > delivery.attempt
    assert client.bury(again, None, WHY)
    assert client.revive(queue) == 1
    assert one(client, queue).deaths == 0


def test_a_lost_connection_does_not_lose_its_done_tasks(client, queue):
    client.push(queue, "x", "1")
    delivery = one(client, queue)
    delivery.receipt.connection._socket.raw.shutdown(2)
    eventually(lambda: client.len(queue) == 1)
    assert client.ack([delivery]) == []
    assert client.len(queue) == 0
    assert client.ack([delivery]) == []


@pytest.mark.parametrize("how", ["extend", "release", "retry", "bury"])
def test_what_came_back_and_was_not_taken_since_is_still_ours(client, queue, how):
    client.push(queue, "x", "1")
    delivery = one(client, queue)
    client.close()
    eventually(lambda: client.len(queue) == 1)
    if how == "extend":
        assert client.extend([delivery], 30.0) == []
        assert client.stats(queue).running == 1
        assert client.ack([delivery]) == []
    elif how == "bury":
        assert client.bury(delivery, None, WHY)
        assert (client.len(queue), client.stats(queue).dead) == (0, 1)
    else:
        data = "2" if how == "retry" else None
        assert client.release(delivery, data)
        assert one(client, queue).data == (data or "1")


def test_settled_is_settled(client, queue):
    client.push(queue, "x", "1")
    delivery = one(client, queue)
    assert client.release(delivery)
    assert client.ack([delivery]) == [delivery]
    assert client.release(delivery) is False
    assert client.len(queue) == 1
    again = one(client, queue)  # very likely on the same connection
    assert client.ack([delivery]) == [delivery]
    assert client.extend([delivery], 30.0) == [delivery]
    assert client.ack([again]) == []


def test_overtaken_on_the_same_connection(server, queue):
    client = Client(f"{server.dsn}?ttr=2")
    client.push(queue, "x", "1")
    stale = one(client, queue)
    eventually(lambda: client.len(queue) == 1)
    fresh = one(client, queue)
    assert fresh.receipt.connection is stale.receipt.connection
    assert client.ack([stale]) == [stale]
    assert client.bury(stale, None, WHY) is False
    assert client.release(fresh)
    assert client.ack([stale]) == [stale]
    assert client.len(queue) == 1
    client.close()


def test_a_lease_reaches_beyond_the_timeout_of_its_task(server, queue, tmp_path):
    """From the push on, however it gets to the server: no worker could choose another later."""
    jobs.seen.clear()
    gator = Gator(f"{server.dsn}?ttr=5", queue, store=f"sqlite://{tmp_path}/store.db")
    plain = gator.task(jobs.note, "plain")
    gator.options(timeout=60, retries=1).task(jobs.fail)
    with gator.batch(timeout=60, hook_timeout=4) as batch:
        batch.task(jobs.note, "hooks")
    gator.options(timeout=60, depends_on=plain).task(jobs.note, "child")
    gator.options(timeout=10**9).task(jobs.note, "long")

    def ttrs():
        found = []
        while held := gator.client.reserve([queue]).deliveries:
            found += held
        for each in found:
            assert gator.client.release(each)
        return sorted(each.receipt.record["ttr"] for each in found)

    assert ttrs() == [5, 65, 73, 43_200]
    for _ in range(2):
        gator.run_all()
    assert [letter.attempts for letter in gator.dead()] == [2]
    assert [args[0] for args, _ in jobs.seen] == ["plain", "hooks", "long", "child"]
    gator.revive()
    assert ttrs() == [65]
    gator.client.drop_all(queue)
    gator.close()


def test_one_job_in_the_place_of_another_is_still_the_task(server, client, queue):
    client.push(queue, "x", "1", priority=7)
    assert client.release(one(client, queue))
    held = one(client, queue)._replace(deaths=1)
    before, job_id = held.receipt.record, held.receipt.job.id
    assert client.stretch(held, 100.0)
    assert held.receipt.job.id != job_id
    record = held.receipt.record
    assert (record["ttr"], record["pri"]) == (100, before["pri"])
    assert client.stats(queue).running == 1
    assert client.stretch(held, 90.0)
    assert held.receipt.record == record
    assert client.release(held)
    again = one(client, queue)
    assert (again.data, again.attempt, again.deaths) == ("1", held.attempt + 1, 1)
    assert client.release(again, "2")
    assert (retry := one(client, queue)).receipt.record["ttr"] == 100
    assert (retry.data, retry.deaths) == ("2", 0)
    assert client.ack([retry]) == []
    assert client.stretch(retry, 200.0) is False
    assert client.stats(queue).running == client.len(queue) == 0


def test_an_expired_lease_that_nobody_took_may_be_acked(server, queue):
    client = Client(f"{server.dsn}?ttr=2")
    client.push(queue, "x", "1")
    delivery = one(client, queue)
    eventually(lambda: client.len(queue) == 1)
    assert client.ack([delivery]) == []
    assert client.len(queue) == 0
    client.close()


def test_a_lease_whose_end_the_server_missed_stays_ours(server, client, queue):
    """Of 1.12: most leases of a silent connection outlast their time."""
    holders = [Client(f"{server.dsn}?ttr=2") for _ in range(10)]
    for holder in holders:
        holder.push(queue, "", "work")
    held = [(holder, one(holder, queue)) for holder in holders]
    time.sleep(2.2)
    came_back = client.reserve([queue], 1, wait=0).deliveries
    while more := client.reserve([queue], 1, wait=0).deliveries:
        came_back += more
    assert client.stats(queue).running == len(held)
    missed = len(held) - len(came_back)
    kept = [not holder.extend([delivery], 2) for holder, delivery in held]
    assert kept.count(True) == missed
    assert sum(not holder.ack([delivery]) for holder, delivery in held) == missed
    client.ack(came_back)
    assert client.stats(queue).running == 0
    for holder in holders:
        holder.close()


def test_acks_get_through_while_others_wait(client, queue):
    client.push(queue, "x", "1")
    delivery = one(client, queue)
    waiters = [
        threading.Thread(target=client.reserve, args=([queue],), kwargs={"wait": 3.0})
        for _ in range(4)
    ]
    for each in waiters:
        each.start()
    slowest = 0.0
    while any(each.is_alive() for each in waiters):
        started = time.monotonic()
        assert client.extend([delivery], 30.0) == []
        slowest = max(slowest, time.monotonic() - started)
        time.sleep(0.01)
    assert slowest < 2.0, "it waited for the end of their wait"
    assert client.ack([delivery]) == []


def test_an_interrupted_wait_loses_nothing(client, queue):
    class Stop(BaseException):
        pass

    def interrupt(signum, frame):
        raise Stop

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(Stop):
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            client.reserve([queue], wait=20.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    client.push(queue, "x", "1")
    assert one(client, queue).data == "1"


def test_a_fork_gets_connections_of_its_own(client, queue):
    client.push_many(queue, [Message("x", "1"), Message("y", "2")])
    held = one(client, queue)
    child = os.fork()
    if not child:
        code = 1
        with contextlib.suppress(BaseException):
            good = client.ack([held]) == [held] and one(client, queue).data == "2"
            client.close()
            code = 0 if good else 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert client.stats(queue).running == 1
    assert client.ack([held]) == []
    assert one(client, queue).data == "2"


def test_several_queues_in_order_also_in_batches(client, queue):
    other = f"{queue}-b"
    client.push_many(other, [Message("x", "3"), Message("x", "4")])
    client.push_many(queue, [Message("x", "1"), Message("x", "2")])
    taken = client.reserve([queue, other], 3).deliveries
    assert [each.data for each in taken] == ["1", "2", "3"]
    assert [each.queue_name for each in taken] == [queue, queue, other]
    client.drop_all(other)
    assert client.len(other) == 0
    assert client.stats(other).running == 0


def test_connections_do_not_pile_up(client, queue):
    def wait():
        client.reserve([queue], wait=1.0)

    threads = [threading.Thread(target=wait) for _ in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    client.len(queue)
    assert len(client._pool.all()) <= 5


# -- Outages. -------------------------------------------------------------------------------


def test_a_restart_with_binlog_keeps_tasks_and_clients_reconnect(own_server, queue):
    client = Client(own_server.dsn)
    assert client.durability_warning() is None
    largest = client.max_size()
    ids = client.push_many(queue, [Message("x", f"{number}") for number in range(5)])
    client.push(queue, "x", b"\xff" * largest, priority=-1)
    held = one(client, queue)
    own_server.kill()
    with pytest.raises(ConnectionLost):
        client.push(queue, "x", "never")
    own_server.start()
    assert client.len(queue) == 6
    taken = []
    while deliveries := client.reserve([queue]).deliveries:
        taken += deliveries
        assert client.ack(deliveries) == []
    assert [each.task_id for each in taken[:5]] == ids
    assert taken[5].data == b"\xff" * largest
    assert client.ack([held]) == [held]
    client.close()


@pytest.mark.parametrize("how", ["release", "bury"])
def test_a_settle_cut_half_way_and_repeated_leaves_one_task(client, queue, monkeypatch, how):
    client.push(queue, "x", "1")
    held = one(client, queue)
    settle = {
        "release": lambda: client.release(held, "2"),
        "bury": lambda: client.bury(held, "2", WHY),
    }[how]
    real = Connection.ack

    def cut(connection, lease):
        monkeypatch.setattr(Connection, "ack", real)
        connection.close()
        raise ConnectionLost("cut between the put and the delete")

    monkeypatch.setattr(Connection, "ack", cut)
    with pytest.raises(ConnectionLost):
        settle()
    assert settle()
    stats = client.stats(queue)
    assert (stats.waiting, stats.running, stats.dead) == ((1, 0, 0), (0, 0, 1))[how == "bury"]
    assert how == "bury" or client.pop(queue) == "2"


def test_no_binlog_is_told(client):
    assert "binlog" in client.durability_warning()


def test_nobody_there():
    client = Client(f"beanstalk://127.0.0.1:{free_port()}/")
    started = time.monotonic()
    for call in (client.len, client.pop, client.dead, client.drop_all):
        with pytest.raises(ConnectionLost, match="Cannot reach"):
            call("all")
    with pytest.raises(ConnectionLost):
        client.reserve(["all"], wait=60.0)
    assert time.monotonic() - started < 30
    assert client._pool.all() == []
    client.close()


def test_a_hung_server(own_server, queue, monkeypatch):
    client = Client(own_server.dsn)
    client.push(queue, "x", "1")
    monkeypatch.setattr(beanstalk_socket, "REPLY_TIMEOUT", 0.5)
    with client._pool.connection() as connection:
        connection._socket.raw.settimeout(0.5)
    own_server.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(ConnectionLost):
            client.push(queue, "x", "2")
    finally:
        monkeypatch.undo()  # a busy server takes longer
        own_server.process.send_signal(signal.SIGCONT)
    eventually(lambda: client.len(queue) >= 1)
    client.close()


def test_a_draining_server_is_full(own_server, queue):
    client = Client(own_server.dsn)
    client.push(queue, "x", "1")
    own_server.process.send_signal(signal.SIGUSR1)
    with pytest.raises(QueueFull):
        eventually(lambda: not client.push(queue, "x", "2"))
    assert client.pop(queue) == "1"
    client.close()


def test_a_listing_of_the_dead_hides_none_from_another(server, client, queue):
    for number in range(20):
        client.push(queue, "x", f"{number}")
        assert client.bury(one(client, queue), None, WHY)
    other, seen = Client(server.dsn), []
    threads = [
        threading.Thread(target=lambda each=each: seen.append(len(each.dead(queue))))
        for each in [client, other] * 4
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert seen == [20] * 8
    other.close()


def test_the_dead_are_newest_first_over_seconds(server, queue):
    clock = FakeClock(1_800_000_000.0)
    client = Client(server.dsn, clock=clock)
    for number in range(6):
        client.push(queue, "x", f"{number}")
        assert client.bury(one(client, queue), None, WHY)
        clock.advance(0.4)
    assert [each.data for each in client.dead(queue, limit=4)] == ["5", "4", "3", "2"]
    assert client.purge_dead(queue, older_than=1.5) == 3
    client.drop_all(queue)
    client.close()


def test_an_ack_told_again_spares_a_new_job_that_got_the_id(tmp_path, queue):
    """A restart frees the ids of jobs that are done; the reply to an ack may get lost with it."""
    server = Beanstalkd(tmp_path, binlog=True).start()
    client, other = Client(server.dsn), Client(server.dsn)
    try:
        client.push(queue, "", "first")
        first = one(client, queue)
        assert client.ack([first]) == []
        for _ in range(2):  # the binlog of what is done is dropped at the second start
            server.kill()
            server.start()
        other.push(queue, "", "second")
        second = one(other, queue)
        assert second.task_id == first.task_id, "then this tests nothing"
        other.release(second)
        first.receipt.settled = ""  # as if its reply had not been heard
        assert client.ack([first]) == [first]
        assert client.extend([first], 30) == [first]
        assert client.release(first) is False
        assert one(other, queue).data == "second"
    finally:
        client.close()
        other.close()
        server.stop()
