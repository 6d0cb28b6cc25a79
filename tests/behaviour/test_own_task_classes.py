"""Test Task classes and results of the user's own whose code ends its process, or tries to.

It is a failure under the error's own name, with its traceback: it never ends a worker, and counts
as no death of one.
"""

import asyncio
import threading
import uuid

import pytest

from alligator import FAILED, RETRYING, SUCCESS, Gator, Task, Worker
from alligator.testing import FakeClock
from tests.support import jobs


class StopIt(BaseException):
    """An error of an application's own, and no Exception."""


class Empty(Exception):
    """An error that is not true."""

    def __len__(self):
        return 0


class Untold(SystemExit):
    def __str__(self):
        raise SystemExit(3)

    @property
    def __notes__(self):
        raise SystemExit(4)


ERRORS = [SystemExit, GeneratorExit, asyncio.CancelledError, StopIt, RecursionError, MemoryError]
raised: dict = {}


def stumble(step):
    """Raise what the test wants to be raised at this step."""
    if error := raised.get(step):
        raise error("on purpose")


class OwnTask(Task):
    """Stumbles wherever a test says."""

    def serialize(self):
        stumble("serialize")
        return super().serialize()

    @classmethod
    def deserialize(cls, data):
        stumble("deserialize")
        return super().deserialize(data)

    def to_failed(self):
        stumble("to_failed")
        super().to_failed()

    def spend_retry(self, error=None):
        stumble("spend_retry")
        return super().spend_retry(error)

    @property
    def timeout(self):
        return stumble("timeout")

    @timeout.setter
    def timeout(self, value):
        pass


@pytest.fixture
def gator():
    raised.clear()
    jobs.seen.clear()
    yield Gator(f"locmem://{uuid.uuid4().hex}", clock=FakeClock(), task_class=OwnTask)
    raised.clear()


def work(gator, concurrency=1):
    """Run all there is, in a worker that must end in order."""
    worker = Worker(gator, log_level="CRITICAL", burst=True, concurrency=concurrency)
    assert worker.run_forever() == 0
    stats = gator.stats()
    assert (stats["running"], stats["waiting"], stats["delayed"]) == (0, 0, 0)
    return worker


def check(gator, error, raised_in):
    (letter,) = gator.dead()
    assert letter.error.startswith(error.__name__)
    assert f"in {raised_in}" in letter.traceback
    return letter


@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("error", ERRORS)
def test_a_class_that_cannot_read_a_message_has_a_dead_letter_at_once(gator, error, concurrency):
    gator.task(jobs.note, 1)
    raised["deserialize"] = error
    work(gator, concurrency)
    letter = check(gator, error, "deserialize")
    raised.clear()
    assert gator.revive(letter.task_id) == 1
    assert work(gator, concurrency).tasks_complete == 1


@pytest.mark.parametrize("error", ERRORS)
def test_each_way_to_run_one_tells_of_it(gator, error):
    raised["deserialize"] = error
    for way in ("pop", "get", "run_all", "check_and_run_task"):
        task = gator.task(jobs.note)
        if way == "check_and_run_task":
            assert Worker(gator, log_level="CRITICAL").check_and_run_task() is False
        elif way == "run_all":
            assert gator.run_all() == 1
        else:
            with pytest.raises(error, match="on purpose"):
                gator.pop() if way == "pop" else gator.get(task.task_id)
        check(gator, error, "deserialize")
        gator.client.purge_dead("all")
    assert jobs.seen == []


@pytest.mark.parametrize("step", ["serialize", "spend_retry"])
@pytest.mark.parametrize("error", [SystemExit, StopIt])
def test_a_retry_that_cannot_be_written_is_a_dead_letter_of_the_failure(gator, step, error):
    gator.options(retries=2).task(jobs.fail)
    raised[step] = error
    work(gator)
    letter = check(gator, ValueError, "fail")
    assert f"can no longer be queued: {error.__name__}: on purpose" in letter.traceback
    assert letter.attempts == 1


@pytest.mark.parametrize("step", ["serialize", "to_failed"])
def test_an_expired_task_of_such_a_class_is_told_of(gator, step):
    gator.options(expires=5).task(jobs.note)
    gator.clock.advance(6)
    raised[step] = SystemExit
    work(gator)
    assert gator.dead()[0].error.startswith("Expired" if step == "serialize" else "SystemExit")


def test_what_a_class_says_of_its_timeout(gator):
    gator.task(jobs.note)
    raised["timeout"] = SystemExit
    work(gator)
    check(gator, SystemExit, "timeout")


def test_a_retry_that_cannot_be_read_again(gator):
    class Once(OwnTask):
        @classmethod
        def deserialize(cls, data):
            if '"retried":1' in data:
                raise SystemExit
            return super().deserialize(data)

    gator.task_class = Once
    gator.options(retries=2).task(jobs.fail)
    work(gator)
    check(gator, ValueError, "fail")


@pytest.mark.parametrize("error", [SystemExit, StopIt])
def test_revive_and_cancel_leave_it_where_it_was(gator, error, caplog):
    gator.options(retries=0).task(jobs.fail)
    work(gator)
    raised["deserialize"] = error
    data = gator.dead()[0].data
    assert gator.codec.renewed("all", "x", b"\xff" + data.encode()) == b"\xff" + data.encode()
    assert "is revived unchanged" in caplog.text
    raised.clear()
    task = gator.task(jobs.note)
    raised["deserialize"] = error
    with pytest.raises(error):
        gator.cancel(task)
    assert gator.len() == 1


class Odd:
    """A result that does not like to be looked at."""

    def __repr__(self):
        raise SystemExit


def odd():
    return Odd()


def test_a_result_that_cannot_be_shown_is_still_a_success():
    gator = Gator(f"locmem://{uuid.uuid4().hex}")
    task = gator.options(save_results=60).task(odd)
    work(gator)
    assert task.wait(1)
    assert (task.status, task.result) == (SUCCESS, "<Odd>")


@pytest.mark.parametrize("kind", [Untold, Empty])
def test_an_error_of_any_kind_is_a_failure(kind, monkeypatch):
    gator = Gator(f"locmem://{uuid.uuid4().hex}")

    def break_down():
        raise kind

    monkeypatch.setattr(jobs, "break_down", break_down, raising=False)
    break_down.__module__, break_down.__qualname__ = "tests.support.jobs", "break_down"
    gator.options(retries=1).task(break_down)
    assert gator.pop().status == RETRYING
    work(gator)
    check(gator, kind, "break_down")


async def break_off():
    raise Empty


@pytest.mark.parametrize("concurrency", [1, 4])
def test_an_error_that_is_not_true_is_no_success(concurrency):
    gator = Gator(f"locmem://{uuid.uuid4().hex}")
    task = gator.task(break_off)
    assert work(gator, concurrency).tasks_complete == 0
    assert task.wait(1)
    assert task.status == FAILED
    check(gator, Empty, "break_off")


def test_a_schedule_that_cannot_be_written_is_tried_again(gator):
    schedule = gator.every(10, jobs.note)
    work(gator)
    raised["serialize"] = SystemExit
    gator.clock.advance(11)
    work(gator)
    assert schedule.failing
    raised.clear()
    gator.clock.advance(5)
    assert work(gator).tasks_complete == 1


def test_on_each_backend_it_is_no_death_of_a_worker(durable_gator):
    raised.clear()
    gator = durable_gator(f"own-{uuid.uuid4().hex[:8]}", task_class=OwnTask)
    gator.task(jobs.note)
    raised["deserialize"] = SystemExit
    worker = Worker(gator, log_level="CRITICAL", max_tasks=1)
    thread = threading.Thread(target=worker.run_forever)
    thread.start()
    thread.join(10)
    raised.clear()
    assert not thread.is_alive()
    check(gator, SystemExit, "deserialize")


def test_a_producer_hears_of_it_itself(gator):
    raised["serialize"] = SystemExit
    with pytest.raises(SystemExit):
        gator.task(jobs.note)
    assert gator.len() == 0
