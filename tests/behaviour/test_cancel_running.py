"""Test ``gator.cancel(id, running=True)``: a task is ended while it runs."""

import asyncio
import threading
import time
import uuid

import pytest

from alligator import (
    CANCELED,
    RUNNING,
    SUCCESS,
    Gator,
    Task,
    Worker,
    current_task,
)
from alligator.exceptions import ConnectionLost, TaskCanceled, UnsupportedOption
from alligator.execution.attempt import canceled
from tests.support import jobs
from tests.support.helpers import eventually
from tests.support.processes import processes

go_on = threading.Event()
began = threading.Event()
seen: list = []


def loop_on():
    began.set()
    while not go_on.is_set():
        time.sleep(0.005)


def sleep_on():
    began.set()
    time.sleep(20)


async def await_on():
    began.set()
    try:
        while not go_on.is_set():
            await asyncio.sleep(0.005)
    finally:
        seen.append(current_task().is_canceled)


async def refuse_to_end():
    began.set()
    try:
        await asyncio.sleep(20)
    except asyncio.CancelledError:
        return "went on"


def look_and_leave():
    began.set()
    task = current_task()
    assert not task.is_canceled
    while not go_on.is_set():
        try:
            time.sleep(0.005)
        except TaskCanceled:
            seen.append(task.is_canceled)
            break


def swallow(times):
    began.set()
    while not go_on.is_set():
        try:
            while not go_on.is_set():
                time.sleep(0.005)
        except Exception as err:
            seen.append(type(err).__mro__[1].__name__)
            if len(seen) > times:
                raise


def never_end():
    began.set()
    while not go_on.is_set():
        try:
            time.sleep(0.005)
        except BaseException:
            seen.append("refused")


def hang_in_a_hook(task, *_):
    began.set()
    assert go_on.wait(20)
    seen.append("the hook ended in peace")


def retry_at_the_end():
    try:
        loop_on()
    finally:
        current_task().retry()


def quick():
    pass


def note_hook(task, *_):
    seen.append("hook")


@pytest.fixture(autouse=True)
def nothing_seen():
    for event in (go_on, began):
        event.clear()
    seen.clear()
    jobs.seen.clear()
    yield
    go_on.set()


@pytest.fixture
def locmem():
    return Gator(f"locmem://{uuid.uuid4().hex}")


@pytest.fixture(params=["locmem", "sqlite", "redis", "beanstalk", "store elsewhere"])
def gator(request, tmp_path):
    name, store = f"c-{uuid.uuid4().hex}", f"sqlite://{tmp_path}/store.db"
    if request.param == "locmem":
        made = Gator(f"locmem://{name}", name)
    elif request.param == "sqlite":
        made = Gator(f"sqlite://{tmp_path}/q.db", name)
    elif request.param == "redis":
        made = Gator(request.getfixturevalue("redis_dsn"), name)
    elif request.param == "beanstalk":
        made = Gator(request.getfixturevalue("beanstalk_dsn"), name, store=store)
    else:
        made = Gator(f"locmem://{name}", name, store=store)
    yield made
    go_on.set()
    made.close()


class Running:
    """A worker, or another way to run tasks, in a thread."""

    def __init__(self, run):
        self.thread = threading.Thread(target=self._run, args=[run], daemon=True)
        self.error = None
        self.thread.start()
        assert began.wait(20)

    def _run(self, run):
        try:
            run()
        except Exception as err:
            self.error = err

    def ended(self):
        self.thread.join(20)
        assert not self.thread.is_alive()
        return self.error


def work(gator, **options):
    return Running(Worker(gator, burst=True, **options).run_forever)


def documents(gator, task):
    return [
        each
        for kind in ("cancel", "progress")
        for each in gator.store.documents([f"{kind}:{key}" for key in gator.results.keys(task)])
        if each is not None
    ]


@pytest.mark.parametrize("function", [loop_on, await_on])
def test_it_ends_with_its_children_and_is_not_retried(gator, function):
    options = {"save_results": 60, "on_error": note_hook, "on_success": note_hook}
    task = gator.options(retries=3, **options).task(function)
    child = gator.options(depends_on=task, save_results=60).task(quick)
    running = work(gator)
    at = time.monotonic()
    found = gator.cancel(task.id, running=True)
    assert (found.task_id, found.status) == (task.task_id, RUNNING)
    with pytest.raises(TaskCanceled):
        gator.result(task, 20)
    assert time.monotonic() - at < 15
    running.ended()
    assert gator.status(task) == CANCELED
    assert gator.status(child) == CANCELED
    assert "hook" not in seen
    assert gator.stats() == {"waiting": 0, "delayed": 0, "running": 0, "dead": 0, "oldest": None}
    assert documents(gator, task) == []


def test_on_sqs(sqs_dsn, sqlite_dsn):
    """By its task or its id; where the store does not know that it runs, it is not asked to end."""
    gator = Gator(sqs_dsn, f"c-{uuid.uuid4().hex[:8]}", store=sqlite_dsn)
    gator.client.conn.create_queue(QueueName=gator.queue_name)
    for by_id in (False, True):
        began.clear()
        task = gator.options(save_results=60).task(loop_on)
        assert gator.cancel(task, running=True) is None, "it waits, and cannot be looked up"
        running = Running(Worker(gator, max_tasks=1).run_forever)
        assert gator.cancel(task.id if by_id else task, running=True).status == RUNNING
        running.ended()
        assert gator.status(task) == CANCELED
    gator.close()


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize(
    "function", [loop_on, await_on, refuse_to_end, look_and_leave, retry_at_the_end]
)
def test_however_it_ends_it_is_canceled(locmem, function, concurrency):
    task = locmem.options(retries=3).task(function)
    other = locmem.options(save_results=60).task(quick)
    running = work(locmem, concurrency=concurrency)
    assert task.cancel(running=True) is True
    running.ended()
    assert locmem.status(task) == CANCELED
    assert locmem.status(other) == SUCCESS
    assert locmem.stats()["dead"] == 0
    assert seen == ([True] if function in (await_on, look_and_leave) else [])


@pytest.mark.parametrize("seconds", [None, 15])
@pytest.mark.parametrize("function", [loop_on, await_on])
@pytest.mark.parametrize("how", ["pop", "run_all"])
def test_without_a_worker(locmem, how, function, seconds):
    task = locmem.options(timeout=seconds).task(function)
    running = Running(getattr(locmem, how))
    assert locmem.cancel(task, running=True).status == RUNNING
    error = running.ended()
    assert type(error) is (TaskCanceled if how == "pop" else type(None))
    assert locmem.status(task) == CANCELED
    assert locmem.len() == 0


class Around:
    def run(self, task, call_next):
        try:
            call_next()
        finally:
            seen.append("around")


class AroundOnLoop:
    async def run(self, task, call_next):
        try:
            await call_next()
        finally:
            seen.append("around")


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("middleware", [Around, AroundOnLoop])
@pytest.mark.parametrize("function", [loop_on, await_on, refuse_to_end])
def test_with_middleware(function, middleware, concurrency):
    gator = Gator(f"locmem://{uuid.uuid4().hex}", middleware=[middleware()])
    task = gator.options(retries=3, on_success=note_hook, save_results=60).task(function)
    running = work(gator, concurrency=concurrency)
    gator.cancel(task, running=True)
    running.ended()
    assert gator.status(task) == CANCELED
    assert seen[-1] == "around"
    assert "hook" not in seen


def test_what_is_recorded_of_it(locmem):
    task = locmem.options(history=60).task(loop_on)
    running = work(locmem)
    locmem.cancel(task, running=True)
    running.ended()
    (row,) = locmem.recent(10)
    assert (row.state, row.task_id) == (CANCELED, task.id)
    (counted,) = locmem.activity()
    assert (counted.failed, counted.dead, counted.succeeded) == (0, 0, 0)
    assert (counted.canceled, sum(counted.duration_buckets)) == (1, 1)
    assert [each.outcome for each in locmem.history(task.id).attempts] == ["canceled"]


JOBS = """
import time

def never_end():
    print('it began', flush=True)
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            pass
"""


def test_a_process_of_its_own_ends_with_one_that_does_not_end(tmp_path):
    """It does not run again: it is canceled before."""
    (tmp_path / "stubborn_jobs.py").write_text(JOBS)
    gator = Gator(f"sqlite://{tmp_path}/q.db")
    task = gator.options(retries=3).task("stubborn_jobs.never_end")
    with processes(tmp_path) as start:
        worker = start("-m", "alligator", gator.conn_string, "--grace=0.3")
        eventually(lambda: "it began" in (tmp_path / "out").read_text(), "it runs")
        gator.cancel(task.id, running=True)
        assert worker.wait(20) == 1
    assert gator.status(task) == CANCELED
    assert gator.stats() == {"waiting": 0, "delayed": 0, "running": 0, "dead": 0, "oldest": None}
    assert "0.3 s after it was canceled; leaving" in (tmp_path / "out").read_text()
    gator.close()


def test_a_swallowed_exception_comes_again(locmem):
    task = locmem.options(retries=1).task(swallow, 2)
    running = work(locmem)
    locmem.cancel(task, running=True)
    running.ended()
    assert seen == ["CanceledInside"] * 3
    assert locmem.status(task) == CANCELED


def test_one_that_does_not_end_is_left_and_canceled_all_the_same(locmem):
    task = locmem.options(retries=1).task(never_end)
    worker = Worker(locmem, burst=True, grace=0.3)
    running = Running(worker.run_forever)
    locmem.cancel(task, running=True)
    eventually(lambda: locmem.status(task) == CANCELED, "it is canceled while it runs on")
    assert running.thread.is_alive()
    assert locmem.stats()["running"] == 0
    go_on.set()
    running.ended()
    assert locmem.status(task) == CANCELED
    assert locmem.stats()["dead"] == 0


@pytest.mark.parametrize("when", ["on_start", "on_success"])
def test_hooks_are_left_alone(locmem, when):
    task = locmem.options(save_results=60, **{when: hang_in_a_hook}).task(quick)
    running = work(locmem)
    locmem.cancel(task, running=True)
    if when == "on_start":
        eventually(lambda: any(each.is_canceled for each in Task.that_run()), "it is known")
    else:
        time.sleep(0.8)  # it would have been raised by then
    go_on.set()
    running.ended()
    assert seen == ["the hook ended in peace"]
    assert locmem.status(task) == (CANCELED if when == "on_start" else SUCCESS)


@pytest.mark.parametrize("options", [{}, {"delay_by": 60}])
def test_a_task_that_waits_is_canceled_as_ever(gator, options):
    task = gator.options(**options).task(quick)
    assert gator.cancel(task.id, running=True).status == CANCELED
    assert gator.status(task) == CANCELED
    assert gator.len() == 0


def test_one_that_is_held_is_canceled_as_ever(locmem):
    parent = locmem.task(quick)
    child = locmem.options(depends_on=parent).task(quick)
    assert child.cancel(running=True) is True
    assert locmem.status(child) == CANCELED


def test_one_that_ended_or_never_was(gator):
    task = gator.options(save_results=60, task_id="again").task(quick)
    assert gator.cancel("never-was", running=True) is None
    assert gator.run_all() == 1
    assert gator.cancel(task, running=True) is None
    assert documents(gator, task) == []
    again = gator.options(save_results=60, task_id="again").task(quick)
    assert gator.run_all() == 1
    assert gator.status(again) == SUCCESS


def test_a_request_is_for_one_push(locmem):
    """One that comes too late, and stays in the store, does not end a later push of that id."""
    locmem.options(task_id="again").task(loop_on)
    running = work(locmem)
    task = locmem.options(task_id="again", save_results=60).task(loop_on)
    key = locmem.results.keys(task)[0]
    locmem.store.put_document(f"cancel:{key}", '{"pushed_at": 12.5, "at": 13}', 60)
    eventually(lambda: documents(locmem, task) == [], "the request of another push is removed")
    go_on.set()
    running.ended()
    assert locmem.status(task) == SUCCESS


def test_a_dead_letter_that_is_revived_is_not_canceled(locmem):
    task = locmem.task(jobs.fail)
    locmem.run_all()
    key = locmem.results.keys(task)[0]
    locmem.store.put_document(f"cancel:{key}", '{"pushed_at": 0.0, "at": 13}', 60)
    assert locmem.revive(task) == 1
    assert documents(locmem, task) == []


def test_a_foreign_document_does_no_harm(locmem):
    task = locmem.options(save_results=60).task(loop_on)
    key = locmem.results.keys(task)[0]
    locmem.store.put_document(f"cancel:{key}", "[[[", 60)
    running = work(locmem)
    eventually(lambda: documents(locmem, task) == [], "it is removed")
    go_on.set()
    running.ended()
    assert locmem.status(task) == SUCCESS


def test_no_store_no_request():
    without = Gator("beanstalk://localhost:1")
    with pytest.raises(UnsupportedOption, match=r"cannot cancel a task that runs.* store='redis"):
        without.cancel("some-id", running=True)


def test_a_task_that_raises_the_error_of_another_has_failed(locmem):
    task = locmem.task(raise_canceled)
    locmem.run_all()
    assert locmem.status(task) != CANCELED
    assert locmem.stats()["dead"] == 1


def raise_canceled():
    raise TaskCanceled("another one")


def test_a_store_that_is_away_for_the_outcome(locmem, monkeypatch):
    """The task is handed back, and the request stands for its next run."""
    task = locmem.options(retries=1).task(quick)
    (delivery,) = locmem.client.reserve([locmem.queue_name]).deliveries
    other = Gator(locmem.conn_string, store=f"locmem://{uuid.uuid4().hex}")

    def lost(*_):
        raise ConnectionLost("no")

    monkeypatch.setattr(other.store.store, "note", lost)
    outcome = canceled(delivery, other.codec.decode(delivery))
    assert other.settler.settle(outcome) is True
    assert locmem.client.stats(locmem.queue_name).delayed == 1
    assert task.id == delivery.task_id
