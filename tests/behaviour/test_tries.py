"""Test the count of attempts: runs, deaths of workers, and looks for missing code.

Each is counted for what it is: hand-backs of tasks that never ran are none of them.
"""

import json
import sys
import uuid

import pytest

from alligator import Gator, Worker, current_task
from alligator.common import strict_json
from alligator.constants import DELAYED
from alligator.exceptions import InvalidTask
from alligator.tasks import message as message_module
from alligator.tasks.backoff import DEPLOY_DELAYS
from alligator.testing import FakeClock
from tests.support import jobs
from tests.support.compressed_task import SkinnyTask

MISSING = "not_deployed_yet"
SOURCE = """
from tests.support.jobs import seen

def note(*args):
    seen.append((args, {}))

def fail(message):
    raise ValueError(message)
"""


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def gator(clock):
    jobs.seen.clear()
    return Gator(f"locmem://{uuid.uuid4().hex}", clock=clock)


@pytest.fixture
def deploy(tmp_path, monkeypatch):
    """Write the module that was missing."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write():
        (tmp_path / f"{MISSING}.py").write_text(SOURCE)

    yield write
    sys.modules.pop(MISSING, None)


def work(gator, **options):
    worker = Worker(gator, log_level="CRITICAL", **{"burst": True, **options})
    worker.run_forever()
    return worker


def run_one(gator):
    return Worker(gator, log_level="CRITICAL").check_and_run_task()


def take(gator, lease=30.0):
    wait = 0.0 if isinstance(gator.clock, FakeClock) else 5.0
    (delivery,) = gator.client.reserve([gator.queue_name], 1, lease, wait).deliveries
    return delivery


def hand_back(gator, times):
    """Take a task and hand it back unrun, as a worker does that is busy with another one."""
    for _ in range(times):
        assert gator.client.release(take(gator))


def die(gator, times=1):
    """Let the lease of a task run out."""
    for _ in range(times):
        take(gator, 10)
        gator.clock.advance(10)


def find_missing(gator, task_id):
    """Let a worker look for the code; return the delay that follows, None: it is dead."""
    work(gator)
    if gator.dead():
        return None
    place = gator.client.find("all", task_id)
    assert place.state == DELAYED
    return place.due - gator.clock.time()


def find_all_missing(gator, task_id, between=lambda: None):
    delays = []
    while (delay := find_missing(gator, task_id)) is not None:
        delays.append(round(delay, 3))
        gator.clock.advance(delay)
        between()
    return tuple(delays)


@pytest.mark.parametrize("name", [f"{MISSING}.note", "tests.support.jobs.not_there_yet"])
@pytest.mark.parametrize("keys", [None, ["k" * 20]])
def test_missing_code_is_looked_for_as_long_whatever_was_handed_back(clock, name, keys):
    gator = Gator(f"locmem://{uuid.uuid4().hex}", clock=clock, secret_keys=keys)
    task = gator.options(retries=3, on_error=jobs.on_error).task(name, "ü", [4], {"a": None})
    data = gator.client.peek("all", task.task_id)
    hand_back(gator, 7)
    assert find_all_missing(gator, task.task_id, lambda: hand_back(gator, 3)) == DEPLOY_DELAYS
    (letter,) = gator.dead()
    assert letter.attempts == 6, "looked for it, and no more"
    assert letter.data == data, "as it was pushed"
    assert gator.revive() == 1
    assert find_missing(gator, task.task_id) == 1, "counted from the start"


def test_retries_that_were_spent_are_no_looks(gator, deploy):
    deploy()
    task = gator.options(retries=9).task(f"{MISSING}.fail", "so far")
    for _ in range(7):
        gator.pop()
    sys.modules.pop(MISSING)
    sys.path.pop(0)
    assert find_all_missing(gator, task.task_id) == DEPLOY_DELAYS
    assert gator.dead()[0].attempts == 7 + 6


def test_a_run_in_between_begins_the_count_of_looks_anew(gator, monkeypatch):
    def comes_and_goes():
        raise ValueError

    comes_and_goes.__module__, comes_and_goes.__qualname__ = jobs.__name__, "comes_and_goes"
    task = gator.options(retries=2).task("tests.support.jobs.comes_and_goes")
    for delay in DEPLOY_DELAYS[:3]:
        assert find_missing(gator, task.task_id) == delay
        gator.clock.advance(delay)
    with monkeypatch.context() as deployed:
        deployed.setattr(jobs, "comes_and_goes", comes_and_goes, raising=False)
        assert gator.pop().retries == 1
    assert find_all_missing(gator, task.task_id) == DEPLOY_DELAYS


def test_a_suspect_whose_code_is_missing_stays_one(gator):
    task = gator.task(f"{MISSING}.note")
    die(gator, 2)
    assert find_missing(gator, task.task_id) == 1
    gator.clock.advance(1)
    gator.task(jobs.note, 1)
    (delivery,) = gator.client.reserve(["all"], 5).deliveries
    assert (delivery.task_id, delivery.deaths) == (task.task_id, 2)


def test_on_each_backend_the_code_may_come_late(durable_gator, deploy, monkeypatch):
    gator = durable_gator(f"late-{uuid.uuid4().hex[:8]}")
    monkeypatch.setattr("alligator.tasks.backoff.DEPLOY_DELAYS", (0.2, 0.2, 60.0))
    jobs.seen.clear()
    gator.options(retries=2).task(f"{MISSING}.note", "it came")
    for count in (0, 1, 2):
        hand_back(gator, 2)
        delivery = take(gator)
        assert delivery.deaths == 0
        fields = json.loads(delivery.data)
        assert (message_module.missed(delivery.data), fields["retries"]) == (count, 2)
        assert fields["options"] == {}, "1.1 knows no others"
        assert gator.client.release(delivery)
        if count == 2:
            deploy()
        run_one(gator)
        assert gator.dead() == []
    assert jobs.seen == [(("it came",), {})]
    assert gator.stats()["running"] == 0


def test_a_class_of_its_own_kind_that_forgets_the_count_is_given_up_in_the_end(clock):
    gator = Gator(f"locmem://{uuid.uuid4().hex}", clock=clock, task_class=SkinnyTask)
    task = gator.task(jobs.note)
    delivery = take(gator)
    assert gator.client.ack([delivery]) == []
    lost = gator.codec.decode(delivery)
    lost.func = gator.codec.decode_names(delivery).func
    lost.func.__module__ = MISSING
    gator.client.push("all", task.task_id, lost.serialize())
    assert find_all_missing(gator, task.task_id) == DEPLOY_DELAYS
    assert gator.dead()[0].attempts == 6


def test_without_room_for_the_count_it_goes_by_deliveries(gator, monkeypatch):
    def refuse(*args):
        raise InvalidTask("too large")

    monkeypatch.setattr(gator.client, "postpone", refuse)
    task = gator.task(f"{MISSING}.note")
    assert find_all_missing(gator, task.task_id) == DEPLOY_DELAYS
    assert gator.dead()[0].error.startswith("UnknownModuleError: ")


def test_a_long_message_keeps_the_count(gator):
    task = gator.task(f"{MISSING}.note", "x" * 50_000)
    assert find_all_missing(gator, task.task_id) == DEPLOY_DELAYS


@pytest.mark.parametrize("data", ['{"a": 1}', b'{"a": 1}', '{"a": 1}\n', "{}  ", '{"a": "\\t "}'])
def test_the_note_is_part_of_no_value(data):
    assert message_module.missed(data) == 0
    assert message_module.with_missed(data, 0) is data
    for count in (1, 2, 6):
        noted = message_module.with_missed(data, count)
        assert (message_module.missed(noted), type(noted)) == (count, type(data))
        assert strict_json.loads(noted) == strict_json.loads(data)
        assert message_module.with_missed(noted, 3) == message_module.with_missed(data, 3)
        assert message_module.with_missed(noted, 0) == data


@pytest.mark.parametrize("data", ["no json", b"\xff", "[]", " " * strict_json.MAX_BYTES, "{}\t  x"])
def test_what_is_no_task_gets_no_note(data):
    assert message_module.with_missed(data, 1) is None


@pytest.mark.parametrize("retries", [0, 2])
def test_the_tries_of_a_dead_letter_are_its_runs(gator, retries):
    gator.options(retries=retries).task(jobs.fail)
    hand_back(gator, 7)
    work(gator)
    assert gator.dead()[0].attempts == retries + 1


def test_on_each_backend_the_tries_are_its_runs(durable_gator):
    gator = durable_gator(f"tries-{uuid.uuid4().hex[:8]}")
    gator.options(retries=1).task(jobs.fail)
    for _ in range(2):
        hand_back(gator, 3)
        run_one(gator)
    assert [letter.attempts for letter in gator.dead()] == [2]


def test_what_never_began_was_never_tried(gator):
    gator.options(expires=5).task(jobs.note)
    hand_back(gator, 2)
    gator.clock.advance(6)
    work(gator)
    assert [each.attempts for each in gator.dead()] == [0]
    gator.client.purge_dead("all")
    gator.task(jobs.note)
    hand_back(gator, 2)
    die(gator, 3)
    work(gator)
    assert [each.attempts for each in gator.dead()] == [3]
    assert jobs.seen == []


def test_a_task_unfit_for_its_retry_has_that_run_counted_once(gator):
    gator.options(retries=1, on_error=jobs.spoil)(jobs.fail_with, "retries", "none")
    work(gator)
    assert [each.attempts for each in gator.dead()] == [1]


def test_a_retry_too_large_for_its_backend_leaves_a_letter_that_counts_runs(gator, monkeypatch):
    release = gator.client.release

    def refuse(delivery, data=None, delay_until=None):
        if data is not None:
            raise InvalidTask("too large")
        return release(delivery, data, delay_until)

    monkeypatch.setattr(gator.client, "release", refuse)
    gator.options(retries=1).task(jobs.fail)
    hand_back(gator, 3)
    work(gator)
    assert [(each.error, each.attempts) for each in gator.dead()] == [("InvalidTask: too large", 1)]


def poll():
    """Run again and again, as a task does that looks whether something has come."""
    if len(jobs.seen) < 15:
        jobs.seen.append(1)
        current_task().retry()
    jobs.seen.append("came")


@pytest.mark.parametrize("way", ["pop", "worker"])
def test_deaths_between_good_runs_do_not_add_up(gator, way):
    gator.options(retries=20).task(poll)
    for run in range(16):
        if run % 5 == 1:
            die(gator)
        if way == "pop":
            gator.pop()
        else:
            run_one(gator)
    assert jobs.seen[-1] == "came"
    assert gator.dead() == []


@pytest.mark.parametrize("func", [jobs.fail, poll])
def test_a_task_whose_last_run_ended_is_no_suspect(gator, func):
    gator.options(retries=3).task(func)
    die(gator, 2)
    gator.pop()
    gator.task(jobs.note)
    found = gator.client.reserve(["all"], 5).deliveries
    assert [each.deaths for each in found] == [0, 0]


def test_a_killer_is_given_up_all_the_same(gator):
    gator.options(retries=3).task(jobs.fail)
    gator.pop()
    die(gator, 3)
    work(gator)
    (letter,) = gator.dead()
    assert letter.error.startswith("WorkerDied: 3 deaths")
    assert letter.attempts == 1 + 3


def test_the_mark_of_a_look_is_gone_after_a_revive(gator):
    task = gator.task(f"{MISSING}.note")
    data = gator.client.peek("all", task.task_id)
    find_missing(gator, task.task_id)
    marked = gator.client.peek("all", task.task_id)
    assert (message_module.missed(marked), len(marked)) == (1, len(data) + 2)
    assert gator.codec.renewed("all", task.task_id, marked) == data
