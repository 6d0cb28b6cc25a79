"""Test the actions: what they ask, what they do, and what they say afterwards."""

import time

import pytest

from alligator.constants import CANCELED
from alligator.web import actions
from tests.support.pages import HOSTILE, Pages, links, words


def send(to):
    """Do what a task does."""
    if "bad" in to:
        raise ValueError(f"no such user {to}")


def die(gator, to="bad"):
    """Queue a task that fails, let it, and return how forms name it."""
    task = gator.task(send, to)
    with pytest.raises(ValueError, match="no such user"):
        gator.get(task.task_id)
    return f"{gator.queue_name}/{task.task_id}"


def test_revive_one(gator, pages):
    """Asked before, and told from a letter that another visitor was faster to revive."""
    ref = die(gator)
    page = words(pages.get("do/revive", task=ref))
    assert f"Revive task {ref[5:]} of queue mail?" in page
    assert len(gator.dead()) == 1
    assert "1 task was revived." in words(pages.post("do/revive", task=ref))
    assert (len(gator.dead()), gator.len()) == (0, 1)
    assert "It was revived already." in words(pages.post("do/revive", task=ref))
    assert "no dead letter any more" in words(pages.post("do/revive", task="mail/unknown"))


def test_revive_the_checked_ones(gator, pages):
    """And no others."""
    refs = [die(gator) for _ in range(3)]
    assert "Revive 2 tasks?" in words(pages.get("do/revive", task=refs[:2]))
    gator.revive(refs[0].partition("/")[2])
    text = words(pages.post("do/revive", task=refs[:2]))
    assert "1 task was revived. 1 not: It was revived already." in text
    assert len(gator.dead()) == 1


def test_revive_all_that_match(gator, pages):
    """Counted before; of one queue, by text, or by the pattern of the error."""
    for number in range(7):
        die(gator, f"bad-{number % 2}-x")
    query = {"all": 1, "queue": "mail", "state": "dead", "text": "bad-1"}
    assert "Revive all 3 tasks?" in words(pages.get("do/revive", **query))
    assert "3 tasks were revived." in words(pages.post("do/revive", **query))
    assert len(gator.dead()) == 4
    assert "No task matches any more." in words(pages.post("do/revive", **query))
    query = {"all": 1, "error": "ValueError: no such user bad-…-x"}
    assert "Revive all 4 tasks?" in words(pages.get("do/revive", **query))
    assert "4 tasks were revived." in words(pages.post("do/revive", **query))


def test_it_names_the_group_that_is_acted_on(gator, pages):
    """Its error, functions, queues, and the first five calls; and what was filtered by."""
    for number in range(6):
        die(gator, f"bad-{number}")
    task = gator.task("operator.truediv", 1, 0)
    with pytest.raises(ZeroDivisionError):
        gator.get(task.task_id)
    other = gator.on_queue("news")
    die(other, "bad-7")
    text = words(pages.get("do/revive", all=1, error="ValueError: no such user bad-…"))
    assert "Revive all 7 tasks?" in text
    assert "Error ValueError: no such user bad-…" in text
    assert "Queues mail , news The first 5 " in text
    assert text.count("test_actions.send ('bad-") == 5
    text = words(pages.get("do/revive", all=1, queue="mail", state="dead"))
    assert "Functions tests.unit.web.test_actions.send 6, operator.truediv 1" in text
    assert "Queue mail" in text
    assert "ZeroDivisionError" in text  # of each, where no error is chosen
    page = pages.get("do/purge", all=1, queue="mail", function="truediv", since=3600)
    assert "Function has truediv Time last 1 h Queue mail Task operator.truediv" in words(page)
    page = pages.get("do/revive", task=[f"mail/{task.task_id}", "mail/gone"])
    assert f"(1, 0) …{task.task_id[-12:]} ZeroDivisionError" in words(page)
    assert "/task?queue=mail&id=gone" in links(page)


@pytest.mark.parametrize(
    ("back", "current"),
    [
        ("/dead?error=x", "Dead letters"),
        ("/running", "Running"),
        ("/queue?name=mail", None),
        ("//other.example/dead", "Overview"),
    ],
)
def test_the_navigation_shows_where_the_visitor_came_from(gator, pages, back, current):
    """Before and after."""
    ref = die(gator)
    for page in (
        pages.get("do/revive", task=ref, back=back),
        pages.post("do/revive", task=ref, back=back),
    ):
        assert page.count('aria-current="page"') == (current is not None)
        assert current is None or f'aria-current="page">{current}</a>' in page


def test_it_keeps_the_navigation_of_one_of_several_sources(gator):
    pages = Pages({"one": gator, "two": gator.on_queue("two")})
    page = pages.get("two/do/revive", task=die(gator), back="/two/dead")
    assert 'aria-current="page">Dead letters</a>' in page


def test_it_links_to_what_was_acted_on(gator, pages):
    """To tasks that are still there, and to their queue; at most five of many."""
    refs = [die(gator) for _ in range(7)]
    gone, one = refs[0].partition("/")[2], refs[1].partition("/")[2]
    page = pages.post("do/purge", task=refs[0])
    assert "/queue?name=mail&state=dead" in links(page)
    assert not any(gone in each for each in links(page))
    page = pages.post("do/revive", task=refs[1])
    assert f"/task?queue=mail&id={one}" in links(page)
    assert f"Look at task …{one[-12:]} , or queue mail ." in words(page)
    assert "/queue?name=mail&state=waiting" in links(page)
    assert f"/task?queue=mail&id={one}" in links(pages.post("do/revive", task=refs[1]))
    page = pages.post("do/revive", all=1, queue="mail", state="dead")
    assert sum("/task?" in each for each in links(page)) == 5
    for name in ("pause", "resume", "drop"):
        assert "/queue?name=mail" in links(pages.post(f"do/{name}", queue="mail"))


def test_many_are_done_in_steps(gator, pages, monkeypatch):
    """An action ends by its time, says so, and offers to go on."""
    for _ in range(3):
        die(gator)
    monkeypatch.setattr(actions, "_LONGEST", -1.0)
    page = pages.post("do/purge", all=1, queue="mail", state="dead")
    assert "1 task was deleted. There may be more" in words(page)
    assert "Go on" in words(page)
    monkeypatch.setattr(actions, "_LONGEST", 5.0)
    assert "2 tasks were deleted." in words(pages.post("do/purge", all=1, queue="mail"))


def test_purge(gator, pages):
    """Dead letters, one or several; what is gone is told."""
    refs = [die(gator) for _ in range(3)]
    assert "cannot be brought back" in words(pages.get("do/purge", task=refs[0]))
    assert "1 task was deleted." in words(pages.post("do/purge", task=refs[0]))
    text = words(pages.post("do/purge", task=refs))
    assert "2 tasks were deleted. 1 not: It is no dead letter any more" in text
    assert gator.dead() == []


def test_run_now(gator, pages):
    """A delayed task is due at once."""
    task = gator.options(delay_by=3600).task(send, "later")
    ref = f"mail/{task.task_id}"
    assert "Run now task" in words(pages.get("do/run", task=ref))
    assert "1 task was made due." in words(pages.post("do/run", task=ref))
    assert gator.pop().task_id == task.task_id
    assert "It is not delayed any more" in words(pages.post("do/run", task=ref))


def test_run_a_retry_now(gator, pages):
    """A task that is to be retried likewise."""
    task = gator.options(retries=3, retry_delay=3600).task(send, "bad")
    gator.pop()
    assert "1 task was made due." in words(pages.post("do/run", task=f"mail/{task.task_id}"))
    assert gator.pop() is not None


def test_cancel(gator, pages):
    """What waits, is delayed or held; and what has ended is told."""
    task = gator.task(send, "ada")
    ref = f"mail/{task.task_id}"
    assert "Cancel task" in words(pages.get("do/cancel", task=ref))
    assert "1 task was canceled" in words(pages.post("do/cancel", task=ref))
    assert gator.status(task) == CANCELED
    assert "has ended, or was canceled already" in words(pages.post("do/cancel", task=ref))


def test_cancel_one_that_runs(gator, pages):
    """Its worker is asked to end it."""
    task = gator.task(send, "ada")
    (delivery,) = gator.client.reserve(["mail"]).deliveries
    assert "1 task was canceled" in words(pages.post("do/cancel", task=f"mail/{task.task_id}"))
    gator.client.release(delivery)


def test_pause_and_resume(gator, pages):
    """Until a call, or for some seconds; what was not paused is told."""
    assert "Pause queue mail?" in words(pages.get("do/pause", queue="mail"))
    assert "is paused." in words(pages.post("do/pause", queue="mail"))
    assert gator.paused("mail") == float("inf")
    assert "It is paused already." in words(pages.get("do/pause", queue="mail"))
    assert "is paused until" in words(pages.post("do/pause", queue="mail", seconds=90))
    assert gator.paused("mail") == pytest.approx(time.time() + 90, abs=30)
    assert "goes on." in words(pages.post("do/resume", queue="mail"))
    assert "was not paused" in words(pages.post("do/resume", queue="mail"))
    assert "no whole number" in words(pages.post("do/pause", 400, queue="mail", seconds="soon"))


def test_drop(gator, pages):
    """All tasks of a queue, counted before."""
    gator.task(send, "ada")
    gator.options(delay_by=60).task(send, "later")
    die(gator)
    question = "Delete all 3 tasks of queue mail: 1 waiting, 1 delayed, 1 dead?"
    assert question in words(pages.get("do/drop", queue="mail"))
    assert "3 tasks were deleted" in words(pages.post("do/drop", queue="mail"))
    assert gator.len() == 0
    assert "had no tasks" in words(pages.post("do/drop", queue="mail"))


@pytest.mark.parametrize("name", ["revive", "purge", "run", "cancel"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"task": "nothing"},
        {"task": "no queue!/id"},
        {"task": f"{HOSTILE}/x"},
        {"all": 1, "queue": HOSTILE},
        {"all": 1, "queue": "mail", "state": "asleep"},
        {"all": 1, "queue": "mail", "older": "x"},
    ],
)
def test_bad_fields_are_one_clear_line(pages, name, fields):
    """Asked or done."""
    assert "That does not work." in words(pages.get(f"do/{name}", 400, **fields))
    assert "That does not work." in words(pages.post(f"do/{name}", 400, **fields))


@pytest.mark.parametrize("name", ["pause", "resume", "drop"])
def test_a_queue_has_to_be_named(pages, name):
    """By a name that it can have."""
    for fields in ({}, {"queue": HOSTILE}, {"queue": "x" * 10_000}):
        pages.get(f"do/{name}", 400, **fields)
        pages.post(f"do/{name}", 400, **fields)


@pytest.mark.parametrize(
    "task_id", ["a/b", "a b&c=d", "\r\n\x00", "<script>alert(1)</script>", "\u202e"]
)
def test_any_id_comes_back_as_it_was(gator, pages, task_id):
    """Through the box on the page, the question, and the form."""
    import html
    import re

    gator.client.push("mail", task_id, "no message", delay_until=time.time() + 3600)
    page = pages.get("queue", name="mail", state="delayed")
    (ref,) = re.findall(r'name="task" value="([^"]*)"', page)
    page = pages.get("do/run", task=html.unescape(ref))
    (ref,) = re.findall(r'name="task" value="([^"]*)"', page)
    assert "1 task was made due." in words(pages.post("do/run", task=html.unescape(ref)))
    assert gator.client.reserve(["mail"]).deliveries[0].task_id == task_id
