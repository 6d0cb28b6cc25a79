import logging

import pytest

from alligator.backends.base import Delivery
from alligator.exceptions import ConnectionLost
from alligator.workers.paused_queues import AFTER_FAILURE, EVERY, PausedQueues


class Pauses:
    """Pauses in a store, and how often it was asked."""

    documents = object()

    def __init__(self):
        self.paused, self.asked, self.fails = set(), 0, False

    def among(self, queue_names):
        self.asked += 1
        if self.fails:
            raise ConnectionLost("it is away")
        return self.paused & set(queue_names)


@pytest.fixture
def pauses():
    return Pauses()


@pytest.fixture
def time():
    return [1000.0]


@pytest.fixture
def queues(pauses, time):
    return PausedQueues(pauses, lambda: ["a", "b"], logging.getLogger("test"), lambda: time[0])


def delivery(queue_name):
    return Delivery(queue_name, "id", "data", None)


def test_the_store_is_asked_once_a_second(queues, pauses, time):
    for _ in range(5):
        assert queues.open_queues() == ["a", "b"]
        assert queues.split([delivery("a")])[1] == []
    assert pauses.asked == 1
    assert not queues.any_paused()
    pauses.paused = {"a"}
    time[0] += EVERY
    assert queues.open_queues() == ["b"]
    assert queues.any_paused()
    assert pauses.asked == 2


def test_what_came_after_a_long_wait_is_split(queues, pauses, time):
    queues.open_queues()
    pauses.paused = {"a", "c"}
    time[0] += 5.0
    found = [delivery("a"), delivery("b"), delivery("a")]
    assert queues.split(found) == ([found[1]], [found[0], found[2]])


def test_a_store_that_is_away_changes_nothing_and_is_asked_seldom(queues, pauses, time, caplog):
    pauses.paused = {"a"}
    assert queues.open_queues() == ["b"]
    pauses.fails = True
    for _ in range(3):
        time[0] += EVERY
        assert queues.open_queues() == ["b"]
    assert pauses.asked == 2
    assert [each.levelname for each in caplog.records] == ["WARNING"]
    pauses.fails, pauses.paused = False, set()
    time[0] += AFTER_FAILURE
    assert queues.open_queues() == ["a", "b"]


def test_what_is_held_is_looked_at_if_it_stays(queues, pauses, time):
    pauses.paused = {"a"}
    for _ in range(20):  # batch after batch
        assert not queues.holds_paused(delivery("a"), lambda: {"a"})
        time[0] += 0.2
    assert pauses.asked == 0
    last = delivery("a")
    assert not queues.holds_paused(last, lambda: {"a"})
    time[0] += 0.4
    assert queues.holds_paused(last, lambda: {"a"})
    time[0] += EVERY
    assert not queues.holds_paused(last, lambda: {"b"})
    assert not queues.holds_paused(None, lambda: {"a"})
