"""Test ``gator.queues``, ``gator.tasks`` and ``gator.task_info``."""

import json
import sys
import time
import uuid

import pytest

from alligator import Gator, Task, Worker
from alligator.backends.base import LISTING
from alligator.backends.types import Report
from alligator.constants import DELAYED, FAILED, HELD, RETRYING, RUNNING, SUCCESS, WAITING
from alligator.exceptions import InvalidTask, UnsupportedOption
from alligator.monitoring.encoding import live_text
from alligator.monitoring.rows import WorkerRow
from tests.support.helpers import skip_without_children


def add(first, second=2, password=""):
    return first + second


def fail():
    raise ValueError("no luck")


@pytest.fixture
def locmem():
    return Gator(f"locmem://{uuid.uuid4().hex}")


def needs_listing(gator):
    if LISTING not in gator.client.controls:
        pytest.skip("it does not list tasks")


# -- Queues. ----------------------------------------------------------------------------------


def test_every_queue_with_tasks_workers_or_a_schedule(gator_with_store):
    gator = gator_with_store
    own = gator.queue_name
    assert own not in [each.name for each in gator.queues()]
    gator.task(add, 1)
    gator.options(delay_by=600).task(add, 2)
    scheduled, served = f"{own}-s", f"{own}-w"
    if not gator.conn_string.startswith("sqs"):  # there, they have to be made
        gator.options(queue_name=scheduled).every(60, add, 1)
        gator.store.beat("worker", [served, own], 30)
    rows = {each.name: each for each in gator.queues() if each.name.startswith(own)}
    row = rows.pop(own)
    assert (row.waiting, row.delayed, row.running, row.dead, row.paused) == (1, 1, 0, 0, False)
    if gator.conn_string.startswith("sqs"):
        return
    assert row.workers == 1
    assert row.oldest is None or 0 <= row.oldest < 30
    row = rows.pop(scheduled)
    assert (row.waiting, row.delayed, row.workers) == (0, 0, 0)
    gator.store.beat("worker", [served, own], 0)


def test_a_queue_that_is_only_paused_is_shown(locmem):
    assert locmem.queues() == []
    locmem.pause()
    (row,) = locmem.queues()
    assert (row.name, row.paused, row.waiting) == ("all", True, 0)


def test_a_worker_makes_its_queue_known(locmem):
    row = WorkerRow("h", 1, ("idle", "no/such name"), 1, "1.2", 1.0, 1.0, 0, 0, ())
    locmem.store.report(Report("w", live=live_text(row), seconds=30))
    locmem.store.report(Report("other", live="not readable", seconds=30))
    locmem.store.beat("w", ["idle"], 30)
    assert [(each.name, each.workers) for each in locmem.queues()] == [("idle", 1)]


def test_a_queue_that_cannot_be_is_not_looked_at(sqlite_dsn):
    gator = Gator(sqlite_dsn)
    row = WorkerRow("h", 1, ("idle", "no/such name", "\ud800"), 1, "1.2", 1.0, 1.0, 0, 0, ())
    gator.store.report(Report("w", live=live_text(row), seconds=30))
    assert gator.running() == []
    assert gator.queues() == []
    gator.close()


# -- Tasks. -----------------------------------------------------------------------------------


def test_tasks_of_each_state(gator_with_store):
    gator = gator_with_store
    needs_listing(gator)
    first = gator.task(add, 1, second="x" * 500)
    urgent = gator.options(priority=7).task("not.installed.func", [1, {"token": "abc"}])
    delayed = gator.options(delay_by=600).task(add, 2)
    page = gator.tasks("waiting")
    assert [each.task_id for each in page] == [urgent.task_id, first.task_id]
    assert page.next is None
    row = page[0]
    assert (row.function, row.args, row.kwargs) == (
        "not.installed.func",
        "[1, {'token': '***'}]",
        "",
    )
    assert (row.queue_name, row.state, row.priority) == (gator.queue_name, WAITING, 7)
    assert page[1].args == "1"
    assert page[1].kwargs.startswith("second='xxx")
    assert len(page[1].kwargs) <= 210
    assert "not.installed" not in sys.modules
    (row,) = gator.tasks(DELAYED)
    assert (row.task_id, row.state) == (delayed.task_id, DELAYED)
    assert abs(row.due - time.time() - 600) < 60
    page = gator.tasks(WAITING, limit=1)
    assert [each.task_id for each in page] == [urgent.task_id]
    (row,) = gator.tasks("Waiting", after=page.next)
    assert row.task_id == first.task_id
    (delivery,) = gator.client.reserve([gator.queue_name]).deliveries
    (row,) = gator.tasks("running")
    assert (row.task_id, row.state, row.attempts) == (urgent.task_id, RUNNING, 1)
    gator.client.release(delivery)
    gator.task(fail)
    Worker(gator, burst=True).run_forever()
    assert {(each.function, each.state) for each in gator.tasks("dead")} == {
        (f"{__name__}.add", FAILED),
        (f"{__name__}.fail", FAILED),
    }
    assert gator.tasks(FAILED) == gator.tasks("dead")
    assert first.task_id not in [each.task_id for each in gator.tasks("waiting")]
    assert gator.tasks("waiting", queue_name="another") == []


def test_held_children_wherever_they_are_held(gator_with_store):
    gator = gator_with_store
    skip_without_children(gator)
    parent = gator.options(save_results=60).task(add, 1)
    children = [gator.options(depends_on=[parent]).task(add, index) for index in range(3)]
    other = f"{gator.queue_name}-2"
    if not gator.conn_string.startswith("sqs"):
        gator.options(depends_on=[parent], queue_name=other).task(add, 9)
    first = gator.tasks("held", limit=2)
    second = gator.tasks(HELD, limit=2, after=first.next)
    rows = [*first, *second]
    assert sorted(each.task_id for each in rows) == sorted(each.task_id for each in children)
    assert [(each.args, each.state) for each in rows] == [
        (str(index), WAITING) for index in range(3)
    ]
    assert second.next is None
    info = gator.task_info(children[1])
    assert info.explanation.startswith("waits for its parent")
    assert (info.status, info.row.args) == (WAITING, "1")


def test_a_message_that_cannot_be_read_is_a_row(locmem):
    for index, data in enumerate(("no JSON", b"\xff\x00", "[]", '{"module": 7}', "{}")):
        locmem.client.push("all", f"t-{index}", data)
    rows = locmem.tasks("waiting")
    assert [(each.task_id, each.function, each.args) for each in rows] == [
        (f"t-{index}", "", "") for index in range(5)
    ]
    assert locmem.task_info("t-0").row.function == ""


@pytest.mark.parametrize("task_id", ["two\nlines", "\u202egnp.exe", "long" * 100])
def test_a_task_with_an_id_that_no_call_takes_is_a_row(locmem, task_id):
    message = {"task_id": task_id, "retries": 1, "is_async": True, "args": [3], "kwargs": {}}
    data = json.dumps({**message, "module": "shop.mail", "callable": "send"})
    locmem.client.push("all", task_id, data)
    (row,) = locmem.tasks("waiting")
    assert (row.task_id, row.function, row.args) == (task_id, "shop.mail.send", "3")
    assert locmem.task_info(task_id).row == row


def test_a_signed_task_is_shown_by_anyone():
    place = f"locmem://{uuid.uuid4().hex}"
    Gator(place, secret_keys=["k" * 20]).task(add, 1)
    (row,) = Gator(place).tasks("waiting")
    assert (row.function, row.args) == (f"{__name__}.add", "1")


def test_secrets_given_by_position_are_masked_where_the_function_is_loaded(locmem):
    locmem.task(add, 1, 2, "hunter2")
    (row,) = locmem.tasks("waiting")
    assert row.args == "1, 2, '***'" or "hunter2" not in row.args


@pytest.mark.parametrize("state", ["", "done", "running ", 99, None, True, SUCCESS, RETRYING])
def test_an_unknown_state_names_the_known_ones(locmem, state):
    with pytest.raises(InvalidTask, match="waiting, delayed, running, held, dead") as caught:
        locmem.tasks(state)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("limit", [0, -1, 10_001, 1.5, "3", True, None])
def test_a_limit_that_is_none_is_refused(locmem, limit):
    with pytest.raises(InvalidTask, match="limit="):
        locmem.tasks("waiting", limit)


def test_other_bad_input(locmem):
    with pytest.raises(InvalidTask, match="cursor"):
        locmem.tasks("waiting", after="xyz")
    with pytest.raises(InvalidTask, match="Queue name"):
        locmem.tasks("waiting", queue_name="no/slash")


def test_beanstalkd_shows_the_first_and_says_how_many_it_does_not(beanstalk_dsn):
    gator = Gator(beanstalk_dsn, f"q-{uuid.uuid4().hex[:8]}")
    tasks = [gator.task(add, number) for number in range(3)]
    page = gator.tasks("waiting")
    assert [each.task_id for each in page] == [gator.results.where(tasks[0])[1]]
    assert (page.left_out, page.next) == (2, None)
    with pytest.raises(UnsupportedOption, match="running"):
        gator.tasks("running")
    gator.client.drop_all(gator.queue_name)
    gator.close()


# -- One task. --------------------------------------------------------------------------------


def test_all_that_is_known_of_a_task(locmem):
    task = locmem.options(priority=3, retries=2, headers={"user": "7"}).task(add, 1)
    info = locmem.task_info(task.task_id)
    assert (info.task_id, info.queue_name, info.status) == (task.task_id, "all", WAITING)
    assert (info.row.function, info.row.args, info.row.priority) == (f"{__name__}.add", "1", 3)
    assert info.headers == {"user": "7"}
    assert info.options["priority"] == 3
    assert info.explanation.startswith("waiting")
    assert locmem.task_info(task) == info


def test_how_a_task_ended(locmem):
    task = locmem.task(fail)
    Worker(locmem, burst=True).run_forever()
    info = locmem.task_info(task)
    assert (info.status, info.error, info.row.state) == (FAILED, "ValueError: no luck", FAILED)
    assert "raise ValueError" in info.traceback
    kept = locmem.options(save_results=60).task(add, 1)
    locmem.run_all()
    info = locmem.task_info(kept.task_id)
    assert (info.status, info.row) == (SUCCESS, None)


def test_of_an_unknown_task_that_is_said(locmem):
    info = locmem.task_info("never-heard-of")
    assert (info.status, info.row, info.history) == (None, None, None)
    assert info.explanation.startswith("unknown")
    for other in ("", None, 7):
        with pytest.raises(InvalidTask):
            locmem.task_info(other)


def test_the_task_class_of_the_user_is_not_made(locmem):
    class Own(Task):
        def __init__(self, *args, **kwargs):
            raise AssertionError("a look makes none")

    Gator(locmem.conn_string).task(add, 1)
    assert len(Gator(locmem.conn_string, task_class=Own).tasks("waiting")) == 1
