"""Test tasks that wait for others, with the queue on one backend and the store on another."""

import threading
import time
import uuid

import pytest

from alligator import CANCELED, DELAYED, FAILED, SUCCESS, WAITING, Gator, Task, Worker
from alligator.exceptions import ConnectionLost, InvalidTask, UnsupportedOption
from alligator.execution.attempt import attempt
from alligator.producer.children_in_other_store import HELD
from tests.behaviour.test_dependencies import after, fails_until, note, note_time, tries
from tests.support import jobs

PAIRS = ["beanstalk+redis", "sqs+sqlite", "redis+sqlite", "cluster+redis"]


@pytest.fixture(params=PAIRS)
def gator(request):
    jobs.seen.clear()
    tries.clear()
    backend, store = (request.getfixturevalue(f"{each}_dsn") for each in request.param.split("+"))
    gator = Gator(backend, f"e-{uuid.uuid4().hex[:8]}", store=store)
    if backend.startswith("sqs"):
        for name in (gator.queue_name, f"{gator.queue_name}-dead"):
            gator.client.conn.create_queue(QueueName=name)
    yield gator
    assert not gator.store.home.stats(HELD).running
    gator.store.home.drop_all(HELD)
    gator.client.drop_all(gator.queue_name)
    gator.close()


def saved(gator, **options):
    return gator.options(save_results=60, **options)


def work_until(gator, *tasks, within=30.0):
    """Let a worker run until all these have ended."""
    worker = Worker(gator, log_level="CRITICAL")
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + within
        for task in tasks:
            task.wait(deadline - time.monotonic())
            assert gator.status(task) in (SUCCESS, FAILED, CANCELED), (task, jobs.seen)
    finally:
        worker.keep_running = False
        thread.join(30)


def test_a_chain_and_a_fan(gator):
    root = saved(gator).task(note, "root")
    leaves = [after(gator, root).task(note, "leaf") for _ in range(12)]
    last = after(gator, *leaves).task(note, "last")
    assert last.status == gator.status(last.task_id) == gator.status(leaves[0]) == WAITING
    assert jobs.seen == []
    work_until(gator, last)
    assert jobs.seen == ["root", *["leaf"] * 12, "last"]
    assert gator.result(last.task_id) == "last"
    assert gator.store.home.find(HELD, root.task_id) is None


def test_parents_that_have_ended(gator):
    done = saved(gator).task(note, "done")
    work_until(gator, done)
    child = after(gator, done, "never-heard-of").task(note, "child")
    work_until(gator, child)
    assert jobs.seen == ["done", "child"]


def test_a_batch(gator):
    first, second, third = Task(), Task(), Task()
    second.depends_on, third.depends_on = [first], [second.task_id, first]
    for number, task in enumerate((first, second, third)):
        gator.prepare(task, note, [number], {})
    gator.push_batch([third, first, second])
    work_until(gator, third)
    assert jobs.seen == [0, 1, 2]


def test_a_failure(gator):
    parent = saved(gator).task(jobs.fail, "no luck")
    child = after(gator, parent).task(note, "child")
    grandchild = after(gator, child).task(note, "grandchild")
    work_until(gator, grandchild)
    assert jobs.seen == []
    assert [gator.status(each) for each in (parent, child, grandchild)] == [
        FAILED,
        CANCELED,
        CANCELED,
    ]
    assert "no luck" in gator.store.record(grandchild.task_id).error
    late = after(gator, parent).task(note, "late")
    assert late.status == CANCELED


def test_retries(gator):
    parent = saved(gator, retries=3).task(fails_until, 3)
    child = after(gator, parent).task(note, "child")
    work_until(gator, child)
    assert (len(tries), jobs.seen) == (3, ["parent", "child"])


def test_canceling(gator):
    parent = saved(gator, delay_by=60).task(note, "parent")
    children = [after(gator, parent).task(note, "child") for _ in range(2)]
    grandchild = after(gator, children[0]).task(note, "grandchild")
    assert gator.cancel(children[0].task_id).task_id == children[0].task_id
    assert gator.status(grandchild) == CANCELED
    assert gator.status(children[1]) == WAITING
    if not gator.conn_string.startswith("sqs"):
        assert gator.cancel(parent) is not None
        assert gator.status(children[1]) == CANCELED


def test_delay_of_a_child(gator):
    parent = saved(gator).task(note, "parent")
    later = after(gator, parent, delay_by=600).task(note, "later")
    child = after(gator, parent, delay_by=1).task(note_time)
    assert gator.status(later) == DELAYED
    work_until(gator, parent, child)
    assert jobs.seen[0] == "parent"
    assert jobs.seen[1] >= child.delay_until - 0.01
    assert len(jobs.seen) == 2


def test_a_parent_that_saves_nothing_is_refused(gator):
    parent = gator.options(save_results=0).task(note, "parent")
    for each in (parent, parent.task_id):
        if isinstance(each, str) and gator.conn_string.startswith("sqs"):
            continue  # it cannot be looked up: unknown
        with pytest.raises(UnsupportedOption, match="save_results"):
            after(gator, each).task(note, "child")
    assert gator.store.home.stats(HELD).delayed == 0


def test_parents_need_not_save_their_result(gator):
    with gator.batch() as batch:
        parents = [batch.task(note, "parent") for _ in range(3)]
    single = gator.task(note, "parent")
    children = [after(gator, *parents, single).task(note, "child")]
    children.append(after(gator, parents[0].task_id).task(note, "child"))
    assert {gator.status(each) for each in children} == {WAITING}
    work_until(gator, *children)
    assert sorted(jobs.seen) == ["child"] * 2 + ["parent"] * 4
    assert "parent" not in jobs.seen[jobs.seen.index("child") :] or jobs.seen[-1] == "child"
    late = after(gator, single).task(note, "late")
    work_until(gator, late)
    assert jobs.seen[-1] == "late"


def test_a_parent_that_fails_without_saving_its_result(gator):
    parent = gator.task(jobs.fail, "no luck")
    child = after(gator, parent).task(note, "child")
    work_until(gator, child)
    assert (gator.status(parent), gator.status(child)) == (FAILED, CANCELED)
    assert "no luck" in gator.store.record(child.task_id).error


@pytest.mark.parametrize("keys", [None, ["k" * 32]])
def test_a_parent_whose_worker_died_too_often(gator, keys):
    signed = Gator(gator.conn_string, gator.queue_name, store=gator.store, secret_keys=keys)
    parent = signed.task(note, "parent")
    child = after(signed, parent).task(note, "child")
    (delivery,) = signed.client.reserve([gator.queue_name], 1, 30, 10).deliveries
    delivery = delivery._replace(deaths=signed.client.max_deaths)
    signed.settler.settle(attempt(delivery, signed.codec, signed.client.max_deaths, signed.clock))
    assert (signed.status(parent.task_id), signed.status(child)) == (FAILED, CANCELED)
    assert "deaths" in gator.store.record(child.task_id).error
    signed.client.close()


def test_a_circle_made_one_by_one_is_refused(gator):
    own_id = f"p{gator.queue_name}"
    parent = gator.options(task_id=own_id).task(note, "parent")
    child = after(gator, parent).task(note, "child")
    with pytest.raises(InvalidTask, match="waits for it"):
        after(gator, child, task_id=own_id).task(note, "never")
    work_until(gator, child)
    assert jobs.seen == ["parent", "child"]


@pytest.mark.parametrize("step", ["end", "push", "over"])
def test_a_worker_that_dies_half_way(gator, monkeypatch, step):
    """What it left is taken up by the next."""
    parent = saved(gator).task(note, "parent")
    child = after(gator, parent).task(note, "child")
    died = []

    def dies(*args, **kwargs):
        if not died:
            died.append(step)
            raise ConnectionLost("as if killed")
        return whole(*args, **kwargs)

    monkeypatch.setattr("alligator.producer.children_in_other_store._LEASE", 0.5)
    monkeypatch.setattr("alligator.producer.children_in_other_store._EVERY", 0.1)
    monkeypatch.setattr("alligator.execution.settle._STORE_PAUSE", 0.1)
    where, name = {
        "end": (gator.store, "_end"),
        "push": (gator.client, "push_many"),
        "over": (gator.store, "_has_moved"),
    }[step]
    whole = getattr(where, name)
    monkeypatch.setattr(where, name, dies)
    work_until(gator, child)
    assert died
    assert set(jobs.seen) == {"parent", "child"}
    gator.store.move_free_children()
    time.sleep(0.6)
    gator.store.move_free_children()


@pytest.mark.parametrize(
    "data", ["no json", "[1]", '[5, "s", "x", null, 0]', '["q", "s", 5, 0, 0]']
)
def test_what_a_stranger_left_among_the_children_hides_none(gator, data):
    gator.store.home.push(HELD, "stranger", data)
    root = saved(gator).task(note, "root")
    child = after(gator, root).task(note, "child")
    work_until(gator, child)
    assert jobs.seen == ["root", "child"]
    (letter,) = gator.store.home.dead(HELD)
    assert (letter.task_id, letter.data) == ("stranger", data)
