"""Say in plain sentences what is wrong with queues, and with the functions on them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from alligator.common.text import shorten
from alligator.monitoring.rates import Rate
from alligator.monitoring.rows import QueueRow
from alligator.web.rendering import duration, number, percent
from alligator.web.rendering import rate as rate_text
from alligator.web.series import Change, Total, rate_of

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


def of_queues(
    queues: Iterable[QueueRow],
    rates: dict[str, Rate],
    *,
    knows_workers: bool,
    without: Mapping[str, str] = {},
) -> list[Finding]:
    """Return what is wrong with queues, the fullest first.

    :param knows_workers: whether a store tells which workers live.
    :param without: of queues without workers, in words: since when.
    """
    found = list[Finding]()
    for queue in sorted(queues, key=lambda each: -each.waiting):
        text, is_bad = _of_queue(queue, rate_of(rates, queue.name), knows_workers, without)
        if text:
            found.append(Finding(text, is_bad, "queue", {"name": queue.name}, "Show the queue"))
    return sorted(found, key=lambda each: not each.is_bad)[: 2 * _MOST]


def _of_queue(
    queue: QueueRow, rate: Rate, knows_workers: bool, without: Mapping[str, str]
) -> tuple[str, bool]:
    name, waits = shorten(queue.name, 60), _tasks_wait(queue.waiting)
    if queue.paused:
        return (f"{name} is paused: {waits}.", False) if queue.waiting else ("", False)
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
    if queue.waiting and _grows(rate):
        who = ""
        if queue.workers:
            who = f"; its {_count(queue.workers, 'worker')} cannot keep up"
        return f"{name} grows: {_in_and_out(rate)}{who}. {_capital(waits)}.", False
    if queue.waiting and queue.oldest is not None and queue.oldest >= _LONG:
        return f"{name} is behind: {waits}, the first one for {duration(queue.oldest)}.", False
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
            {"state": "failed", "function": name},
            "Show why",
        )
        for name, total in often[:_MOST]
    ]


def of_changes(changes: Mapping[str, Change]) -> list[Finding]:
    """Return which functions got slower, the one first that lost most time by it."""
    slower = [(name, each) for name, each in changes.items() if each.trend.is_slower]
    slower.sort(key=lambda each: -each[1].lost)
    return [
        Finding(
            f"{_name(name)} takes {duration(each.now)}, {each.trend.longer} "
            f"({duration(each.before)}): {duration(each.lost)} more in the last hour.",
            False,
            "activity",
            {"function": name},
            "Show the function",
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


def worst(findings: Sequence[Finding]) -> str:
    """Return the class of the card for findings."""
    return "bad" if any(each.is_bad for each in findings) else "warn"
