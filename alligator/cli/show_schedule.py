"""Show what schedules will queue next."""

from datetime import datetime
from typing import Any

from alligator.common.text import shorten
from alligator.scheduling.rules import Cron, time_zone
from alligator.scheduling.scheduler import Schedule, describe_rule, function_name


def describe(tick: float, schedule: Schedule) -> tuple[str, str, str, str]:
    """Return a tick as text: when (in its time zone), queue, call, and rule."""
    rule, zone = describe_rule(schedule.rule)
    clock = time_zone(schedule.rule.tz if isinstance(schedule.rule, Cron) else None)
    given = [repr(each) for each in schedule.args]
    given += [f"{name}={each!r}" for name, each in schedule.kwargs.items()]
    call = f"{function_name(schedule.func)}({shorten(', '.join(given), 60)})"
    when = datetime.fromtimestamp(tick, clock).isoformat(" ")
    return when, schedule.queue_name, call, f"{rule} ({zone})" if zone else rule


def as_json(tick: float, schedule: Schedule) -> dict[str, Any]:
    """Return a tick as an object, with stable keys."""
    _, queue_name, call, rule = describe(tick, schedule)
    function = function_name(schedule.func)
    about = {"due": tick, "queue_name": queue_name, "function": function}
    return {**about, "name": schedule.name, "call": call, "rule": rule}


def table(ticks: list[tuple[float, Schedule]]) -> list[str]:
    """Return ticks as the lines of a table."""
    rows = [describe(tick, schedule) for tick, schedule in ticks]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
