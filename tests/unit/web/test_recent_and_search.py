"""Test the page of recent runs, and the search."""

import time
from contextlib import suppress

import pytest

from alligator import Gator
from tests.support.pages import HOSTILE, links, words


def send(to, more=""):
    """Do what a task does."""
    if to == "bad":
        raise ValueError("no such user")


def resize(name):
    """Do what another task does."""


@pytest.fixture
def gator(tmp_path):
    return Gator(f"sqlite:///{tmp_path}/queue.db", "mail")


def run(gator, func, arg):
    """Queue a task, and run it."""
    task = gator.task(func, arg)
    with suppress(ValueError):
        gator.get(task.task_id)
    return task


def test_runs_and_the_failures_of_the_last_hour(gator, pages):
    """Newest first, with call, error and duration."""
    run(gator, send, "ada")
    task = run(gator, send, "bad")
    run(gator.on_queue("images"), resize, "a.jpg")
    page = pages.get("recent")
    text = words(page)
    assert "test_recent_and_search.resize ('a.jpg')" in text
    assert "ValueError: no such user" in text
    assert "Failed, last hour 1" in text
    assert "What failed in the last hour: tests.unit.web.test_recent_and_search.send 1" in text
    assert f"/task?queue=mail&id={task.task_id}" in links(page)


@pytest.mark.parametrize(
    ("query", "there", "gone"),
    [
        ({"state": "failed"}, "no such user", "ada"),
        ({"state": "failing"}, "no such user", "ada"),
        ({"error": "ValueError: no such user", "since": 3600}, "Why runs failed", "ada"),
        ({"function": "RESIZE"}, "a.jpg", "ada"),
        ({"queue": "images"}, "a.jpg", "ada"),
        ({"text": "SUCH user"}, "'bad'", "'ada'"),
        ({"text": "nothing of it"}, "No run matches.", "'ada'"),
    ],
)
def test_runs_are_filtered(gator, pages, query, there, gone):
    """By state, function, queue, and text."""
    run(gator, send, "ada")
    run(gator, send, "bad")
    run(gator.on_queue("images"), resize, "a.jpg")
    page = words(pages.get("recent", **query))
    assert there in page
    assert gone not in page


def test_a_time_range_leaves_out_what_is_older(gator, pages, monkeypatch):
    """Of runs and of dead letters; the links from one to the other keep it."""
    task = run(gator, send, "bad")
    page = pages.get("recent", since=3600, state="failing")
    assert "ValueError: no such user 1 " in words(page)
    (there,) = [each for each in links(page) if "dead?error=" in each]
    assert there.endswith("&since=3600")
    assert task.task_id in pages.get("dead", error="ValueError: no such user", since=3600)
    monkeypatch.setattr("time.time", lambda real=time.time: real() + 7200)
    assert "No run matches." in words(pages.get("recent", since=3600))
    assert "no such user" in pages.get("recent", since=6 * 3600)
    assert "No dead letter matches." in words(pages.get("dead", since=3600))
    assert "no such user" in pages.get("dead", since=6 * 3600)


def test_an_error_leads_to_its_dead_letters_where_it_made_some(gator, pages):
    """Not where each failure is to be retried."""
    gator.options(retries=3, retry_delay=600).task(send, "bad", "one")
    gator.run_all()
    page = pages.get("recent", state="failing")
    assert "Why runs failed" in page
    assert not [each for each in links(page) if each.startswith("/dead?error=")]
    gator.task(send, "bad", "two")
    gator.run_all()
    page = pages.get("recent", state="failing")
    assert [each for each in links(page) if each.startswith("/dead?error=")]


def test_runs_come_in_pages(gator, pages):
    """Fifty at a time."""
    for number in range(53):  # failures, of which each is listed
        gator.task(send, "bad", f"n-{number:03}")
    gator.run_all()
    page = pages.get("recent")
    assert "n-052" in page
    assert "n-002" not in page
    page = pages.get("recent", start=50)
    assert "n-002" in page
    assert "n-003" not in page


@pytest.mark.parametrize(
    "query",
    [{"state": "asleep"}, {"queue": HOSTILE}, {"start": "x"}, {"start": 10**9}, {"since": "x"}],
)
def test_a_bad_query_is_one_clear_line(pages, query):
    """Whatever it holds."""
    assert "That does not work." in words(pages.get("recent", 400, **query))


def test_nothing_ended_says_what_to_do_next(pages):
    """A worker has to run something."""
    assert "No task has ended lately." in words(pages.get("recent"))


def test_a_search_finds_a_task_anywhere(gator, pages):
    """Waiting, delayed, dead, done with a record, done lately; and goes straight there."""
    images = gator.on_queue("images")
    tasks = {
        gator.task(send, "ada"): "mail",
        images.options(delay_by=60).task(resize, "a.jpg"): "images",
        run(images, send, "bad"): "images",
        run(gator.on_queue("music"), resize, "b.jpg"): "music",
        images.options(task_id="order-17").task(resize, "c.jpg"): "images",
    }
    for task, queue_name in tasks.items():
        found = pages.answer("search", q=f" {task.task_id} ")
        assert found.status == 303
        where = f"/task?queue={queue_name}&id={task.task_id}"
        assert dict(found.headers)["Location"] == where


def test_a_search_finds_functions_and_queues(gator, pages):
    """By any part of a name; one hit alone leads there at once."""
    run(gator, send, "ada")
    run(gator.on_queue("images"), resize, "a.jpg")
    found = pages.answer("search", q="RESIZE")
    assert found.status == 303
    assert dict(found.headers)["Location"].endswith("test_recent_and_search.resize")
    assert "queue?name=images" in dict(pages.answer("search", q="imag").headers)["Location"]
    page = words(pages.get("search", q="test_recent"))
    assert "send" in page
    assert "resize" in page


@pytest.mark.parametrize("text", ["", "   ", "nothing of it", HOSTILE, "x" * 100_000, "%", "a\0b"])
def test_any_search_is_answered(gator, pages, text):
    """With what to do next."""
    gator.task(send, "ada")
    page = words(pages.get("search", q=text))
    assert "Nothing was found." in page or "Search for a task or a function." in page


def test_hostile_values_break_nothing(gator, pages):
    """In recent runs, and in what a search finds."""
    clean = HOSTILE.replace("\udcff", "")
    run(gator, resize, clean)
    gator.client.push("mail", "odd-id", '{"module": "<script>alert(1)", "callable": "evil"}')
    assert "evil" in pages.get("recent")
    where = dict(pages.answer("search", q="script").headers)["Location"]
    assert where == "/recent?function=%3Cscript%3Ealert%281%29.evil"
    run(gator, resize, "more")
    assert "evil" in pages.get("search", q="e")
