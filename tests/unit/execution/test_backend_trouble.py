"""Test the log lines of an outage, and the pauses between retries."""

import logging
import threading

from alligator.exceptions import (
    ConnectionLost,
)
from alligator.execution.backend_trouble import ECHO, FIRST_PAUSE, LONGEST_PAUSE, Outage


def test_the_pauses_of_an_outage_grow_and_differ(monkeypatch):
    now = 0.0
    monkeypatch.setattr("alligator.execution.backend_trouble.time.monotonic", lambda: now)

    def pauses():
        nonlocal now
        found, outage = [], Outage(logging.getLogger("silent"))
        for _ in range(12):
            outage.begins(ConnectionLost("gone"))
            outage.begins(ConnectionLost("gone, says another thread of the same try"))
            began = now
            while not outage.try_is_due():
                now += 0.001
            found.append(now - began)
        outage.ends()
        assert outage.try_is_due()
        return found

    first, second = pauses(), pauses()
    assert first != second
    for found in (first, second):
        for index, pause in enumerate(found):
            longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2**index)
            assert longest / 2 - 0.002 <= pause <= longest + 0.002


def test_an_outage_is_said_in_step_whoever_of_many_threads_begins_or_ends_it(caplog):
    outage, why = Outage(logging.getLogger("in.step")), ConnectionLost("gone")

    def begin_and_end():
        for _ in range(100):
            outage.begins(why)
            outage.ends()

    threads = [threading.Thread(target=begin_and_end) for _ in range(6)]
    with caplog.at_level(logging.INFO, "in.step"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lost = [record.levelno == logging.WARNING for record in caplog.records]
    assert lost == [True, False] * (len(lost) // 2)
    assert lost


def test_a_call_that_fails_late_is_no_outage_of_its_own(monkeypatch, caplog):
    now = 100.0
    monkeypatch.setattr("alligator.execution.backend_trouble.time.monotonic", lambda: now)
    outage, why = Outage(logging.getLogger("in.step")), ConnectionLost("gone")
    with caplog.at_level(logging.INFO, "in.step"):
        outage.begins(why)
        outage.ends()
        outage.begins(why)  # over a connection of before
        assert outage.lasts
        outage.ends()
        assert len(caplog.records) == 2
        outage.begins(why)
        now += ECHO
        outage.begins(why)  # it goes on
        assert len(caplog.records) == 3
        outage.ends()
        assert len(caplog.records) == 4
