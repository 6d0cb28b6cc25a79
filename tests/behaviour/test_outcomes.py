"""Test that an outcome is right or unknown: an unknown task never counts as done."""

import sqlite3
import time
import uuid
from pathlib import Path

import pytest

from alligator import CANCELED, DELAYED, FAILED, SUCCESS, WAITING, Gator, Task, Worker
from alligator.backends.store import KEEP_FAILED
from alligator.exceptions import ConnectionLost, ResultTimeout, TaskCanceled, TaskFailed
from alligator.testing import FakeClock
from tests.support import jobs
from tests.support.servers import redis as servers

calls: list = []


def add(one, two=0):
    return one + two


def fail_at_first():
    calls.append(1)
    if len(calls) == 1:
        raise ValueError("at first")
    return "well"


def work(gator):
    Worker(gator, burst=True, log_level="CRITICAL").run_forever()


@pytest.fixture(params=["locmem", "sqlite", "redis"])
def gator(request, tmp_path):
    """A Gator on each backend that keeps the history of its queues."""
    dsn = f"locmem://{tmp_path}"
    if request.param != "locmem":
        dsn = request.getfixturevalue(f"{request.param}_dsn")
    found = Gator(dsn, f"q-{uuid.uuid4().hex[:8]}")
    yield found
    found.client.drop_all(found.queue_name)
    found.close()


@pytest.fixture(params=["beanstalk", "beanstalk+redis"])
def beanstalk(request):
    """Return a Gator that may have a store, and tasks whose end is not recorded."""
    backend, _, store = request.param.partition("+")
    store_dsn = request.getfixturevalue(f"{store}_dsn") if store else None
    dsn = request.getfixturevalue(f"{backend}_dsn")
    found = Gator(dsn, f"q-{uuid.uuid4().hex[:8]}", store=store_dsn)
    yield found
    found.client.drop_all(found.queue_name)
    found.close()


@pytest.fixture
def own_redis(tmp_path):
    """A server that a test may restart."""
    found = servers.start(tmp_path / "redis")
    yield found
    found.stop()


def is_unknown(gator, task):
    """Whether all who are asked say that nothing is known of a task that was pushed here."""
    started = time.monotonic()
    assert task.wait(20) is False, "it is called done"
    assert time.monotonic() - started < 15, "nothing more was to come"
    assert (task.status, task.result, task.error) == (None, None, None)
    assert gator.wait([task], 0) is False
    assert task.wait(0, started=True) is False
    assert gator.status(task) is gator.status(task.task_id) is None
    assert gator.explain(task).startswith("unknown")
    assert "dropped or lost" in gator.explain(task)
    return True


# -- Never ran. -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"save_results": 60}, {"save_results": 60, "delay_by": 60}]
)
def test_dropped(gator, options):
    task = gator.options(**options).task(add, 1)
    assert task.status == (DELAYED if "delay_by" in options else WAITING)
    gator.client.drop_all(gator.queue_name)
    assert is_unknown(gator, task)
    other = gator.options(**options | {"delay_by": 0}).task(add, 1)
    assert is_unknown(gator, task)
    work(gator)
    assert is_unknown(gator, task)
    assert other.wait(5) is True
    assert other.status == gator.status(other) == SUCCESS


def test_dropped_where_the_store_is_told_of_ends(gator_with_store):
    gator = gator_with_store
    task = gator.options(save_results=60, delay_by=60).task(add, 1)
    done = gator.options(save_results=60).task(add, 1)
    gator.run_all()
    gator.client.drop_all(gator.queue_name)
    assert task.wait(0.5) is False
    assert task.status not in (SUCCESS, FAILED, CANCELED)
    assert gator.wait([done, task], 0) is False
    assert done.wait(5) is True
    assert (done.status, done.result) == (SUCCESS, 1)


def test_a_result_that_nobody_read_in_time(gator_with_store):
    gator = gator_with_store
    read, unread = (gator.options(save_results=s).task(add, 2) for s in (60, 1))
    gator.run_all()
    assert read.wait(20) is True
    gator.store.note(read.task_id, gator.store.record(read.task_id), 0.1)  # its time is up as well
    deadline = time.monotonic() + 20
    while gator.store.record(read.task_id) or gator.store.record(unread.task_id):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert unread.wait(0.2) is False
    assert (unread.status, unread.result) == (None, None)
    with pytest.raises(ResultTimeout, match="Nothing is known"):
        gator.result(unread)
    assert read.wait(0.2) is True
    assert gator.wait([read], 0.2) is True
    assert (read.status, read.result) == (SUCCESS, 2)
    assert gator.status(read) == SUCCESS
    assert gator.result(read) == 2


def test_dropped_while_it_is_held_back(gator):
    parent = gator.task(add, 1)
    child = gator.options(depends_on=[parent]).task(add, 2)
    gator.client.drop_all(gator.queue_name)
    assert is_unknown(gator, parent)
    assert child.wait(5) is False
    assert child.status in (None, CANCELED)
    parent = gator.task(add, 1)
    child = gator.options(depends_on=[parent]).task(add, 2)
    gator.run_all()
    assert gator.wait([parent, child], 5) is True
    assert gator.status(child) == SUCCESS


def test_dropped_together_in_a_batch(gator):
    with gator.batch() as batch:
        tasks = [batch.task(add, number) for number in range(3)]
        delayed = gator.options(delay_by=60).task(add, 1)
    gator.get(tasks[0].task_id)
    assert tasks[0].wait(1) is True
    gator.client.drop_all(gator.queue_name)
    assert tasks[0].wait(1) is True, "it was known before"
    assert tasks[0].status == gator.status(tasks[0]) == SUCCESS
    assert all(is_unknown(gator, each) for each in (*tasks[1:], delayed))


def test_a_result_of_an_earlier_push_is_not_that_of_this_one(gator_with_store):
    options = gator_with_store.options(save_results=60, task_id=f"again-{uuid.uuid4()}")
    assert (first := options.task(add, 1)).wait(0) is False
    gator_with_store.run_all()
    assert first.wait(5) is True
    second = options.task(add, 2)
    gator_with_store.client.drop_all(gator_with_store.queue_name)
    assert second.wait(0.2) is False
    assert second.status != SUCCESS


def test_a_push_that_failed_has_not_ended_well(gator, monkeypatch):
    task = gator.push(Task(), add, 1)
    gator.run_all()
    assert task.wait(5) is True

    def down(*args, **options):
        raise ConnectionLost("down")

    monkeypatch.setattr(gator.client, "push", down)
    with pytest.raises(ConnectionLost):
        gator.push(task, add, 2)
    assert gator.status(task) is None
    task.wait(0.1)
    assert task.status is None


def test_what_may_have_failed_too_long_ago_is_unknown(tmp_path):
    clock = FakeClock()
    gator = Gator(f"locmem://{tmp_path}", clock=clock)
    bad, good = gator.task(jobs.fail), gator.task(add, 1)
    gator.run_all()
    gator.client.purge_dead(gator.queue_name)
    assert (gator.status(bad), gator.status(good)) == (FAILED, SUCCESS)
    clock.advance(KEEP_FAILED + 1)
    assert (gator.status(bad), gator.status(good)) == (None, None)


# -- Lost with the server, or with the file. ------------------------------------------------------


def restarted(server, clients):
    """Restart it as after a power cut."""
    server.server.kill()
    server.server.start()
    deadline = time.monotonic() + 20
    for each in clients:
        while True:
            try:
                each.len("any")
                break
            except ConnectionLost:
                assert time.monotonic() < deadline


@pytest.mark.parametrize("options", [{}, {"save_results": 60}])
def test_a_redis_without_persistence_that_was_restarted(own_redis, options):
    gator = Gator(own_redis.dsn)
    task = gator.options(**options).task(add, 1)
    done = gator.options(**options).task(add, 2)
    gator.get(done.task_id)
    assert done.wait(5) is True
    restarted(own_redis, [gator.client])
    assert is_unknown(gator, task)
    assert done.wait(1) is True, "it was known before"
    others = [gator.options(**options).task(add, number) for number in range(5)]
    assert is_unknown(gator, task)
    gator.run_all()
    assert gator.wait(others, 5) is True
    assert [gator.status(each) for each in others] == [SUCCESS] * 5
    assert is_unknown(gator, task)
    gator.close()


def test_a_redis_that_went_back_to_an_older_snapshot(own_redis):
    gator = Gator(own_redis.dsn)
    gator.task(add, 1)
    gator.client.conn.save()
    lost = gator.task(add, 2)
    gator.run_all()
    never_ran = gator.task(add, 3)
    restarted(own_redis, [gator.client])
    assert gator.len() == 1, "the snapshot has the first"
    gator.run_all()
    for number in range(20):  # more than were lost
        gator.task(add, number)
    gator.run_all()
    assert is_unknown(gator, never_ran)
    assert is_unknown(gator, lost)
    later = gator.task(add, 5)
    gator.run_all()
    assert later.wait(5) is True
    assert later.status == SUCCESS, "from the first question on it is known again"
    gator.close()


def test_a_redis_that_was_restarted_long_before_the_push(own_redis):
    gator = Gator(own_redis.dsn)
    gator.task(add, 1)
    gator.client.conn.save()
    restarted(own_redis, [gator.client])
    deadline = time.monotonic() + 20
    while gator.client.conn.info("server")["uptime_in_seconds"] < 4:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    task = gator.task(add, 2)
    gator.run_all()
    assert task.wait(5) is True
    assert task.status == SUCCESS
    gator.close()


def test_a_redis_that_was_emptied(own_redis):
    gator = Gator(own_redis.dsn)
    task = gator.task(add, 1)
    gator.client.conn.flushall()
    assert is_unknown(gator, task)
    for number in range(5):
        gator.task(add, number)
    assert is_unknown(gator, task)
    gator.close()


def test_a_queue_that_an_older_version_began(own_redis):
    gator = Gator(own_redis.dsn)
    gator.client.conn.set("alligator:{all}:seq", 7)  # it takes no note of its history
    first = gator.task(add, 1)
    gator.run_all()
    assert is_unknown(gator, first)
    second = gator.task(add, 1)
    gator.run_all()
    assert second.wait(5) is True
    assert second.status == SUCCESS
    gator.client.conn.delete("alligator:{all}:seq")  # it drops all, and leaves the note
    gator.client.conn.set("alligator:{all}:seq", 7)
    assert gator.status(gator.push(Task(), add, 1)) == WAITING
    assert gator.client.lost_nothing_since("all", second.queue_position) is False
    gator.close()


def test_a_redis_that_evicts_keys_cannot_tell(own_redis):
    gator = Gator(own_redis.dsn)
    task = gator.task(add, 1)
    gator.run_all()
    assert gator.status(task) == SUCCESS
    conn = gator.client.conn
    conn.config_set("maxmemory-policy", "volatile-ttl")
    conn.set("victim", "x" * 1_000_000, ex=1000)
    conn.config_set("maxmemory", conn.info("memory")["used_memory"] - 500_000)
    deadline = time.monotonic() + 20
    while not conn.info("stats")["evicted_keys"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    conn.config_set("maxmemory", 0)
    assert gator.status(task) is None
    assert task.wait(1) is True, "it has left the queue"
    assert task.status is None
    gator.close()


@pytest.mark.parametrize("options", [{}, {"save_results": 60}])
def test_a_file_that_was_made_anew(sqlite_dsn, options):
    gator = Gator(sqlite_dsn)
    task = gator.options(**options).task(add, 1)
    path = Path(sqlite_dsn.partition("://")[2])
    for each in path.parent.glob(f"{path.name}*"):
        each.unlink()
    assert is_unknown(gator, task)
    for number in range(5):
        gator.task(add, number)
    gator.run_all()
    assert is_unknown(gator, task)
    gator.close()


def test_an_older_copy_of_a_file(sqlite_dsn, tmp_path):
    gator = Gator(sqlite_dsn)
    gator.task(add, 1)
    path = Path(sqlite_dsn.partition("://")[2])
    with sqlite3.connect(path) as source, sqlite3.connect(tmp_path / "copy") as copy:
        source.backup(copy)
    copy.close()
    source.close()
    task = gator.task(add, 2)
    gator.close()
    for each in path.parent.glob(f"{path.name}-*"):
        each.unlink()
    (tmp_path / "copy").rename(path)
    for number in range(5):
        gator.task(add, number)
    gator.run_all()
    assert is_unknown(gator, task)
    gator.close()


# -- Where neither queue nor store can tell. ------------------------------------------------------


def test_without_a_note_of_its_end_nobody_knows(beanstalk):
    task = beanstalk.options(save_results=0).task(add, 1)
    assert task.wait(0) is False
    work(beanstalk)
    assert task.wait(5) is True, "it has left the queue"
    assert task.status is beanstalk.status(task) is None
    assert beanstalk.explain(task).startswith("unknown")
    dropped = beanstalk.options(save_results=0, delay_by=60).task(add, 1)
    beanstalk.client.drop_all(beanstalk.queue_name)
    dropped.wait(5)
    assert dropped.status is None
    bad = beanstalk.options(save_results=0).task(jobs.fail)
    work(beanstalk)
    assert bad.wait(5) is True
    assert bad.status == FAILED


def test_a_parent_of_which_nothing_is_known_is_over(beanstalk):
    parent = beanstalk.options(save_results=0).task(add, 1)
    work(beanstalk)
    assert parent.wait(5) is True
    child = beanstalk.options(is_async=False, depends_on=[parent]).task(add, 1, 1)
    assert (child.status, child.result) == (SUCCESS, 2)


# -- What a task object knows for certain. --------------------------------------------------------


@pytest.mark.parametrize("by_itself", [True, False])
def test_a_cancel_is_not_forgotten_without_a_note(beanstalk, by_itself):
    task = beanstalk.options(save_results=0).task(add, 1)
    assert task.cancel() if by_itself else beanstalk.cancel(task)
    for _ in range(2):
        assert task.wait(1) is False
        assert task.status == beanstalk.status(task) == CANCELED
    assert beanstalk.wait([task], 1) is False


def test_what_is_known_outlives_what_is_on_record(gator_with_store):
    gator = gator_with_store
    good = gator.options(save_results=60).task(add, 1, 1)
    bad = gator.options(save_results=60).task(jobs.fail)
    gator.run_all()
    assert good.wait(5) is True
    assert bad.wait(5) is True
    gator.client.purge_dead(gator.queue_name)
    gator.client.drop_all(gator.queue_name)
    gator.store.forget([good.task_id, bad.task_id])
    assert good.wait(1) is True
    assert (good.status, good.result, gator.result(good)) == (SUCCESS, 2, 2)
    assert bad.wait(1) is True
    assert (bad.status, gator.status(bad)) == (FAILED, FAILED)
    with pytest.raises(TaskFailed, match="too much"):
        gator.result(bad)


def test_a_cancel_outlives_its_record(gator):
    task = gator.options(save_results=60).task(add, 1)
    assert task.cancel() is True
    gator.store.forget([task.task_id])
    assert task.wait(1) is False
    assert task.status == gator.status(task) == CANCELED
    with pytest.raises(TaskCanceled):
        gator.result(task)


@pytest.mark.parametrize("options", [{}, {"save_results": 60}])
def test_a_new_push_is_more(gator, options):
    task = Task(**options)
    for number in range(3):
        gator.push(task, jobs.fail if number == 1 else add, number)
        assert (task.status, task.result, task.error) == (WAITING, None, None)
        assert task.wait(0) is False
        assert task.status == gator.status(task) == WAITING
        gator.run_all()
        if number == 1:
            assert task.wait(5) is True
            assert task.status == FAILED
            gator.client.purge_dead(gator.queue_name)
            gator.store.forget([task.task_id])
            continue
        assert task.wait(5) is True
        assert (task.status, task.error) == (SUCCESS, None)
        assert task.result == (number if options else None)


def test_a_canceled_task_that_is_pushed_again_runs(gator):
    task = gator.push(Task(save_results=60), add, 1)
    assert task.cancel() is True
    gator.push(task, add, 2)
    assert task.status == WAITING
    gator.run_all()
    assert task.wait(5) is True
    assert (task.status, task.result) == (SUCCESS, 2)


def test_a_revived_task_is_more(gator_with_store):
    gator = gator_with_store
    calls.clear()
    task = gator.options(save_results=60).task(fail_at_first)
    gator.run_all()
    assert task.wait(5) is True
    assert task.status == FAILED
    deadline = time.monotonic() + 20
    while not gator.revive():
        assert time.monotonic() < deadline
    while not gator.run_all():
        assert time.monotonic() < deadline
    while gator.status(task) != SUCCESS:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert task.wait(5) is True
    assert (task.status, task.result) == (SUCCESS, "well")


@pytest.mark.parametrize("looks", [True, False])
def test_a_revived_task_that_tells_nobody(gator, looks):
    calls.clear()
    task = gator.task(fail_at_first)
    gator.run_all()
    assert task.wait(5) is True
    assert task.status == FAILED
    assert gator.revive(task.task_id if looks else task) == 1
    if looks:
        assert task.wait(0) is False
    assert (task.status, task.error) == (WAITING, None)
    gator.run_all()
    assert task.wait(5) is True
    assert (task.status, task.error) == (SUCCESS, None)


def test_what_ran_here_is_known(gator):
    task = gator.options(is_async=False, save_results=60).task(add, 1, 2)
    gator.store.forget([task.task_id])
    assert task.wait(0) is True
    assert (task.status, gator.status(task), gator.result(task)) == (SUCCESS, SUCCESS, 3)
    for by_id in (False, True):
        pushed = gator.task(add, 1)
        ran = gator.get(pushed.task_id) if by_id else gator.pop()
        assert ran.status == SUCCESS
        assert pushed.wait(5) is True
        assert pushed.status == SUCCESS
