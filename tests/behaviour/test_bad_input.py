"""Test impossible input: the call refuses it, or the outcome tells, on every backend alike."""

import threading

import pytest

from alligator import SUCCESS, Task, Worker
from alligator.exceptions import ConnectionLost, InvalidTask
from tests.support import jobs


def strange():
    return object()


def circle(gator):
    one, two = Task(), Task()
    one.depends_on, two.depends_on = [two], [one]
    for task in (one, two):
        gator.prepare(task, jobs.note, [], {})
    gator.push_batch([one, two])


REFUSED = {
    "a circle": (circle, "wait for each other"),
    "itself": (
        lambda g: g.options(task_id="x", depends_on="x").task(jobs.note),
        "depends on itself",
    ),
    "a day that is not": (lambda g: g.cron("0 5 30 feb *", jobs.note), "Cron expression"),
    "no interval": (lambda g: g.every(0, jobs.note), "no interval"),
    "no timeout": (lambda g: g.options(timeout=-1).task(jobs.note), "timeout=-1"),
    "no time zone": (
        lambda g: g.options(tz="Mars/Base").cron("0 5 * * *", jobs.note),
        "time zone",
    ),
}


@pytest.mark.parametrize(("ask", "says"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_at_the_call(gator_with_store, ask, says):
    gator = gator_with_store
    with pytest.raises(InvalidTask, match=says):
        ask(gator)
    assert (gator.len(), len(gator.schedules)) == (0, 0)


def test_a_result_that_cannot_be_saved(gator_with_store, caplog):
    gator = gator_with_store
    task = gator.options(save_results=60).task(strange)
    gator.run_all()
    assert task.wait(10) is True
    assert gator.status(task) == SUCCESS
    assert gator.result(task).startswith("<object object at")
    assert "cannot be saved" in gator.store.record(task.id).error
    assert "cannot be saved: a result must survive JSON (" in caplog.text


def test_a_store_that_is_down_for_a_moment(gator_with_store, monkeypatch):
    """The task is not acked without a recorded outcome: elsewhere, it runs again for that."""
    gator = gator_with_store
    jobs.seen.clear()
    monkeypatch.setattr("alligator.execution.settle._STORE_PAUSE", 0.1)
    task = gator.options(save_results=60).task(jobs.note)
    left = ["down"] * 2

    def down_at_first(step):
        def call(*args):
            if left:
                raise ConnectionLost(left.pop())
            return step(*args)

        return call

    for name in ("note", "settle"):
        monkeypatch.setattr(gator.store, name, down_at_first(getattr(gator.store, name)))
    worker = Worker(gator, log_level="CRITICAL")
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    try:
        assert task.wait(20) is True
        assert task.status == SUCCESS
    finally:
        worker.keep_running = False
        thread.join(30)
    assert left == []
    assert (len(jobs.seen) > 1) is gator.store.bridged
    assert gator.result(task) == len(jobs.seen)
    assert gator.len() == 0
