"""Read ``limit`` and ``rate`` of a task, and name the keys that they count by."""

import math
import re
from datetime import timedelta
from typing import Any

from alligator.backends.types import Controls
from alligator.common.clock import in_seconds
from alligator.common.text import shorten
from alligator.exceptions import InvalidTask
from alligator.tasks.functions import split_name, wire_name

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_RATE = re.compile(r"\s*([0-9]{1,9})\s*/\s*([smhd])\s*")

#: The most tasks that a limit, or a rate, may name.
MOST = 1_000_000_000

#: The longest time, in seconds, for which a rate may name how many tasks start.
LONGEST = 366 * 86_400.0


def rate_of(value: Any) -> tuple[int, float]:
    """Return a rate as a number of tasks and the seconds within which so many may start.

    :param value: ``'100/m'``, or such a pair; the seconds may be a timedelta.
    :raises InvalidTask: it is neither.
    """
    if isinstance(value, str) and (found := _RATE.fullmatch(value)):
        count, seconds = int(found[1]), _UNITS[found[2]]
        if count:
            return count, seconds
    elif isinstance(value, tuple | list) and len(value) == 2:
        count, length = value
        whole = isinstance(count, int) and not isinstance(count, bool)
        seconds = in_seconds(length) if isinstance(length, int | float | timedelta) else math.nan
        if whole and 1 <= count <= MOST and 0.001 <= seconds <= LONGEST:
            return count, float(seconds)
    raise InvalidTask(
        f"rate={shorten(repr(value), 60)} cannot be read: give 'N/s', 'N/m', 'N/h' or 'N/d', such "
        "as '100/m', or (count, seconds), such as (100, 60); both above 0."
    )


def with_limits(controls: Controls, task: Any) -> Controls:
    """Return controls with what ``limit`` and ``rate`` of a task ask of its queue.

    :param task: has these two, and ``limit_key``, ``rate_key`` and ``func``, where set.
    """
    limit, rate = getattr(task, "limit", None), getattr(task, "rate", None)
    if limit:
        key = getattr(task, "limit_key", None) or _name(task.func)
        controls = controls._replace(limit_key=key, limit=limit)
    if rate:
        count, seconds = rate_of(rate)
        key = getattr(task, "rate_key", None) or _name(task.func)
        controls = controls._replace(rate_key=key, rate=float(count), rate_seconds=seconds)
    return controls


def _name(func: Any) -> str:
    return ".".join(split_name(func) if isinstance(func, str) else wire_name(func))
