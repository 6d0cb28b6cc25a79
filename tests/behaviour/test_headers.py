"""Test that the headers of a task stay with it, on whatever way it takes."""

import json
import uuid

import pytest

from alligator import Gator, Task, Worker, current_task
from alligator.exceptions import BadSignature, InvalidTask
from alligator.testing import FakeClock
from tests.support.helpers import skip_without_children
from tests.support.jobs import note

HEADERS = {"tenant": "ada", "trace": "00-4bf9", "greeting": "grüß dich", "empty": ""}
seen: list = []


def look(*, fail=False):
    seen.append(dict(current_task().headers))
    if fail:
        raise ValueError


async def look_in_a_coroutine():
    look()


@pytest.fixture(autouse=True)
def nothing_seen():
    seen.clear()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def gator(clock):
    return Gator(f"locmem://{uuid.uuid4().hex}", clock=clock)


def work(gator, **options):
    Worker(gator, log_level="CRITICAL", **{"burst": True, **options}).run_forever()


def message(gator, task):
    data = gator.client.peek(gator.queue_name, task.backend_id or task.task_id)
    return json.loads(data)


@pytest.mark.parametrize(
    "way", ["inline", "threads", "run_all", "pop", "get", "at once", "execute"]
)
@pytest.mark.parametrize("func", [look, look_in_a_coroutine])
def test_in_every_way_of_running(gator, way, func):
    task = gator.options(headers=HEADERS, is_async=way != "at once").task(func)
    if way == "execute":
        gator.execute(gator.cancel(task))
    {
        "inline": lambda: work(gator),
        "threads": lambda: work(gator, concurrency=2),
        "run_all": gator.run_all,
        "pop": gator.pop,
        "get": lambda: gator.get(task),
    }.get(way, list)()
    assert seen == [HEADERS]
    assert task.headers == HEADERS


def test_through_retries_a_dead_letter_and_its_revival(gator):
    gator.options(headers=HEADERS, retries=2).task(look, fail=True)
    work(gator)
    assert seen == [HEADERS] * 3
    (letter,) = gator.dead()
    assert json.loads(letter.data)["options"]["headers"] == HEADERS
    gator.revive(letter.task_id)
    work(gator)
    assert seen == [HEADERS] * 6
    with pytest.raises(ValueError, match="^$"):
        gator.options(headers=HEADERS, retries=1, is_async=False).task(look, fail=True)
    assert seen == [HEADERS] * 8


def test_where_there_are_none_the_message_is_as_before(gator):
    task = gator.task(look)
    assert message(gator, task)["options"] == {}
    assert task.headers == {}
    task = gator.options(headers={}).task(look)
    assert message(gator, task)["options"] == {}
    work(gator)
    assert seen == [{}, {}]


def test_a_task_has_headers_of_its_own(gator):
    given = dict(HEADERS)
    opts = gator.options(headers=given)
    first, second = opts.task(look), opts.task(look)
    first.headers["tenant"] = given["tenant"] = "another"
    assert second.headers == opts.task(look).headers == HEADERS


def test_set_before_the_push(gator):
    task = Task()
    task.headers["tenant"] = "ada"
    gator.push(task, look)
    task = Task(headers={"tenant": "bob"})
    task.headers = {**task.headers, "more": "text"}
    gator.push(task, look)
    work(gator)
    assert seen == [{"tenant": "ada"}, {"tenant": "bob", "more": "text"}]


@pytest.mark.parametrize("is_async", [True, False])
def test_what_was_set_is_checked_at_the_push(gator, is_async):
    task = Task(is_async=is_async)
    task.headers["tenant"] = 5
    with pytest.raises(InvalidTask, match="'tenant' is a int"):
        gator.push(task, look)
    with pytest.raises(InvalidTask, match="'tenant' is unprintable text"):
        task.headers = {"tenant": "a\nb"}
    assert (gator.len(), seen) == (0, [])


def test_of_a_schedule(gator, clock):
    opts = gator.options(headers=HEADERS)
    opts.every(60, look)
    opts.cron("0 * * * *", look)
    gator.run_until("+1h")
    assert seen == [HEADERS] * 61


def test_signed_with_the_rest(clock):
    dsn = f"locmem://{uuid.uuid4().hex}"
    gator = Gator(dsn, clock=clock, secret_keys=["k" * 16])
    task = gator.options(headers=HEADERS).task(look)
    data = gator.client.peek("all", task.task_id)
    assert gator.get(task).headers == seen.pop() == HEADERS
    gator.client.push("all", task.task_id, data.replace("ada", "eve"))
    with pytest.raises(BadSignature):
        gator.get(task)
    assert seen == []


def test_in_a_batch_and_while_waiting_for_others(gator_with_store):
    gator = gator_with_store
    with gator.batch(headers=HEADERS) as batch:
        parent = batch.task(note)
        batch.task(look)
    if not gator.conn_string.startswith("redis+cluster"):
        gator.options(headers=HEADERS, depends_on=parent).task(look)
        work(gator, burst=False, max_tasks=3)
        assert seen == [HEADERS] * 2
    else:
        work(gator, burst=False, max_tasks=2)
        assert seen == [HEADERS]


def test_a_canceled_child_has_them(gator_with_store):
    gator = gator_with_store
    skip_without_children(gator)
    child = gator.options(headers=HEADERS, depends_on=gator.task(note)).task(look)
    assert gator.cancel(child).headers == HEADERS
