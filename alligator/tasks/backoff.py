"""Compute how long to wait before a retry. Pure functions: none reads a clock."""

import random

#: Seconds to wait before each further try of a task whose module or function is missing: a
#: deploy may be under way. After the last, the task becomes a dead letter.
DEPLOY_DELAYS = (1.0, 5.0, 15.0, 60.0, 300.0)

#: The part of a delay that jitter may take off, so that many failures do not return at once.
JITTER = 0.25


def retry_delay(
    base: float,
    backoff: float,
    retried: int,
    longest: float | None = None,
    rng: random.Random | None = None,
) -> float:
    """Return the seconds to wait before the next try.

    :param base: the delay before the first retry, in seconds.
    :param backoff: the factor for each further retry. Unless it is 1, each further delay is
        shortened at random by up to a quarter.
    :param retried: the number of retries so far.
    :param longest: the longest delay, in seconds; None: no cap.
    """
    if not base:
        return 0.0
    try:
        delay = base * backoff**retried
    except OverflowError:
        delay = float("inf")
    if longest is not None:
        delay = min(delay, longest)
    delay = min(delay, 10 * 366 * 86400.0)  # ten years: beyond it no clock arithmetic is safe
    if retried and backoff != 1:
        delay *= 1 - JITTER * (rng or random).random()
    return delay


def deploy_delay(missed: int) -> float | None:
    """Return the seconds before the next try of a task whose code is missing; None: give up.

    :param missed: how often its code was missing so far, from 1.
    """
    return DEPLOY_DELAYS[missed - 1] if 1 <= missed <= len(DEPLOY_DELAYS) else None
