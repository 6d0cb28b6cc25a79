"""Share one Gator: before and after forks, between threads, fifty side by side."""

import logging
import os
import signal
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from alligator import Worker
from chaos import jobs as chaos_jobs
from chaos.ledger import COMPLETED, STARTED, Ledger
from tests.support import jobs

THREADS = 16


@pytest.fixture
def gator(durable_gator):
    jobs.seen.clear()
    return durable_gator(f"shared-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "ledger")


def burst(gator):
    return Worker(gator, burst=True, log_level=logging.CRITICAL)


def fork(work):
    """Run it in a fork of this process, for 20 seconds at most; return the pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        work()
        os._exit(0)
    finally:
        os._exit(1)


def code_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def drain(gator, ledger, names, within=20.0):
    """Work until all of them have run, each once."""
    deadline = time.monotonic() + within
    while set(ledger.account().completed) < names or any_left(gator):
        assert time.monotonic() < deadline, names - set(ledger.account().completed)
        burst(gator).run_forever()
    assert ledger.account().completed == Counter(names)
    assert gator.dead() == []


def any_left(gator):
    stats = gator.stats()
    return stats["waiting"] + stats["running"] + stats["delayed"]


def meet(path, name, count):
    """Be done once so many of its like run at the same time."""
    book = Ledger(path)
    book.note(STARTED, name)
    deadline = time.monotonic() + 20
    while sum(start.name.startswith("meet") for start in book.account().starts) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    book.note(COMPLETED, name)


# -- Forks. ---------------------------------------------------------------------------------


def test_a_gator_and_its_worker_go_on_in_both_after_a_fork(gator, ledger):
    worker = burst(gator)
    gator.task(chaos_jobs.work, ledger.path, "before")
    worker.run_forever()

    def push_and_work(who):
        gator.task(meet, ledger.path, f"meet-{who}", 3)
        while not worker.check_and_run_task():
            time.sleep(0.01)
        for number in range(3):
            gator.task(chaos_jobs.work, ledger.path, f"{who}-{number}")
        with gator.batch() as batch:
            for number in range(3, 6):
                batch.task(chaos_jobs.work, ledger.path, f"{who}-{number}")
        worker.run_forever()

    children = [fork(lambda who=who: push_and_work(who)) for who in ("child", "other")]
    push_and_work("parent")
    assert [code_of(pid) for pid in children] == [0, 0]
    pushed = {f"{who}-{n}" for who in ("parent", "child", "other") for n in range(6)}
    met = {f"meet-{who}" for who in ("parent", "child", "other")}
    drain(gator, ledger, pushed | met | {"before"})
    meetings = [end for end in ledger.account().ends if end.name in met]
    assert {end.pid for end in meetings} == {os.getpid(), *children}


def test_a_fork_in_the_middle_of_work_is_none_of_its_business(gator, ledger):
    """Other threads hold locks and sockets at the moment of the fork, and go on with them."""
    stop, errors, pushed = threading.Event(), [], set()

    def push(who):
        number = 0
        while not stop.is_set():
            number += 1
            try:
                gator.task(chaos_jobs.work, ledger.path, f"{who}-{number}")
                pushed.add(f"{who}-{number}")
            except Exception as err:
                errors.append(err)
            time.sleep(0.001)

    def push_in_child(name):
        gator.task(chaos_jobs.work, ledger.path, name)
        assert gator.stats()["dead"] == 0

    worker = Worker(gator, log_level=logging.CRITICAL)
    threads = [threading.Thread(target=push, args=[who]) for who in "ab"]
    threads.append(threading.Thread(target=worker.run_forever))
    for thread in threads:
        thread.start()
    codes = []
    for number in range(3):
        time.sleep(0.01)  # so that others are at work again
        codes.append(code_of(fork(lambda name=f"child-{number}": push_in_child(name))))
        pushed.add(f"child-{number}")
    stop.set()
    worker.keep_running = False
    for thread in threads:
        thread.join(30)
    assert (codes, errors) == ([0] * 3, [])
    drain(gator, ledger, pushed)


# -- Threads. -------------------------------------------------------------------------------


def test_sixteen_threads_at_one_gator(gator):
    def use(who):
        task = gator.task(jobs.note, f"{who}-0")
        with gator.batch() as batch:
            for number in range(1, 3):
                batch.task(jobs.note, f"{who}-{number}")
        assert gator.stats()["dead"] == 0
        assert gator.len() >= 0
        try:
            ran = gator.get(task.task_id)
        except NotImplementedError:
            assert gator.conn_string.startswith("sqs")
        else:
            assert ran.func_args == (f"{who}-0",)

    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(use, who) for who in range(THREADS)]:
            done.result(30)
    burst(gator).run_forever()
    names = {f"{who}-{number}" for who in range(THREADS) for number in range(3)}
    assert Counter(call[0][0] for call in jobs.seen) == Counter(names)
    assert not any_left(gator)


# -- Many, and what they leave behind. ------------------------------------------------------


def descriptors():
    return len(list(Path("/dev/fd").iterdir()))


def fewer_on_sqs(gator, count):
    """Building a client of boto3 takes 30 ms, and the emulator 10 ms for a request."""
    return count // 5 if gator.conn_string.startswith("sqs") else count


def test_fifty_gators_come_and_go_and_leave_no_descriptor(gator):
    gator.task(jobs.note, "first")
    burst(gator).run_forever()
    gator.close()
    before, count = descriptors(), fewer_on_sqs(gator, 50)
    others = [type(gator)(gator.conn_string, gator.queue_name) for _ in range(count)]
    for turn in range(2):
        for number, each in enumerate(others):
            each.task(jobs.note, f"{turn}-{number}")
        assert others[turn].len() == count
        burst(others[-1]).run_forever()
        if not gator.conn_string.startswith("sqs"):  # the emulator keeps no connection open
            assert descriptors() > before
        for each in others:
            each.close()
        assert descriptors() <= before
    names = {"first", *(f"{turn}-{number}" for turn in range(2) for number in range(count))}
    assert Counter(call[0][0] for call in jobs.seen) == Counter(names)


def test_a_gator_opened_and_closed_leaves_no_descriptor(gator):
    count = fewer_on_sqs(gator, 30)
    for number in range(count):
        gator.task(jobs.note, number)
        burst(gator).run_forever()
        gator.close()
        if number == 1:
            before = descriptors()
    assert descriptors() <= before  # fewer: what another test left was collected meanwhile
    assert sorted(call[0][0] for call in jobs.seen) == list(range(count))
