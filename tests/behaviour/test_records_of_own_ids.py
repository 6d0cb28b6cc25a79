"""Test the records of the user's own ids: the last push counts, and each queue has its own."""

import json
import threading
import time
import uuid

import pytest

from alligator import CANCELED, FAILED, RUNNING, SUCCESS, WAITING, Gator, Worker
from alligator.backends.base import Reason
from alligator.backends.store import Record, own_record_key, record_key
from alligator.common.clock import SystemClock
from alligator.common.ids import is_generated, new_task_id
from alligator.exceptions import BadSignature, TaskFailed
from tests.support import jobs
from tests.support.jobs import fail

STORES = ["locmem", "sqlite", "redis", "redis+sqlite", "beanstalk+redis", "sqs+sqlite"]


def add(one, two):
    return one + two


IDS = {"text": "x", "uuid4": str(uuid.uuid4()), "uuid7": new_task_id()}


@pytest.fixture(params=STORES)
def gators(request, tmp_path):
    """Make Gators on several queues of one backend and store, with ids that are new each time."""
    jobs.seen.clear()
    made, (backend, _, store) = {}, request.param.partition("+")
    where = [
        f"locmem://{tmp_path}" if name == "locmem" else request.getfixturevalue(f"{name}_dsn")
        for name in (backend, store)
        if name
    ]
    unique = uuid.uuid4().hex[:8]

    def make(name, **options):
        queue_name = f"{name}-{unique}"
        gator = Gator(where[0], queue_name, store=where[1] if store else None, **options)
        if backend == "sqs" and queue_name not in {each.queue_name for each in made.values()}:
            for each in (queue_name, f"{queue_name}-dead"):
                gator.client.conn.create_queue(QueueName=each)
        made[len(made)] = gator
        return gator

    yield make
    for gator in made.values():
        gator.client.drop_all(gator.queue_name)
        gator.close()


@pytest.fixture(params=list(IDS))
def own_id(request):
    """An id of the user's own that no other test uses."""
    return {"text": f"x-{uuid.uuid4().hex}", "uuid4": str(uuid.uuid4()), "uuid7": new_task_id()}[
        request.param
    ]


def work(gator, *tasks):
    """Run what is due, until these have ended."""
    deadline = time.monotonic() + 30
    while True:
        gator.run_all()
        if gator.store is not None and gator.store.bridged:
            gator.store.move_free_children()
        if all(gator.status(each) in (SUCCESS, FAILED, CANCELED) for each in tasks):
            return
        time.sleep(0.02)
        assert time.monotonic() < deadline, [gator.status(each) for each in tasks]


def fails(gator, own_id, **options):
    """Push a task of that id, and let it become a dead letter."""
    task = gator.options(task_id=own_id, **options).task(fail, "yesterday")
    gator.run_all()
    assert gator.status(task) == FAILED
    return task


def purged(gator):
    """Delete the dead letters, but not their records."""
    gator.client.purge_dead(gator.queue_name)


def left(gator, own_id):
    """Leave the dead letter where it is."""


@pytest.mark.parametrize("after", [left, purged])
@pytest.mark.parametrize("options", [{}, {"save_results": 60}], ids=["saves nothing", "saves"])
def test_the_failure_of_yesterday(gators, own_id, after, options):
    gator = gators("a")
    first = fails(gator, own_id)
    if after is purged:
        purged(gator)
    assert gator.status(own_id) == FAILED or gator.store is not gator.client.store
    today = gator.options(task_id=own_id, **options).task(add, 1, 2)
    assert gator.status(today) == gator.status(own_id) == WAITING
    assert not gator.wait([today], 0)
    assert not gator.wait([own_id], 0)
    child = gator.options(depends_on=[today], save_results=60).task(add, 3, 4)
    assert gator.status(child) == WAITING
    work(gator, today, child)
    assert gator.status(today) == SUCCESS
    assert gator.status(own_id) in (SUCCESS, None)
    assert "failed" not in gator.explain(own_id)
    assert gator.result(child) == 7
    late = [gator.options(depends_on=[each], save_results=60) for each in (today, own_id)]
    for each in late:
        task = each.task(add, 5, 6)
        work(gator, task)
        assert gator.result(task) == 11
    if options:
        assert gator.result(today) == gator.result(own_id) == 3
    assert first.status in (WAITING, FAILED)


def test_failures_of_the_last_push_count(gators, own_id):
    gator = gators("a")
    fails(gator, own_id)
    good = gator.options(task_id=own_id).task(add, 1, 2)
    work(gator, good)
    again = fails(gator, own_id)
    assert gator.status(own_id) == FAILED
    for each in (again, own_id):
        assert gator.options(depends_on=[each]).task(add, 1, 2).status == CANCELED
    with pytest.raises(TaskFailed, match="yesterday"):
        gator.result(own_id)
    assert gator.dead()


def test_the_success_of_yesterday(gators, own_id):
    """It frees no child of what was pushed today, which has not ended."""
    gator = gators("a")
    yesterday = gator.options(task_id=own_id, save_results=60).task(add, 1, 2)
    work(gator, yesterday)
    early = gator.options(depends_on=[yesterday], save_results=60).task(add, 3, 4)
    work(gator, early)
    assert gator.result(early) == 7
    today = gator.options(task_id=own_id, save_results=60).task(fail, "today")
    children = [
        gator.options(depends_on=[each]).task(add, 3, 4)
        for each in (today, (gator.queue_name, own_id))
    ]
    work(gator, today, *children)
    assert [gator.status(each) for each in children] == [CANCELED, CANCELED]
    assert gator.status(today) == gator.status(own_id) == FAILED
    with pytest.raises(TaskFailed, match="today"):
        gator.result(own_id)


def test_a_failure_stays_known_where_children_waited_for_it(gators, own_id):
    gator = gators("a")
    parent = gator.options(task_id=own_id, save_results=60).task(fail, "today")
    child = gator.options(depends_on=[parent]).task(add, 3, 4)
    work(gator, parent, child)
    assert gator.status(child) == CANCELED
    gator.client.purge_dead(gator.queue_name)
    assert gator.status(parent) == gator.status(own_id) == FAILED
    assert "ValueError: today" in gator.explain(own_id)


def test_a_cancellation_of_yesterday(gators, own_id):
    gator = gators("a")
    if gator.conn_string.startswith("sqs"):
        pytest.skip("nothing can be canceled there")
    assert gator.options(task_id=own_id).task(add, 1, 2).cancel()
    assert gator.status(own_id) == CANCELED
    assert gator.options(depends_on=[own_id]).task(add, 1, 2).status == CANCELED
    today = gator.options(task_id=own_id).task(add, 1, 2)
    assert gator.status(own_id) == WAITING
    child = gator.options(depends_on=[own_id], save_results=60).task(add, 3, 4)
    assert child.status == WAITING
    work(gator, today, child)
    assert gator.status(own_id) in (SUCCESS, None)


def test_a_child_of_an_own_id_that_was_canceled_yesterday(gators, own_id):
    gator = gators("a")
    parent = gator.task(fail, "no")
    child = gator.options(task_id=own_id, depends_on=[parent], save_results=60).task(add, 1, 2)
    work(gator, child)
    assert gator.status(child) == gator.status(own_id) == CANCELED
    fine = gator.options(delay_by=0.2).task(add, 1, 2)
    again = gator.options(task_id=own_id, depends_on=[fine], save_results=60).task(add, 1, 2)
    assert again.status == gator.status(own_id) == WAITING
    work(gator, again)
    assert gator.result(own_id) == 3


def test_another_queue_has_records_of_its_own(gators, own_id):
    one, two = gators("a"), gators("b")
    fails(one, own_id, save_results=60)
    assert two.status(own_id) is None
    good = two.options(task_id=own_id, save_results=60).task(add, 1, 2)
    assert two.status(good) == two.status(own_id) == WAITING
    child = two.options(depends_on=[(two.queue_name, own_id)], save_results=60).task(add, 3, 4)
    assert two.status(child) == WAITING
    work(two, good, child)
    assert two.result(good) == two.result(own_id) == 3
    assert two.result(child) == 7
    assert one.status(own_id) == FAILED
    assert len(one.dead()) == one.revive() == 1
    assert two.result(own_id) == 3
    assert gators("c").status(own_id) is None


def test_parents_of_one_id_on_two_queues(gators):
    own_id = f"x-{uuid.uuid4().hex}"
    one, two = gators("a"), gators("b")
    bad = one.options(task_id=own_id).task(fail, "no")
    good = two.options(task_id=own_id).task(add, 1, 2)
    parents = {gator: (gator.queue_name, own_id) for gator in (one, two)}
    children = [
        gator.options(depends_on=[parents[gator]], save_results=60).task(add, 3, 4)
        for gator in (one, two)
    ]
    assert [each.status for each in children] == [WAITING, WAITING]
    work(two, good, children[1])
    assert two.result(children[1]) == 7
    assert one.status(children[0]) == WAITING
    work(one, bad, children[0])
    assert one.status(children[0]) == CANCELED
    assert "no" in one.explain(children[0])
    assert "\x1f" not in one.explain(children[0])


def begun_and_told(gate, told, fails_then):
    told.append(True)
    assert gate.wait(20)
    if fails_then:
        raise ValueError("the first run")


GATE, TOLD = threading.Event(), []


def first_run(fails_then):
    begun_and_told(GATE, TOLD, fails_then)


def test_pushed_while_a_run_goes_on_that_fails(gators):
    """Such a push is told apart from the run before it, which fails after it."""
    gator, own_id = gators("a"), f"x-{uuid.uuid4().hex}"
    if (
        gator.store is not None
        and gator.store.bridged
        and "sqlite" not in gator.conn_string + "redis"
    ):
        pytest.skip("a second task of that id, beside the first")
    if gator.conn_string.startswith(("beanstalk", "sqs")):
        pytest.skip("a second task of that id, beside the first")
    GATE.clear()
    TOLD.clear()
    gator.options(task_id=own_id).task(first_run, True)
    worker = Worker(gator, log_level="CRITICAL")
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not TOLD:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        second = gator.options(task_id=own_id).task(add, 1, 2)
        assert gator.status(second) == RUNNING
        GATE.set()
        assert second.wait(20)
        while gator.client.len(gator.queue_name) or gator.status(own_id) in (RUNNING, WAITING):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        worker.keep_running = False
        thread.join(20)
    assert gator.status(own_id) in (SUCCESS, None)
    assert gator.status(second) in (SUCCESS, None)
    child = gator.options(depends_on=[own_id], save_results=60).task(add, 3, 4)
    work(gator, child)
    assert gator.result(child) == 7


def test_a_worker_with_a_clock_ahead(gators, own_id):
    """A failure is compared by when its task was pushed, not by when it was noted."""
    gator = gators("a")

    class Ahead(SystemClock):
        def time(self):
            return super().time() + 3600

    task = gator.options(task_id=own_id).task(fail, "yesterday")
    recorder = gator.recorder
    recorder.clock = Ahead()
    (delivery,) = gator.client.reserve([gator.queue_name], 1, 30, 10).deliveries
    found = gator.codec.decode(delivery)
    assert recorder.failure(found, 1, Reason("ValueError: no")).pushed == task.pushed_at
    gator.client.ack([delivery])


# -- What Alligator 1.1 left, and goes on to write. -----------------------------------------------


def test_a_record_of_alligator_1_1(gators):
    """It stands under the id alone, and is told until that id is pushed again."""
    gator, own_id = gators("a"), f"x-{uuid.uuid4().hex}"
    now = time.time()
    failed = Record(FAILED, error="ValueError: of 1.1", at=now, attempt=1, pushed=now)
    gator.store.note(own_id, failed, 600)
    assert gator.status(own_id) == FAILED
    assert gator.options(depends_on=[own_id]).task(add, 1, 2).status == CANCELED
    with pytest.raises(TaskFailed, match=r"of 1\.1"):
        gator.result(own_id)
    today = gator.options(task_id=own_id).task(add, 1, 2)
    assert gator.status(today) == WAITING
    work(gator, today)
    assert gator.status(today) == SUCCESS
    assert gator.status(own_id) in (SUCCESS, None)


def test_a_worker_of_alligator_1_1_notes_a_result(gators):
    """Under the id alone, and with the time of the push that the message says."""
    gator, own_id = gators("a"), f"x-{uuid.uuid4().hex}"
    task = gator.options(task_id=own_id, save_results=60).task(add, 1, 2)
    (delivery,) = gator.client.reserve([gator.queue_name], 1, 30, 10).deliveries
    pushed = json.loads(delivery.data)["options"]["pushed_at"]
    record = Record(SUCCESS, "3", at=time.time(), attempt=1, pushed=pushed)
    gator.store.note(own_id, record, 600)
    gator.client.ack([delivery])
    assert task.wait(5)
    assert gator.result(task) == gator.result(own_id) == 3
    again = gator.options(task_id=own_id, save_results=60).task(add, 2, 2)
    assert not again.wait(0)
    work(gator, again)
    assert gator.result(own_id) == 4


def test_messages_that_alligator_1_1_can_read(gators):
    """It refuses options that it does not know, unless they are null."""
    gator = gators("a")
    for own_id in IDS.values():
        gator.options(task_id=own_id).task(add, 1, 2)
        (delivery,) = gator.client.reserve([gator.queue_name], 1, 30, 10).deliveries
        options = json.loads(delivery.data)["options"]
        assert set(options) - {"note_end"} in ({"pushed_at"}, {"pushed_at", "own_id"})
        assert ("own_id" in options) == is_generated(own_id)
        assert options.get("own_id") is None
        gator.client.ack([delivery])


def test_a_worker_of_alligator_1_1_ends_the_parent_of_a_child_held_elsewhere(gators, monkeypatch):
    """It knows no stand-in by queue and id, so another worker has to check the stand-in."""
    gator, own_id = gators("a"), f"x-{uuid.uuid4().hex}"
    if gator.store is None or not gator.store.bridged:
        pytest.skip("children are held beside the queue")
    monkeypatch.setattr("alligator.producer.children_in_other_store._SOON", 0.2)
    parent = gator.options(task_id=own_id).task(add, 1, 2)
    child = gator.options(depends_on=[parent], save_results=60).task(add, 3, 4)
    time.sleep(0.3)
    gator.store.move_free_children()  # nothing has happened
    assert gator.status(child) == WAITING
    (delivery,) = gator.client.reserve([gator.queue_name], 1, 30, 10).deliveries
    record = Record(SUCCESS, at=time.time(), attempt=1, pushed=parent.pushed_at)
    gator.store.note(own_id, record, 60)
    gator.client.ack([delivery])
    work(gator, child)
    assert gator.result(child) == 7


# -- Signed results. ------------------------------------------------------------------------------


def test_a_signed_result_is_worth_nothing_on_another_queue(gators, own_id):
    one, two = (gators(name, secret_keys=["k" * 32]) for name in "ab")
    task = one.options(task_id=own_id, save_results=60).task(add, 1, 2)
    other = two.options(task_id=own_id, save_results=60).task(add, 2, 2)
    work(one, task)
    work(two, other)
    assert (one.result(task), two.result(other)) == (3, 4)
    key = own_record_key(one.queue_name, own_id)
    forged = one.store.record(key)
    forged = forged._replace(pushed=time.time() + 9)
    one.store.note(own_record_key(two.queue_name, own_id), forged, 60)
    with pytest.raises(BadSignature):
        two.result(own_id)


def test_a_result_that_alligator_1_1_signed(gators):
    gator, own_id = gators("a", secret_keys=["k" * 32]), f"x-{uuid.uuid4().hex}"
    sealed = gator.signer.seal("#results", own_id, "3")
    record = Record(SUCCESS, sealed, at=time.time(), attempt=1, pushed=time.time())
    gator.store.note(own_id, record, 60)
    assert gator.result(own_id) == 3


# -- Keys. ----------------------------------------------------------------------------------------


def test_keys():
    made = new_task_id()
    assert record_key("a", made) == made
    keys = {record_key(queue, each) for queue in ("a", "b") for each in ("x", "a/x", "b/x")}
    assert len(keys) == 6
    for key in keys:
        assert record_key("c", key) == key
    assert is_generated(made)
    for each in ("x", "", "7" * 36, str(uuid.uuid4()), made[:-1]):
        assert not is_generated(each)


def test_an_id_whose_bytes_look_like_a_separator(gators):
    """Redis keeps a UUID as its 16 bytes, any of which may be that."""
    gator, own_id = gators("a"), "1f1f1f1f-1f1f-4f1f-9f1f-1f1f1f1f1f1f"
    fails(gator, own_id)
    task = gator.options(task_id=own_id, save_results=60).task(add, 1, 2)
    work(gator, task)
    assert gator.result(own_id) == 3
    fails(gator, own_id)
    child = gator.options(task_id=own_id[:-1] + "e", depends_on=[own_id]).task(add, 1, 2)
    assert child.status == gator.status(child.task_id) == CANCELED
