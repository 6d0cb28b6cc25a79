"""Test what the dashboard records by itself: how full the queues are, in each minute."""

import uuid
from itertools import pairwise

import pytest

from alligator import Gator
from alligator.exceptions import ConnectionLost
from alligator.monitoring.rows import QueueRow
from alligator.testing import FakeClock
from alligator.web import Dashboard, Request
from alligator.web.charts.recorded import Sampler
from alligator.web.pages import PAGES
from alligator.web.rendering import environment
from alligator.workers.queue_depths import MOST_QUEUES
from tests.support import jobs
from tests.support.helpers import eventually


@pytest.fixture
def clock():
    return FakeClock(1_800_000_030.0)


@pytest.fixture
def gator(clock):
    return Gator(f"locmem://{uuid.uuid4().hex}", "mail", clock=clock)


class Waits:
    """Waits by a clock that is not real, so many times; then it says to stop."""

    def __init__(self, clock, count, between=lambda: None):
        self.clock, self.left, self.between = clock, count, between

    def __call__(self, seconds):
        assert 0 < seconds <= 65
        self.clock.advance(seconds)
        self.between()
        self.left -= 1
        return self.left == 0


def test_a_look_in_each_minute_though_nobody_visits(gator, clock):
    """A queue without workers grows by one task a minute."""
    gator.task(jobs.note, 0)
    Sampler().run(gator, Waits(clock, 4, lambda: gator.task(jobs.note, 1)))
    rows = gator.depths(10)
    assert [row.waiting for row in rows] == [1, 2, 3, 4]
    assert [b.minute - a.minute for a, b in pairwise(rows)] == [60] * 3


def test_no_second_look_in_the_minute_of_a_visit(gator, clock, monkeypatch):
    sampler, looks, real = Sampler(), [], gator.queues
    monkeypatch.setattr(gator, "queues", lambda: looks.append(1) or real())
    sampler.sample(gator, real(), clock.time())
    sampler.run(gator, Waits(clock, 1))
    assert looks == []
    sampler.run(gator, Waits(clock, 1))
    assert looks == [1]


@pytest.mark.parametrize("error", [ConnectionLost("gone"), RuntimeError("a fault")])
def test_a_look_that_fails_is_no_end(gator, clock, monkeypatch, error):
    gator.task(jobs.note, 0)
    real, calls = gator.queues, []

    def fail_once():
        calls.append(1)
        if len(calls) == 1:
            raise error
        return real()

    monkeypatch.setattr(gator, "queues", fail_once)
    Sampler().run(gator, Waits(clock, 2))
    assert [row.waiting for row in gator.depths(10)] == [1]


def test_of_many_queues_the_fullest_are_recorded(gator, clock):
    """A store keeps so many rows of a minute, which the functions need as well."""
    rows = [QueueRow(f"q{n}", n, 0, 0, 0, None, False, 0) for n in range(3 * MOST_QUEUES)]
    Sampler().sample(gator, rows, clock.time())
    found = {row.queue_name for row in gator.depths(1)}
    assert found == {f"q{n}" for n in range(2 * MOST_QUEUES, 3 * MOST_QUEUES)}


def test_what_was_recorded_is_read_before_the_first_visit(gator, clock, monkeypatch):
    """By a server that has the dashboard alone; and it has compiled all templates."""
    asked, real = [], gator.activity_and_depths
    monkeypatch.setattr(
        gator, "activity_and_depths", lambda *args: asked.append(args) or real(*args)
    )
    dashboard = Dashboard(gator)
    assert asked == []  # an application may make it long before it is looked at
    with dashboard.recording():
        eventually(lambda: asked and sum(asked[-1][:2]) >= 2880)
    compiled = []
    monkeypatch.setattr(environment(), "compile", lambda *args, **_: compiled.append(args))
    for path in PAGES:
        dashboard.handle(Request("GET", f"/{path}"))
    assert compiled == []


def test_it_goes_on_as_long_as_the_dashboard_is_served():
    gator = Gator(f"locmem://{uuid.uuid4().hex}", "mail")
    gator.task(jobs.note, 0)
    with Dashboard(gator).recording():
        eventually(lambda: [row.waiting for row in gator.depths(2)] == [1])
