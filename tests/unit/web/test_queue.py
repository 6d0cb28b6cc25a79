"""Test the page of a queue."""

import pytest

from alligator import Gator
from alligator.web import access, task_filter
from tests.support import jobs
from tests.support.pages import HOSTILE, Pages, links, words

NOW = 1_800_000_000.0


def send(to, **more):
    """Do what a task does."""
    if to == "no-one":
        raise ValueError(f"{more.get('why', 'no such user')} 17")


def die(gator, *args, **kwargs):
    """Queue a task that fails, and let it."""
    task = gator.task(send, "no-one", *args, **kwargs)
    with pytest.raises(ValueError, match="17"):
        gator.get(task.task_id)
    return task


def test_tasks_are_shown_by_state(gator, pages):
    """With function, arguments, priority, attempts and due time, and the count of each state."""
    gator.options(priority=7).task(send, "ada@example.com", password="hunter2")
    gator.options(delay_by=90).task(send, "later")
    die(gator)
    page = pages.get("queue", name="mail")
    text = words(page)
    assert "Waiting 1 Delayed 1 Running 0 Held 0 Dead 1" in text
    assert "test_queue.send ('ada@example.com', password='***')" in text
    assert "hunter2" not in page
    assert " 7 " in text
    assert "in 1 min " in words(pages.get("queue", name="mail", state="delayed"))
    assert "ValueError: no such user 17" in words(pages.get("queue", name="mail", state="dead"))
    (gator.client.reserve(["mail"]),)
    assert "send" in words(pages.get("queue", name="mail", state="running"))


def test_held_tasks_are_shown(gator, pages):
    """Tasks that wait for their parents."""
    parent = gator.task(send, "first")
    gator.options(depends_on=[parent]).task(send, "second")
    assert "second" in words(pages.get("queue", name="mail", state="held"))


@pytest.mark.parametrize(
    ("state", "meaning"),
    [
        ("waiting", "Pushed, which means put on the queue"),
        ("delayed", "to be tried again after a failure"),
        ("running", "Taken by a worker"),
        ("held", "until other tasks, their parents, have succeeded"),
        ("dead", "no retry left"),
    ],
)
def test_each_state_is_explained(gator, pages, state, meaning):
    """On its page, in text that needs no pointer; with tasks and without."""
    assert meaning in words(pages.get("queue", name="mail", state=state))
    gator.task(send, "ada")
    text = words(pages.get("queue", name="mail", state=state))
    assert meaning in text
    assert "Drop all tasks…" in text


def test_pages_go_on_and_back_to_the_first(gator, pages):
    """Fifty at a time, by cursor."""
    for number in range(125):
        gator.task(send, f"user-{number:03}")
    page = pages.get("queue", name="mail")
    assert "user-049" in page
    assert "user-050" not in page
    assert "1–50 of 125" in words(page)  # noqa: RUF001 - as it is shown
    (after,) = [each for each in links(page) if "after=" in each]
    page = pages.get(*after.lstrip("/").split("?")[:1], **_fields(after))
    assert "user-050" in page
    assert "user-100" not in page
    assert "/queue?name=mail&state=waiting" in links(page)
    (after,) = [each for each in links(page) if "after=" in each]
    page = pages.get("queue", **_fields(after))
    assert "user-124" in page
    assert not [each for each in links(page) if "after=" in each and "do/" not in each]


def _fields(url):
    from urllib.parse import parse_qsl

    return dict(parse_qsl(url.partition("?")[2]))


def test_a_filter_chooses_by_function_and_text(gator, pages):
    """Any part of a name, in any case, and any part of an argument, an id or an error."""
    gator.task(send, "ada")
    gator.options(task_id="order-17").task(send, "bob")
    die(gator, why="broken pipe")
    for query, found, left_out in (
        ({"function": "QUEUE.SE"}, "ada", None),
        ({"text": "BOB"}, "bob", "ada"),
        ({"text": "order-1"}, "bob", "ada"),
    ):
        page = pages.get("queue", name="mail", **query)
        assert found in page
        assert left_out is None or left_out not in words(page)
    assert "No task matches." in words(pages.get("queue", name="mail", function="nothing"))
    page = pages.get("queue", name="mail", state="dead", text="PIPE")
    assert "broken pipe 17" in page


def test_a_filter_chooses_by_age(gator, pages):
    """Tasks that were pushed, or died, at least so long ago."""
    die(gator)
    gator.task(send, "fresh")
    for state, since in (("waiting", "pushed"), ("dead", "died")):
        (row,) = gator.tasks(state)
        wanted, moment = task_filter.TaskFilter(older=60), getattr(row, since)
        assert wanted.matches(row, moment + 61)
        assert not wanted.matches(row, moment + 59)
    assert "No task matches" in words(pages.get("queue", name="mail", older=3600))


def test_a_look_ends_by_its_time_and_says_how_far_it_came(gator, pages, monkeypatch):
    """And goes on from there, until it has looked at all."""
    monkeypatch.setattr(task_filter, "BRIEFLY", 0.0)
    monkeypatch.setattr(task_filter, "_STEP", 10)
    for number in range(25):
        gator.task(send, f"user-{number:03}")
    found = task_filter.look(
        gator, "mail", "waiting", task_filter.TaskFilter(text="user-024"), now=NOW, seconds=0.0
    )
    assert (found.rows, found.looked) == ([], 10)
    page = pages.get("queue", name="mail", text="user-024")
    assert "Looked at 10 of about 25; 0 match here. " in words(page)
    assert "No task matches so far." in words(page)
    while further := [each for each in links(page) if "looked=" in each and "do/" not in each]:
        page = pages.get("queue", **_fields(further[0]))
    assert "Looked at 25 of 25; 1 matches here. " in words(page)


def test_a_look_that_has_enough_goes_on_behind_the_last_match(gator):
    """So that no match is left out, or shown twice."""
    for number in range(30):
        gator.task(send, f"user-{number:03}")
    wanted, seen, after = task_filter.TaskFilter(text="user"), [], None
    while True:
        found = task_filter.look(gator, "mail", "waiting", wanted, now=NOW, after=after, limit=7)
        assert len(found.rows) <= 7
        seen += [row.args for row in found.rows]
        if (after := found.next) is None:
            break
    assert seen == [f"'user-{number:03}'" for number in range(30)]


def test_nothing_there_says_what_to_do_next(gator, pages):
    """And a queue that is not known is told from one that is empty."""
    assert "There is no queue nowhere here." in words(pages.get("queue", name="nowhere"))
    gator.task(send, "ada")
    for state in ("delayed", "running", "held", "dead"):
        assert f"No task is {state}." in words(pages.get("queue", name="mail", state=state))


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"name": "mail", "state": "asleep"},
        {"name": "mail", "older": "-1"},
        {"name": "mail", "older": "soon"},
        {"name": "mail", "after": "no cursor"},
        {"name": "mail", "looked": "1e9"},
        {"name": HOSTILE},
        {"name": "x" * 100_000},
        {"name": "mail", "state": HOSTILE},
        {"name": "mail", "after": HOSTILE},
    ],
)
def test_a_bad_query_is_one_clear_line(pages, query):
    """Whatever it holds."""
    assert "That does not work." in words(pages.get("queue", status=400, **query))


def test_hostile_values_break_nothing(gator, pages):
    """In arguments, ids, errors, filters and messages that cannot be read."""
    gator.options(task_id="x" * 200).task(send, HOSTILE.replace("\udcff", ""), evil="y" * 1_000_000)
    gator.client.push("mail", HOSTILE.replace("\udcff", ""), "no JSON \x00 <script>alert(1)")
    gator.client.push("mail", "bytes", b"\xff\x00<script>alert(1)</script>")
    gator.client.push(
        "mail",
        "odd",
        '{"module": "<script>alert(1)", "callable": "\\u202e", "args": [[]]}',
    )
    die(gator, why=HOSTILE)
    page = pages.get("queue", name="mail", function="", text="", back=HOSTILE)
    assert "unreadable message" in page
    assert "&lt;script&gt;" in page
    assert len(page) < 40_000
    assert "ValueError" in pages.get("queue", name="mail", state="dead", text="evil")
    pages.get("queue", name="mail", function=HOSTILE, text=HOSTILE)


def test_who_may_only_look_sees_no_buttons(gator):
    """Nor boxes to check."""
    gator.task(send, "ada")
    page = Pages(gator, resolve_access=access.read_only).get("queue", name="mail")
    assert "do/" not in page
    assert "checkbox" not in page


def test_a_backend_that_cannot_list_says_so(monkeypatch):
    """And shows what it can."""
    gator = Gator("sqs://us-west-2/", "mail")
    from alligator.backends.base import QueueStats

    monkeypatch.setattr(gator.client, "stats", lambda _: QueueStats(3, 0, 0, 0, None))
    monkeypatch.setattr(gator.client, "check_queue_name", lambda _: None)
    text = words(Pages(gator).get("queue", name="mail"))
    assert "Waiting 3" in text
    assert "cannot list tasks that are waiting" in text


def test_no_entry_of_the_navigation_is_marked_on_a_page_without_one(gator, pages):
    """Of the overview only: neither on a queue, nor on a task."""
    task = gator.task(jobs.note, 1)
    mark = 'aria-current="page">Overview</a>'
    assert mark in pages.get("")
    assert mark not in pages.get("queue", name=gator.queue_name)
    assert mark not in pages.get("task", queue=gator.queue_name, id=task.task_id)
