"""Test that a move loses nothing, keeps ids, order and priorities, and says what it could not."""

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from alligator import DELAYED, WAITING, Gator
from alligator.cli import commands as cli
from alligator.cli import move
from alligator.exceptions import ConnectionLost, InvalidTask
from alligator.testing import FlakyClient
from tests.support import ROOT, jobs


@pytest.fixture
def gators(tmp_path):
    made = [Gator(f"sqlite://{tmp_path}/{name}.db") for name in ("source", "target")]
    yield made
    for each in made:
        each.close()


@pytest.fixture
def source(gators):
    return gators[0]


@pytest.fixture
def target(gators):
    return gators[1]


def ids(gator, queue="all"):
    found = []
    while got := gator.client.reserve([queue], 100, 600).deliveries:
        found += [each.task_id for each in got]
    return found


def moved(source, target, *more):
    return cli.main(["move", source.conn_string, target.conn_string, *more])


def test_ids_order_and_priorities_are_kept(source, target, capsys):
    target.client.check_queue_name("all")
    plain = [source.task(jobs.note, number).id for number in range(3)]
    first = source.options(priority=7, task_id="mine")(jobs.note, "first").id
    signed_bytes = source.client.push("all", "raw", b"\x00\xff not JSON")
    assert moved(source, target) == 0
    assert ids(target) == [first, *plain, signed_bytes]
    assert source.len() == 0
    assert target.client.peek("all", "raw") == b"\x00\xff not JSON"
    shown = capsys.readouterr().out.splitlines()
    assert shown == [
        "all: 5 waiting and 0 delayed at the source, 0 at the target",
        "all: 5 moved; 0 left at the source, 5 at the target",
    ]


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_delayed_tasks_keep_their_time(kind, request, target, capsys):
    source = Gator(request.getfixturevalue(f"{kind}_dsn"), "move-delayed")
    due = {
        source.options(delay_by=delay, priority=delay // 1000)(jobs.note, delay).id: delay
        for delay in (3600, 7200)
    }
    plain = source.task(jobs.note).id
    before = time.time()
    assert moved(source, target, "--queue", "move-delayed") == 0
    assert "3 moved; 0 left" in capsys.readouterr().out
    assert target.client.find("move-delayed", plain).state == WAITING
    listed, _ = target.client.list_tasks("move-delayed", DELAYED)
    assert [each.task_id for each in listed] == list(due)
    assert [each.priority for each in listed] == [3, 7]
    for each in listed:
        assert abs(each.due - before - due[each.task_id]) < 30
    source.close()


def test_more_than_one_step_and_several_queues(source, target, monkeypatch):
    monkeypatch.setattr(move, "_STEP", 3)
    expected = {}
    for queue in ("all", "low"):
        with source.batch(queue_name=queue) as batch:
            expected[queue] = [batch.task(jobs.note, number).id for number in range(7)]
    assert moved(source, target, "--queue", "all", "--queue", "low") == 0
    assert {queue: ids(target, queue) for queue in expected} == expected


def test_signed_tasks_still_run(tmp_path, gators):
    keys = {"secret_keys": ["k" * 16]}
    source, target = (Gator(each.conn_string, **keys) for each in gators)
    jobs.seen.clear()
    source.task(jobs.note, 1)
    assert moved(source, target) == 0
    assert target.run_all() == 1
    assert jobs.seen == [((1,), {})]
    source.close()
    target.close()


def test_limits_and_rates_go_along(source, target, capsys):
    for options in ({"limit": 1, "limit_key": "mine"}, {"rate": "2/h"}):
        with source.options(**options) as opts:
            for number in range(3):
                opts.task(jobs.note, number)
    assert moved(source, target) == 0
    assert len(ids(target)) == 3, "one of the limit, and two of the rate"
    assert (target.len(), source.len()) == (3, 0)


def test_a_limit_that_the_target_cannot_keep_is_said(source, beanstalk_dsn, capsys):
    source.options(limit=1)(jobs.note)
    target = Gator(beanstalk_dsn, "all")
    assert moved(source, target) == 0
    assert "1 had a limit or a rate, which the target cannot keep." in capsys.readouterr().out
    target.client.drop_all("all")
    target.close()


def test_a_paused_queue_can_be_moved(source, target):
    sent = [source.task(jobs.note, number).id for number in range(3)]
    source.client.pause("all")
    assert moved(source, target) == 0
    assert ids(target) == sent


def test_what_stays_is_said(source, target, capsys):
    source.task(jobs.fail)
    source.run_all()
    source.task(jobs.note, "running")
    source.client.reserve(["all"], lease=600)
    source.task(jobs.note)
    assert moved(source, target) == 0
    assert "These stay where they are: 1 running, 1 dead." in capsys.readouterr().out


@pytest.mark.parametrize("again", ["same", "other name"])
def test_onto_itself_is_one_line(again, source, tmp_path, capsys):
    source.task(jobs.note)
    dsn = source.conn_string if again == "same" else f"sqlite://{tmp_path}/./source.db"
    assert cli.main(["move", source.conn_string, dsn]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "cannot be moved onto itself" in said
    assert source.len() == 1


def test_onto_itself_by_another_name_of_the_server(redis_dsn, capsys):
    gator = Gator(redis_dsn, "move-itself")
    gator.task(jobs.note)
    other = redis_dsn.replace("127.0.0.1", "localhost")
    assert cli.main(["move", redis_dsn, other, "--queue", "move-itself"]) == 2
    assert "cannot be moved onto itself" in capsys.readouterr().err
    gator.client.drop_all("move-itself")
    gator.close()


def test_without_a_target(source, capsys):
    source.task(jobs.note)
    assert cli.main(["move", source.conn_string]) == 2
    assert "Say where to" in capsys.readouterr().err


def step_by(source, target):
    """Move by clients that fail when told to."""
    inner = FlakyClient(source.client), FlakyClient(target.client)
    route = move._Route(*inner, "all", move.Moved(source.len()), source.codec)
    return (*inner, route)


@pytest.mark.parametrize("when", ["fail", "lose_reply"])
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_lost_connection_loses_no_task(side, when, source, target):
    """Nor doubles one, where the target keeps ids."""
    sent = {source.task(jobs.note, number).id for number in range(4)}
    flaky_source, flaky_target, route = step_by(source, target)
    flaky = flaky_source if side == "source" else flaky_target
    getattr(flaky, when)("ack" if side == "source" else "push_many")
    with pytest.raises(ConnectionLost):
        for step in route.found([]):
            route.carry(*step)
    assert waiting(source) | waiting(target) == sent
    if side == "source":
        assert route.done.doubled == 4
    assert moved(source, target) == 0
    assert sorted(ids(target)) == sorted(sent)


def waiting(gator):
    """Return the ids of tasks that wait or run."""
    rows = gator.client.database.connection.execute("SELECT task_id FROM alligator_tasks")
    return {task_id for (task_id,) in rows}


def test_what_the_target_refuses_stays_and_the_rest_goes(source, target, monkeypatch, capsys):
    sent = [source.task(jobs.note, number).id for number in range(5)]
    push_many = type(target.client).push_many

    def refusing(self, queue_name, messages):
        if any(each.task_id == sent[1] for each in messages):
            raise InvalidTask("The task is too large.")
        return push_many(self, queue_name, messages)

    monkeypatch.setattr(type(target.client), "push_many", refusing)
    assert moved(source, target) == 1
    shown = capsys.readouterr().out
    assert "all: 4 moved; 1 left at the source, 4 at the target" in shown
    assert "The target did not take 1, the first since InvalidTask: The task is too large." in shown
    assert ids(target) == [sent[0], *sent[2:]]
    assert ids(source) == [sent[1]]


def test_a_server_that_keeps_no_ids_on_the_way(source, target, beanstalk_dsn, capsys):
    middle = Gator(beanstalk_dsn, "all")
    middle.client.drop_all("all")
    sent = [source.task(jobs.note, number).id for number in range(3)]
    sent.insert(0, source.options(priority=3)(jobs.note, "first").id)
    assert moved(source, middle) == 0
    assert moved(middle, target) == 0
    assert ids(target) == sent
    assert middle.len() == 0
    middle.close()


def test_what_sqs_cannot_keep_is_said(source, sqs_dsn, capsys):
    name = "cli-move"
    source.options(queue_name=name, priority=3)(jobs.note)
    gator = Gator(sqs_dsn, name)
    gator.client.conn.create_queue(QueueName=name)
    assert moved(source, gator, "--queue", name) == 0
    assert "1 had a priority, which the target cannot keep." in capsys.readouterr().out
    (found,) = gator.client.reserve([name]).deliveries
    gator.client.ack([found])
    gator.close()


def test_a_stop_signal_ends_it_after_the_step_and_it_goes_on(source, target, monkeypatch, capsys):
    monkeypatch.setattr(move, "_STEP", 2)
    sent = [source.task(jobs.note, number).id for number in range(6)]
    show, shown = move._Bar.show, []

    def stop(self, count):
        shown.append(count)
        os.kill(os.getpid(), signal.SIGINT)
        show(self, count)

    monkeypatch.setattr(move._Bar, "show", stop)
    assert moved(source, target) == 1
    assert shown == [2]
    assert "The move was interrupted; the same command goes on with it." in capsys.readouterr().out
    assert source.client.stats("all").running == 0
    monkeypatch.setattr(move._Bar, "show", show)
    assert moved(source, target) == 0
    assert ids(target) == sent


def test_a_killed_move_is_repeated(source, target):
    """The tasks of its step come back with their lease."""
    sent = [source.task(jobs.note, number).id for number in range(4)]
    *_, route = step_by(source, target)
    (step,) = [next(route.found([]))]
    target.client.push_many("all", [route._message(each, None) for each in step[0][:2]])
    assert source.len() == 0, "they are on lease"
    database = source.client.database.connection
    database.execute("UPDATE alligator_tasks SET lease_ends = 1")  # the lease is over
    assert moved(source, target) == 0
    assert sorted(ids(target)) == sorted(sent)


def test_there_is_a_bar_on_a_terminal(source, target):
    for number in range(3):
        source.task(jobs.note, number)
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "alligator", "move", source.conn_string, target.conn_string],
        stdout=subprocess.PIPE,
        stderr=its,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "40"},
    )
    assert process.wait(120) == 0
    os.close(its)
    assert "#] 3/3" in os.read(ours, 10_000).decode()
    os.close(ours)
    process.stdout.close()
