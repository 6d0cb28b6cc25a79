"""Test clocks that are a minute apart: a delay is as long as its producer meant.

The servers here run beside the tests, so ``time.time()`` is what their clocks show.
"""

import time
import uuid

import pytest
from redis import ConnectionError as RedisConnectionError

from alligator import DELAYED, FAILED, Gator, Worker
from alligator.backends.beanstalk import client as beanstalk_client
from alligator.backends.redis import client as redis_client
from alligator.exceptions import ConnectionLost
from alligator.producer.children_in_other_store import HELD
from tests.support import jobs

#: By how much the clocks of the producer and the worker are wrong.
PAIRS = [(-60.0, 0.0), (60.0, 0.0), (0.0, -60.0), (0.0, 60.0)]


class WrongClock:
    """Shows a time that is wrong by so many seconds."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self, off):
        self.off = off

    def time(self):
        return time.time() + self.off


@pytest.fixture(params=PAIRS, ids=lambda pair: "producer{:+.0f}-worker{:+.0f}".format(*pair))
def wrong(request):
    return request.param


@pytest.fixture(params=["redis", "beanstalk"])
def dsn(request):
    return request.getfixturevalue(f"{request.param}_dsn")


@pytest.fixture
def gator_at(dsn):
    """Make Gators of one queue, with a clock that is wrong by so much."""
    made, queue_name = [], f"clocks-{uuid.uuid4().hex[:8]}"
    jobs.seen.clear()

    def make(off, **options):
        made.append(Gator(dsn, queue_name, clock=WrongClock(off), **options))
        return made[-1]

    yield make
    made[0].client.drop_all(queue_name)
    for each in made:
        each.close()


@pytest.fixture
def machines(gator_at, wrong):
    """Hold a producer, a worker, and an observer whose clock is right."""
    return gator_at(wrong[0]), gator_at(wrong[1]), gator_at(0.0)


def seconds_left(gator, task_id):
    """Return in how many seconds a task is due, by a clock that is right."""
    place = gator.client.find(gator.queue_name, task_id)
    assert place.state == DELAYED
    return place.due - time.time()


def test_a_delay_is_as_long_as_was_said(machines):
    producer, worker, right = machines
    task = producer.options(delay_by=30).task(jobs.note, 1)
    assert task.status == DELAYED
    assert 10 < seconds_left(right, task.backend_id or task.task_id) < 32
    with producer.batch(delay_by=30) as batch:
        batch.task(jobs.note, 2)
    assert (worker.run_all(), worker.len()) == (0, 2)


def test_a_retry_waits_as_long_as_was_said(machines):
    producer, worker, right = machines
    producer.options(retries=1, retry_delay=30).task(jobs.fail)
    assert worker.run_all() == 1
    left = worker.client.reserve([worker.queue_name]).deliveries
    assert (left, worker.len(), worker.dead()) == ([], 1, [])
    if right.conn_string.startswith("redis"):
        keys = right.client.conn
        [(_, due)] = keys.zrange(
            f"alligator:{{{right.queue_name}}}:delayed", 0, -1, withscores=True
        )
        assert 10 < due / 1e6 - time.time() < 32


def test_the_service_counts_the_delay_on_sqs(sqs_dsn):
    """No clock of a machine counts once more: not at the push, nor at a retry."""
    queue_name = f"clocks-{uuid.uuid4().hex[:8]}"
    ahead = Gator(sqs_dsn, queue_name, clock=WrongClock(60.0))
    right = Gator(sqs_dsn, queue_name)
    for name in (queue_name, f"{queue_name}-dead"):
        right.client.conn.create_queue(QueueName=name)
    jobs.seen.clear()
    ahead.options(delay_by=1).task(jobs.note, "pushed")
    right.options(retries=1, retry_delay=1, on_error=jobs.on_error).task(jobs.fail)
    ahead.run_all()
    deadline = time.monotonic() + 20
    while len(jobs.seen) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
        right.run_all()
    assert [each[0] for each in jobs.seen].count("on_error") == 2, "the retry failed as well"
    assert (("pushed",), {}) in jobs.seen
    for each in (ahead, right):
        each.close()


def test_a_retry_of_a_task_in_hand_waits_too(machines):
    producer, worker, right = machines
    producer.options(retries=1, retry_delay=30).task(jobs.fail)
    [delivery] = worker.client.reserve([worker.queue_name]).deliveries
    task = worker.execute(worker.codec.decode(delivery))
    worker.client.ack([delivery])
    assert 10 < seconds_left(right, task.backend_id or task.task_id) < 32


def test_what_expires_in_a_while_is_run_until_then(machines):
    producer, worker, _ = machines
    producer.options(expires=30).task(jobs.note, 1)
    assert (worker.run_all(), worker.dead()) == (1, [])
    assert [args for args, _ in jobs.seen] == [(1,)]


@pytest.mark.parametrize("wrong", [(60.0, 0.0), (0.0, -60.0)], indirect=True)
def test_what_has_expired_is_not_run(machines):
    producer, worker, right = machines
    is_redis = right.conn_string.startswith("redis")
    expires = 0.2 if is_redis else 1.0
    producer.options(expires=expires).task(jobs.note, 1)
    # beanstalkd counts whole seconds, and is asked as the task is reserved.
    time.sleep(expires + (0.05 if is_redis else 1.05))
    worker.run_all()
    assert jobs.seen == []
    assert [letter.error.partition(":")[0] for letter in worker.dead()] == ["Expired"]


@pytest.mark.parametrize("dsn", ["redis", "cluster"], indirect=True)
@pytest.mark.parametrize("off", [-60.0, 60.0])
def test_a_worker_and_a_cluster_go_by_the_clocks_of_servers(gator_at, off):
    producer, worker = gator_at(off), gator_at(-off)
    task = producer.options(expires=30, retries=1, retry_delay=30).task(jobs.fail)
    Worker(worker, burst=True, log_level="CRITICAL").run_forever()
    assert 10 < seconds_left(producer, task.task_id) < 32
    assert worker.dead() == []


def test_a_retry_does_not_expire_before_its_time(machines):
    producer, worker, _ = machines
    producer.options(expires=30, retries=1).task(jobs.fail)
    assert worker.run_all() == 2
    assert [letter.error for letter in worker.dead()] == ["ValueError: too much"]


@pytest.mark.parametrize("dsn", ["redis"], indirect=True)
def test_a_task_whose_code_is_missing_waits_too(machines):
    producer, worker, right = machines
    task = producer.task("tests.no_such_module.func")
    worker.run_all()
    assert 0 < seconds_left(right, task.task_id) < 5


def test_a_delay_and_an_expiry_together(machines):
    producer, worker, _ = machines
    began = time.monotonic()
    producer.options(delay_by=0.3, expires=30).task(jobs.note, 1)
    while not worker.run_all():
        assert time.monotonic() - began < 20
        time.sleep(0.02)
    assert time.monotonic() - began >= 0.29
    assert ([args for args, _ in jobs.seen], worker.dead()) == ([(1,)], [])


@pytest.mark.parametrize("dsn", ["redis"], indirect=True)
def test_an_absolute_time_is_one_of_the_server(machines):
    producer, _, right = machines
    task = producer.options(delay_until=time.time() + 30).task(jobs.note, 1)
    assert task.status == DELAYED
    assert 10 < seconds_left(right, task.task_id) < 32


@pytest.mark.parametrize("dsn", ["redis"], indirect=True)
def test_it_is_told_in_how_many_seconds_a_task_is_due(machines):
    producer, worker, _ = machines
    task = producer.options(delay_by=900).task(jobs.note, 1)
    assert "for 15 min more" in worker.explain(task.task_id)


@pytest.mark.parametrize("dsn", ["beanstalk"], indirect=True)
def test_a_child_held_in_a_store_is_delayed_as_long_as_was_said(
    gator_at, wrong, redis_dsn, beanstalk_dsn
):
    producer, worker, right = (gator_at(off, store=redis_dsn) for off in (*wrong, 0.0))
    parent = producer.task(jobs.note, 1)
    child = producer.options(depends_on=parent, delay_by=30).task(jobs.note, 2)
    assert worker.run_all() == 1
    record = worker.store.record(child.task_id)
    assert 10 < seconds_left(right, record.place) < 33
    producer.store.home.drop_all(HELD)


# -- How it is known what the server's clock shows. -----------------------------------------------


class Counted:
    """The connections of a client, with its plain commands counted, and failing where told to."""

    def __init__(self, connections):
        self.connections, self.names, self.fails = connections, [], False

    def __getattr__(self, name):
        return getattr(self.connections, name)

    def command(self, keys, name, *args, **options):
        self.names.append(name)
        if self.fails:
            raise RedisConnectionError("down")
        return self.connections.command(keys, name, *args, **options)


@pytest.fixture
def counted(redis_dsn):
    client = redis_client.Client(redis_dsn)
    client._server_clock._connections = connections = Counted(client._connections)
    yield client, connections
    client.close()


def test_the_server_is_asked_once_and_not_for_each_push(counted, redis_dsn):
    client, connections = counted
    gator = Gator(redis_dsn, "clocks", backend_class=lambda dsn: client)
    for _ in range(50):
        gator.options(delay_by=60, expires=90).task(jobs.note)
    assert 1 <= len(connections.names) <= 3  # a first one that had to connect says little
    gator.client.drop_all("clocks")
    connections.names.clear()
    gator.task(jobs.note)
    gator.run_all()
    assert connections.names == []


def test_it_is_asked_again_after_a_minute_a_sleep_and_over_a_new_connection(counted, monkeypatch):
    client, connections = counted
    wall, passed, slept = time.time, [0.0], [0.0]
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + passed[0])
    monkeypatch.setattr(time, "time", lambda: wall() + passed[0] + slept[0])

    def asks():
        connections.names.clear()
        client.server_time("clocks")
        return bool(connections.names)

    assert asks()
    assert not asks()
    passed[0] = 61.0
    assert asks()
    assert not asks()
    slept[0] = 2.0  # monotonic time stands still meanwhile
    assert asks()
    assert not asks()
    client._connections._new().disconnect()
    assert asks()
    assert not asks()


def test_out_of_reach_it_goes_by_what_was_known(counted, monkeypatch):
    client, connections = counted
    assert client.server_time("clocks") == pytest.approx(time.time(), abs=5)
    real, wall = time.monotonic, time.time
    monkeypatch.setattr(time, "monotonic", lambda: real() + 100)
    monkeypatch.setattr(time, "time", lambda: wall() + 100)
    connections.fails = True
    assert client.server_time("clocks") == pytest.approx(time.time(), abs=5)
    assert len(connections.names) <= 4
    asked = len(connections.names)
    client.server_time("clocks")
    assert len(connections.names) == asked  # not again at once


def test_what_was_never_known_is_not_guessed(counted):
    client, connections = counted
    connections.fails = True
    with pytest.raises(ConnectionLost):
        client.server_time("clocks")


def test_a_task_is_not_judged_while_the_time_is_not_known(redis_dsn):
    queue_name = f"clocks-{uuid.uuid4().hex[:8]}"
    producer, worker = Gator(redis_dsn, queue_name), Gator(redis_dsn, queue_name)
    task = producer.options(expires=60).task(jobs.note)
    worker.client._server_clock._connections = connections = Counted(worker.client._connections)
    connections.fails = True
    client, runs = worker.client, []
    release = client.release

    def once(delivery, *args):
        runs.append(delivery)
        connections.fails = False
        return release(delivery, *args)

    client.release = once
    worker.run_all()
    assert len(runs) == 1
    assert (producer.status(task) == FAILED, worker.dead(), worker.len()) == (False, [], 0)


def test_beanstalkd_counts_since_the_push_and_not_since_a_retry(beanstalk_dsn):
    client, queue_name = beanstalk_client.Client(beanstalk_dsn), f"c-{uuid.uuid4().hex[:8]}"
    client.push(queue_name, "x", "1")
    [delivery] = client.reserve([queue_name]).deliveries
    least, most = client.age(delivery)
    assert least < 20
    assert most == pytest.approx(least + 1, abs=0.1)
    client.release(delivery, "2")
    [delivery] = client.reserve([queue_name]).deliveries
    assert client.age(delivery) is None
    client.ack([delivery])
    client.close()
