"""Test the page of the workers."""

import pytest

from alligator import Gator
from alligator.monitoring.rows import NowRow, WorkerRow
from tests.support.pages import HOSTILE, Pages, words

NOW = 1_800_000_000.0


def worker(pid, *running, **changes):
    """Return a worker that runs functions of these names."""
    fields = {
        "host": "host-1",
        "pid": pid,
        "queues": ("mail",),
        "concurrency": 4,
        "version": "1.2.0",
        "started": NOW - 3600,
        "last_seen": NOW,
        "done": 1234,
        "failed": 5,
        "running": tuple(
            NowRow(f"task-{number}", name, "mail", 1, NOW - 5)
            for number, name in enumerate(running)
        ),
        "name": f"host-1:{pid}:1f",
    }
    return WorkerRow(**{**fields, **changes})


@pytest.fixture
def shown(gator, monkeypatch):
    """A function that lets workers live, and returns the pages."""

    def show(*rows):
        monkeypatch.setattr(gator, "workers", lambda: list(rows))
        return Pages(gator)

    return show


def test_live_and_lost_workers_are_shown(shown):
    """Where, for which queues, what they have done, and what they run."""
    pages = shown(
        worker(1, "shop.mail.send"),
        worker(2, host="host-2", queues=("images", "mail")),
        worker(3, "shop.lost", is_lost=True),
    )
    page = pages.get("workers")
    text = words(page)
    assert "Live 2 Hosts 2 Busy 1 of 8 Lost in the last hour 1" in text
    assert "host-1:1 live Alligator 1.2.0 mail" in text
    assert "1,234 5 1 of 4 shop.mail.send" in text
    assert "host-1:3 lost" in text
    assert "A worker is lost that" in text
    text = words(pages.get("workers", queue="images"))
    assert "host-2:2" in text
    assert "host-1:1" not in text


def test_many_tasks_of_one_worker_are_folded(shown):
    """All but the first few."""
    page = shown(worker(1, *(f"shop.job_{each}" for each in range(8)))).get("workers")
    assert '<details data-key="runs-host-1:1:1f"><summary>5 more</summary>' in page
    assert "shop.job_7" in words(page)


def test_a_queue_that_nobody_serves_is_named(gator, shown):
    """If tasks wait there; with what to type."""
    gator.options(queue_name="lonely").task("operator.add", 1, 2)
    text = words(shown(worker(1)).get("workers"))
    assert "No live worker serves lonely , where 1 task waits." in text
    assert "latergator.py DSN --queue lonely" in text


def test_several_versions_are_named(shown):
    """As while a host is upgraded."""
    text = words(shown(worker(1), worker(2, version="1.3.0")).get("workers"))
    assert "several versions of Alligator: 1.2.0, 1.3.0" in text


def test_nothing_there_says_what_to_do_next(shown):
    """None at all, and none of one queue."""
    pages = shown()
    assert "No worker lives. Start one: latergator.py DSN" in words(pages.get("workers"))
    assert "No worker serves images." in words(pages.get("workers", queue="images"))


def test_hostile_values_break_nothing(shown):
    """In each text of a row, and in the filter."""
    bad = HOSTILE + "x" * 10_000
    pages = shown(
        worker(1, bad, "", host=bad, queues=(bad,) * 20, version=bad, name=bad, started=1e300)
    )
    page = pages.get("workers")
    assert "&lt;script&gt;" in page
    pages.get("workers", queue=HOSTILE)


def test_a_backend_without_a_store_says_so(monkeypatch):
    """And how to see them."""
    text = words(Pages(Gator("sqs://us-west-2/", "mail")).get("workers"))
    assert "This queue does not tell who works." in text
    assert "--store redis://" in text
