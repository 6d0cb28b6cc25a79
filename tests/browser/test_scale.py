"""Test that no page of the dashboard is slow when a million tasks are queued."""

import json
import time
from urllib.parse import urlencode

import pytest

from alligator import Gator
from alligator.backends.base import Message
from alligator.backends.types import Activity, Report
from alligator.common.ids import new_task_id
from alligator.monitoring.activity_counts import QUEUE, Measured, Tally, depth_numbers
from alligator.monitoring.encoding import recent_text
from alligator.monitoring.rows import RecentRow
from alligator.web import Dashboard, Request
from alligator.web.access import allow_actions
from alligator.web.pages import PAGES

#: Seconds of a core in which the server answers a page, on a machine that takes ``STANDARD``
#: seconds for :func:`some_work`.
QUICK, STANDARD = 0.15, 0.06

#: Tasks of one call.
STEP = 10_000


#: Minutes of the past that are filled, and the functions of each: two days take seconds to read.
PAST, FUNCTIONS = 48 * 60, 10


def fill(gator: Gator, count: int) -> list[str]:
    """Queue tasks as ``gator.batch()`` does, but encode only one.

    :returns: the ids of the first, of one in the middle, and of the last.
    """
    task = gator.new_task({"history": 3600.0})
    task.to_call("shop.mail.send_receipt", 10_000, "buyer@shop.example")
    encoded = str(gator.codec.encode(task, "mail"))
    ids = []
    for _ in range(count // STEP):
        messages = []
        for _ in range(STEP):
            new = new_task_id()
            messages.append(Message(new, encoded.replace(task.task_id, new)))
        gator.client.push_many("mail", messages)
        ids += [messages[0].task_id, messages[-1].task_id]
    return [ids[0], ids[len(ids) // 2], ids[-1]]


def fill_past(gator: Gator, minutes: int) -> None:
    """Let workers have recorded runs, in each minute those of several functions."""
    last = int(time.time() // 60) * 60
    tally = Tally()
    tally.add("succeeded", 50)
    tally.add_runs(50, [Measured(0.1, 0.2)])
    numbers = tally.take()
    assert numbers is not None
    for first in range(0, minutes, 60):
        some = range(first, min(first + 60, minutes))
        rows: list[Activity] = [
            (last - 60 * ago, "mail", f"shop.mail.f{number}", numbers)
            for ago in some
            for number in range(FUNCTIONS)
        ]
        rows += [(last - 60 * ago, "mail", QUEUE, depth_numbers(ago, 0, 0, 9.0)) for ago in some]
        gator.store.report(Report("none:1", activity=rows))
    recent = [
        recent_text(
            RecentRow(f"{n}", "shop.mail.f1", "mail", 1, 1, 1.0, last, last, "h:1", "1", "")
        )
        for n in range(10_000)
    ]
    for first in range(0, len(recent), 1000):
        gator.store.report(Report("none:1", recent=recent[first : first + 1000]))


def some_work() -> float:
    """Return the seconds of a core that some work takes which is the same everywhere."""
    began = time.thread_time()
    for number in range(20_000):
        json.loads(json.dumps({"a": number, "b": [1, 2, 3]}))
    return time.thread_time() - began


def slow_pages(gator: Gator, ids: list[str]) -> dict[str, list[float]]:
    """Return the pages that take too long, with the seconds of the first look and of later ones."""
    queries = {
        "": [{}, {"range": "48h"}],
        "queue": [
            {"name": "mail"},
            {"name": "mail", "text": "nothing-has-this"},
            {"name": "mail", "function": "nothing-has-this"},
            {"name": "mail", "older": "86400"},
        ],
        "task": [{"queue": "mail", "id": task_id} for task_id in ids],
        "search": [{"q": ids[-1]}, {"q": "shop.mail"}, {"q": "nothing-has-this"}],
        "running": [{}, {"queue": "mail"}],
        "activity": [{}, {"range": "48h"}, {"function": "shop.mail.f1", "range": "48h"}],
        "recent": [{}, {"text": "nothing-has-this"}],
    }
    most = QUICK * max(1.0, min(some_work() for _ in range(3)) / STANDARD)
    found = {}
    for path in PAGES:
        for query in queries.get(path, [{}]):
            text, first, later = urlencode(query), [], []
            for _ in range(2):
                dashboard = Dashboard(gator, resolve_access=allow_actions)  # has read nothing yet
                for times in (first, later):
                    began = time.thread_time()  # without what others do on these cores
                    answer = dashboard.handle(Request("GET", f"/{path}", text))
                    times.append(time.thread_time() - began)
                    assert answer.status in (200, 303)  # a search that found one goes there
            if max(min(first), min(later)) > most:  # it would be slow each time
                found[f"{path}?{text}"] = [round(each, 3) for each in (min(first), min(later))]
    return found


@pytest.mark.parametrize(
    ("count", "minutes"),
    [
        (30_000, 120),
        pytest.param(1_000_000, PAST, marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
    ],
)
def test_no_page_takes_long(count, minutes, gator):
    ids = fill(gator, count)
    fill_past(gator, minutes)
    assert gator.len() == count
    assert slow_pages(gator, ids) == {}
