"""Tell of schedules: when they ticked last, and when they tick next; nothing is changed."""

from collections.abc import Callable
from itertools import islice

from alligator.monitoring.arguments import Show, parameter_names, show_task
from alligator.monitoring.rows import ScheduleRow
from alligator.scheduling.rules import LATE, tick_id, ticks_after
from alligator.scheduling.scheduler import Schedule, Schedules, describe_rule, function_name
from alligator.tasks.task import Task

#: A tick that no worker has queued so many seconds after its time was missed.
_SLACK = LATE + 5.0


def schedule_rows(
    schedules: Schedules,
    tick_task: Callable[[Schedule, str], Task],
    show: Show | bool | None,
    now: float,
    ahead: int,
) -> list[ScheduleRow]:
    """Return the schedules of a Gator; see :meth:`alligator.Gator.schedule_rows`.

    :param tick_task: makes the task of a tick, for its arguments.
    """
    found = []
    for each in schedules:
        last = schedules.last_tick(each)
        rule, zone = describe_rule(each.rule)
        task = tick_task(each, tick_id(each.name, 0.0))
        args, kwargs = show_task(task, show, parameter_names(each.func))
        before = each.rule.previous_or_at(now)
        is_missed = last is not None and last.handled < before < now - _SLACK
        queued = None if last is None else last.queued
        found.append(
            ScheduleRow(
                each.name,
                function_name(each.func),
                each.queue_name,
                args,
                kwargs,
                rule,
                zone,
                tuple(islice(ticks_after(each.rule, now), ahead)),
                queued,
                "" if queued is None else tick_id(each.name, queued),
                None if last is None else last.skipped,
                before if is_missed else None,
                last is not None,
            )
        )
    return sorted(found, key=lambda row: (row.following, row.name, row.queue_name))
