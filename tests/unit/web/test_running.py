"""Test the page of what runs."""

from urllib.parse import parse_qs

import pytest

from alligator import Gator
from alligator.monitoring.rows import NowRow, RunningRow, WorkerRow
from alligator.web import access
from alligator.web.pages import running
from tests.support.pages import HOSTILE, Pages, links, words

NOW = 1_800_000_000.0


def row(number, queue_name="mail", **changes):
    """Return a task that runs."""
    fields = {
        "task_id": f"task-{number}",
        "function": "shop.mail.send",
        "queue_name": queue_name,
        "attempt": 1,
        "started": NOW - number,
        "worker": "host-1:42",
        "lease_left": 20.0,
        "progress": None,
    }
    return RunningRow(**{**fields, **changes})


@pytest.fixture
def shown(gator, monkeypatch):
    """A function that lets tasks run, and returns the pages."""

    def show(*rows, **options):
        monkeypatch.setattr(gator, "running", lambda: list(rows))
        return Pages(gator, **options)

    return show


def test_what_runs_is_shown_the_longest_first(shown):
    """With function, queue, worker, attempt and progress; what has not started comes last."""
    pages = shown(
        row(5, progress=(0.25, "12 of 48")),
        row(0, started=None, worker="", lease_left=None),
        row(90, queue_name="images", attempt=3),
    )
    page = pages.get("running")
    text = words(page)
    assert text.index("task-90") < text.index("task-5") < text.index("task-0")
    assert "shop.mail.send images host-1:42" in text
    assert '<progress class="progress" max="1" value="0.25"' in page
    assert "25 % 12 of 48" in text
    assert "2 of 3 started" in text
    assert "fetched, not started" in text
    assert page.count("do/cancel") == 3


def test_what_is_on_lease_can_be_canceled(gator):
    """By a link that asks; the task is found again by its name in it, whatever its id holds."""
    gator.options(task_id="50 % off/ü&?#'").task("operator.add", 1, 2)
    gator.client.reserve(["mail"])
    pages = Pages(gator)
    page = pages.get("running")
    assert "operator.add" in words(page)
    (link,) = [each for each in links(page) if "do/cancel" in each]
    path, _, query = link.partition("?")
    fields = {name: each for name, (each, *_) in parse_qs(query).items()}
    assert "50 % off" in words(pages.get(path.lstrip("/"), **fields))


def test_one_queue_is_chosen(shown):
    """And a queue that has nothing to show keeps its tab."""
    pages = shown(row(1), row(2, queue_name="images"))
    text = words(pages.get("running", queue="images"))
    assert "task-2" in text
    assert "task-1" not in text
    text = words(pages.get("running", queue="letters"))
    assert "Nothing runs on letters." in text
    assert "All queues images letters mail" in text


def test_many_are_shown_page_by_page(shown):
    """A hundred at a time, by a link."""
    pages = shown(*(row(each) for each in range(250, 0, -1)))
    page = pages.get("running")
    assert "1–100 of 250" in words(page)  # noqa: RUF001 - a dash is meant
    assert "from=100" in page
    text = words(pages.get("running", **{"from": 200}))
    assert "201–250 of 250" in text  # noqa: RUF001
    assert "task-1 " in text
    assert "No further task runs." in words(pages.get("running", **{"from": 300}))


def test_a_lease_that_is_over_is_marked(shown):
    """Its worker has not extended it."""
    assert "ran out" in words(shown(row(1, lease_left=0.0)).get("running"))


def test_what_a_lost_worker_ran_is_not_called_new(gator, shown, monkeypatch):
    """Its lease is over, and it has started long ago; the worker is named, and marked as lost."""
    taken = row(1, started=None, worker="", lease_left=0.0)
    other = row(2, started=None, worker="", lease_left=0.0)
    was = NowRow("task-1", "shop.mail.send", "mail", 1, NOW - 600)
    lost = WorkerRow("host-9", 7, ("mail",), 1, "1.2", NOW - 900, NOW - 300, 0, 0, (was,), True)
    pages = shown(taken, other)
    monkeypatch.setattr(gator, "workers", lambda: [lost])
    page = pages.get("running")
    assert "host-9:7 lost" in words(page)
    assert "not known" in words(page)
    assert "fetched, not started" not in page
    assert "not told yet" not in page


def test_a_fragment_stays_the_same_while_only_time_passes():
    """The end of a lease is told in steps, since it comes as what is left of it."""
    ends = {running.lease_end(row(1, lease_left=20.0 - late), NOW + late) for late in (0, 1, 3)}
    assert len(ends) == 1


def test_nothing_there_says_what_to_do_next(shown):
    """And who may only look sees no buttons."""
    assert "Nothing runs now." in words(shown().get("running"))
    page = shown(row(1), resolve_access=access.read_only).get("running")
    assert "do/" not in page


def test_hostile_values_break_nothing(shown):
    """In each text of a row, and in the filter."""
    bad = HOSTILE + "x" * 10_000
    pages = shown(
        row(1, bad, function=bad, worker=bad, progress=(float("nan"), bad), task_id=bad),
        row(2, function="", progress=(-5.0, ""), lease_left=float("inf"), started=1e300),
    )
    page = pages.get("running")
    assert "&lt;script&gt;" in page
    assert "unreadable message" in page
    pages.get("running", queue=HOSTILE)
    pages.get("running", queue=HOSTILE, status=400, **{"from": HOSTILE})


def test_a_backend_without_a_store_shows_how_many(monkeypatch):
    """And says how to see more."""
    gator = Gator("sqs://us-west-2/", "mail")
    monkeypatch.setattr(gator, "queues", list)
    text = words(Pages(gator).get("running"))
    assert "This queue does not tell what runs." in text
    assert "--store redis://" in text
