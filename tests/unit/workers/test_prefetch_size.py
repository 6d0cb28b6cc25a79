"""Test how many tasks a worker reserves at once."""

from alligator.workers.prefetch_size import Prefetch


def test_pace_fetches_many_short_and_few_slow_tasks():
    prefetch = Prefetch("auto", 1)
    assert prefetch.limit() == 1
    for _ in range(20):
        prefetch.add(0.0001)
    assert prefetch.limit() == 100
    prefetch.add(1.0)
    assert prefetch.limit() == 1
    for _ in range(200):
        prefetch.add(0.005)
    assert 5 <= prefetch.limit() <= 10
    assert Prefetch(7, 1).limit() == 7
