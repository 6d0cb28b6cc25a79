"""Test the page of functions, and that of one."""

import threading
import time

import pytest

from alligator import Gator
from alligator.exceptions import ConnectionLost
from alligator.web.charts import recorded
from tests.support.helpers import eventually
from tests.support.pages import HOSTILE, Pages, links, words
from tests.support.recording import record, serve

SLOW = "shop.images.thumb"


@pytest.fixture
def day(gator):
    """A day on which one function got slow four hours ago."""
    for hours in range(24):
        took = 2.4 if hours < 4 else 1.0
        record(gator, "images", SLOW, ago=60 * hours + 3, runs=30, failed=3, took=took)
        record(gator, ago=60 * hours + 3, runs=50, took=0.02)


def order(page):
    names = ("shop.mail.send", SLOW)
    return sorted(names, key=words(page).rpartition("Average")[2].index)


def test_nothing_has_run(pages):
    text = words(pages.get("activity"))
    assert "No task has run in the last 6 h." in text
    assert "latergator.py" in text


def test_what_got_slower_today_is_told_first(pages, day):
    """In a sentence, and beside the average in the table."""
    page = pages.get("activity")
    text = words(page)
    found = text.index(f"{SLOW} takes 2.4 s, 2.0× longer than before (1.2 s)")  # noqa: RUF001
    assert found < text.index("Total time")
    assert "send takes" not in text
    assert text.count("as before") == 1


@pytest.mark.parametrize("name", ["1h", "6h", "24h", "48h"])
def test_what_got_slower_does_not_depend_on_the_range(gator, pages, day, name):
    """Nor on the page; a range without a time before it says so."""
    serve(gator)
    sentence = (
        f"{SLOW} takes 2.4 s, 2.0× longer than before (1.2 s): 37 s more work in the last hour."  # noqa: RUF001
    )
    text = words(pages.get("activity", range=name))
    assert sentence in text
    assert ("compared with nothing" in text) == (name in ("24h", "48h"))
    page = pages.get("", range=name)
    assert sentence in words(page)
    assert f"/activity?function={SLOW}&range=24h" in links(page)
    assert "slower than in the 24" in words(pages.get("activity", function=SLOW, range=name))


def test_who_lost_most_time_comes_first(gator, pages):
    for ago, slow in ((90, 1), (3, 3)):
        record(gator, function="m.rare", ago=ago, runs=6, took=0.1 * slow * slow)
        record(gator, function="m.often", ago=ago, runs=900, took=0.1 * slow)
    text = words(pages.get("activity"))
    assert text.index("m.often takes") < text.index("m.rare takes")


def test_counts_and_percentiles(pages, day):
    text = words(pages.get("activity", range="24h"))
    assert "720 72 10 %" in text
    assert "1,200 0 20 ms" in text
    assert "2.4 s" in text


@pytest.mark.parametrize(
    ("sort", "first"),
    [("total", SLOW), ("runs", "shop.mail.send"), ("failed", SLOW), ("function", SLOW)],
)
def test_it_is_sorted_by_links(pages, day, sort, first):
    page = pages.get("activity", sort=sort)
    assert order(page)[0] == first
    assert f"/activity?range=6h&sort={sort}" in links(page)
    assert page.count("aria-sort") == 1


def test_it_is_filtered_by_queue_and_text(pages, day):
    assert "shop.mail.send" not in words(pages.get("activity", queue="images"))
    assert "shop.mail.send" in words(pages.get("activity", q="MAIL.s"))
    text = words(pages.get("activity", q="no such"))
    assert "No function matches." in text
    assert "No function matches." in words(pages.get("activity", queue="gone"))


@pytest.mark.parametrize("name", ["range", "sort", "queue", "q", "function"])
def test_any_query_is_answered(pages, day, name):
    pages.get("activity", **{name: HOSTILE})


def test_the_page_of_a_function(pages, day):
    page = pages.get("activity", function=SLOW)
    text = words(page)
    assert "slower than in the 24 hours before" in text
    assert "By queue" in text
    assert "images" in text
    assert page.count("<figure") == 3
    assert "Duration, " in text  # told in words
    assert f"/recent?state=failing&since=21600&function={SLOW}" in links(page)


def test_a_function_that_has_not_run(pages, day):
    assert "It has not run in the last 1 h." in words(
        pages.get("activity", function="a.b", range="1h")
    )


def test_hostile_functions_are_shown(gator, pages):
    record(gator, function=f"a.{HOSTILE}")
    record(gator, function="")
    page = pages.get("activity")
    assert "unreadable message" in page
    (link,) = [each for each in links(page) if "function=" in each and "activity" in each]
    assert "7*7" in words(pages.get("activity", function=f"a.{HOSTILE}"))
    assert "script" in link


def test_many_functions_are_cut(gator, pages):
    for number in range(230):
        record(gator, function=f"m.f{number}")
    assert "30 more are not shown" in words(pages.get("activity"))


def test_without_a_store_it_says_why(beanstalk_dsn):
    gator = Gator(beanstalk_dsn)
    pages = Pages(gator)
    assert "store=" in words(pages.get("activity"))
    assert "store=" in words(pages.get("activity", function="m.f"))
    gator.close()


def test_the_past_is_read_beside_the_page(gator, pages, day, monkeypatch):
    """A page waits for it no longer than a moment, and shows the last hour meanwhile."""
    monkeypatch.setattr(recorded, "PATIENCE", 0.0)
    go, real = threading.Event(), gator.activity_and_depths

    def slow(minutes, ago=0, step=1):
        if ago:
            go.wait(30)
        return real(minutes, ago, step)

    monkeypatch.setattr(gator, "activity_and_depths", slow)
    text = words(pages.get("activity", range="24h"))
    assert "What is older than an hour is being read" in text
    assert SLOW in text
    assert "longer than before" not in text
    go.set()
    eventually(lambda: "being read" not in words(pages.get("activity", range="24h")))
    assert "720 72 10 %" in words(pages.get("activity", range="24h"))


def test_what_was_read_is_not_read_again(gator, pages, day, monkeypatch):
    first = words(pages.get("activity", range="24h"))
    asked, real = [], gator.activity_and_depths
    monkeypatch.setattr(
        gator, "activity_and_depths", lambda *args: asked.append(args) or real(*args)
    )
    assert words(pages.get("activity", range="24h")) == first
    pages.get("activity", range="48h")
    assert max(asked) <= (recorded.FRESH + 6,)


def test_a_page_does_not_wait_for_a_past_that_takes_long(gator, pages, day, monkeypatch):
    """After the first part of it, that can be told."""
    go, real = threading.Event(), gator.activity_and_depths

    def slow(minutes, ago=0, step=1):
        if ago > recorded.FRESH + 6:
            go.wait(30)
        elif ago:
            time.sleep(0.02)
        return real(minutes, ago, step)

    monkeypatch.setattr(gator, "activity_and_depths", slow)
    monkeypatch.setattr(recorded, "PATIENCE", 0.5)  # forty times 0.02 s are more
    began = time.monotonic()
    assert "being read" in words(pages.get("activity", range="24h"))
    took = time.monotonic() - began
    go.set()
    assert took < 0.4


def test_a_past_that_cannot_be_read_is_told(gator, pages, monkeypatch):
    def fail(minutes):
        raise ConnectionLost("no store there")

    monkeypatch.setattr(gator, "activity_and_depths", fail)
    for _ in range(2):
        assert "no store there" in words(pages.get("activity", range="24h"))
