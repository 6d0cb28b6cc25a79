"""Test tasks with ``unique`` and ``debounce`` from the call to the worker."""

import threading
import time
import uuid

import pytest

from alligator import CANCELED, FAILED, RUNNING, SUCCESS, Gator, Task, Worker, current_task
from alligator.common.ids import new_task_id
from alligator.exceptions import InvalidTask, TaskFailed, UnsupportedOption
from tests.support import jobs
from tests.support.helpers import eventually, skip_without_children

BACKENDS = ["locmem", "sqlite", "redis"]
gates: dict[str, threading.Event] = {}
again: list = []


def double(value):
    return 2 * value


def note_id(*args):
    jobs.seen.append((current_task().task_id, *args))


def fail_twice(key):
    jobs.seen.append(key)
    if jobs.seen.count(key) < 3:
        raise ValueError("not yet")
    return "done"


def wait_for_gate(name):
    gates[f"{name} began"].set()
    assert gates[name].wait(30)
    return name


def push_again():
    """Push the same call from inside its run, as long as nothing changes."""
    task = again[0].task(push_again)
    jobs.seen.append(task.is_duplicate)
    del again[0]


@pytest.fixture
def locmem_dsn():
    return f"locmem://{uuid.uuid4().hex}"


@pytest.fixture(params=BACKENDS)
def gator(request):
    jobs.seen.clear()
    gates.clear()
    again.clear()
    gator = Gator(request.getfixturevalue(f"{request.param}_dsn"), f"u-{uuid.uuid4().hex[:12]}")
    yield gator
    gator.client.drop_all(gator.queue_name)
    gator.close()


def test_a_duplicate_stands_for_the_pending_task(gator):
    once = gator.options(unique=True, save_results=60)
    first = once.task(double, 4)
    second, third = once.task(double, value=4), once.task(double, 5)
    assert [each.is_duplicate for each in (first, second, third)] == [False, True, False]
    assert second.task_id == second.id == first.task_id
    assert gator.len() == 2
    assert gator.run_all() == 2
    assert second.wait(10)
    assert (second.status, second.result, gator.result(second)) == (SUCCESS, 8, 8)
    again = once.task(double, 4)
    assert not again.is_duplicate
    canceled = once.task(double, 4)
    assert (canceled.is_duplicate, canceled.cancel(), canceled.status) == (True, True, CANCELED)
    assert gator.status(again) == CANCELED
    assert not once.task(double, 4).is_duplicate


@pytest.mark.parametrize("task_id", ["order-17", new_task_id()], ids=["own", "lookalike"])
def test_the_pending_task_has_an_id_of_the_users_own(gator, task_id):
    """Also one that looks as if Alligator had made it."""
    first = gator.options(unique="k", task_id=task_id, save_results=60).task(double, 4)
    second = gator.options(unique="k", save_results=60).task(double, 4)
    assert (second.is_duplicate, second.task_id) == (True, task_id)
    gator.run_all()
    assert gator.result(first, 5) == gator.result(second, 5) == 8
    assert second.wait(5)
    assert second.result == 8


def test_keys_of_the_users_own_and_of_each_queue(gator):
    mine = gator.options(unique="mine")
    first, second = mine.task(double, 1), mine.task(note_id, 2)
    assert (second.is_duplicate, second.task_id) == (True, first.task_id)
    other = f"{gator.queue_name}-other"
    assert not gator.options(unique="mine", queue_name=other).task(double, 1).is_duplicate
    gator.client.drop_all(other)


def test_a_task_object_that_is_pushed_again(gator):
    pending = gator.options(unique="k").task(double, 1)
    task = Task(unique="k")
    own = task.task_id
    assert gator.push(task, double, 1) is task
    assert (task.is_duplicate, task.task_id) == (True, pending.task_id)
    assert gator.push(task, double, 1).is_duplicate
    gator.run_all()
    assert not gator.push(task, double, 1).is_duplicate
    assert task.task_id == own
    assert gator.len() == 1


def test_its_own_retries_keep_it_and_do_not_trip_over_it(gator):
    once = gator.options(unique=True, retries=2, save_results=60)
    task = once.task(fail_twice, "a")
    assert gator.pop().retries == 1
    assert once.task(fail_twice, "a").is_duplicate
    assert gator.run_all() == 2
    assert task.wait(10)
    assert (task.result, gator.len(), jobs.seen) == ("done", 0, ["a"] * 3)
    assert not once.task(fail_twice, "a").is_duplicate


@pytest.mark.parametrize("options", [{"unique": "k"}, {"debounce": 60}], ids=str)
def test_the_retry_of_a_task_that_ran_here_is_not_taken_for_a_duplicate(gator, options):
    pending = gator.options(**options).task(fail_twice, "here")
    task = Task(retries=2, save_results=60, **options)
    gator.prepare(task, fail_twice, ["here"], {})
    gator.execute(task)
    assert (task.is_duplicate, task.task_id == pending.task_id) == (False, False)
    assert (gator.len(), jobs.seen) == (2, ["here"])
    assert gator.get(task.task_id).retries == 0
    assert gator.get(task.task_id).result == "done"
    assert gator.len() == 1


def test_it_is_free_after_a_failure_and_after_its_expiry(gator):
    once = gator.options(unique="k", save_results=60)
    failed, duplicate = once.task(jobs.fail), once.task(jobs.fail)
    gator.run_all()
    with pytest.raises(TaskFailed, match="too much"):
        gator.result(duplicate)
    assert gator.status(duplicate) == gator.status(failed) == FAILED
    expired = gator.options(unique="k", expires=0.05).task(double, 1)
    assert not expired.is_duplicate
    time.sleep(0.2)
    gator.run_all()
    assert [each.task_id for each in gator.dead()] == [expired.task_id, failed.task_id]
    pending = once.task(double, 1)
    assert (pending.is_duplicate, gator.revive()) == (False, 0)  # they stay dead
    gator.run_all()
    assert (gator.revive(expired), gator.revive(failed)) == (1, 0)
    assert once.task(double, 1).task_id == expired.task_id


def test_a_running_task_is_pending(gator):
    for name in ("end", "start"):
        gates[name], gates[f"{name} began"] = threading.Event(), threading.Event()
    tasks = {
        name: gator.options(unique=name, unique_until=name).task(wait_for_gate, name)
        for name in ("end", "start")
    }
    worker = Worker(gator, burst=True, concurrency=4)
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    try:
        for name in tasks:
            assert gates[f"{name} began"].wait(20)
        at_end = gator.options(unique="end").task(double, 1)
        assert (at_end.is_duplicate, at_end.task_id) == (True, tasks["end"].task_id)
        assert gator.status(at_end) == RUNNING
        assert not gator.options(unique="start").task(double, 1).is_duplicate
    finally:
        gates["end"].set()
        gates["start"].set()
        thread.join(30)
    assert at_end.wait(10)
    assert not gator.options(unique="end").task(double, 1).is_duplicate


@pytest.mark.parametrize("until", ["end", "start"])
def test_a_task_that_pushes_itself(gator, until):
    again[:] = [gator.options(unique=True, unique_until=until)] * 3
    again[0].task(push_again)
    gator.run_all()
    assert jobs.seen == ([True] if until == "end" else [False, False, False])


def test_a_batch_with_duplicates_and_their_children(gator):
    skip_without_children(gator)
    pending = gator.options(unique="a").task(note_id, "pending")
    with gator.batch(save_results=60) as batch:
        first = Task(unique="a", save_results=60)
        gator.prepare(first, note_id, ["lost"], {})
        batch._tasks.append(first)
        plain = batch.task(note_id, "plain")
        by_task = Task(depends_on=[first])
        by_id = Task(depends_on=[first.task_id, plain.task_id])
        held = Task(unique="held", depends_on=[plain])
        twice = Task(unique="held", depends_on=[plain])
        below = Task(depends_on=[twice.task_id])
        for task in (by_task, by_id, held, twice, below):
            gator.prepare(task, note_id, [len(batch._tasks)], {})
            batch._tasks.append(task)
    assert (first.is_duplicate, first.task_id) == (True, pending.task_id)
    assert (twice.is_duplicate, twice.task_id) == (True, held.task_id)
    assert (gator.client.stats(gator.queue_name).held, gator.len()) == (4, 2)
    gator.run_all()
    assert [each[1] for each in jobs.seen][:2] == ["pending", "plain"]
    order = [each[0] for each in jobs.seen]
    assert len(order) == 6
    assert order.index(held.task_id) < order.index(below.task_id)


def test_a_schedule_skips_a_tick_while_the_last_one_is_pending(gator):
    schedule = gator.options(unique=True).every(1, note_id)
    for tick in ("tick-1", "tick-2", "tick-3"):

        def once(message, tick=tick):
            return gator.store.push_once(gator.client, tick, 60, gator.queue_name, message)

        assert gator._push_tick(schedule, tick, once)
    assert gator.len() == 1
    with pytest.raises(InvalidTask, match="debounce= is not for a schedule"):
        gator.options(debounce=5).every(1, note_id)


def test_the_last_push_counts(gator):
    late, soon = (gator.options(debounce=s, unique="k", save_results=60) for s in (60, 0.2))
    first = late.task(note_id, 1)
    for push, number in ((late, 2), (soon, 3)):
        again = push.task(note_id, number)
        assert (again.is_duplicate, again.task_id) == (True, first.task_id)
        if push is late:
            assert (gator.stats()["delayed"], gator.pop()) == (1, None)
    eventually(lambda: gator.run_all(), "it is due")
    assert jobs.seen == [(first.task_id, 3)]
    assert first.wait(5)
    assert not soon.task(note_id, 4).is_duplicate


def test_a_debounced_task_starts_in_the_end(gator):
    soon = gator.options(debounce=0.2, debounce_max=0.5)
    began, longest = time.monotonic(), 0.0
    tasks = [soon.task(note_id, "x")]
    while not jobs.seen:
        pushed = time.monotonic()
        assert pushed - began < 20, "it starved"
        tasks.append(soon.task(note_id, "x"))
        gator.run_all()
        longest = max(longest, time.monotonic() - pushed)
    # Earlier only if this process itself stood still for longer than the debounce.
    assert time.monotonic() - began >= 0.45 or longest > 0.19
    assert len({each.task_id for each in tasks}) == 1
    assert not soon.task(note_id, "y").is_duplicate


def test_signed_tasks_are_replaced_and_run(gator):
    signed = Gator(gator.conn_string, gator.queue_name, secret_keys=["a key of sixteen bytes"])
    soon = signed.options(debounce=0.05, unique="k", save_results=60)
    first, second = soon.task(double, 1), soon.task(double, 2)
    assert second.is_duplicate
    eventually(signed.run_all, "it is due")
    assert signed.result(first) == signed.result(second) == 4
    assert signed.dead() == []
    signed.close()


def test_not_async(gator):
    """Such a task runs at once, whatever is pending."""
    gator.options(unique="k").task(double, 1)
    task = gator.options(unique="k", is_async=False).task(double, 2)
    assert (task.is_duplicate, task.result) == (False, 4)
    assert gator.options(debounce=5, is_async=False).task(double, 2).result == 4


def test_what_is_refused(gator, tmp_path):
    with pytest.raises(InvalidTask, match="expires=5 is before the task is due"):
        gator.options(debounce=10, expires=5).task(double, 1)
    other = Gator(gator.conn_string, gator.queue_name, store=f"sqlite://{tmp_path}/store.db")
    with pytest.raises(UnsupportedOption, match="a queue that is its own store"):
        other.options(unique=True, depends_on="x").task(double, 1)
    assert not other.options(unique=True).task(double, 1).is_duplicate
    assert other.options(unique=True).task(double, 1).is_duplicate
    other.close()
