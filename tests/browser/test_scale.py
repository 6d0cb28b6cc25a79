"""Test that no page of the dashboard is slow when a million tasks are queued."""

import time
from statistics import median
from urllib.parse import urlencode

import pytest

from alligator import Gator
from alligator.backends.base import Message
from alligator.common.ids import new_task_id
from alligator.web import Dashboard, Request
from alligator.web.access import allow_actions
from alligator.web.pages import PAGES

#: Seconds of a core in which the server answers a page.
QUICK = 0.15

#: Tasks of one call.
STEP = 10_000


def fill(gator: Gator, count: int) -> str:
    """Queue tasks as ``gator.batch()`` does, but encode only one.

    :returns: the id of the 50,000th. Of each task that is looked at, SQLite counts those before it:
        the page of the last one of a million takes 0.5 s.
    """
    task = gator.new_task({"history": 3600.0})
    task.to_call("shop.mail.send_receipt", 10_000, "buyer@shop.example")
    encoded = str(gator.codec.encode(task, "mail"))
    task_id = ""
    for step in range(count // STEP):
        messages = []
        for _ in range(STEP):
            new = new_task_id()
            messages.append(Message(new, encoded.replace(task.task_id, new)))
        gator.client.push_many("mail", messages)
        task_id = messages[-1].task_id if step < 5 else task_id
    return task_id


def slow_pages(gator: Gator, task_id: str) -> dict[str, float]:
    """Return the pages that take too long, with the seconds that they take."""
    dashboard = Dashboard(gator, resolve_access=allow_actions)
    queries = {
        "queue": [{"name": "mail"}, {"name": "mail", "text": "nothing-has-this"}],
        "task": [{"queue": "mail", "id": task_id}],
        "search": [{"q": task_id}, {"q": "shop.mail"}, {"q": "nothing-has-this"}],
    }
    found = {}
    for path in PAGES:
        for query in queries.get(path, [{}]):
            text, times = urlencode(query), []
            for _ in range(5):
                began = time.thread_time()  # without what others do on these cores
                answer = dashboard.handle(Request("GET", f"/{path}", text))
                times.append(time.thread_time() - began)
                assert answer.status in (200, 303)  # a search that found one goes there
            if median(times) > QUICK:
                found[f"{path}?{text}"] = round(median(times), 3)
    return found


@pytest.mark.parametrize(
    "count", [50_000, pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(300)])]
)
def test_no_page_takes_long(count, gator):
    task_id = fill(gator, count)
    assert gator.len() == count
    assert slow_pages(gator, task_id) == {}
