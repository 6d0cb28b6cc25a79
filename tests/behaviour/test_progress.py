"""Test ``current_task().progress()``, and how others see it."""

import asyncio
import math
import threading
import time
import uuid

import pytest

from alligator import Gator, Task, Worker, current_task
from alligator.exceptions import InvalidTask, UnsupportedOption
from alligator.execution import progress_and_cancels
from alligator.testing import FlakyClient
from tests.support.helpers import eventually

go_on = threading.Event()
said = threading.Event()
seen: list = []


def halfway(text=""):
    assert current_task().progress() is None
    seen.append(current_task().progress(0.5, text))
    said.set()
    assert go_on.wait(20)


def many(count):
    for number in range(count):
        current_task().progress(number / count)
    said.set()
    assert go_on.wait(20)


def in_a_thread():
    task = current_task()
    thread = threading.Thread(target=lambda: task.progress(0.25, "beside"))
    thread.start()
    thread.join()
    said.set()
    assert go_on.wait(20)


async def in_a_coroutine():
    current_task().progress(1, "nearly")
    said.set()
    while not go_on.is_set():
        await asyncio.sleep(0.01)


def briefly():
    seen.append(current_task().progress(1))


def once_more():
    task = current_task()
    if task.retried:
        assert task.progress() is None, "this run has not said"
        said.set()
        assert go_on.wait(20)
        return
    task.progress(0.75)
    eventually(lambda: seen or None, "the first run was seen")
    task.retry()


@pytest.fixture(autouse=True)
def nothing_said():
    for event in (go_on, said):
        event.clear()
    seen.clear()
    yield
    go_on.set()


def a_gator(backend, request, tmp_path):
    if backend == "locmem":
        return Gator(f"locmem://{uuid.uuid4().hex}")
    if backend == "sqlite":
        return Gator(f"sqlite://{tmp_path}/q.db")
    if backend == "store elsewhere":
        return Gator(f"locmem://{uuid.uuid4().hex}", store=f"sqlite://{tmp_path}/store.db")
    if backend == "beanstalk":
        dsn = request.getfixturevalue("beanstalk_dsn")
        return Gator(dsn, f"p-{uuid.uuid4().hex}", store=f"sqlite://{tmp_path}/store.db")
    return Gator(request.getfixturevalue("redis_dsn"), f"p-{uuid.uuid4().hex}")


@pytest.fixture(params=["locmem", "sqlite", "redis", "beanstalk", "store elsewhere"])
def gator(request, tmp_path):
    made = a_gator(request.param, request, tmp_path)
    yield made
    go_on.set()
    made.close()


@pytest.fixture
def locmem():
    return Gator(f"locmem://{uuid.uuid4().hex}")


def runs_with(run):
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def ended(thread):
    go_on.set()
    thread.join(20)
    assert not thread.is_alive()


def test_others_see_it_while_the_task_runs(gator):
    task = gator.task(halfway, "ü page 1")
    assert gator.progress(task.id) is None
    thread = runs_with(Worker(gator, burst=True).run_forever)
    eventually(lambda: gator.progress(task.id) == (0.5, "ü page 1"), "it is seen")
    assert task.progress() == (0.5, "ü page 1")
    assert seen == [(0.5, "ü page 1")]
    ended(thread)
    assert gator.progress(task.id) is None
    assert task.progress() is None
    keys = [f"progress:{key}" for key in gator.results.keys(task)]
    assert gator.store.documents(keys) == [None] * len(keys), "it went with the task"


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize(
    ("function", "shown"), [(in_a_thread, (0.25, "beside")), (in_a_coroutine, (1.0, "nearly"))]
)
def test_from_threads_and_coroutines(locmem, function, shown, concurrency):
    task = locmem.task(function)
    thread = runs_with(Worker(locmem, burst=True, concurrency=concurrency).run_forever)
    eventually(lambda: task.progress() == shown, "it is seen")
    ended(thread)


@pytest.mark.parametrize("how", ["pop", "run_all"])
def test_without_a_worker(gator, how):
    task = gator.task(halfway)
    thread = runs_with(getattr(gator, how))
    eventually(lambda: task.progress() == (0.5, ""), "it is seen")
    ended(thread)
    assert gator.progress(task.id) is None


def test_of_a_task_that_is_not_queued(locmem):
    go_on.set()
    task = locmem.options(is_async=False).task(halfway, "here")
    assert task.progress() == (0.5, "here")
    assert locmem.progress(task) is None


def test_at_most_two_writes_a_second_and_the_last_is_not_lost(locmem):
    writes = []
    report = locmem.store.report
    locmem.store.report = lambda it: (writes.append(dict(it.documents)), report(it))[1]
    task, began = locmem.task(many, 10_000), time.monotonic()
    thread = runs_with(Worker(locmem, burst=True).run_forever)
    assert said.wait(20)
    eventually(lambda: task.progress() == (0.9999, ""), "the last one is seen")
    ended(thread)
    assert len([each for each in writes if any(each)]) <= 2 + 2 * (time.monotonic() - began)


def test_a_short_task_costs_no_write(locmem):
    locmem.store.report = locmem.store.delete_documents = None
    for _ in range(20):
        locmem.task(briefly)
    assert locmem.run_all() == 20


def test_a_retry_begins_anew(gator):
    task = gator.options(retries=1).task(once_more)
    thread = runs_with(Worker(gator, burst=True).run_forever)
    eventually(lambda: gator.progress(task.id) == (0.75, ""), "the first run is seen")
    seen.append("the first run was seen")
    assert said.wait(20)
    eventually(lambda: gator.progress(task.id) is None, "the second run has not said")
    ended(thread)


def test_a_store_that_cannot_be_reached_does_no_harm(tmp_path):
    store = FlakyClient(Gator(f"locmem://{uuid.uuid4().hex}").client)
    locmem = Gator(f"locmem://{uuid.uuid4().hex}", store=store.store)
    failing, report = [True], store.inner.store.report

    def fail_first(it):
        if failing and it.documents:
            failing.pop()
            raise progress_and_cancels.AlligatorException("no")
        return report(it)

    store.inner.store.report = fail_first
    task = locmem.task(halfway)
    thread = runs_with(Worker(locmem, burst=True).run_forever)
    eventually(lambda: task.progress() == (0.5, ""), "it is sent again")
    assert not failing
    ended(thread)


def test_without_a_store(tmp_path):
    without = Gator("beanstalk://localhost:1")
    with pytest.raises(UnsupportedOption, match=r"beanstalk://.* store='redis://"):
        without.progress("some-id")


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ([2], r"progress\(2\) is no number from 0 to 1"),
        ([-0.1], r"progress\(-0.1\)"),
        ([math.nan], r"progress\(nan\)"),
        ([True], r"progress\(True\)"),
        (["0.5"], r"progress\('0.5'\)"),
        ([0.5, "x" * 201], "at most 200 characters"),
        ([0.5, 7], "at most 200 characters"),
    ],
)
def test_bad_values(args, why):
    with pytest.raises(InvalidTask, match=why):
        Task().progress(*args)


def test_only_the_task_itself_says_it(locmem):
    task = locmem.task(briefly)
    with pytest.raises(InvalidTask, match="does not run here"):
        task.progress(0.5)
