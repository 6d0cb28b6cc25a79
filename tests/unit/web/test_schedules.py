"""Test the page of the schedules."""

from datetime import UTC, datetime

import pytest

from alligator import Gator
from alligator.testing import FakeClock
from alligator.web.pages import schedules
from tests.support.pages import HOSTILE, Pages, words

START = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()


def tidy(folder="", password="", **more):
    """Do what a schedule is for."""


@pytest.fixture
def clock():
    return FakeClock(START)


@pytest.fixture
def gator(tmp_path, clock):
    return Gator(f"locmem://{tmp_path}", "nightly", clock=clock)


def test_schedules_are_shown_with_last_and_next_ticks(gator, clock):
    """With function, arguments, times and queue, and whether a worker serves it."""
    gator.cron("0 5 * * *", tidy, "/tmp/a", password="hunter2")
    gator.options(queue_name="often").every(60, tidy)
    page = Pages(gator).get("schedules")
    text = words(page)
    assert "tidy ('/tmp/a', password='***') 0 5 * * * UTC nightly no workers" in text
    assert "hunter2" not in page
    assert "every 60 s often" in text
    assert "no worker has looked" in text
    assert '<time datetime="2026-01-02T05:00:00+00:00" data-kind="until"' in page
    gator.store.beat("host:1:f", ["often"], 90)
    gator.run_until("+1m")
    text = words(page := Pages(gator).get("schedules"))
    assert "often no workers" not in text
    assert "none yet" in text
    assert '<time datetime="2026-01-01T12:01:00+00:00" data-kind="ago"' in page
    assert "tidy-" in page
    assert "%402026-01-01T12%3A01%3A00Z" in page  # a link to the task of that tick


def test_a_tick_that_no_worker_queued_is_marked(gator, clock):
    """A worker has looked before, and none does now."""
    gator.every(60, tidy)
    gator.run_until("+1m")
    assert "missed" not in words(Pages(gator).get("schedules"))
    clock.advance(200)
    assert "missed" in words(Pages(gator).get("schedules"))


def test_none_says_where_they_are(gator):
    """In the code of an application."""
    text = words(Pages(gator).get("schedules"))
    assert "No schedule is declared here." in text
    assert "schedules also need a store" not in text
    assert "latergator.py dashboard --app myapp.gator:gator" in text


def test_many_are_shown_in_part(gator, monkeypatch):
    """And how many are left out."""
    monkeypatch.setattr(schedules, "MOST", 2)
    for each in range(3):
        gator.every(60 + each, tidy)
    assert "1 more are not shown." in words(Pages(gator).get("schedules"))


def test_hostile_arguments_break_nothing(gator):
    """Since they may come from a table of a database."""
    gator.every(60, tidy, HOSTILE.replace("\udcff", ""), **{HOSTILE.replace("\udcff", ""): 1})
    assert "&lt;script&gt;" in Pages(gator).get("schedules")


def test_a_backend_without_a_store_has_none():
    """None could be declared there."""
    text = words(Pages(Gator("sqs://us-west-2/", "mail")).get("schedules"))
    assert "No schedule is declared here." in text
    assert "schedules also need a store" in text
