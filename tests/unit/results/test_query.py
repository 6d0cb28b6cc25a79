"""Test status, wait and result, on each backend that has a store."""

import logging
import threading
import time
import uuid

import pytest

from alligator import (
    CANCELED,
    DELAYED,
    FAILED,
    RETRYING,
    RUNNING,
    SUCCESS,
    WAITING,
    Gator,
    Task,
    Worker,
)
from alligator.backends.base import Reason
from alligator.backends.locmem_backend import Client
from alligator.backends.store import Record
from alligator.exceptions import (
    BadSignature,
    ConnectionLost,
    InvalidDSN,
    InvalidTask,
    QueueFull,
    ResultTimeout,
    TaskCanceled,
    TaskFailed,
    UnsupportedOption,
)
from alligator.execution.attempt import Outcome, Verdict
from alligator.testing import FakeClock
from tests.support import jobs
from tests.support.helpers import eventually

go = threading.Event()
begun = threading.Event()


def add(one, two=0):
    return one + two


def hold():
    begun.set()
    assert go.wait(60)
    return "held"


def strange():
    return {1, 2}.__class__, "a set"


def huge():
    return "x" * (2 << 20)


class Shy:
    def __repr__(self):
        raise RuntimeError("no")


def shy():
    return Shy()


def result_of_parent(task_id):
    return Gator(jobs.dsn, jobs.queue).result(task_id) + 1


@pytest.fixture
def locmem_dsn():
    return f"locmem://{uuid.uuid4().hex}"


@pytest.fixture(params=["locmem", "sqlite", "redis", "cluster"])
def store_dsn(request):
    """Each backend that is a store, too."""
    return request.getfixturevalue(f"{request.param}_dsn")


@pytest.fixture
def gator(store_dsn):
    found = Gator(store_dsn, f"results-{uuid.uuid4().hex[:8]}")
    go.clear()
    begun.clear()
    yield found
    go.set()
    found.client.drop_all(found.queue_name)
    found.close()


def work(gator, **options):
    """Run what is there with a real worker."""
    Worker(gator, burst=True, log_level="CRITICAL", **options).run_forever()


@pytest.fixture
def worker(gator):
    """A worker in a thread, on a Gator of its own."""
    other = Gator(gator.conn_string, gator.queue_name)
    found = Worker(other, log_level="CRITICAL")
    thread = threading.Thread(target=found.run_forever, daemon=True)
    thread.start()
    yield found
    go.set()
    found.keep_running = False
    thread.join(30)
    assert not thread.is_alive()
    other.close()


def test_a_result_is_saved(gator):
    task = gator.options(save_results=60).task(add, 18, two=9)
    assert gator.status(task.id) == gator.status(task) == WAITING
    assert task.wait(0) is False
    work(gator)
    assert task.wait(30) is True
    assert (task.result, task.status) == (27, SUCCESS)
    assert gator.status(task.id) == SUCCESS
    assert gator.result(task.id) == gator.result(task, 5) == 27
    other = Gator(gator.conn_string, gator.queue_name)
    assert other.result(task.id) == 27
    assert other.wait([task.id], 0) is True
    other.close()


def how_late(task):
    """Let a task that is held go on; return in how many seconds a wait for it ends."""
    ended = []
    threading.Timer(0.3, lambda: (ended.append(time.monotonic()), go.set())).start()
    assert task.wait(30) is True
    return time.monotonic() - ended[0]


def held_again(gator, **options):
    """Return another task that is held: the machine may have been busy."""
    go.clear()
    task = gator.options(**options).task(hold)
    assert task.wait(30, started=True) is True
    return task


def test_waiting_ends_when_the_task_does(gator, worker):
    task = gator.options(save_results=60).task(hold)
    assert begun.wait(30)
    assert gator.status(task) == RUNNING
    assert task.wait(0.1) is False
    assert task.status == RUNNING
    assert how_late(task) < 0.5 or how_late(held_again(gator, save_results=60)) < 0.5
    assert task.result == "held"


def test_waiting_for_the_start(gator, worker):
    running = gator.task(hold)
    assert gator.wait([running.id], 30, started=True) is True
    assert running.wait(30, started=True) is True
    assert running.status == RUNNING
    behind = gator.task(add, 1)
    if not behind.wait(0.1, started=True):
        assert behind.cancel() is True
    assert behind.wait(1) is False
    assert behind.status == CANCELED
    go.set()
    assert running.wait(30) is True


def test_without_save_results(gator):
    task = gator.task(add, 1, 1)
    assert task.wait(0.05) is False
    with pytest.raises(UnsupportedOption, match="save_results"):
        gator.result(task)
    work(gator)
    assert task.wait(30) is True
    assert (task.result, task.status) == (None, SUCCESS)
    with pytest.raises(ResultTimeout):
        gator.result(task.id)
    assert gator.status(task.id) is None


def test_waiting_without_save_results_while_it_runs(gator, worker):
    task = gator.task(hold)
    assert task.wait(30, started=True) is True
    assert how_late(task) < 0.6 or how_late(held_again(gator)) < 0.6


def test_without_save_results_nothing_is_asked_over_and_over(gator, monkeypatch):
    """Where the queue can tell, a wait sleeps until something happens, or a second is over."""
    if not gator.store.follows_queues:
        pytest.skip("this store looks at the version of its file")
    task, looks = gator.task(hold), []
    find = gator.client.find
    monkeypatch.setattr(gator.client, "find", lambda *args: looks.append(args) or find(*args))
    other = Gator(gator.conn_string, gator.queue_name)

    def run_it():
        eventually(lambda: looks, "it waits")
        time.sleep(0.3)
        threading.Timer(0.3, go.set).start()
        other.run_all()

    runner, began = threading.Thread(target=run_it), time.monotonic()
    runner.start()
    assert task.wait(30) is True
    assert 2 <= len(looks) <= 8 + time.monotonic() - began
    runner.join(30)
    other.close()


def test_a_failure(gator):
    for options in ({}, {"save_results": 60}):
        task = gator.options(**options).task(jobs.fail, "oh no")
        work(gator)
        assert gator.status(task.id) == FAILED
        assert task.wait(30) is True
        assert (task.status, task.result) == (FAILED, None)
        assert isinstance(task.error, TaskFailed)
        with pytest.raises(TaskFailed, match="ValueError: oh no") as caught:
            gator.result(task.id)
        assert caught.value.error == "ValueError: oh no"
        assert "raise ValueError(message)" in caught.value.traceback
        assert "raise ValueError(message)" in caught.value.__notes__[0]


def test_a_revived_task_is_no_longer_failed(gator):
    task = gator.task(jobs.fail)
    other = gator.options(save_results=60).task(jobs.fail)
    work(gator)
    assert gator.revive(task.id) == 1
    assert gator.status(task) == WAITING
    assert gator.revive() == 1
    assert gator.status(other) == WAITING


def test_a_retry(gator):
    task = gator.options(save_results=60, retries=1, retry_delay=0.2).task(jobs.fail)
    work(gator, max_tasks=1)
    assert gator.status(task) == RETRYING
    assert gator.wait([task], 0, started=True) is True
    assert gator.wait([task], 0) is False
    deadline = time.monotonic() + 30
    while gator.len():
        assert time.monotonic() < deadline
        work(gator)
    assert gator.status(task.id) == FAILED


def test_canceled(gator):
    for options in ({}, {"save_results": 60}, {"delay_by": 3600}):
        task = gator.options(**options).task(add, 1)
        assert gator.status(task) == (DELAYED if "delay_by" in options else WAITING)
        assert gator.cancel(task.id) is not None
        assert gator.status(task.id) == CANCELED
        assert task.wait(5) is False
        assert task.status == CANCELED
        assert task.cancel() is False
        with pytest.raises(TaskCanceled):
            gator.result(task.id)


def test_a_cancel_ends_the_waiting(gator):
    task = gator.options(save_results=60).task(add, 1)
    threading.Timer(0.2, lambda: gator.cancel(task.id)).start()
    started = time.monotonic()
    assert task.wait(60) is False
    assert time.monotonic() - started < 30


def test_unknown_is_not_done(gator):
    assert gator.status("unknown") is None
    assert gator.wait(["unknown"], 0.05) is False
    with pytest.raises(ResultTimeout, match="Nothing is known"):
        gator.result("unknown")
    with pytest.raises(InvalidTask, match="neither"):
        gator.status(5)


def test_not_in_time(gator):
    task = gator.options(save_results=60).task(add, 1)
    started = time.monotonic()
    with pytest.raises(ResultTimeout, match="within 0.2 s"):
        gator.result(task.id, 0.2)
    assert 0.2 <= time.monotonic() - started < 10


def test_a_result_ends(gator):
    task = gator.options(save_results=0.5).task(add, 1)
    work(gator)
    deadline = time.monotonic() + 30
    while gator.status(task.id) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert task.wait(1) is False
    assert (task.result, task.status) == (None, None)
    with pytest.raises(ResultTimeout, match="Nothing is known"):
        gator.result(task)


def test_waiting_for_many(gator, worker):
    assert gator.wait([], 0) is True
    assert gator.wait(gator.task(add, 1), 20) is True
    with gator.batch(save_results=60) as batch:
        tasks = [batch.task(add, number) for number in range(30)]
    plain = [gator.task(add, number) for number in range(30)]
    assert gator.wait([*tasks, *plain], 20) is True
    assert [gator.result(each) for each in tasks] == list(range(30))
    assert gator.wait([each.id for each in tasks], 0) is True
    doomed = gator.options(delay_by=60).task(add, 1)
    gator.cancel(doomed.id)
    assert gator.wait([*tasks, doomed], 5) is False


def test_on_another_queue(gator):
    task = gator.options(queue_name=f"{gator.queue_name}-2", save_results=60).task(add, 4)
    try:
        assert gator.status(task) == WAITING
        assert gator.status(task.id) is None
        work(Gator(gator.conn_string, f"{gator.queue_name}-2"))
        assert gator.result(task.id) == gator.result(task) == 4
        again = gator.options(queue_name=f"{gator.queue_name}-2").task(add, 4)
        assert again.cancel() is True
    finally:
        gator.client.drop_all(f"{gator.queue_name}-2")


def test_the_result_of_a_parent(gator):
    jobs.dsn, jobs.queue = gator.conn_string, gator.queue_name
    parent = gator.options(save_results=60).task(add, 40, 1)
    child = gator.options(save_results=60).task(result_of_parent, parent.id)
    work(gator)
    assert gator.result(child) == 42


@pytest.mark.parametrize(
    ("function", "says", "kept"),
    [
        (strange, "cannot be saved", "(<class 'set'>, 'a set')"),
        (huge, "bytes", "'xxx"),
        (shy, "cannot be saved", "<Shy>"),
    ],
)
def test_a_result_that_cannot_be_saved(gator, caplog, function, says, kept):
    task = gator.options(save_results=60).task(function)
    with caplog.at_level(logging.WARNING):
        work(gator)
    assert gator.status(task) == SUCCESS
    assert gator.result(task).startswith(kept)
    assert says in gator.store.record(task.id).error
    assert any(says in message and task.id in message for message in caplog.messages)
    assert gator.dead() == []


@pytest.mark.parametrize("run", ["pop", "get", "run_all"])
def test_without_a_worker(gator, run):
    task = gator.options(save_results=60).task(add, 2)
    getattr(gator, run)(*[task.id] if run == "get" else [])
    assert gator.result(task.id) == 2


def test_a_task_that_ran_here(gator):
    task = gator.options(save_results=60, is_async=False).task(add, 2)
    assert task.wait() is True
    assert gator.status(task) == SUCCESS
    assert gator.result(task.id) == 2
    with pytest.raises(ValueError, match="too much"):
        gator.options(save_results=60, is_async=False, task_id=f"bad-{task.id}").task(jobs.fail)
    assert gator.status(f"bad-{task.id}") == FAILED
    with pytest.raises(InvalidTask, match="not pushed"):
        Task().wait()
    with pytest.raises(InvalidTask, match="not pushed"):
        Task().cancel()


def test_an_id_that_is_used_again(gator):
    options = gator.options(save_results=60, task_id=f"again-{gator.queue_name}")
    first = options.task(jobs.fail)
    work(gator)
    assert gator.status(first.id) == FAILED
    second = options.task(add, 5)
    assert gator.status(first.id) == WAITING
    assert second.wait(0) is False
    work(gator)
    assert gator.result(second.id) == 5


def test_an_overtaken_worker_changes_nothing(gator):
    task = gator.options(save_results=60).task(add, 1)
    (slow,) = gator.client.reserve([gator.queue_name], 1, 0.1).deliveries
    deadline = time.monotonic() + 30
    while not (taken := gator.client.reserve([gator.queue_name], 1, 30.0, 1.0).deliveries):
        assert time.monotonic() < deadline
    (fast,) = taken
    stale = Record(SUCCESS, "1", attempt=slow.attempt, pushed=task.pushed_at)
    newer = Record(SUCCESS, "2", attempt=fast.attempt, pushed=task.pushed_at)
    assert gator.store.settle(gator.client, fast, task.id, newer, 60) is True
    assert gator.store.settle(gator.client, slow, task.id, stale, 60) is False
    assert gator.result(task.id) == 2
    assert gator.stats()["running"] == 0


def test_a_failure_of_an_overtaken_worker_is_not_told(gator):
    task = gator.options(save_results=60).task(jobs.fail)
    (slow,) = gator.client.reserve([gator.queue_name], 1, 0.1).deliveries
    deadline = time.monotonic() + 30
    while not gator.client.reserve([gator.queue_name], 1, 30.0, 1.0).deliveries:
        assert time.monotonic() < deadline
    reason = Reason("too late")
    outcome = Outcome(slow, Verdict.BURY, task, ValueError("too late"), reason=reason)
    assert gator.settler.settle(outcome) is False
    assert gator.status(task.id) == RUNNING
    assert gator.store.record(task.id) is None


def test_a_failure_that_was_not_noted(gator, monkeypatch, caplog):
    def down(*args):
        raise ConnectionLost("down")

    monkeypatch.setattr(gator.store, "note", down)
    task = gator.task(jobs.fail)
    work(gator)
    monkeypatch.undo()
    assert "could not be recorded" in caplog.text
    with pytest.raises(TaskFailed, match="ValueError: too much") as caught:
        gator.result(task.id)
    assert "raise ValueError" in caught.value.traceback
    assert task.wait(30) is True
    assert task.status == FAILED


def test_signed_results(store_dsn):
    queue = f"signed-{uuid.uuid4().hex[:8]}"
    gator = Gator(store_dsn, queue, secret_keys=["k" * 32])
    task = gator.options(save_results=60).task(add, 20, 1)
    other = gator.options(save_results=60).task(add, 1)
    assert gator.status(task) == WAITING
    work(gator)
    assert gator.result(task.id) == 21
    with pytest.raises(BadSignature):
        Gator(store_dsn, queue).result(task.id)
    forged = Record(SUCCESS, "666", pushed=time.time() + 5)
    gator.store.note(task.id, forged, 60)
    with pytest.raises(BadSignature):
        gator.result(task.id)
    moved = gator.store.record(other.id)
    gator.store.note(task.id, moved._replace(pushed=time.time() + 9), 60)
    with pytest.raises(BadSignature, match="another task"):
        gator.result(task.id)
    gator.close()


def test_nothing_is_written_where_nothing_is_saved(gator, monkeypatch):
    def refuse(*args):
        raise AssertionError("the store was asked")

    store = type(gator.store)
    for name in ("note", "settle", "record", "records", "watch", "forget"):
        monkeypatch.setattr(store, name, refuse)
    gator.task(add, 1)
    gator.options(retries=1).task(jobs.note)
    work(gator)
    assert gator.stats()["dead"] == 0
    assert gator.len() == 0


def test_save_results_of_0_saves_nothing(gator):
    task = gator.options(save_results=0).task(add, 1)
    assert task.save_results is None
    work(gator)
    assert gator.store.record(task.id) is None


def test_a_backend_without_a_store(monkeypatch):
    monkeypatch.setattr(Client, "store", None)
    gator = Gator(f"locmem://{uuid.uuid4().hex}")
    with pytest.raises(UnsupportedOption, match=r"store='redis://"):
        gator.options(save_results=5).task(add, 1)
    assert gator.len() == 0
    task = gator.task(add, 1)
    assert gator.status(task) == WAITING
    assert task.wait(0.05) is False
    threading.Timer(0.1, gator.run_all).start()
    assert task.wait(30) is True
    with pytest.raises(InvalidDSN, match="no store"):
        Gator("locmem://", store="locmem://elsewhere")


def test_no_room_for_a_result(gator, monkeypatch, caplog):
    settle = gator.store.settle

    def full(client, delivery, task_id, record, keep):
        if record.result is not None:
            raise QueueFull("no room")
        return settle(client, delivery, task_id, record, keep)

    monkeypatch.setattr(gator.store, "settle", full)
    task = gator.options(save_results=60).task(add, 3)
    work(gator)
    assert gator.status(task) == SUCCESS
    assert gator.result(task) is None
    assert "no room" in caplog.text
    assert "no room" in gator.store.record(task.id).error
    assert gator.stats()["running"] == gator.len() == 0


class TestAStoreThatIsDown:
    """The task is not acked, and runs again."""

    @pytest.fixture
    def broken(self, monkeypatch):
        clock = FakeClock()
        gator = Gator(
            f"locmem://{uuid.uuid4().hex}", store=f"locmem://{uuid.uuid4().hex}", clock=clock
        )

        def note(*args):
            raise ConnectionLost("down")

        monkeypatch.setattr(gator.store, "note", note)
        return gator, clock, monkeypatch

    @pytest.mark.parametrize("function", [add, jobs.fail])
    def test_elsewhere(self, broken, function, caplog):
        gator, clock, patch = broken
        task = gator.options(save_results=60).task(function, 3)
        for _ in range(5):  # however often: it is no death of a worker
            work(gator)
            assert gator.status(task) in (WAITING, DELAYED)
            clock.advance(60)
        assert "could not be recorded" in caplog.text
        patch.undo()
        work(gator)
        assert gator.status(task) == (SUCCESS if function is add else FAILED)
        assert gator.len() == 0

    def test_in_one_with_the_queue(self, monkeypatch):
        gator = Gator(f"locmem://{uuid.uuid4().hex}")
        calls = []
        settle = gator.store.settle

        def flaky(*args):
            calls.append(args)
            if len(calls) == 1:
                raise ConnectionLost("for a moment")
            return settle(*args)

        monkeypatch.setattr(gator.store, "settle", flaky)
        task = gator.options(save_results=60).task(add, 3)
        worker = Worker(gator, log_level="CRITICAL")
        thread = threading.Thread(target=worker.run_forever, daemon=True)
        thread.start()
        assert task.wait(20) is True
        worker.keep_running = False
        thread.join(30)
        assert task.result == 3
        assert len(calls) == 2  # what it returned was told again: it did not run twice
        assert worker.tasks_complete == 1
