"""Test how a task far back in a long queue is found: quickly, and never with a count too high."""

import random

import pytest

from alligator import Gator
from alligator.backends.base import Message
from alligator.backends.locmem import queue as locmem_queue
from alligator.backends.sqlite import queue as sqlite_queue

#: Tasks that are counted from an end here.
MOST = 5


@pytest.fixture(params=["locmem", "sqlite"])
def gator(request, tmp_path, monkeypatch):
    monkeypatch.setattr(locmem_queue, "MOST_COUNTED", MOST)
    monkeypatch.setattr(sqlite_queue, "MOST_COUNTED", MOST)
    dsn = {"locmem": "locmem://find", "sqlite": f"sqlite://{tmp_path}/queue.db"}[request.param]
    found = Gator(dsn)
    found.client.drop_all("all")
    yield found
    found.close()


def pushed(client, count, dice):
    """Queue tasks of several priorities; return their ids in the order of their turns."""
    messages = [Message(f"t{n}", "{}", priority=dice.choice([0, 5, -5])) for n in range(count)]
    client.push_many("all", messages)
    order = sorted(range(count), key=lambda n: (-messages[n].priority, n))
    return [messages[n].task_id for n in order]


@pytest.mark.parametrize("count", [1, MOST, 2 * MOST, 40])
def test_how_many_go_first_is_exact_near_the_ends_and_never_too_high(gator, count):
    dice = random.Random(count)
    ids = pushed(gator.client, count, dice)
    for task_id in ids[1:3]:  # what has left counts no more
        gator.client.get("all", task_id)
        ids.remove(task_id)
    for ahead, task_id in enumerate(ids):
        place = gator.client.find("all", task_id)
        if place.is_least:
            assert MOST == place.ahead <= ahead
        else:
            assert place.ahead == ahead
    assert not gator.client.find("all", ids[0]).is_least
    if gator.client.conn_string.startswith("sqlite"):  # it has counters
        assert not gator.client.find("all", ids[-1]).is_least


def test_a_count_that_stopped_is_said(gator):
    ids = pushed(gator.client, 40, random.Random(1))
    assert "behind 3 tasks on 'all'" in gator.explain(ids[3])
    assert f"behind at least {MOST} tasks on 'all'" in gator.explain(ids[20])


def test_all_about_a_task_is_one_look_at_its_queue(gator, monkeypatch):
    (task_id, *_) = pushed(gator.client, 3, random.Random(1))
    looks = []
    find = gator.client.find
    monkeypatch.setattr(gator.client, "find", lambda *where: looks.append(where) or find(*where))
    assert gator.task_info(task_id).row.task_id == task_id
    assert len(looks) == 1
