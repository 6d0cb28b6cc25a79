"""Test tasks with ``limit`` and ``rate`` from the call to the worker."""

import json
import threading
import time
import uuid

import pytest

from alligator import CANCELED, SUCCESS, WAITING, Gator, Worker
from alligator.cli import commands as cli
from alligator.exceptions import InvalidTask, UnsupportedOption
from tests.support import jobs

BACKENDS = ["locmem", "sqlite", "redis"]


class Running:
    """Counts how many functions run at the same time."""

    def __init__(self):
        self.lock, self.now, self.most, self.done = threading.Lock(), 0, 0, []

    def __enter__(self):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *exc):
        with self.lock:
            self.now -= 1


running = Running()


def note_most(name):
    with running:
        time.sleep(0.02)
    running.done.append(name)


def note_times(number):
    began = time.monotonic()
    with running:
        time.sleep(0.02)
    running.done.append((began, time.monotonic()))


def fail_once(name):
    with running:
        running.done.append(name)
    if running.done.count(name) < 2:
        raise ValueError("not yet")


@pytest.fixture
def locmem_dsn():
    return f"locmem://{uuid.uuid4().hex}"


@pytest.fixture(params=BACKENDS)
def gator(request):
    running.__init__()
    jobs.seen.clear()
    dsn = request.getfixturevalue(f"{request.param}_dsn")
    gator = Gator(dsn, f"l-{uuid.uuid4().hex[:12]}", store=dsn)
    yield gator
    gator.client.drop_all(gator.queue_name)
    gator.close()


def work(gator, **options):
    Worker(gator, burst=True, log_level="CRITICAL", nap_time=0.01, **options).run_forever()


@pytest.mark.parametrize("prefetch", [1, 10])
def test_a_worker_runs_no_more_than_the_limit(gator, prefetch):
    with gator.batch(limit=2, limit_key="customer 7") as batch:
        tasks = [batch.task(note_most, number) for number in range(8)]
    plain = gator.task(note_most, "free")
    work(gator, concurrency=5, prefetch=prefetch)
    assert len(running.done) == 9
    assert running.most <= 3, "two of the limit, and the other one"
    assert plain.wait(5)
    assert all(each.wait(5) for each in tasks)


def test_keys_are_apart_and_the_function_is_the_default(gator):
    one = gator.options(limit=1)
    first, second = one.task(note_most, 1), one.task(note_most, 2)
    other = one.task(jobs.note, 3)
    held = gator.client.reserve([gator.queue_name], 10).deliveries
    assert [each.task_id for each in held] == [first.id, other.id]
    assert gator.status(second) == WAITING
    said = gator.explain(second)
    assert said.startswith(
        "waits for a place: at most 1 of 'tests.behaviour.test_limits.note_most'"
    )
    gator.client.ack(held)
    assert gator.pop().id == second.id


def test_explain_names_the_key(gator):
    options = gator.options(limit=1, limit_key="customer 7", rate="1/h", rate_key="mails")
    _, second = options.task(jobs.note, 1), options.task(jobs.note, 2)
    (held,) = gator.client.reserve([gator.queue_name], 10).deliveries
    assert gator.explain(second).startswith(
        "waits for a place: at most 1 of 'customer 7' run at the same time"
    )
    assert gator.client.list_tasks(gator.queue_name, WAITING)[0][0].task_id == second.id
    gator.client.ack([held])
    assert gator.run_all() == 0
    said = gator.explain(second)
    assert said.startswith("waits for its rate: at most 1 of 'mails' in 60 min start; the next of")
    assert "may start in" in said
    assert gator.cancel(second).id == second.id
    assert gator.status(second) == CANCELED


def test_run_all_pop_and_get_obey(gator):
    limited = gator.options(limit=1, limit_key="k")
    tasks = [limited.task(jobs.note, number) for number in range(3)]
    (held,) = gator.client.reserve([gator.queue_name], 1).deliveries
    assert gator.pop() is None
    assert gator.get(tasks[1]) is None
    assert gator.run_all() == 0
    gator.client.ack([held])
    assert gator.get(tasks[2]).id == tasks[2].id
    assert gator.run_all() == 1
    rated = gator.options(rate=(2, 3600), rate_key="r")
    for number in range(5):
        rated.task(jobs.note, number)
    assert gator.run_all() == 2
    assert gator.pop() is None
    assert gator.client.stats(gator.queue_name).waiting == 3


def test_a_retry_keeps_its_limit(gator):
    options = gator.options(limit=1, limit_key="k", retries=1, rate=(50, 1), rate_key="r")
    tasks = [options.task(fail_once, name) for name in "abc"]
    work(gator, concurrency=3)
    assert len(running.done) == 6
    assert running.most == 1
    assert all(each.wait(5) for each in tasks)


def test_a_place_that_comes_free_is_taken_within_a_tenth_of_a_second(gator):
    options = gator.options(limit=1, limit_key="k")
    for number in range(8):
        options.task(note_times, number)
    work(gator, concurrency=2, prefetch=1)
    assert len(running.done) == 8
    assert running.most == 1
    began, ended = zip(*running.done, strict=True)
    gaps = sorted(late - early for early, late in zip(ended, began[1:], strict=False))
    assert gaps[0] < 0.1, gaps  # on a busy machine, not each of them
    assert gaps[3] < 0.9, gaps


def test_children_and_schedules_keep_them(gator):
    parent = gator.task(jobs.note, "parent")
    options = gator.options(depends_on=[parent], limit=1, limit_key="k")
    first, second = options.task(jobs.note, 1), options.task(jobs.note, 2)
    assert gator.pop().id == parent.id
    held = gator.client.reserve([gator.queue_name], 10).deliveries
    assert [each.task_id for each in held] == [first.id]
    gator.client.ack(held)
    gator.options(limit=1, limit_key="k").every(0.05, jobs.note, "tick")
    time.sleep(0.06)
    gator.schedules.fire()
    gator.client.reserve([gator.queue_name], 1)
    assert gator.client.reserve([gator.queue_name], 10).deliveries == []
    assert gator.status(second) != SUCCESS


def test_is_async_false_runs_at_once(gator):
    held = gator.options(limit=1, limit_key="k").task(jobs.note, 0)
    gator.client.reserve([gator.queue_name], 1)
    task = gator.options(limit=1, limit_key="k", is_async=False).task(jobs.note, 1)
    assert task.status == SUCCESS
    assert gator.status(held) != SUCCESS


def test_the_message_names_them(gator):
    task = gator.options(limit=3, rate="5/s").task(jobs.note, 1)
    options = json.loads(gator.client.peek(gator.queue_name, task.id))["options"]
    assert (options["limit"], options["rate"]) == (3, [5, 1.0])
    assert "limit_key" not in options
    plain = gator.task(jobs.note, 1)
    written = json.loads(gator.client.peek(gator.queue_name, plain.id))["options"]
    assert not {"limit", "rate", "limit_key", "rate_key"} & written.keys()


@pytest.mark.parametrize("backend", ["beanstalk", "sqs"])
@pytest.mark.parametrize("options", [{"limit": 1}, {"rate": "1/s"}])
def test_others_say_what_would_work(backend, options, tmp_path):
    dsns = {"beanstalk": "beanstalk://localhost:1", "sqs": "sqs://us-west-2/"}
    gator = Gator(dsns[backend], store=f"sqlite:///{tmp_path / 'store.db'}")
    name = next(iter(options))
    with pytest.raises(UnsupportedOption, match=f"keeps no '{name}'.*locmem, sqlite or redis"):
        gator.options(**options).task(jobs.note, 1)


def test_bad_options_are_one_line(gator):
    for options, says in (
        ({"limit": 0}, "limit=0"),
        ({"rate": "often"}, "'N/s', 'N/m', 'N/h' or 'N/d'"),
        ({"limit_key": "k"}, "limit="),
        ({"limit": 1, "limit_key": "x" * 201}, "1 to 200"),
    ):
        with pytest.raises(InvalidTask, match=says) as caught:
            gator.options(**options)
        assert "\n" not in str(caught.value)


def test_a_move_keeps_them(tmp_path, sqlite_dsn):
    source = Gator(f"sqlite:///{tmp_path / 'source.db'}")
    target = Gator(f"sqlite:///{tmp_path / 'target.db'}")
    options = source.options(limit=1, limit_key="k", rate="1/h")
    tasks = [options.task(jobs.note, number) for number in range(3)]
    assert source.run_all() == 1
    assert cli.main(["move", source.conn_string, target.conn_string]) == 0
    assert (source.len(), target.len()) == (0, 2)
    assert target.run_all() == 1
    assert target.client.stats("all").waiting == 1
    assert {each.task_id for each in target.client.list_tasks("all", WAITING)[0]} < {
        each.id for each in tasks
    }
