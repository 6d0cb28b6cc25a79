"""Test tasks that wait for others, run by real workers, on every backend with a store."""

import threading
import time
import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alligator import CANCELED, FAILED, SUCCESS, WAITING, Gator, Task, Worker
from alligator.backends.base import Message
from alligator.backends.store import Child, Parent, record_key
from alligator.exceptions import InvalidTask, TaskCanceled, UnsupportedOption
from tests.support import jobs
from tests.support.helpers import eventually

STORES = ["locmem", "sqlite", "redis"]
tries: list[int] = []


def note(name):
    jobs.seen.append(name)
    return name


def note_time():
    jobs.seen.append(time.time())


def fails_until(times):
    tries.append(len(tries))
    if len(tries) < times:
        raise ValueError("not yet")
    jobs.seen.append("parent")


def add_up(*parents):
    gator = Gator(*parents[0])
    try:
        return sum(gator.result(each) for each in parents[1:])
    finally:
        gator.close()


def number(value):
    return value


@pytest.fixture
def locmem_dsn():
    return f"locmem://{uuid.uuid4().hex}"


@pytest.fixture(params=STORES)
def gator(request):
    jobs.seen.clear()
    tries.clear()
    gator = Gator(request.getfixturevalue(f"{request.param}_dsn"), f"d-{uuid.uuid4().hex[:12]}")
    gator.other = f"{gator.queue_name}-other"
    yield gator
    for name in (gator.queue_name, gator.other):
        gator.client.drop_all(name)
    gator.close()


def after(gator, *parents, **options):
    """Return options for a child of these."""
    return gator.options(depends_on=list(parents), **options)


def work(gator, *queues):
    Worker(gator, to_consume=list(queues) or None, burst=True, log_level="CRITICAL").run_forever()


def why(gator, task):
    return gator.store.record(task.task_id).error


# -- Who waits. -----------------------------------------------------------------------------------


def test_a_child_waits_for_its_parent(gator):
    parent = gator.task(note, "parent")
    child = after(gator, parent).task(note, "child")
    assert (gator.len(), child.status, gator.status(child)) == (1, WAITING, WAITING)
    assert gator.stats()["waiting"] == 1
    assert gator.get(child.task_id) is None
    assert jobs.seen == []
    work(gator)
    assert jobs.seen == ["parent", "child"]
    assert gator.status(child.task_id) is None
    assert gator.status(child) == SUCCESS
    assert child.wait(1) is True


def test_a_child_of_several(gator):
    parents = [gator.task(note, index) for index in range(20)]
    after(gator, *parents).task(note, "child")
    last = parents.pop()
    for each in parents:
        gator.get(each.task_id)
    assert gator.pop() is not None
    assert len(jobs.seen) == 20
    assert gator.client.find(gator.queue_name, last.task_id) is None
    work(gator)
    assert jobs.seen[20:] == ["child"]


def test_a_chain(gator):
    last = gator.task(note, 0)
    for index in range(1, 30):
        last = after(gator, last).task(note, index)
    assert gator.len() == 1
    work(gator)
    assert jobs.seen == list(range(30))


def test_fan_out(gator):
    parent = gator.task(note, "parent")
    with gator.batch(depends_on=[parent]) as batch:
        for index in range(10_000):
            batch.task(note, index)
    assert gator.len() == 1
    started = time.monotonic()
    assert gator.pop() is not None
    assert time.monotonic() - started < 30
    assert gator.len() == 10_000
    # A burst waits for what it hands back, so that the order stays on a busy machine, too.
    Worker(gator, burst=True, max_tasks=500, log_level="CRITICAL").run_forever()
    assert jobs.seen == ["parent", *range(500)], "all of them would take too long here"


def test_fan_in(gator):
    with gator.batch() as batch:
        parents = [batch.task(note, index) for index in range(2_000)]
    after(gator, *parents).task(note, "child")
    work(gator)
    assert jobs.seen == [*range(2_000), "child"]


def test_a_parent_that_has_finished_and_one_never_heard_of(gator):
    parent = gator.task(note, "parent")
    work(gator)
    child = after(gator, parent, "never-heard-of", ("nowhere", "x")).task(note, "child")
    assert (gator.len(), gator.status(child)) == (1, WAITING)
    work(gator)
    assert jobs.seen == ["parent", "child"]


def test_the_same_batch(gator):
    with gator.batch() as batch:
        first = batch.task(note, "first")
        middle = after(gator, first)
        with pytest.raises(InvalidTask, match="was not pushed"):
            middle.task(note, "outside of the batch")
    with gator.batch(task_id=f"b{gator.queue_name}", depends_on=f"a{gator.queue_name}") as batch:
        batch.task(note, "alone: that id is unknown")
    work(gator)
    assert jobs.seen == ["first", "alone: that id is unknown"]


def in_batch(gator, *tasks):
    """Push tasks of one's own making together."""
    for task, name in tasks:
        gator.prepare(task, note, [name], {})
    gator.push_batch([task for task, _ in tasks])


def test_parents_of_the_same_batch_in_any_order(gator):
    parent = Task()
    child = Task(depends_on=[parent])
    grandchild = Task(depends_on=[child.task_id, parent])
    in_batch(gator, (grandchild, 3), (child, 2), (parent, 1))
    assert gator.len() == 1
    work(gator)
    assert jobs.seen == [1, 2, 3]


def test_other_queues(gator):
    parent = gator.options(queue_name=gator.other).task(note, "parent")
    by_object = after(gator, parent).task(note, "by object")
    by_id = after(gator, parent.task_id).task(note, "by id")
    elsewhere = Gator(gator.conn_string, gator.queue_name)
    by_pair = after(elsewhere, (gator.other, parent.id)).task(note, "by pair")
    assert [gator.status(each) for each in (by_object, by_id, by_pair)] == [WAITING] * 3
    assert (gator.len(), gator.client.len(gator.other)) == (0, 1)
    back = after(gator, by_pair, queue_name=gator.other).task(note, "and back")
    work(gator, gator.other, gator.queue_name)
    assert jobs.seen == ["parent", "by object", "by id", "by pair", "and back"]
    assert back.wait(1) is True
    elsewhere.close()


def test_an_idle_worker_of_the_childs_queue_starts_it_at_once(gator):
    parent = gator.options(queue_name=gator.other).task(note, "parent")
    child = after(gator, parent).task(note, "child")
    worker = Worker(gator, log_level="CRITICAL")
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    try:
        time.sleep(0.2)  # it waits by now; if not, the test is only easier
        started = time.monotonic()
        work(gator, gator.other)
        assert child.wait(10) is True
        assert time.monotonic() - started < 8, "at once, without the longest wait"
    finally:
        worker.keep_running = False
        thread.join(30)


def test_delay_and_priority_of_a_child(gator):
    parent = gator.task(note, "parent")
    after(gator, parent, priority=-5).task(note, "late")
    after(gator, parent, priority=5).task(note, "early")
    later = after(gator, parent, delay_by=600).task(note, "much later")
    soon = after(gator, parent, delay_by=0.5).task(note_time)
    work(gator)
    assert [each for each in jobs.seen if isinstance(each, str)] == ["parent", "early", "late"]
    assert gator.client.find(gator.queue_name, later.task_id).due == pytest.approx(
        later.delay_until, abs=0.01
    )
    eventually(lambda: work(gator) or len(jobs.seen) == 4, "it is due")
    assert max(each for each in jobs.seen if isinstance(each, float)) >= soon.delay_until - 0.01


# -- What ends the waiting. -----------------------------------------------------------------------


def test_retries_do_not_release_it_early(gator):
    parent = gator.options(retries=3).task(fails_until, 3)
    after(gator, parent).task(note, "child")
    while gator.len():
        work(gator)
    assert (len(tries), jobs.seen) == (3, ["parent", "child"])


def test_a_parent_that_fails(gator):
    parent = gator.task(jobs.fail, "no luck")
    child = after(gator, parent, save_results=60).task(note, "child")
    grandchild = after(gator, child).task(note, "grandchild")
    work(gator)
    assert jobs.seen == []
    assert [gator.status(each) for each in (parent, child, grandchild)] == [
        FAILED,
        CANCELED,
        CANCELED,
    ]
    assert why(gator, child) == f"Canceled: its parent {parent.id} failed: ValueError: no luck"
    assert why(gator, grandchild) == (
        f"Canceled: its parent {child.id} was canceled: its parent {parent.id} failed: "
        "ValueError: no luck"
    )
    assert child.wait(1) is False
    with pytest.raises(TaskCanceled):
        gator.result(child)
    late = after(gator, parent).task(note, "late")
    assert late.status == gator.status(late) == CANCELED
    assert "no luck" in why(gator, late)
    later = after(gator, late.task_id).task(note, "later")
    assert later.status == CANCELED
    assert gator.len() == 0


def test_a_failure_counts_although_another_parent_succeeds(gator):
    good, bad = gator.task(note, "good"), gator.task(jobs.fail)
    child = after(gator, good, bad).task(note, "child")
    work(gator)
    assert jobs.seen == ["good"]
    assert gator.status(child) == CANCELED


def test_a_parent_that_expires(gator):
    parent = gator.options(expires=0.05).task(note, "parent")
    child = after(gator, parent).task(note, "child")
    time.sleep(0.1)
    work(gator)
    assert jobs.seen == []
    assert gator.status(child) == CANCELED
    assert "Expired" in why(gator, child)


def test_a_parent_that_is_canceled(gator):
    parent = gator.task(note, "parent")
    child = after(gator, parent).task(note, "child")
    grandchild = after(gator, child).task(note, "grandchild")
    assert gator.cancel(parent.id).task_id == parent.id
    assert [gator.status(each) for each in (child, grandchild)] == [CANCELED] * 2
    assert why(gator, child) == f"Canceled: its parent {parent.id} was canceled."
    assert gator.len() == 0
    work(gator)
    assert jobs.seen == []


def test_canceling_a_child(gator):
    parent, other = gator.task(note, "parent"), gator.task(note, "other")
    child = after(gator, parent, other).task(note, "child")
    grandchild = after(gator, child).task(note, "grandchild")
    assert child.cancel() is True
    assert child.cancel() is False
    assert [gator.status(each) for each in (child, grandchild)] == [CANCELED] * 2
    work(gator)
    assert jobs.seen == ["parent", "other"]


def test_a_parent_whose_worker_died_too_often(gator):
    parent = gator.task(note, "parent")
    child = after(gator, parent).task(note, "child")
    for _ in range(gator.client.max_deaths):
        (lost,) = gator.client.reserve([gator.queue_name], 1, 0.05).deliveries
        time.sleep(0.1)
    assert gator.status(child) == WAITING
    work(gator)
    assert gator.status(child) == CANCELED
    assert "deaths" in why(gator, child)
    assert gator.client.ack([lost]) == [lost]


def test_a_stale_ack_releases_nobody(gator):
    parent = gator.task(note, "parent")
    child = after(gator, parent).task(note, "child")
    (stale,) = gator.client.reserve([gator.queue_name], 1, 0.05).deliveries
    time.sleep(0.1)
    (current,) = gator.client.reserve([gator.queue_name], 1, 30).deliveries
    assert gator.client.ack([stale]) == [stale]
    assert gator.len() == 0
    assert gator.client.ack([current]) == []
    assert gator.client.ack([current]) == [current]
    assert gator.len() == 1
    assert gator.get(child.id) is not None


def test_a_dropped_queue_takes_its_children_along(gator):
    parent = gator.options(queue_name=gator.other).task(note, "parent")
    dropped = after(gator, parent, task_id=f"c{gator.other}").task(note, "child")
    outside = after(gator, dropped, queue_name=gator.other).task(note, "outside")
    gator.client.drop_all(gator.queue_name)
    assert gator.status(dropped) is None
    assert gator.status(outside) == CANCELED
    assert "emptied" in why(gator, outside)
    work(gator, gator.other, gator.queue_name)
    assert jobs.seen == ["parent"]
    # Nothing of it is left in the way of another child of that id.
    parent = gator.task(note, "second parent")
    after(gator, parent, task_id=f"c{gator.other}").task(note, "second child")
    work(gator)
    assert jobs.seen[1:] == ["second parent", "second child"]


def test_pushing_the_id_of_a_child_again(gator):
    parent, own_id = gator.task(note, "parent"), f"c{gator.queue_name}"
    after(gator, parent, task_id=own_id).task(note, "first")
    gator.options(task_id=own_id, priority=50).task(note, "second")
    assert gator.len() == 2
    work(gator)
    assert jobs.seen == ["second", "parent"]
    first, second = gator.task(note, "one"), gator.task(note, "two")
    after(gator, first, task_id=own_id).task(note, "by the first")
    after(gator, second, task_id=own_id).task(note, "by the second")
    gator.pop()
    assert gator.len() == 1
    work(gator)
    assert jobs.seen[2:] == ["one", "two", "by the second"]


def test_a_waiting_task_becomes_a_child(gator):
    own_id = f"c{gator.queue_name}"
    for options in ({}, {"delay_by": 50}):
        gator.options(task_id=own_id, **options).task(note, "at once")
        parent = gator.task(note, "parent")
        after(gator, parent, task_id=own_id).task(note, "child")
        assert gator.len() == 1
        work(gator)
    assert jobs.seen == ["parent", "child"] * 2
    gator.options(task_id=own_id).task(note, "runs")
    (held,) = gator.client.reserve([gator.queue_name]).deliveries
    parent = gator.task(note, "parent")
    with pytest.raises(InvalidTask, match="is running"):
        after(gator, parent, task_id=own_id).task(note, "child")
    gator.client.ack([held])


# -- What a child can see, and what is refused. ---------------------------------------------------


def test_a_child_reads_the_results_of_its_parents(gator):
    where = [gator.conn_string, gator.queue_name]
    saved = gator.options(save_results=60)
    parents = [saved.task(number, value) for value in (3, 4)]
    child = after(gator, *parents, save_results=60).task(
        add_up, where, *(each.id for each in parents)
    )
    work(gator)
    assert gator.result(child) == 7


def test_a_task_knows_what_it_waited_for(gator):
    parent = gator.task(note, "parent")
    child = after(gator, parent, ("elsewhere", "x")).task(note, "child")
    gator.pop()
    assert gator.get(child.id).depends_on == [parent.id, "x"]


def test_circles_are_refused(gator):
    for itself in (f"c{gator.queue_name}", (gator.queue_name, f"c{gator.queue_name}")):
        with pytest.raises(InvalidTask, match="depends on itself"):
            after(gator, itself, task_id=f"c{gator.queue_name}").task(note, 1)
    one, two, three = (Task() for _ in range(3))
    one.depends_on, two.depends_on, three.depends_on = [three], [one.task_id], [two]
    with pytest.raises(InvalidTask, match="wait for each other"):
        in_batch(gator, (one, 1), (two, 2), (three, 3))
    assert gator.len() == 0


def test_a_circle_made_one_by_one_is_refused(gator):
    """By pushing an id again for which others wait already, near or far."""
    own_id = f"p{gator.queue_name}"
    gator.options(task_id=own_id).task(note, "parent")
    child = after(gator, own_id, queue_name=gator.other).task(note, "child")
    grandchild = after(gator, child).task(note, "grandchild")
    for each in (child, grandchild):
        with pytest.raises(InvalidTask, match="waits for it"):
            after(gator, each, task_id=own_id).task(note, "never")
    work(gator, gator.queue_name, gator.other)
    assert jobs.seen == ["parent", "child", "grandchild"], "as if nothing had been asked for"
    after(gator, grandchild, task_id=own_id).task(note, "again")
    work(gator)
    assert jobs.seen[3:] == ["again"]


def test_an_id_that_others_wait_for_may_wait_itself(gator):
    own_id = f"p{gator.queue_name}"
    gator.options(task_id=own_id).task(note, "replaced")
    after(gator, own_id).task(note, "child")
    first = gator.options(queue_name=gator.other).task(note, "first")
    after(gator, first, task_id=own_id).task(note, "parent")
    work(gator, gator.queue_name, gator.other)
    assert jobs.seen == ["first", "parent", "child"]


@pytest.mark.parametrize("wrong", [5, [5], [("a", "b", "c")], [None], [("a", 5)], object()])
def test_what_is_no_parent_is_refused(wrong):
    with pytest.raises(InvalidTask, match="depends_on"):
        Gator("locmem://x").options(depends_on=wrong)


@pytest.mark.parametrize("none", [None, [], ()])
def test_no_parents_at_all(gator, none):
    gator.options(depends_on=none).task(note, "free")
    assert gator.len() == 1


def test_parents_of_another_backend_and_parents_never_pushed(gator):
    stranger = Gator("locmem://another").task(note, 1)
    with pytest.raises(InvalidTask, match="was pushed to locmem://another"):
        after(gator, stranger).task(note, 2)
    with pytest.raises(InvalidTask, match="was not pushed"):
        after(gator, Task()).task(note, 2)
    assert gator.len() == 0


def test_in_sync_mode(gator):
    here = gator.options(is_async=False)
    done = here.task(note, "parent")
    after(gator, done, is_async=False).task(note, "child")
    after(gator, done).task(note, "queued")
    assert jobs.seen == ["parent", "child"]
    assert gator.len() == 1
    failed = Task(is_async=False)
    with pytest.raises(ValueError, match="too much"):
        gator.push(failed, jobs.fail)
    child = after(gator, failed, is_async=False).task(note, "no")
    assert child.status == CANCELED
    queued = gator.task(note, "queued")
    with pytest.raises(InvalidTask, match="is on a queue"):
        after(gator, queued, is_async=False).task(note, "no")


def test_without_a_store(beanstalk_dsn):
    gator = Gator(beanstalk_dsn, f"d-{uuid.uuid4().hex[:8]}")
    parent = gator.task(note, "parent")
    with pytest.raises(UnsupportedOption, match=r"store='redis://"):
        after(gator, parent).task(note, "child")
    gator.client.drop_all(gator.queue_name)
    gator.close()


def test_two_workers_and_one_release(gator):
    """The last parent to be acked releases the child, and no other does."""
    for turn in range(20):
        parents = [gator.task(number, turn) for _ in range(2)]
        after(gator, *parents).task(note, turn)
        held = gator.client.reserve([gator.queue_name], 2).deliveries
        start = threading.Barrier(2)

        def ack(delivery, start=start):
            start.wait(10)
            assert gator.client.ack([delivery]) == []

        threads = [threading.Thread(target=ack, args=[each]) for each in held]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert gator.len() == 1
        work(gator)
    assert jobs.seen == list(range(20))


# -- Any graph. -----------------------------------------------------------------------------------


@st.composite
def graphs(draw, size=50):
    """Return for each of some tasks, whom it waits for, and which fail."""
    count = draw(st.integers(1, size))
    parents = [
        draw(st.sets(st.integers(0, each - 1), max_size=4)) if each else set()
        for each in range(count)
    ]
    return parents, draw(st.sets(st.integers(0, count - 1), max_size=2))


def lost(parents, failing):
    """Return who cannot run."""
    gone = set()
    for each, its_parents in enumerate(parents):
        if any(parent in gone or parent in failing for parent in its_parents):
            gone.add(each)
    return gone


def act(index, fails):
    jobs.seen.append(index)
    if fails:
        raise ValueError("as told")


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(graphs(), st.randoms(use_true_random=False), st.booleans())
def test_any_graph(gator, graph, random, batch):
    parents, failing = graph
    jobs.seen.clear()
    run = uuid.uuid4().hex[:8]
    own, other = queues = [f"{gator.queue_name}-{run}", f"{gator.other}-{run}"]
    tasks = [
        Task(task_id=f"{run}-{each}", queue_name=random.choice(queues))
        for each in range(len(parents))
    ]
    for each, task in enumerate(tasks):
        task.depends_on = [tasks[parent] for parent in parents[each]] or None
        gator.prepare(task, act, [each, each in failing], {})
    if batch:
        gator.push_batch(random.sample(tasks, len(tasks)))
    else:
        for each, task in enumerate(tasks):
            gator.push(task, act, each, each in failing)
            if random.random() < 0.3:
                work(gator, own)
    work(gator, other, own)
    gone = lost(parents, failing)
    assert sorted(jobs.seen) == [each for each in range(len(tasks)) if each not in gone]
    at = {each: place for place, each in enumerate(jobs.seen)}
    for each, its_parents in enumerate(parents):
        if each not in gone:
            assert all(at[parent] < at[each] for parent in its_parents)
    assert [each for each, task in enumerate(tasks) if gator.status(task) == CANCELED] == sorted(
        gone
    )
    for name in queues:
        assert gator.client.len(name) == 0
        gator.client.drop_all(name)


def test_hold_says_what_became_of_each(gator):
    store, name = gator.store, gator.queue_name
    gone = gator.task(jobs.fail)
    work(gator)
    gator.client.push(name, "p", "x")
    where = (name,)
    states = store.hold(
        gator.client,
        [
            Child(name, Message("a", "1"), (Parent("p", where), Parent("q", where))),
            Child(name, Message("b", "2"), (Parent("a", where),)),
            Child(name, Message("c", "3"), (Parent(gone.id, where), Parent("p", where))),
            Child(name, Message("d", b"\xff"), ()),
        ],
    )
    assert states == [WAITING, WAITING, CANCELED, WAITING]
    assert gator.len() == 2
    assert [gator.client.find(name, each) is None for each in "abcd"] == [False, False, True, False]
    assert gator.client.peek(name, "b") == "2"
    assert gator.store.record(record_key(gator.queue_name, "c")).state == CANCELED
