"""Test ``gator.revive``: a dead letter runs again as it was pushed, or with other options."""

import bz2
import json
import time
import uuid

import pytest

from alligator import Gator, Task
from alligator.backends.base import Reason
from alligator.backends.locmem_backend import Client as Locmem
from alligator.cli import commands as cli
from alligator.exceptions import InvalidTask, UnsupportedOption
from alligator.testing import FakeClock
from tests.support import jobs

TRIES = []


@pytest.fixture(autouse=True)
def _fresh():
    TRIES.clear()


def fail(*args):
    TRIES.append(args)
    raise ValueError("too much")


@pytest.fixture(params=["locmem", "sqlite", "redis", "cluster", "beanstalk", "sqs"])
def gator(request, tmp_path):
    """A Gator on each backend in turn."""
    local = f"locmem://{tmp_path}"
    dsn = local if request.param == "locmem" else request.getfixturevalue(f"{request.param}_dsn")
    gator = Gator(dsn, f"revive-{uuid.uuid4().hex[:8]}")
    if request.param == "sqs":
        for name in (gator.queue_name, f"{gator.queue_name}-dead"):
            gator.client.conn.create_queue(QueueName=name)
    yield gator
    gator.client.drop_all(gator.queue_name)
    gator.close()


def run_to_the_end(gator, letters=1):
    """Run until so many are dead; return how often it was tried since the last time."""
    TRIES.clear()
    deadline = time.monotonic() + 20
    while len(gator.client.dead(gator.queue_name)) < letters:
        gator.run_all()
        assert time.monotonic() < deadline, "it is no dead letter"
    return len(TRIES)


def test_its_history_says_when(gator):
    """Of each that was revived, on each backend that keeps histories."""
    if gator.store is None:
        pytest.skip("it keeps no history")
    tasks = [gator.options(history=600).task(fail, each) for each in range(2)]
    gator.task(fail, 3)
    run_to_the_end(gator, 3)
    assert [gator.history(each).revived for each in tasks] == [(), ()]
    before = time.time()
    assert gator.revive(tasks[0]) == 1
    (moment,) = gator.history(tasks[0]).revived
    assert before - 0.01 <= moment <= time.time() + 0.01
    assert gator.history(tasks[1]).revived == ()
    run_to_the_end(gator, 3)
    assert gator.history(tasks[0]).revived == (moment,)
    assert gator.revive() == 3
    assert [len(gator.history(each).revived) for each in tasks] == [2, 1]


def test_one_that_stays_dead_has_no_revival_in_its_history(tmp_path):
    """Another task has its unique key."""
    gator = Gator(f"locmem://{tmp_path}", "mail")
    task = gator.options(history=600, unique="one").task(fail, 1)
    other = gator.options(history=600).task(fail, 2)
    run_to_the_end(gator, 2)
    gator.options(unique="one").task(fail, 3)
    assert gator.revive(task) == 0
    assert gator.history(task).revived == ()
    assert gator.revive() == 1
    assert gator.history(task).revived == ()
    assert len(gator.history(other).revived) == 1


@pytest.mark.parametrize("kind", ["locmem", "sqlite", "redis"])
def test_its_attempts_are_one_number_wherever_they_are_shown(kind, request, tmp_path):
    """In a list and of one task, in each state: how many have begun since it was revived."""
    local = f"locmem://{tmp_path}"
    dsn = local if kind == "locmem" else request.getfixturevalue(f"{kind}_dsn")
    gator = Gator(dsn, f"revive-{uuid.uuid4().hex[:8]}")

    def attempts(state):
        (row,) = gator.tasks(state)
        assert gator.task_info(row.task_id).row.attempts == row.attempts
        return row.attempts

    gator.options(retries=1).task(fail, 1)
    for _ in range(2):  # in its second life likewise
        assert attempts("waiting") == 0
        gator.pop()
        assert attempts("waiting") == 1
        (delivery,) = gator.client.reserve([gator.queue_name]).deliveries
        assert attempts("running") == 2
        gator.client.bury(delivery, None, Reason("too much"))
        assert attempts("dead") == 2
        assert gator.revive() == 1
    gator.client.drop_all(gator.queue_name)
    gator.close()


def test_it_is_tried_as_often_as_when_it_was_pushed(gator):
    gator.options(retries=2).task(fail, 1)
    assert run_to_the_end(gator) == 3
    (letter,) = gator.dead()
    assert gator.revive(letter.task_id) == 1
    assert run_to_the_end(gator) == 3
    assert gator.revive() == 1
    assert run_to_the_end(gator) == 3
    assert set(TRIES) == {(1,)}


@pytest.mark.slow
def test_it_is_tried_as_often_as_is_said(gator):
    gator.options(retries=2).task(fail)
    run_to_the_end(gator)
    assert gator.revive(retries=0) == 1
    assert run_to_the_end(gator) == 1
    assert gator.revive(gator.dead()[0].task_id, retries=3) == 1
    assert run_to_the_end(gator) == 4
    assert gator.revive() == 1, "from now on, that is what it was pushed with"
    assert run_to_the_end(gator) == 4


def test_from_the_command_line(sqlite_dsn, capsys):
    gator = Gator(sqlite_dsn)
    gator.options(retries=1).task("tests.behaviour.test_revive.fail")
    run_to_the_end(gator)
    assert cli.main(["revive", sqlite_dsn]) == 0
    assert run_to_the_end(gator) == 2
    assert cli.main(["revive", sqlite_dsn, "--retries", "3", gator.dead()[0].task_id]) == 0
    assert run_to_the_end(gator) == 4
    with pytest.raises(SystemExit):
        cli.main(["revive", sqlite_dsn, "--retries", "-1"])
    gator.close()


def test_one_whose_worker_died_has_the_retries_that_it_spent_before(gator):
    """It is buried unread."""
    gator.options(retries=2).task(fail)
    assert gator.pop().retries == 1
    deadline = time.monotonic() + 10
    while not (found := gator.client.reserve([gator.queue_name]).deliveries):
        assert time.monotonic() < deadline, "no retry"
    assert gator.client.bury(found[0], None, Reason("WorkerDied: 3 deaths"))
    assert len(TRIES) == 1
    while not gator.dead():
        assert time.monotonic() < deadline, "no dead letter"
    assert gator.revive() == 1
    assert run_to_the_end(gator) == 3


def test_signed_ones_are_signed_anew(tmp_path, caplog):
    dsn = f"locmem://{tmp_path}"
    gator = Gator(dsn, secret_keys=["k" * 16])
    gator.options(retries=2).task(fail)
    assert run_to_the_end(gator) == 3
    assert gator.revive() == 1
    assert run_to_the_end(gator) == 3
    assert caplog.text.count("revived unchanged") == 0
    assert Gator(dsn, secret_keys=["other" * 4]).revive() == 1
    assert "is revived unchanged: BadSignature: No key" in caplog.text
    assert run_to_the_end(gator) == 1
    assert Gator(dsn).revive(retries=5) == 1
    assert "is revived unchanged: BadSignature: The message is signed" in caplog.text
    assert run_to_the_end(gator) == 1


class Squeezed(Task):
    """A Task of the user's own, with a message of its own making."""

    def serialize(self):
        return bz2.compress(super().serialize().encode())

    @classmethod
    def deserialize(cls, data):
        return super().deserialize(bz2.decompress(data))


@pytest.mark.parametrize("keys", [None, ["k" * 16]])
def test_messages_of_a_class_of_its_own(tmp_path, keys):
    gator = Gator(f"locmem://{tmp_path}", task_class=Squeezed, secret_keys=keys)
    gator.options(retries=2).task(fail)
    assert run_to_the_end(gator) == 3
    assert gator.revive() == 1
    assert run_to_the_end(gator) == 3
    assert gator.revive(retries=0) == 1
    assert run_to_the_end(gator) == 1


@pytest.mark.parametrize(
    "data",
    ["no json", b"\xff", "[1]", '{"retries": "2"}', '{"retries": 1, "options": {"retried": []}}'],
)
def test_what_cannot_be_read_goes_back_as_it_is(tmp_path, data, caplog):
    gator = Gator(f"locmem://{tmp_path}")
    gator.client.push("all", "x", data)
    gator.run_all()
    assert gator.revive(retries=3) == 1
    assert gator.client.pop("all") == data
    assert "Task x is revived unchanged: BadPayload: " in caplog.text


def test_a_message_that_is_as_it_was_pushed_is_not_touched(tmp_path):
    gator = Gator(f"locmem://{tmp_path}")
    gator.task(fail)
    (delivery,) = gator.client.reserve(["all"]).deliveries
    gator.client.bury(delivery, None, Reason("no"))
    assert gator.revive() == 1
    assert gator.client.pop("all") is delivery.data


def test_it_begins_anew_and_does_not_expire(tmp_path):
    clock = FakeClock()
    gator = Gator(f"locmem://{tmp_path}", clock=clock)
    options = {"retries": 1, "retry_delay": 10, "expires": 60, "priority": 5, "task_id": "x"}
    gator.options(**options).task(fail, "ä")
    pushed = json.loads(gator.client.peek("all", "x"))
    gator.run_all()
    clock.advance(10)
    gator.run_all()
    died = json.loads(gator.dead()[0].data)
    assert (died["retries"], died["options"]["retried"]) == (0, 1)
    clock.advance(3600)
    assert gator.revive("x") == 1
    del pushed["options"]["expires_at"]
    assert json.loads(gator.client.peek("all", "x")) == pushed
    assert gator.run_all() == 1
    assert len(gator.dead()) == 0, "the second try is to come"


def test_the_task_itself_will_do(gator_with_store):
    gator = gator_with_store
    task = gator.options(save_results=60).task(fail)
    gator.run_all()
    assert task.wait(10)
    assert gator.revive(task) == 1
    gator.run_all()
    assert len(TRIES) == 2


@pytest.mark.parametrize("retries", [-1, True, 1.5, "3"])
def test_a_number_of_retries_that_cannot_be(tmp_path, retries):
    gator = Gator(f"locmem://{tmp_path}")
    gator.task(fail)
    gator.run_all()
    with pytest.raises(InvalidTask, match="retries="):
        gator.revive(retries=retries)
    assert len(gator.dead()) == 1


class Older(Locmem):
    """A client as it was made for 1.1."""

    def revive(self, queue_name, task_id=None):
        return super().revive(queue_name, task_id)


def test_a_client_made_for_1_1(tmp_path):
    gator = Gator(f"locmem://{tmp_path}", backend_class=Older)
    gator.options(retries=1).task(fail)
    run_to_the_end(gator)
    with pytest.raises(UnsupportedOption, match=r"Older does not take 'renew' in its revive\(\)"):
        gator.revive(retries=2)
    assert gator.revive() == 1
    assert run_to_the_end(gator) == 1


def test_more_than_are_put_back_at_a_time(redis_dsn):
    """Others that died meanwhile, and such whose id is in use, stay where they are."""
    gator = Gator(redis_dsn, f"revive-{uuid.uuid4().hex[:8]}")
    with gator.batch(retries=1) as batch:
        for number in range(250):
            batch.task(jobs.fail, str(number))
    gator.run_all()
    letters = gator.dead(1000)
    assert len(letters) == 250
    for each in letters[::3]:
        gator.client.push(gator.queue_name, each.task_id, "in use")
    in_use = len(letters[::3])
    assert gator.revive() == 250 - in_use
    assert len(gator.dead(1000)) == in_use
    waiting = [gator.client.pop(gator.queue_name) for _ in range(250)]
    assert waiting.count("in use") == in_use
    assert all(json.loads(each)["retries"] == 1 for each in waiting if each != "in use")
    gator.client.drop_all(gator.queue_name)
    gator.close()
