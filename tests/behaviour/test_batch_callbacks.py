"""Test ``batch(on_success=, on_done=)``: tasks that run once, after all of a batch."""

import uuid

import pytest

from alligator import CANCELED, FAILED, SUCCESS, WAITING, Gator, current_task, result_of
from alligator.backends.base import Reason
from alligator.exceptions import InvalidTask, NotAllowed, UnsupportedOption
from tests.behaviour.test_dependencies import STORES, number, work
from tests.behaviour.test_dependencies_across_backends import PAIRS, work_until
from tests.support import jobs

called: list = []


def success(*args):
    called.append(("success", *args))


def done(*args):
    called.append(("done", *args))


def tell_parents():
    called.append(current_task().depends_on)


def member(task, result):
    """A hook of each task."""
    called.append(result)


def fail_until_second(key):
    called.append("try")
    if called.count("try") < 2:
        raise ValueError(key)


async def coroutine():
    called.append("coroutine")


@pytest.fixture(autouse=True)
def _called():
    called.clear()
    jobs.seen.clear()


@pytest.fixture
def locmem_dsn():
    return f"locmem://{uuid.uuid4().hex}"


@pytest.fixture(params=STORES)
def gator(request):
    gator = Gator(request.getfixturevalue(f"{request.param}_dsn"), f"b-{uuid.uuid4().hex[:12]}")
    yield gator
    gator.client.drop_all(gator.queue_name)
    gator.close()


@pytest.fixture
def local(locmem_dsn):
    gator = Gator(locmem_dsn)
    yield gator
    gator.close()


def test_all_succeed(gator):
    with gator.batch(on_success=(success, "album", 7), on_done=done, save_results=60) as batch:
        tasks = [batch.task(number, each) for each in range(3)]
    assert gator.len() == 3
    assert (batch.success_task.status, batch.done_task.status) == (WAITING, WAITING)
    work(gator)
    assert sorted(called) == [("done",), ("success", "album", 7)]
    assert batch.success_task.wait(5)
    assert [gator.status(each) for each in (*tasks, batch.done_task)] == [SUCCESS] * 4


def test_one_fails_and_one_is_canceled_and_one_waits_for_them(gator):
    with gator.batch(on_success=success, on_done=tell_parents) as batch:
        failing = batch.task(jobs.fail)
        canceled = batch.task(number, 1)
        child = batch.task(number, result_of(failing))
    gator.cancel(canceled)
    assert called == []
    work(gator)
    assert called == [[failing.task_id, canceled.task_id, child.task_id]]
    states = [gator.status(each) for each in (failing, canceled, child, batch.success_task)]
    assert states == [FAILED, CANCELED, CANCELED, CANCELED]
    # Only the first end counts.
    assert gator.revive() == 1
    work(gator)
    assert len(called) == 1
    assert gator.len() == 0


def test_a_retry_is_no_end(gator):
    with gator.batch(on_success=success, on_done=done, retries=1) as batch:
        batch.task(fail_until_second, 1)
    work(gator)
    assert called[:2] == ["try", "try"]
    assert sorted(called[2:]) == [("done",), ("success",)]


def test_an_empty_batch_and_an_exception(gator):
    with gator.batch(on_success=success, on_done=(done, 1)):
        pass
    work(gator)
    assert sorted(called) == [("done", 1), ("success",)]
    with pytest.raises(KeyError), gator.batch(on_success=success, on_done=done) as batch:
        batch.task(number, 1)
        raise KeyError
    assert gator.len() == 0


def test_ten_thousand(gator):
    with gator.batch(on_success=success, on_done=done) as batch:
        for each in range(10_000):
            batch.task(number, each)
    name = gator.queue_name
    held = [gator.client.peek(name, each.task_id) for each in (batch.success_task, batch.done_task)]
    assert max(map(len, held)) < 1000, "its message does not carry their ids"
    last = gator.client.reserve([name], 1, 120).deliveries[0]
    while tasks := gator.client.reserve([name], 1000, 120).deliveries:
        assert gator.client.ack(tasks) == []
    assert called == []
    assert gator.client.bury(last, None, Reason("ValueError: no"))
    gator.run_all()
    assert called == [("done",)]
    assert gator.status(batch.success_task) == CANCELED


@pytest.mark.parametrize("pair", PAIRS)
def test_across_backends(pair, request):
    backend, store = (request.getfixturevalue(f"{each}_dsn") for each in pair.split("+"))
    gator = Gator(backend, f"b-{uuid.uuid4().hex[:8]}", store=store)
    if backend.startswith("sqs"):
        for name in (gator.queue_name, f"{gator.queue_name}-dead"):
            gator.client.conn.create_queue(QueueName=name)
    try:
        with gator.batch(on_success=success, on_done=(done, 1)) as good:
            good.task(number, 1)
        with gator.batch(on_success=success, on_done=(done, 2)) as bad:
            bad.task(number, result_of(bad.task(jobs.fail)))
        work_until(gator, good.success_task, good.done_task, bad.done_task, bad.success_task)
        assert sorted(called) == [("done", 1), ("done", 2), ("success",)]
    finally:
        gator.client.drop_all(gator.queue_name)
        gator.close()


def test_here_without_a_queue(local):
    with local.batch(on_success=success, on_done=done, is_async=False) as batch:
        batch.task(number, 1)
    assert called == [("success",), ("done",)]
    called.clear()
    with (
        pytest.raises(ValueError, match="too much"),
        local.batch(on_success=success, on_done=done, is_async=False) as batch,
    ):
        batch.task(jobs.fail)
        batch.task(number, 1)
    assert called == [("done",)]
    assert batch.done_task.status == SUCCESS


def test_its_options_are_those_of_the_batch_but_for_hooks_and_times(local):
    opts = {"retries": 3, "priority": 5, "queue_name": "other", "headers": {"a": "b"}}
    apart = {"delay_by": 60, "expires": 600, "on_start": jobs.on_start, "unique": True}
    with local.batch(on_done=coroutine, **opts, **apart) as batch:
        batch.task(number, 1)
    for each, value in opts.items():
        assert getattr(batch.done_task, each) == value
    for each in apart:
        assert not getattr(batch.done_task, each)
    assert batch.success_task is None


def test_hooks_of_the_tasks(local):
    gator = Gator(local.conn_string, options={"on_success": member})
    with gator.batch(on_success=success) as batch:
        batch.task(number, 1)
    gator.run_all()
    assert called == [1, ("success",)]
    called.clear()
    with local.batch(on_success=success, retries=2) as batch:
        task = batch.options(on_success=member, retries=1).task(number, 2)
        other = batch.options(priority=3)(number, 3)
    assert (task.retries, other.retries, other.priority) == (1, 2, 3)
    local.run_all()
    assert called == [2, ("success",)]


def test_what_is_refused(local):
    for wrong in (member, 7, (), (success, object()), (number, 1, 2), lambda: None):
        with pytest.raises(InvalidTask, match="on_success= of a batch"):
            local.batch(on_success=wrong)
    with pytest.raises(InvalidTask, match="declare schedules"), local.batch() as batch:
        batch.options(retries=1).every(60, number, 1)
    with pytest.raises(RuntimeError):
        batch.options(retries=1).task(number, 1)
    strict = Gator(local.conn_string, allowed=[f"{__name__}.done"])
    with pytest.raises(NotAllowed):
        strict.batch(on_success=success)
    assert local.len() == 0


def test_without_a_store(beanstalk_dsn):
    gator = Gator(beanstalk_dsn, f"b-{uuid.uuid4().hex[:8]}")
    with (
        pytest.raises(UnsupportedOption, match="store="),
        gator.batch(on_success=success) as batch,
    ):
        batch.task(number, 1)
    assert gator.len() == 0, "no task was pushed without its callback"
    gator.close()


def test_on_a_cluster_without_another_store(cluster_dsn):
    gator = Gator(cluster_dsn, f"b-{uuid.uuid4().hex[:8]}")
    with pytest.raises(UnsupportedOption), gator.batch(on_done=done) as batch:
        batch.task(number, 1)
    assert gator.len() == 0
    gator.close()
