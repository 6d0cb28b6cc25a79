"""Test children with too many parents for a message: the store keeps the ids of the parents."""

import json
import time
import uuid

import pytest

from alligator import CANCELED, SUCCESS, WAITING, Gator, Task, Worker, current_task
from alligator.backends.base import Delivery
from alligator.backends.store import Record, record_key
from alligator.exceptions import AlligatorException, InvalidTask
from alligator.tasks.parent_ids_in_store import MOST
from tests.support import jobs

seen: list[object] = []


def parent(number=0):
    return number


def collect(*args):
    """Note down of which tasks this one is the child."""
    seen.append(current_task().depends_on)


def fail_once():
    collect()
    if len(seen) < 2:
        raise ValueError("not yet")


def ids_of(tasks):
    return [each.task_id for each in tasks]


def many(gator, count, **options):
    with gator.batch(**options) as batch:
        return [batch.task(parent, number) for number in range(count)]


def work_until(gator, task, within=90.0):
    worker = Worker(gator, concurrency=4, log_level="CRITICAL", burst=True)
    deadline = time.monotonic() + within
    while gator.status(task) not in (SUCCESS, CANCELED) and time.monotonic() < deadline:
        worker.run_forever()
    return gator.status(task)


@pytest.fixture(autouse=True)
def _nothing_seen():
    seen.clear()


@pytest.fixture(params=["locmem", "sqlite", "redis"])
def gator(request, tmp_path):
    dsn = f"locmem://{tmp_path}"
    if request.param != "locmem":
        dsn = request.getfixturevalue(f"{request.param}_dsn")
    gator = Gator(dsn, f"m-{uuid.uuid4().hex[:8]}")
    yield gator
    gator.client.drop_all(gator.queue_name)
    gator.close()


@pytest.mark.timeout(600)  # on a busy machine
@pytest.mark.parametrize("pair", ["locmem", "sqlite", "redis", "beanstalk+redis"])
def test_two_thousand(pair, request, tmp_path):
    backend, _, store = pair.partition("+")
    names = {"locmem": f"locmem://{tmp_path}"}
    where = [
        names.get(name) or request.getfixturevalue(f"{name}_dsn")
        for name in (backend, store or backend)
    ]
    gator = Gator(where[0], f"m-{uuid.uuid4().hex[:8]}", store=where[1] if store else None)
    parents = many(gator, 2000)
    child = gator.options(depends_on=parents).task(collect)
    assert child.depends_on == parents
    assert gator.status(child) == WAITING
    assert "2,000" in gator.explain(child)
    assert work_until(gator, child) == SUCCESS
    assert seen == [ids_of(parents)]
    assert gator.store.record(child.kept_parents.key(child.task_id)) is None, "it is over"
    gator.close()


def test_two_thousand_on_sqs(sqs_dsn, sqlite_dsn):
    gator = Gator(sqs_dsn, f"m-{uuid.uuid4().hex[:8]}", store=sqlite_dsn)
    for name in (gator.queue_name, f"{gator.queue_name}-dead"):
        gator.client.conn.create_queue(QueueName=name)
    # The emulator takes minutes to run as many; that they are pending is told by their records.
    parents = [f"{number:036}" for number in range(2000)]
    now = time.time()
    for each in parents:
        gator.store.note(each, Record(WAITING, at=now, pushed=now), 600)
    child = gator.options(depends_on=parents).task(collect)
    assert gator.status(child) == WAITING
    for number, each in enumerate(parents):
        assert number not in (0, 1999) or gator.len() == 0
        record = Record(SUCCESS, at=now, attempt=1, pushed=now)
        gator.store.note(each, record, 600)
        gator.store.release_children(record_key(gator.queue_name, each), record)
    assert work_until(gator, child) == SUCCESS
    assert seen == [parents]
    gator.close()


def test_thirty_thousand(gator):
    parents = many(gator, 30_000)
    child = gator.options(depends_on=parents).task(collect)
    assert gator.len() == 30_000
    first = parents.pop(0)
    gator.get(first.task_id)
    waits = gator.store.waits_for(gator.client, gator.queue_name, child.task_id, 1)
    assert waits.total == 29_999
    place = gator.client.find(gator.queue_name, child.task_id)
    assert place.state == WAITING
    assert gator.client.reserve([gator.queue_name], 1, task_id=child.task_id).deliveries == []
    while found := gator.client.reserve([gator.queue_name], 1000).deliveries:
        if found[0].task_id == child.task_id:
            break
        assert gator.client.ack(found) == []
    (last,) = found
    assert gator.codec.decode(last).depends_on == [first.task_id, *ids_of(parents)]
    assert gator.client.ack(found) == []
    assert gator.len() == 0


def test_some_go_with_the_message_as_ever(gator):
    parents = many(gator, 300)
    child = gator.options(depends_on=parents).task(collect)
    data = json.loads(gator.client.peek(gator.queue_name, child.task_id))
    assert data["options"]["depends_on"] == ids_of(parents)
    assert child.kept_parents is None


def test_more_are_named_in_one_line_that_an_older_worker_can_read(gator):
    parents = many(gator, MOST // 36 + 1)
    child = gator.options(depends_on=parents).task(collect)
    data = gator.client.peek(gator.queue_name, child.task_id)
    (place,) = json.loads(data)["options"]["depends_on"]
    assert place.startswith(f"alligator-parents:{len(parents)}:")
    assert len(data) < 400
    alone = Task.deserialize(data)  # with no store to ask
    assert alone.serialize() == data
    with pytest.raises(AlligatorException, match="a Gator that has this store"):
        _ = alone.depends_on


def test_a_retry_and_a_dead_letter_keep_them(gator):
    parents = many(gator, 500)
    gator.options(depends_on=parents, retries=1).task(fail_once)
    gator.run_all()
    assert seen == [ids_of(parents)] * 2
    other = gator.options(depends_on=parents).task(fail_once)
    seen.clear()
    gator.run_all()
    (letter,) = gator.dead()
    delivery = Delivery(letter.queue_name, letter.task_id, letter.data, None)
    assert gator.codec.decode(delivery).depends_on == ids_of(parents)
    assert gator.revive(other.task_id) == 1
    gator.run_all()
    assert seen == [ids_of(parents)] * 2


def test_signed_messages_speak_for_them(gator):
    gator = Gator(gator.client.conn_string, gator.queue_name, secret_keys=["x" * 16])
    parents = many(gator, 500)
    child = gator.options(depends_on=parents).task(collect)
    key = child.kept_parents.key(child.task_id)
    record = gator.store.record(key)
    gator.store.note(key, record._replace(result='["forged"]', attempt=1), 60)
    gator.run_all()
    assert seen == []
    assert "are not in the store" in gator.dead()[0].error
    gator.store.note(key, record._replace(attempt=2), 60)
    gator.revive()
    gator.run_all()
    assert seen == [ids_of(parents)]


def test_a_canceled_child_leaves_nothing(gator):
    child = gator.options(depends_on=many(gator, 500)).task(collect)
    assert gator.cancel(child) is not None
    assert gator.store.record(child.kept_parents.key(child.task_id)) is None


def test_a_failure_among_many_cancels_the_child(gator):
    parents = many(gator, 1200)
    bad = gator.task(jobs.fail)
    child = gator.options(depends_on=[*parents[:600], bad, *parents[600:]]).task(collect)
    gator.get(parents[0].task_id)
    with pytest.raises(ValueError, match="too much"):
        gator.get(bad.task_id)
    assert gator.status(child) == CANCELED
    late = gator.options(depends_on=[*parents, bad]).task(collect)
    assert late.status == gator.status(late) == CANCELED
    gator.run_all()
    assert seen == []


def test_what_is_too_large_is_named(beanstalk_dsn, redis_dsn):
    gator = Gator(beanstalk_dsn, f"m-{uuid.uuid4().hex[:8]}", store=redis_dsn)
    with pytest.raises(InvalidTask, match=r"its arguments have 70006 of them\. Store the data"):
        gator.task(collect, "x" * 70_000)
    parents = many(gator, 600)
    with pytest.raises(InvalidTask, match="its arguments have 70006 of them"):
        gator.options(depends_on=parents).task(collect, "x" * 70_000)
    child = gator.options(depends_on=parents).task(collect, "x" * 60_000)
    assert gator.status(child) == WAITING
    gator.cancel(child)
    gator.client.drop_all(gator.queue_name)
    gator.close()


@pytest.mark.parametrize(
    "place",
    ["alligator-parents:3:" + 64 * "z", "alligator-parents:-1:" + 64 * "a", "alligator-parents:"],
)
def test_what_only_looks_like_it_is_an_id(place):
    task = Task(depends_on=[place])
    task.to_call(parent)
    assert Task.deserialize(task.serialize()).depends_on == [place]


# -- On redis, where a script holds up the server, in several steps. ------------------------------


class Died(BaseException):
    """The process was killed."""


@pytest.fixture
def held(redis_dsn, monkeypatch):
    """Hold a child of these parents, and do something after so many steps."""
    gator = Gator(redis_dsn, f"m-{uuid.uuid4().hex[:8]}")
    store, steps = gator.client.store, []

    def held(parents, after, what, task_id=None):
        run = type(store)._run

        def interrupted(self, name, keys, *args):
            found = run(self, name, keys, *args)
            if name == "hold":
                steps.append(args[0])
                if len(steps) == after:
                    what()
            return found

        with monkeypatch.context() as patch:
            patch.setattr(type(store), "_run", interrupted)
            return gator.options(depends_on=parents, task_id=task_id).task(collect)

    held.gator, held.steps = gator, steps
    yield held
    gator.client.drop_all(gator.queue_name)
    assert gator.client.conn.keys(f"alligator:{{{gator.queue_name}}}:[hwc]*") == []
    gator.close()


def is_done(gator, parents):
    for each in parents:
        assert gator.get(each.task_id) is not None


def test_steps_are_short(held):
    parents = many(held.gator, 1600)
    child = held(parents, 1, lambda: None)
    assert held.steps == ["first", "more", "more", "more", "last"]
    held.gator.run_all()
    assert seen == [ids_of(parents)]
    assert held.gator.status(child) == SUCCESS


@pytest.mark.parametrize("after", [1, 2, 3])
def test_parents_that_end_between_two_steps(held, after):
    gator = held.gator
    parents = many(gator, 1100)
    child = held(parents, after, lambda: is_done(gator, [*parents[:20], *parents[-20:]]))
    waits = gator.store.waits_for(gator.client, gator.queue_name, child.task_id, 1)
    assert waits.total == 1060
    gator.run_all()
    assert len(seen) == 1


def test_all_parents_end_between_two_steps(held):
    gator = held.gator
    parents = many(gator, 600)
    held(parents, 2, gator.run_all)
    assert seen == []
    assert gator.len() == 1
    gator.run_all()
    assert len(seen) == 1


@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("which", [0, -1])
def test_a_parent_that_fails_between_two_steps(held, after, which):
    gator = held.gator
    parents = many(gator, 1100)
    parents[which] = gator.task(jobs.fail)

    def fail():
        with pytest.raises(ValueError, match="too much"):
            gator.get(parents[which].task_id)

    child = held(parents, after, fail)
    assert child.status == gator.status(child) == CANCELED
    assert "too much" in gator.store.record(child.task_id).error
    gator.run_all()
    assert seen == []
    assert gator.revive() == 1


@pytest.mark.parametrize(("after", "which"), [(1, 0), (2, -1)])
def test_a_member_of_a_batch_that_fails_between_two_steps(held, after, which, monkeypatch):
    gator = held.gator
    parents = many(gator, 600)
    parents[which] = gator.task(jobs.fail)
    monkeypatch.setattr(Task, "unconditional", True)

    def fail():
        with pytest.raises(ValueError, match="too much"):
            gator.get(parents[which].task_id)

    child = held(parents, after, fail)
    assert child.status == gator.status(child) == WAITING
    gator.run_all()
    assert len(seen) == 1
    assert gator.status(child) == SUCCESS


def test_a_queue_that_is_emptied_between_two_steps(held):
    gator = held.gator
    held(many(gator, 1100), 2, lambda: gator.client.drop_all(gator.queue_name))
    gator.run_all()
    assert len(seen) == 1, "what is nowhere is done, as for one that is pushed after that"


def test_the_same_id_pushed_between_two_steps(held):
    gator = held.gator
    parents = many(gator, 1100)
    child = held(
        parents, 2, lambda: gator.options(task_id=gator.queue_name).task(parent), gator.queue_name
    )
    assert gator.status(child) == WAITING
    assert gator.len() == 1100
    gator.run_all()
    assert seen == [ids_of(parents)]


@pytest.mark.parametrize("after", [1, 2, 3])
def test_who_dies_between_two_steps_leaves_no_child(held, after):
    gator = held.gator
    parents = many(gator, 1100)

    def die():
        raise Died

    with pytest.raises(Died):
        held(parents, after, die, gator.queue_name)
    assert gator.status(gator.queue_name) is None
    assert gator.len() == 1100
    is_done(gator, parents[:10])
    again = gator.options(depends_on=parents, task_id=gator.queue_name).task(collect)
    assert gator.status(again) == WAITING
    gator.run_all()
    assert seen == [ids_of(parents)]
