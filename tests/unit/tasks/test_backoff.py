"""Test how long a task waits before it is retried."""

import random

from alligator.tasks.backoff import DEPLOY_DELAYS, deploy_delay, retry_delay


def test_retry_delays():
    rng = random.Random(1)
    assert [retry_delay(0, 2, n) for n in (0, 1, 2000)] == [0, 0, 0]
    assert [retry_delay(5, 1, n) for n in range(3)] == [5, 5, 5]
    assert retry_delay(5, 2, 0) == 5
    for retried in range(1, 200):
        delay = retry_delay(5, 2, retried, 60, rng)
        assert min(60, 5 * 2**retried) * 0.75 <= delay <= min(60, 5 * 2**retried)
    assert retry_delay(1, 10, 10_000, None, rng) < 1e9


def test_deploy_delays_end():
    assert [deploy_delay(n) for n in range(1, 8)] == [*DEPLOY_DELAYS, None, None]
