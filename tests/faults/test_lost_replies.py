"""Test lost requests and replies: how a worker and a producer handle them."""

import logging
import math
import random
import threading
import time
import uuid
from collections import Counter

import pytest

from alligator import Gator, Worker
from alligator.backends.locmem_backend import Client
from alligator.exceptions import ConnectionLost
from alligator.testing import FlakyClient
from tests.support.helpers import eventually

ran = []
go_on = threading.Event()


def note(value):
    ran.append(value)


def nap(seconds):
    time.sleep(seconds)
    ran.append(seconds)


def hold():
    assert go_on.wait(20)
    ran.append("held")


def fail():
    ran.append("failed")
    raise ValueError("too much")


@pytest.fixture
def flaky():
    ran.clear()
    return FlakyClient(Client(f"locmem://{uuid.uuid4().hex}"))


@pytest.fixture
def gator(flaky):
    return Gator(flaky.conn_string, backend_class=lambda dsn: flaky)


def counts(gator):
    stats = gator.stats()
    return stats["waiting"] + stats["delayed"], stats["running"], stats["dead"]


def test_a_push_fails_fast_and_may_be_repeated_under_its_id(gator, flaky):
    with flaky.down():
        started = time.monotonic()
        with pytest.raises(ConnectionLost):
            gator.task(note, 1)
        assert time.monotonic() - started < 5
    assert flaky.calls["push"] == 1, "nothing was tried again behind the caller's back"
    assert gator.len() == 0
    flaky.lose_reply("push")
    with gator.options(task_id="invoice-7") as opts:
        with pytest.raises(ConnectionLost):
            opts.task(note, 1)
        opts.task(note, 1)
    assert gator.run_all() == 1
    assert ran == [1]


@pytest.mark.parametrize("plan", ["fail", "lose_reply"])
def test_late_acks_are_sent_again(gator, flaky, plan, capsys):
    for number in range(3):
        gator.task(note, number)
    gator.task(nap, 0.6)
    getattr(flaky, plan)("ack", times=2)
    Worker(gator, prefetch=4, max_tasks=4).run_forever()
    assert ran == [0, 1, 2, 0.6]
    assert counts(gator) == (0, 0, 0)
    assert flaky.failed["ack"] == 2
    out = capsys.readouterr().out
    assert out.count("cannot be reached") == out.count("can be reached again") == 1
    assert "may run twice" not in out, "a lost reply is no lost lease"
    assert out.count("the first one counted") == (3 if plan == "lose_reply" else 0)


@pytest.mark.parametrize("plan", ["fail", "lose_reply"])
def test_acks_that_ride_with_reserve_are_sent_again(gator, flaky, plan, capsys):
    gator.task(note, 1)
    gator.task(note, 2)
    flaky.fail("ack", times=math.inf)
    worker = Worker(gator, prefetch=2, lease=1.2)
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    eventually(lambda: len(ran) == 2)
    getattr(flaky, plan)("reserve")
    gator.task(note, 3)  # ends the wait
    eventually(lambda: ran[2:] == [3] and gator.stats()["running"] == 0)
    worker.keep_running = False
    thread.join(10)
    assert counts(gator) == (0, 0, 0)
    assert "may run twice" not in capsys.readouterr().out


def test_tasks_whose_reserve_got_no_reply_come_back_by_their_lease(gator, flaky):
    for number in range(3):
        gator.task(note, number)
    flaky.lose_reply("reserve")
    started = time.monotonic()
    Worker(gator, lease=0.8, prefetch=3, max_tasks=3).run_forever()
    assert time.monotonic() - started >= 0.8
    assert sorted(ran) == [0, 1, 2]
    assert counts(gator) == (0, 0, 0)


@pytest.mark.parametrize("plan", ["fail", "lose_reply"])
def test_a_hand_back_that_fails_is_tried_again(gator, flaky, plan):
    go_on.clear()
    gator.task(hold)
    for number in range(4):
        gator.task(note, number)
    getattr(flaky, plan)("release", times=2)
    holder = Worker(gator, prefetch=5, log_level=logging.CRITICAL)
    slow = threading.Thread(target=holder.run_forever, daemon=True)
    slow.start()
    eventually(lambda: gator.stats()["running"] == 5)
    other = Worker(gator, max_tasks=4, log_level=logging.CRITICAL)
    quick = threading.Thread(target=other.run_forever, daemon=True)
    quick.start()
    quick.join(15)
    assert sorted(ran) == [0, 1, 2, 3], "while the first one runs"
    go_on.set()
    eventually(lambda: len(ran) == 5)
    holder.keep_running = False
    slow.join(10)
    assert sorted(ran[:4]) == [0, 1, 2, 3], "what was handed back is not run as well"
    assert flaky.failed["release"] == 2
    assert counts(gator) == (0, 0, 0)


@pytest.mark.parametrize("plan", ["fail", "lose_reply"])
def test_a_retry_that_got_lost_is_told_again(gator, flaky, plan):
    gator.options(retries=1)(fail)
    getattr(flaky, plan)("release")
    worker = Worker(gator, lease=30, log_level=logging.CRITICAL)
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    eventually(lambda: counts(gator) == (0, 0, 1), within=20)  # the lease is not waited for
    worker.keep_running = False
    thread.join(10)
    assert len(ran) == 2


@pytest.mark.parametrize("plan", ["fail", "lose_reply"])
def test_a_burial_that_got_lost_is_told_again(gator, flaky, plan):
    gator.task(fail)
    getattr(flaky, plan)("bury", times=2)
    worker = Worker(gator, lease=30, log_level=logging.CRITICAL)
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    eventually(lambda: counts(gator) == (0, 0, 1), within=20)
    worker.keep_running = False
    thread.join(10)
    assert len(ran) == 1


def test_what_is_told_in_vain_is_left_to_the_lease(gator, flaky):
    gator.task(fail)
    flaky.fail("bury", times=4)  # once, and three times again with the backend in reach
    worker = Worker(gator, lease=1.0, log_level=logging.CRITICAL)
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    eventually(lambda: counts(gator) == (0, 0, 1))
    worker.keep_running = False
    thread.join(10)
    assert (len(ran), flaky.calls["bury"]) == (2, 5)


def test_a_worker_that_leaves_tells_again(gator, flaky):
    gator.task(fail)
    flaky.fail("bury")
    Worker(gator, lease=30, max_tasks=1, log_level=logging.CRITICAL).run_forever()
    assert (len(ran), counts(gator)) == (1, (0, 0, 1))


def test_a_heartbeat_that_fails_is_made_up_for(gator, flaky):
    gator.task(nap, 1.2)
    flaky.fail("extend", times=1)
    holder = Worker(gator, lease=0.9, max_tasks=1, log_level=logging.CRITICAL)
    thread = threading.Thread(target=holder.run_forever, daemon=True)
    thread.start()
    eventually(lambda: flaky.calls["reserve"] == 1)
    idle = Worker(gator, lease=0.9, log_level=logging.CRITICAL)
    watcher = threading.Thread(target=idle.run_forever, daemon=True)
    watcher.start()
    thread.join(10)
    idle.keep_running = False
    watcher.join(10)
    assert (ran, flaky.failed["extend"]) == ([1.2], 1)


def test_an_outage_is_logged_once_by_an_idle_worker(gator, flaky, capsys):
    worker = Worker(gator)
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    eventually(lambda: flaky.calls["reserve"] == 1)
    with flaky.down():
        eventually(lambda: flaky.failed["reserve"] >= 4)
    gator.task(note, 1)
    eventually(lambda: ran == [1])
    worker.keep_running = False
    thread.join(10)
    out = capsys.readouterr().out
    assert out.count("cannot be reached") == out.count("can be reached again") == 1


@pytest.mark.parametrize("concurrency", [1, 3])
def test_an_outage_is_one_line_and_few_tries(gator, flaky, capsys, concurrency):
    for _ in range(6):
        gator.task(nap, 0.1)
    worker = Worker(gator, lease=0.3, concurrency=concurrency)
    thread = threading.Thread(target=worker.run_forever)
    thread.start()
    eventually(lambda: gator.stats()["running"])
    with flaky.down():
        began = time.monotonic()
        eventually(lambda: flaky.failed["reserve"] >= 4)
        took = time.monotonic() - began
    eventually(lambda: counts(gator) == (0, 0, 0))
    worker.keep_running = False
    thread.join(10)
    out = capsys.readouterr().out
    assert out.count("cannot be reached") == out.count("can be reached again") == 1
    assert took > (0.1 + 0.2 + 0.4) / 2, "the pauses grow"
    assert flaky.failed.total() <= 15, flaky.failed


def test_an_outage_longer_than_the_lease_runs_nothing_twice(gator, flaky):
    gator.task(nap, 1.2)
    worker = Worker(gator, lease=0.3, concurrency=2, log_level=logging.CRITICAL)
    thread = threading.Thread(target=worker.run_forever)
    thread.start()
    eventually(lambda: gator.stats()["running"])
    with flaky.down():
        time.sleep(0.6)  # two leases
    eventually(lambda: counts(gator) == (0, 0, 0))
    worker.keep_running = False
    thread.join(10)
    assert ran == [1.2]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_gets_lost_everything_runs(seed):
    """At least once, with replies and requests of all kinds lost at random."""
    ran.clear()
    flaky = FlakyClient(Client(f"locmem://{uuid.uuid4().hex}"), random.Random(seed))
    flaky.max_deaths = 100  # a lost reply to reserve counts as a death
    gator = Gator(flaky.conn_string, backend_class=lambda dsn: flaky)
    with gator.batch() as batch:
        for number in range(60):
            batch.task(note, number)
    flaky.fail(times=math.inf, probability=0.1)
    flaky.lose_reply(times=math.inf, probability=0.1)
    quiet = {"prefetch": 1, "log_level": logging.CRITICAL}  # one at a time: many calls
    workers = [Worker(gator, lease=0.2, **quiet) for _ in range(2)]
    threads = [threading.Thread(target=worker.run_forever, daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    eventually(lambda: set(ran) == set(range(60)), within=30)
    eventually(lambda: counts_of(flaky.inner) == (0, 0, 0), within=30)
    for worker in workers:
        worker.keep_running = False
    for thread in threads:
        thread.join(20)
    assert Counter(ran).total() >= 60
    assert sum(flaky.failed.values()) > 5


def counts_of(client):
    stats = client.stats("all")
    return stats.waiting + stats.delayed, stats.running, stats.dead
