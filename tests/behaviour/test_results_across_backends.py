"""Test results of tasks whose backend keeps none: a second backend is the store."""

import asyncio
import threading
import time
import uuid

import pytest

from alligator import CANCELED, FAILED, RUNNING, SUCCESS, WAITING, Gator, Worker
from alligator.backends.locmem_backend import Client
from alligator.backends.store import record_key
from alligator.exceptions import ConnectionLost, ResultTimeout, TaskFailed, UnsupportedOption
from alligator.testing import FlakyClient
from tests.support import jobs

begun, go = threading.Event(), threading.Event()


def add(one, two=0):
    return one + two


def unsavable():
    return object()


def hold():
    begun.set()
    assert go.wait(20)


def made(request, backend, store):
    dsn = request.getfixturevalue(f"{backend}_dsn")
    store_dsn = request.getfixturevalue(f"{store}_dsn")
    gator = Gator(dsn, f"else-{uuid.uuid4().hex[:8]}", store=store_dsn)
    if backend == "sqs":
        for name in (gator.queue_name, f"{gator.queue_name}-dead"):
            gator.client.conn.create_queue(QueueName=name)
    begun.clear()
    go.clear()
    yield gator
    go.set()
    gator.client.drop_all(gator.queue_name)
    gator.close()


@pytest.fixture(params=["beanstalk+redis", "sqs+redis", "beanstalk+sqlite", "redis+sqlite"])
def gator(request):
    yield from made(request, *request.param.split("+"))


@pytest.fixture
def beanstalk(request):
    yield from made(request, "beanstalk", "redis")


@pytest.fixture
def worker(gator):
    found = Worker(gator, log_level="CRITICAL")
    thread = threading.Thread(target=found.run_forever, daemon=True)
    thread.start()
    yield found
    go.set()
    found.keep_running = False
    thread.join(30)
    assert not thread.is_alive()


def test_a_task_keeps_its_own_id(gator, worker):
    task = gator.options(save_results=60, task_id=f"mine-{gator.queue_name}").task(add, 18, 9)
    assert task.task_id == f"mine-{gator.queue_name}"
    assert gator.result(task.id, 20) == 27
    assert gator.result(task) == 27
    assert task.wait(0) is True
    assert (task.status, task.result) == (SUCCESS, 27)
    assert gator.status(task.id) == SUCCESS


def test_a_failure(gator, worker):
    task = gator.options(save_results=60).task(jobs.fail, "oh no")
    with pytest.raises(TaskFailed, match="oh no") as caught:
        gator.result(task.id, 20)
    assert "raise ValueError" in caught.value.traceback
    assert gator.status(task) == FAILED
    deadline = time.monotonic() + 20
    while not gator.dead():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert gator.revive() == 1
    while gator.status(task.id) != FAILED:  # it is run again, and noted again
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_start(gator, worker):
    task = gator.options(save_results=60).task(hold)
    assert task.wait(20, started=True) is True
    assert begun.wait(20)
    assert gator.status(task.id) == RUNNING
    assert task.wait(0.1) is False
    go.set()
    assert task.wait(20) is True


def test_a_batch(gator, worker):
    with gator.batch(save_results=60) as batch:
        tasks = [batch.task(add, number) for number in range(12)]
    assert gator.wait(tasks, 30) is True
    assert [gator.result(each.id) for each in tasks] == list(range(12))


def test_what_is_known_before_it_runs(gator):
    task = gator.options(save_results=60).task(add, 1)
    assert gator.status(task.id) == gator.status(task) == WAITING
    assert task.wait(0.1) is False
    with pytest.raises(ResultTimeout):
        gator.result(task.id, 0)


def test_cancel_and_get_by_the_tasks_own_id(beanstalk):
    for by_object in (False, True):
        task = beanstalk.options(save_results=60).task(add, 1)
        found = beanstalk.cancel(task if by_object else task.id)
        assert found.task_id == task.task_id
        assert beanstalk.status(task.id) == CANCELED
        assert task.wait(1) is False
    task = beanstalk.options(save_results=60).task(add, 1, 1)
    assert beanstalk.get(task.id).result == 2
    assert beanstalk.result(task.id) == 2


@pytest.mark.parametrize("by_object", [True, False])
def test_what_was_given_up_after_a_retry_is_revived_by_its_own_id(gator, by_object):
    task = gator.options(retries=1, save_results=60).task(jobs.fail)
    Worker(gator, burst=True, log_level="CRITICAL").run_forever()
    assert task.wait(20) is True
    assert task.status == FAILED
    assert gator.revive(task if by_object else task.id) == 1
    assert gator.dead() == []
    Worker(gator, burst=True, log_level="CRITICAL").run_forever()
    assert task.wait(20) is True
    assert task.status == FAILED
    assert len(gator.dead()) == 1


def test_what_was_revived_is_not_taken_for_lost(gator):
    task = gator.options(save_results=60).task(jobs.fail)
    Worker(gator, burst=True, log_level="CRITICAL").run_forever()
    assert task.wait(20) is True
    assert gator.revive(task) == 1
    assert gator.status(task) == gator.status(task.id) == WAITING
    began = time.monotonic()
    assert task.wait(0.3) is False
    assert time.monotonic() - began >= 0.3, "there is something to wait for"
    assert task.status == WAITING
    Worker(gator, burst=True, log_level="CRITICAL").run_forever()
    assert task.wait(20) is True
    assert task.status == FAILED


def test_tasks_that_save_nothing_keep_their_id_too_and_are_known_for_a_while(gator):
    task = gator.options(task_id=f"mine-{gator.queue_name}").task(add, 1)
    assert task.task_id == f"mine-{gator.queue_name}"
    assert task.wait(0.1) is False, "it has not even started"
    assert gator.status(task.id) == gator.status(task) == WAITING
    with pytest.raises(UnsupportedOption, match="without save_results"):
        gator.result(task)
    gator.run_all()
    assert task.wait(20) is True
    assert (task.status, task.result) == (SUCCESS, None)
    assert gator.status(task.id) == SUCCESS
    assert gator.store.record(record_key(gator.queue_name, task.id)).result is None
    with pytest.raises(ResultTimeout, match="saved no result"):
        gator.result(task.id)


def test_what_nobody_asked_for_is_no_reason_to_warn(gator, caplog):
    task = gator.task(unsavable)
    gator.run_all()
    assert task.wait(20) is True
    assert caplog.text == ""


def test_waiting_for_what_tells_of_no_end_is_refused_where_nobody_knows(gator):
    task = gator.options(save_results=0).task(add, 1)
    if gator.conn_string.startswith("sqs"):
        with pytest.raises(UnsupportedOption, match="without save_results=0"):
            task.wait(0.1)
    else:
        assert task.wait(0.1) is False


def test_tasks_that_tell_of_no_end_go_by_the_backends_id(beanstalk):
    task = beanstalk.options(save_results=0).task(add, 1)
    assert task.task_id.isdecimal()
    assert beanstalk.status(task.id) == WAITING
    assert beanstalk.cancel(task.id) is not None
    assert beanstalk.status(task.id) == CANCELED
    done = beanstalk.options(save_results=0).task(add, 1)
    Worker(beanstalk, burst=True, log_level="CRITICAL").run_forever()
    assert done.wait(5) is True
    dead = beanstalk.options(save_results=0).task(jobs.fail)
    Worker(beanstalk, burst=True, log_level="CRITICAL").run_forever()
    assert beanstalk.status(dead.id) == FAILED


def test_a_task_that_was_dropped_is_not_waited_for(beanstalk):
    """Its record says that it waits, and the server has nothing on its queue."""
    gator, opts = beanstalk, beanstalk.options(save_results=60)
    task = opts.task(add, 1)
    child = gator.options(save_results=60, depends_on=task).task(add, 2)
    gator.client.drop_all(gator.queue_name)
    began = time.monotonic()
    with pytest.raises(ResultTimeout, match="Nothing is known of task"):
        gator.result(task, 30)
    assert (task.wait(30), gator.status(task)) == (False, None)

    async def wait():
        return await gator.await_(task, 30)

    assert asyncio.run(wait()) is False
    assert time.monotonic() - began < 10
    assert gator.status(child) == WAITING  # it is held


def test_what_is_retried_has_another_id_and_is_not_taken_for_dropped(beanstalk):
    gator = beanstalk
    task = gator.options(save_results=60, retries=1, retry_delay=3600).task(jobs.fail, "oh no")
    gator.run_all()
    assert (task.wait(0.1), gator.len()) == (False, 1)
    assert gator.status(task) is not None


def test_a_store_that_is_down_while_pushing(beanstalk, monkeypatch, caplog):
    def down(*args):
        raise ConnectionLost("down")

    monkeypatch.setattr(beanstalk.store, "note", down)
    task = beanstalk.options(save_results=60).task(add, 3)
    assert "not recorded" in caplog.text
    monkeypatch.undo()
    Worker(beanstalk, burst=True, log_level="CRITICAL").run_forever()
    assert beanstalk.result(task.id) == 3


def test_what_is_on_record_does_not_run_again_for_an_ack_that_failed():
    """The store has the outcome, and the queue cannot be reached for a moment."""
    flaky = FlakyClient(Client(f"locmem://{uuid.uuid4().hex}"))
    gator = Gator("x", backend_class=lambda dsn: flaky, store=f"locmem://{uuid.uuid4().hex}")
    jobs.seen.clear()
    task = gator.options(save_results=60).task(jobs.note)
    flaky.fail("ack", times=1)
    worker = Worker(gator, log_level="CRITICAL")
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    assert task.wait(20) is True
    deadline = time.monotonic() + 20
    while gator.stats()["running"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    worker.keep_running = False
    thread.join(30)
    assert flaky.failed["ack"] == 1
    assert len(jobs.seen) == 1


def test_a_worker_that_was_not_told_of_the_store(beanstalk, caplog):
    beanstalk.options(save_results=60).task(add, 1)
    other = Gator(beanstalk.conn_string, beanstalk.queue_name)
    Worker(other, burst=True, log_level="CRITICAL").run_forever()
    assert "has no store" in caplog.text
    other.close()


def test_without_a_store(beanstalk_dsn, sqs_dsn):
    for dsn in (beanstalk_dsn, sqs_dsn):
        gator = Gator(dsn, "nowhere")
        with pytest.raises(UnsupportedOption, match=r"store='redis://"):
            gator.options(save_results=5).task(add, 1)
        gator.close()
    gator = Gator(sqs_dsn, "nowhere")
    for ask in (gator.status, gator.result, lambda each: gator.wait([each], 0)):
        with pytest.raises(UnsupportedOption, match=r"store='redis://"):
            ask("some-id")
    gator.close()
