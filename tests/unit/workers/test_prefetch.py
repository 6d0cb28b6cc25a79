"""How many tasks a worker reserves at a time."""

from alligator.workers.prefetch import Pace


def test_pace_fetches_many_short_and_few_slow_tasks():
    pace = Pace("auto", 1)
    assert pace.limit() == 1
    for _ in range(20):
        pace.note(0.0001)
    assert pace.limit() == 100
    pace.note(1.0)
    assert pace.limit() == 1
    for _ in range(200):
        pace.note(0.005)
    assert 5 <= pace.limit() <= 10
    assert Pace(7, 1).limit() == 7
