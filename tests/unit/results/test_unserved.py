"""Test warnings of queues without a worker: in a worker's log, ``status`` and ``explain``."""

import logging
import threading
import time
import uuid

import pytest

from alligator import Gator, Worker
from alligator.backends.base import Message
from alligator.cli import commands as cli
from alligator.exceptions import ConnectionLost
from alligator.producer.children_in_other_store import HELD
from alligator.results.unserved import GRACE, Served, Unserved, remarks
from alligator.workers import heartbeat
from tests.support import jobs

log = logging.getLogger("test.unserved")


def served(gator):
    return Served(gator.client, gator.store, gator.schedules)


@pytest.fixture(params=["locmem", "sqlite", "redis", "beanstalk+redis"])
def make(request, tmp_path):
    """Make Gators on queues whose names begin alike."""
    backend, _, store = request.param.partition("+")
    dsn = f"locmem://{tmp_path}"
    if backend != "locmem":
        dsn = request.getfixturevalue(f"{backend}_dsn")
    if backend == "redis":  # a database without queues of other tests
        dsn = f"{dsn.rpartition('/')[0]}/9"
    where = request.getfixturevalue(f"{store}_dsn") if store else None
    prefix, made = uuid.uuid4().hex[:12], []

    def make(name="images"):
        made.append(Gator(dsn, f"{prefix}-{name}", store=where))
        return made[-1]

    make.prefix = prefix
    yield make
    for gator in made:
        gator.client.drop_all(gator.queue_name)
        gator.close()


@pytest.fixture
def told(caplog, request):
    """Return the warnings, but for those of queues that other tests left on the server."""
    caplog.set_level(logging.WARNING)
    prefix = request.getfixturevalue("make").prefix if "make" in request.fixturenames else ""

    def lines():
        found = [each.getMessage() for each in caplog.records if each.name == log.name]
        return [each for each in found if prefix in each]

    return lines


def lives(gator, seconds=90.0):
    gator.store.beat(f"w-{gator.queue_name}", [gator.queue_name], seconds)


def scheduled(make):
    gator, low = make(), make("low")
    gator.task(jobs.note)  # it has been used
    with gator.options(queue_name=low.queue_name) as opts:
        schedule = opts.every(3600, jobs.note)
    return gator, low, schedule


# -- Schedules. -----------------------------------------------------------------------------------


def test_a_schedule_onto_a_queue_that_nobody_serves_is_told_once(make, told):
    gator, low, schedule = scheduled(make)
    unserved = Unserved(served(gator), [gator.queue_name], log)
    for _ in range(GRACE - 1):
        unserved.look()
        assert told() == [], "its worker may be starting"
    for _ in range(5):
        unserved.look()
    assert told() == [
        f"Schedule {schedule.name} fires onto queue {low.queue_name!r}, which has no live worker, "
        "and had none in the last day."
    ]


def test_who_serves_it_himself_or_sees_another_says_nothing(make, told):
    gator, low, _ = scheduled(make)
    both = Unserved(served(gator), [gator.queue_name, low.queue_name], log)
    other = Unserved(served(gator), [gator.queue_name], log)
    lives(gator)
    lives(low)
    for _ in range(GRACE + 2):
        both.look()
        other.look()
    assert told() == []
    lives(low, 0.0)
    for _ in range(GRACE - 1):
        other.look()
    lives(low)
    other.look()
    assert told() == [], "it was gone for a moment only"
    lives(low, 0.0)
    for _ in range(GRACE):
        other.look()
    assert len(told()) == 1
    assert "no live worker since 2" in told()[0]


def test_a_worker_says_it(make, monkeypatch, caplog):
    monkeypatch.setattr(heartbeat, "EVERY", 0.02)
    gator, low, schedule = scheduled(make)
    worker = Worker(gator, log_level="WARNING")
    monkeypatch.setattr(worker, "log", log)
    thread = threading.Thread(target=worker.run_forever, daemon=True)
    with caplog.at_level(logging.WARNING):
        thread.start()
        deadline = time.monotonic() + 30
        while schedule.name not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
    worker.keep_running = False
    thread.join(30)
    assert caplog.text.count(f"fires onto queue {low.queue_name!r}") == 1


def test_explain_says_it(make):
    gator, low, schedule = scheduled(make)
    assert "no live worker there in the last day" in gator.explain(schedule)
    lives(low)
    said = gator.explain(schedule)
    assert said.startswith("due in ")
    assert said.endswith(f"on {low.queue_name!r}, 1 live worker there")


# -- Names. ---------------------------------------------------------------------------------------


def test_a_name_that_is_misspelt_is_told_at_once_and_once(make, told):
    gator, wrong = make(), make("imgaes")
    gator.task(jobs.note)
    unserved = Unserved(served(wrong), [wrong.queue_name], log)
    for _ in range(GRACE + 2):
        unserved.look()
    assert told() == [
        f"Queue {wrong.queue_name!r} was never used, and {gator.queue_name!r} (1 waiting) has no "
        "live worker: did you mean that one?"
    ]


def test_another_name_is_told_after_a_while(make, told, monkeypatch):
    monkeypatch.setattr("alligator.results.unserved._ALIKE", 0.99)
    gator, other = make(), make("letters")
    gator.task(jobs.note)
    unserved = Unserved(served(other), [other.queue_name], log)
    for _ in range(GRACE - 1):
        unserved.look()
    assert told() == []
    for _ in range(3):
        unserved.look()
    assert len(told()) == 1
    assert f"{gator.queue_name!r} (1 waiting)" in told()[0]


def test_nothing_is_told_of_queues_in_order(make, told):
    gator, wrong = make(), make("imgaes")
    gator.task(jobs.note)
    lives(gator)
    for _ in range(GRACE):
        Unserved(served(wrong), [wrong.queue_name], log).look()
    lives(gator, 0.0)
    wrong.task(jobs.note)
    unserved = Unserved(served(wrong), [wrong.queue_name], log)
    for _ in range(GRACE - 1):
        unserved.look()
    assert told() == []


def test_a_queue_whose_tasks_nobody_serves_is_told_once(make, told):
    gator, own = make(), make("letters")
    for _ in range(2):
        gator.task(jobs.note)
    own.task(jobs.note)
    unserved = Unserved(served(own), [own.queue_name], log)
    unserved.look()
    lives(gator)
    unserved.look()
    lives(gator, 0.0)
    for _ in range(GRACE - 1):
        unserved.look()
    assert told() == [], "its worker may be starting"
    for _ in range(3):
        unserved.look()
    (line,) = told()
    assert line.startswith(
        f"Queue {gator.queue_name!r} has 2 waiting tasks and no live worker since"
    )
    lives(own)
    assert len(told()) == 1


def test_a_queue_that_was_never_used(make, caplog):
    caplog.set_level(logging.INFO)
    gator = make("never")
    unserved = Unserved(served(gator), [gator.queue_name], log)
    for _ in range(GRACE + 1):
        unserved.look()
    assert caplog.text.count(f"Queue {gator.queue_name!r} was never used so far") == 1
    assert remarks(served(gator), [gator.queue_name])[0].startswith(
        f"Queue {gator.queue_name!r} was never used, and has no live worker"
    )
    assert "a queue that is not known here" in gator.explain("no-such-id")


def test_what_the_store_keeps_back_is_to_be_served_by_nobody(make, told):
    other = make("letters")
    home = make()
    home.client.push_many(HELD, [Message("held", "{}")])
    unserved = Unserved(served(other), [other.queue_name], log)
    for _ in range(GRACE):
        unserved.look()
    home.client.drop_all(HELD)
    assert HELD not in "".join(told())


def test_queue_names(make):
    gator, empty, other = make(), make("empty"), make("other")
    gator.task(jobs.note)
    other.options(delay_by=60).task(jobs.note)
    empty.client.reserve([empty.queue_name], 1)
    names = gator.client.queue_names()
    assert {gator.queue_name, other.queue_name} <= set(names)
    assert empty.queue_name not in names


def test_what_cannot_be_asked_harms_no_worker(make, monkeypatch, caplog):
    monkeypatch.setattr(heartbeat, "EVERY", 0.01)
    gator, _, _ = scheduled(make)

    def refuse():
        raise ConnectionLost("not allowed")

    monkeypatch.setattr(gator.client, "queue_names", refuse)
    for _ in range(3):
        gator.task(jobs.note)
    Worker(gator, max_tasks=4, log_level="WARNING").run_forever()
    assert gator.len() == 0
    assert "not allowed" not in [each.getMessage() for each in caplog.records if each.levelno > 20]


# -- The command line. ----------------------------------------------------------------------------


def test_status_says_it(make, monkeypatch, capsys):
    gator, low, schedule = scheduled(make)
    gator.task(jobs.note)
    monkeypatch.setattr(cli, "gator_of", lambda arguments, *_: gator)
    assert cli.main(["status", "locmem://", "--queue", gator.queue_name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == [
        f"Queue {gator.queue_name!r} has no live worker, and had none in the last day.",
        f"Schedule {schedule.name} fires onto queue {low.queue_name!r}, which has no live worker, "
        "and had none in the last day.",
    ]
    lives(gator)
    lives(low)
    assert cli.main(["status", "locmem://", "--queue", gator.queue_name]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_without_a_store_nothing_is_known(beanstalk_dsn, told):
    gator = Gator(beanstalk_dsn, f"u-{uuid.uuid4().hex[:8]}")
    assert remarks(served(gator), [gator.queue_name]) == []
    Unserved(served(gator), [gator.queue_name], log).look()
    assert told() == []
    gator.close()
