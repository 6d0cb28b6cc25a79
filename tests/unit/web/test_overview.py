"""Test the overview: each queue, its figures, and the sentence that says what is wrong."""

import time
import uuid
from dataclasses import replace

import pytest

from alligator import Gator
from alligator.backends.types import Report
from alligator.exceptions import ConnectionLost
from alligator.monitoring.encoding import live_text
from alligator.monitoring.rates import Rate
from alligator.monitoring.rows import NowRow, QueueRow, ScheduleRow, WorkerRow
from alligator.web import findings
from alligator.web.charts import series
from tests.support import jobs
from tests.support.pages import HOSTILE, Pages, links, spaced, words
from tests.support.recording import record, record_depth, serve


def test_without_queues_it_says_what_to_do(pages):
    text = words(pages.get(""))
    assert "No queue has tasks, workers or a schedule yet." in text
    assert "latergator.py DSN" in text


def test_a_queue_that_grows_without_workers_is_told_in_the_first_sentence(gator, pages):
    """A newcomer must see at once why the mail queue grows."""
    record_depth(gator, 0)
    record(gator, "images", "shop.images.thumb")
    for number in range(30):
        gator.task(jobs.note, number)
    text = words(pages.get(""))
    found = text.index("mail grows: ")
    assert found < text.index("Waiting")
    assert "0 out a minute. 30 tasks wait; it has no live worker" in text
    assert "no workers" in text


def test_figures_and_rates(gator, pages):
    for ago in range(1, 6):
        record(gator, ago=ago, runs=66)
    record(gator, ago=30, runs=10, failed=9)
    record_depth(gator, 0, ago=5)
    serve(gator)
    gator.options(delay_by=500).task(jobs.note, 1)
    gator.task(jobs.note, 2)
    page = pages.get("")
    text = words(page)
    assert "Waiting 1 +1 delayed Running 0" in text
    assert "Failed in the last hour 9 9 dead letters" in text
    assert "/dead?since=3600" in links(page)
    assert "/recent?state=failing&since=3600" in links(page)
    assert "mail Waiting: now" in text  # the sparkline
    assert "/ 50 ms" in text  # p95 of the waits
    assert text.count("Numbers") == 3  # a table behind each chart
    out = float(text.partition("Out per minute ")[2].split()[0])
    assert 50 <= out <= 66


def test_a_function_that_fails_often_is_told(gator, pages):
    record(gator, runs=40, failed=37)
    record(gator, function="shop.mail.fine", runs=400, failed=1)
    serve(gator)
    page = pages.get("")
    assert "shop.mail.send fails: 37 of 40 runs in the last hour (92 %)." in words(page)
    assert "/recent?state=failing&since=3600&function=shop.mail.send" in links(page)
    assert "shop.mail.fine fails" not in words(page)


def test_if_nothing_is_wrong_it_says_so(gator, pages):
    serve(gator)
    gator.task(jobs.note, 1)
    assert "Nothing stands out" in words(pages.get(""))


def test_a_paused_queue(gator, pages):
    serve(gator)
    gator.task(jobs.note, 1)
    gator.pause("mail")
    page = pages.get("")
    assert "mail is paused: 1 task waits." in words(page)
    assert any(each.startswith("/do/resume?") for each in links(page))


@pytest.mark.parametrize("name", ["1h", "6h", "24h", "48h", "1y", HOSTILE])
def test_ranges(gator, pages, name):
    """One that there is not is the default."""
    serve(gator)
    gator.task(jobs.note, 1)
    record(gator, ago=40)
    record(gator, ago=20 * 60)
    page = pages.get("", range=name)
    chosen = name if name.endswith("h") and name[0].isdigit() else "1h"
    assert f'range={chosen}" aria-current="true"' in page
    assert pages.get("", range=name).count("<svg") == page.count("<svg")  # from what is remembered


def test_hostile_names_harm_nothing(gator):
    """The function of a message can be anything; a queue has a name that its backend allows."""
    pages = Pages(gator)
    record(gator, function=f"a.{HOSTILE}", failed=9)
    serve(gator)
    gator.task(jobs.note, 1)
    assert "fails: 9 of 10 runs" in words(pages.get(""))


def test_looking_records_how_full_queues_are_once_a_minute(gator, pages, monkeypatch):
    gator.task(jobs.note, 1)
    calls = []
    monkeypatch.setattr(gator, "record_depths", calls.append)
    began = int(time.time() // 60)
    for _ in range(3):
        pages.get("")
    assert 1 <= len(calls) <= 1 + int(time.time() // 60) - began


def test_a_store_that_cannot_be_reached_costs_only_what_it_has(gator, pages, monkeypatch):
    gator.task(jobs.note, 1)

    def fail(*_):
        raise ConnectionLost("no store there")

    for name in ("activity_and_depths", "workers", "record_depths"):
        monkeypatch.setattr(gator, name, fail)
    text = words(pages.get(""))
    assert "Rates, waits and failures are not shown. no store there" in text
    assert "Out per minute –" in text  # noqa: RUF001
    assert "mail" in text


def test_without_a_store_queues_are_still_shown(beanstalk_dsn):
    """Nothing is known of workers, so none is missed."""
    gator = Gator(beanstalk_dsn, f"mail-{uuid.uuid4().hex[:6]}")
    gator.task(jobs.note, 1)
    text = words(Pages(gator).get(""))
    assert "Rates, waits and failures are not shown." in text
    assert "store=" in text
    assert "no live worker" not in text
    assert gator.queue_name in text
    gator.close()


def queue(waiting=100, workers=0, oldest=5.0, **more):
    return QueueRow("mail", waiting, 0, 0, 0, oldest, **{"paused": False, **more}, workers=workers)


@pytest.mark.parametrize(
    ("row", "rate", "text"),
    [
        (
            queue(),
            Rate(120.0, 0.0),
            "grows: 120 in, 0 out a minute. 100 tasks wait; it has no",
        ),
        (queue(), Rate(0.0, 0.0), "mail stands still: 100 tasks wait. It has no live worker."),
        (queue(), Rate(None, 0.0), "mail stands still: 100 tasks wait. It has no live worker."),
        (queue(workers=2), Rate(90.0, 60.0), "60 out a minute; its 2 workers cannot keep up."),
        (queue(workers=1), Rate(60.0, 60.0), ""),
        (queue(workers=1), Rate(60.4, 60.0), ""),
        (
            queue(1, 1, 7200.0),
            Rate(0.0, 0.0),
            "behind: 1 task waits, the first one for 2 h.",
        ),
        (queue(0, 0), Rate(0.0, 0.0), ""),
        (
            queue(5, 0, paused=True),
            Rate(9.0, 0.0),
            "mail is paused, and no worker serves it: 5 tasks wait.",
        ),
    ],
)
def test_sentences(row, rate, text):
    found = findings.of_queues([row], {"mail": rate}, knows_workers=True)
    assert text in spaced(found[0].text) if text else found == []


def test_what_its_workers_are_busy_with_is_told(gator, pages):
    """Of a queue that is behind: how many places are taken, by what, and that it got slower."""
    record(gator, ago=90, took=0.2)
    record(gator, ago=3, took=0.9)
    record(gator, function="shop.mail.quick", ago=3, took=0.01)
    now = time.time()
    running = tuple(NowRow(f"t{n}", "shop.mail.send", "mail", 1, now) for n in range(4))
    for name, pid, last in (("host:1:a", 1, now), ("host:2:b", 2, now - 500)):
        row = WorkerRow("host", pid, ("mail",), 4, "1", now - 900, last, 0, 0, running)
        gator.store.report(Report(name, live_text(row), 60))
    (worker,) = (row for row in gator.workers() if row.pid == 1)
    hour = series.totals(gator.activity(60), lambda row: row.function)
    changes = series.changes(gator.activity(180), now)
    text = findings.busy_with("mail", [worker], hour, changes)
    assert spaced(text) == (
        "its 1 worker runs 4 of at most 4 tasks, mostly shop.mail.send, "
        "which takes 900 ms, 4.5× longer than before"  # noqa: RUF001
    )
    old, rate = queue(9, 1, 7200.0), {"mail": Rate(0.0, 0.0)}
    (found,) = findings.of_queues([old], rate, knows_workers=True, busy={"mail": text})
    assert f"the first one for 2 h; {spaced(text)}." in spaced(found.text)
    assert findings.busy_with("other", [worker], hour, changes) == ""
    (lost,) = findings.of_workers([worker, replace(worker, is_lost=True)])
    assert "It ran 4 tasks; other workers take them over when the lease, its time for" in lost.text


def test_lost_workers_and_missed_ticks_are_told_with_links(gator, pages, monkeypatch):
    """One line each, of its own severity."""
    gator.task(jobs.note, 1)
    now = time.time()
    worker = WorkerRow("host", 7, ("other",), 4, "1", now, now, 0, 0, (), is_lost=True)
    tick = ScheduleRow("n", "m.f", "mail", "", "", "every 60 s", "", (), None, "", None, now, True)
    monkeypatch.setattr(gator, "workers", lambda: [worker])
    monkeypatch.setattr(gator, "schedule_rows", lambda **_: [tick])
    page = pages.get("")
    assert "host:7 is lost: this worker sends no heartbeat" in words(page)
    assert "m.f missed a tick, the time at which its schedule was due (every 60 s)" in words(page)
    assert {"/workers", "/schedules"} <= set(links(page))
    assert "<strong>mail</strong> stands still" in page
    assert page.count('<li class="bad">') == 1
    assert page.count('<li class="warn">') == 2


def test_there_are_not_too_many_sentences():
    rows = [QueueRow(f"q{n}", n, 0, 0, 0, 1.0, paused=False, workers=0) for n in range(1, 50)]
    found = findings.of_queues(rows, {}, knows_workers=True)
    assert 1 <= len(found) <= 10
    assert "q49" in found[0].text
    total = series.Total()
    total.failed = 9
    assert len(findings.of_failures({f"m.f{n}": total for n in range(50)}, "an hour")) <= 10
