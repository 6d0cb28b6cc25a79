"""Test middleware that is told, about once a second, what ended in this process."""

import logging
import uuid
from collections import Counter

import pytest

from alligator import Gator, Worker
from alligator.exceptions import InvalidTask
from alligator.monitoring.activity_counts import COUNTS, MORE_COUNTS
from alligator.workers import heartbeat
from tests.support import jobs
from tests.support.helpers import eventually


class Counts:
    """Adds up what it is told."""

    def __init__(self):
        self.total, self.runs = Counter(), 0

    def activity(self, rows):
        for row in rows:
            self.runs += sum(row.duration_buckets)
            self.total.update(
                {name: n for name in (*COUNTS, *MORE_COUNTS) if (n := getattr(row, name))}
            )


class Refuses:
    def activity(self, rows):
        raise RuntimeError("no room for these rows")


@pytest.fixture
def make():
    return lambda *middleware, dsn=None, **options: Gator(
        dsn or f"locmem://{uuid.uuid4().hex}", "counted", middleware=middleware, **options
    )


def push_some(gator):
    for number in range(3):
        gator.task(jobs.note, number)
    gator.options(retries=1).task(jobs.fail)


def burst(gator):
    Worker(gator, burst=True, log_level=logging.CRITICAL).run_forever()


ENDS = {"succeeded": 3, "failed": 2, "retried": 1, "dead": 1}


@pytest.mark.parametrize("run", [Gator.run_all, burst], ids=["run_all", "worker"])
@pytest.mark.parametrize("activity", [True, False])
def test_it_is_told_of_each_end(make, run, activity):
    """Also where the store is told nothing."""
    counts = Counts()
    gator = make(counts, activity=activity)
    push_some(gator)
    run(gator)
    assert counts.total == ENDS
    assert counts.runs == 5
    assert bool(gator.activity()) == activity


def test_without_a_store(make, beanstalk_dsn):
    counts = Counts()
    gator = make(counts, dsn=beanstalk_dsn)
    gator.client.drop_all("counted")
    push_some(gator)
    assert gator.store is None
    burst(gator)
    assert counts.total == ENDS


@pytest.mark.parametrize("ends", [True, False])
def test_it_is_told_while_the_store_cannot_be_reached(make, monkeypatch, ends):
    """Each second, and at the end: it does not wait for the next report."""
    counts = Counts()
    gator = make(counts)
    monkeypatch.setattr(heartbeat, "REPORT_EVERY", 0.02)
    monkeypatch.setattr(gator.store, "report", lambda it: 1 / 0)
    beat = heartbeat.Heartbeat(
        gator.store,
        ["counted"],
        log=logging.getLogger("beat"),
        outage=None,
        recording=(recording := gator.new_recording()),
        live=lambda: "a report that does not get through",
    )
    with beat:
        eventually(lambda: beat._reports.failures > 2)
        recording.ended["counted"].append(jobs.note)
        if not ends:
            eventually(lambda: counts.total == {"succeeded": 1})
    assert counts.total == {"succeeded": 1}


def test_one_that_raises_is_said_once_and_stops_no_worker(make, caplog):
    counts = Counts()
    gator = make(Refuses(), counts)
    for _ in range(3):
        gator.task(jobs.note)
        gator.run_all()
    assert counts.total == {"succeeded": 3}
    assert sum(row.succeeded for row in gator.activity()) == 3
    assert caplog.text.count("could not take what was counted") == 1
    assert "no room for these rows" in caplog.text


def test_it_is_around_nothing(make):
    """So tasks run, and are pushed, as without middleware."""
    gator = make(Counts())
    assert gator.run_middleware is None
    assert make().new_recording().listeners == ()


class Awaits:
    async def activity(self, rows):
        """Be what is not awaited."""


class NoArgument:
    def activity(self):
        """Be what cannot be told."""


@pytest.mark.parametrize("one", [Awaits(), NoArgument()])
def test_bad_ones_are_refused(make, one):
    with pytest.raises(InvalidTask, match=r"activity cannot be called as activity\(rows\)"):
        make(one)
