"""Test that an attempt is the same number wherever people see it: hand-backs are none."""

import json
import logging
from contextlib import closing

import pytest

from alligator import Gator, Worker, cli, current_task
from alligator.backends.base import LISTING
from alligator.constants import RETRYING, SUCCESS
from alligator.contrib import tracing
from tests.support.helpers import eventually

seen = []
gators = []
workers = []


def look():
    """Note what is shown of this task while it runs; fail at first."""
    (gator,), task = gators, current_task()
    found = {"middleware": tracing.attempt(task)}
    lists = LISTING in gator.client.controls
    # Without a list of leases, what runs is known once its worker has told: within a second.
    runs = eventually(lambda: running(gator), "it is told")
    found |= {f"running {index}": each.attempt for index, each in enumerate(runs)}
    if lists:
        (row,) = gator.tasks("running")
        found["tasks"] = row.attempts
    if (row := gator.task_info(task).row) is not None:
        found["info"] = row.attempts
    seen.append(found)
    workers[-1].keep_running = False
    if len(seen) == 1:
        raise ValueError("once")


def running(gator):
    return [each for each in gator.running() if each.queue_name == gator.queue_name]


def hand_back(gator, times):
    """Fetch a task ahead and hand it back, as a worker does that is busy with another one."""
    for _ in range(times):
        (delivery,) = gator.client.reserve([gator.queue_name], 10, wait=5.0).deliveries
        assert gator.client.release(delivery)
    return delivery.attempt


def shown_waiting(gator):
    """Return what is shown of a task that waits, where it can be looked at."""
    found = set()
    if "sqs" not in gator.client.conn_string:
        found |= {each.attempts for each in gator.tasks("waiting")}
    if (info := gator.task_info(gator.the_task)).row is not None:
        found.add(info.row.attempts)
    return found


def test_hand_backs_are_no_attempts_wherever_they_are_shown(gator_with_store, caplog):
    gator = gator_with_store
    gators[:], seen[:], workers[:] = [gator], [], []
    is_sqs = gator.client.conn_string.startswith("sqs")
    times = 3 if is_sqs else 12  # SQS counts more than seven receives as deaths
    caplog.set_level(logging.INFO, "alligator.workers")
    gator.the_task = gator.options(retries=1, retry_delay=0, history=60).task(look)
    for run in (1, 2):
        assert hand_back(gator, times) >= times
        assert shown_waiting(gator) in ({run - 1}, set())
        if run == 2 and LISTING in gator.client.controls:
            assert "tried 1 time (" in gator.explain(gator.the_task)
        workers.append(Worker(gator, prefetch=10, log_level=logging.INFO))
        workers[-1].run_forever()
        assert set(seen[run - 1].values()) == {run}, seen
    assert {"middleware", "running 0"} <= set(seen[0])
    told = [(each.outcome, each.attempt) for each in caplog.records if hasattr(each, "attempt")]
    assert told == [("started", 1), ("retried", 1), ("started", 2), ("succeeded", 2)]
    texts = [each.getMessage() for each in caplog.records if hasattr(each, "attempt")]
    for number, text in zip((1, 1, 2, 2), texts, strict=True):
        assert f"attempt {number}" in text
    rows = [each for each in gator.recent() if each.queue_name == gator.queue_name]
    assert {(each.state, each.attempt) for each in rows} == {(RETRYING, 1), (SUCCESS, 2)}
    assert [each.outcome for each in gator.history(gator.the_task).attempts] == [
        "retried",
        "succeeded",
    ]


def test_a_death_is_an_attempt(gator_with_store):
    gator = gator_with_store
    if gator.client.conn_string.startswith("sqs"):
        pytest.skip("SQS cannot tell a death from a hand-back")
    gator.the_task = gator.task(look)
    hand_back(gator, 2)
    gator.client.reserve([gator.queue_name], 1, 0.2, wait=5.0)
    (died,) = gator.client.reserve([gator.queue_name], 1, wait=10.0).deliveries
    assert died.deaths == 1
    if LISTING in gator.client.controls:
        assert [each.attempts for each in gator.tasks("running")] == [2]
    assert gator.task_info(gator.the_task).row.attempts == 2
    assert gator.client.release(died)
    assert shown_waiting(gator) == {1}


def test_the_command_shows_that_number(sqlite_dsn, capsys):
    with closing(Gator(sqlite_dsn, "some")) as gator:
        gator.task(look)
        hand_back(gator, 3)
    assert cli.main(["tasks", sqlite_dsn, "--queue", "some", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"][0]["attempts"] == 0
