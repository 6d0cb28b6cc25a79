"""Test delays beyond the 15 minutes of SQS: they go in hops, here of 1 second instead of 900."""

import logging
import threading
import time
import uuid

import pytest

from alligator import Worker
from alligator.backends.sqs_backend import Client

HOP = 1  # seconds
DELAY = 3.8  # seconds: an hour, in proportion
LATE = 2.0  # seconds: SQS counts in whole ones, and the machine may be busy

ran: list = []


def note(name):
    ran.append((name, time.time()))


@pytest.fixture
def gator(durable_gator, monkeypatch):
    ran.clear()
    monkeypatch.setattr(Client, "MAX_DELAY", HOP)
    return durable_gator(f"hops-{uuid.uuid4().hex[:8]}")


@pytest.mark.slow
@pytest.mark.parametrize("durable_dsn", ["sqs"], indirect=True)
def test_a_long_delay_ends_in_one_run_on_time(gator):
    sent = []
    gator.client.conn.meta.events.register(
        "before-parameter-build.sqs.SendMessageBatch",
        lambda params, **_: sent.extend(each.get("DelaySeconds", 0) for each in params["Entries"]),
    )
    pushed = time.time()
    gator.options(delay_by=DELAY).task(note, "later")
    gator.options(delay_by=HOP / 2).task(note, "soon")
    gator.task(note, "now")
    worker = Worker(gator, log_level=logging.CRITICAL)
    thread = threading.Thread(target=worker.run_forever)
    thread.start()
    try:
        while len(ran) < 3 and time.time() < pushed + DELAY + 30:
            time.sleep(0.01)
        time.sleep(HOP + 0.5)  # a second run would come by then
    finally:
        worker.keep_running = False
        thread.join(30)
    assert [name for name, _ in ran] == ["now", "soon", "later"]
    late = [at - pushed - due for (_, at), due in zip(ran, (0, HOP / 2, DELAY), strict=True)]
    assert all(0 <= each < LATE for each in late), late
    assert sorted(set(sent)) == [0, HOP]
    assert sent.count(HOP) >= 4, sent  # "soon", and of "later" the push and two hops at least
    stats = gator.stats()
    assert (stats["waiting"], stats["delayed"], stats["running"]) == (0, 0, 0)
