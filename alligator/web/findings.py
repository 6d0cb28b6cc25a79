"""Say in plain sentences what is wrong with queues, and with the functions on them."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from alligator.common.text import shorten
from alligator.monitoring.rates import Rate
from alligator.monitoring.rows import QueueRow, ScheduleRow, WorkerRow
from alligator.web.charts.series import Change, Total, rate_of
from alligator.web.rendering import duration, number, percent
from alligator.web.rendering import rate as rate_text

#: A queue grows if so many more come in than go out, in tasks a minute and as a share.
_GROWS_BY, _GROWS_SHARE = 1.0, 1.1

#: Seconds after which a task that waits is worth a word.
_LONG = 600

#: A function fails often from this share of runs, and from so many failures.
_OFTEN, _FAILURES = 0.05, 3

#: Sentences of one kind, at most.
_MOST = 5


class Finding(NamedTuple):
    """Something that the visitor should look at."""

    text: str
    is_bad: bool  # else it is a warning
    path: str  # where to look
    query: dict[str, str]
    link: str  # what the link says
    subject: str  # what it is about: the text begins with it


def of_queues(
    queues: Iterable[QueueRow],
    rates: dict[str, Rate],
    *,
    knows_workers: bool,
    without: Mapping[str, str] = {},
    busy: Mapping[str, str] = {},
) -> list[Finding]:
    """Return what is wrong with queues, the fullest first.

    :param knows_workers: whether a store tells which workers live.
    :param without: of queues without workers, in words: since when.
    :param busy: of queues, in words: what their workers are busy with; see :func:`busy_with`.
    """
    found = list[Finding]()
    for queue in sorted(queues, key=lambda each: -each.waiting):
        rate = rate_of(rates, queue.name)
        text, is_bad = _of_queue(queue, rate, knows_workers, without, busy)
        if text:
            name, query = shorten(queue.name, 60), {"name": queue.name}
            found.append(Finding(text, is_bad, "queue", query, "Show the queue", name))
    return sorted(found, key=lambda each: not each.is_bad)[: 2 * _MOST]


def _of_queue(
    queue: QueueRow,
    rate: Rate,
    knows_workers: bool,
    without: Mapping[str, str],
    busy: Mapping[str, str],
) -> tuple[str, bool]:
    name, waits = shorten(queue.name, 60), _tasks_wait(queue.waiting)
    if queue.paused:
        alone = ", and no worker serves it" if knows_workers and not queue.workers else ""
        return (f"{name} is paused{alone}: {waits}.", False) if queue.waiting else ("", False)
    if knows_workers and not queue.workers:
        if not queue.waiting:
            return (
                (f"{name} has {number(queue.delayed)} delayed, and no live worker.", False)
                if queue.delayed
                else ("", False)
            )
        since = without.get(queue.name, "no live worker")
        if _grows(rate):
            return f"{name} grows: {_in_and_out(rate)}. {_capital(waits)}; it has {since}.", True
        return f"{name} stands still: {waits}. It has {since}.", True
    who = f"; {busy[queue.name]}" if queue.name in busy else ""
    if queue.waiting and _grows(rate):
        if queue.workers and not who:
            who = f"; its {_count(queue.workers, 'worker')} cannot keep up"
        return f"{name} grows: {_in_and_out(rate)}{who}. {_capital(waits)}.", False
    if queue.waiting and queue.oldest is not None and queue.oldest >= _LONG:
        since = duration(queue.oldest)
        return f"{name} is behind: {waits}, the first one for {since}{who}.", False
    return "", False


def of_failures(functions: Mapping[str, Total], since: str) -> list[Finding]:
    """Return which functions fail often.

    :param since: the time that is looked at, in words.
    """
    often = [
        (name, total)
        for name, total in functions.items()
        if total.failed >= _FAILURES and (total.failure_rate or 0.0) >= _OFTEN
    ]
    often.sort(key=lambda each: -each[1].failed)
    return [
        Finding(
            f"{_name(name)} fails: {number(total.failed)} of {_count(total.runs, 'run')} in "
            f"{since} ({percent(total.failure_rate)}).",
            (total.failure_rate or 0.0) >= 0.5,
            "recent",
            {"state": "failing", "since": "3600", "function": name},
            "Show why",
            _name(name),
        )
        for name, total in often[:_MOST]
    ]


def busy_with(
    queue_name: str,
    workers: Iterable[WorkerRow],
    functions: Mapping[str, Total],
    changes: Mapping[str, Change],
) -> str:
    """Return what the workers of a queue are busy with, in words; an empty text: none lives.

    :param functions: what ran on the queue lately.
    """
    live = [each for each in workers if not each.is_lost and queue_name in each.queues]
    if not live:
        return ""
    running, places = sum(len(each.running) for each in live), sum(e.concurrency for e in live)
    text = (
        f"its {_count(len(live), 'worker')} {'runs' if len(live) == 1 else 'run'} "
        f"{number(running)} of at most {_count(places, 'task')}"
    )
    name = max(functions, key=lambda each: functions[each].duration_sum, default="")
    if not name or not functions[name].duration_sum:
        return text
    change = changes.get(name)
    text += f", mostly {_name(name)}"
    if change is None or not change.trend.is_slower:
        return text
    return f"{text}, which takes {duration(change.now)}, {change.trend.longer}"


def of_workers(workers: Iterable[WorkerRow]) -> list[Finding]:
    """Return which workers were lost."""
    found = list[Finding]()
    for each in [row for row in workers if row.is_lost][:_MOST]:
        name = f"{shorten(each.host, 60)}:{each.pid}"
        ran = ""
        if each.running:
            them = "it" if len(each.running) == 1 else "them"
            ran = (
                f" It ran {_count(len(each.running), 'task')}; other workers take {them} over when "
                f"the lease, its time for {them}, has ended."
            )
        text = f"{name} is lost: this worker sends no heartbeat, and did not end in order.{ran}"
        found.append(Finding(text, False, "workers", {}, "Show the workers", name))
    return found


def of_schedules(schedules: Iterable[ScheduleRow]) -> list[Finding]:
    """Return which schedules missed their last tick."""
    return [
        Finding(
            f"{_name(each.function)} missed a tick, the time at which its schedule was due "
            f"({shorten(each.rule, 60)}): no worker was there to queue it.",
            False,
            "schedules",
            {},
            "Show the schedules",
            _name(each.function),
        )
        for each in [row for row in schedules if row.missed][:_MOST]
    ]


def of_changes(changes: Mapping[str, Change]) -> list[Finding]:
    """Return which functions got slower, the one first that lost most time by it."""
    slower = [(name, each) for name, each in changes.items() if each.trend.is_slower]
    slower.sort(key=lambda each: -each[1].lost)
    return [
        Finding(
            f"{_name(name)} takes {duration(each.now)}, {each.trend.longer} "
            f"({duration(each.before)}): {duration(each.lost)} more work in the last hour.",
            False,
            "activity",
            {"function": name, "range": "24h"},  # which shows since when
            "Show the function",
            _name(name),
        )
        for name, each in slower[:_MOST]
    ]


def _grows(rate: Rate) -> bool:
    if rate.came is None or rate.went is None:
        return False
    return rate.came > rate.went + _GROWS_BY and rate.came > rate.went * _GROWS_SHARE


def _in_and_out(rate: Rate) -> str:
    return f"{rate_text(rate.came)} in, {rate_text(rate.went)} out a minute"


def _tasks_wait(count: int) -> str:
    return f"{_count(count, 'task')} {'waits' if count == 1 else 'wait'}"


def _count(count: int, word: str) -> str:
    return f"{number(count)} {word}{'' if count == 1 else 's'}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _name(function: str) -> str:
    return shorten(function, 80) or "A message that cannot be read"
