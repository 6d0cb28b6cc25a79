"""Show errors, tracebacks, times and parts of messages, whatever text they hold."""

import os
import traceback
from datetime import datetime, tzinfo

from alligator.exceptions import LeaveNow

#: Where the code of Alligator is.
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # noqa: PTH100, PTH120

#: Characters of a traceback that are logged or kept.
LONGEST_TRACEBACK = 20_000


def describe_error(err: BaseException) -> str:
    """Return ``'ValueError: too much'`` on one line, cut to a length fit for a log."""
    name = type(err).__name__
    try:
        text = str(err)
        return shorten(f"{name}: {text}" if text else name, 500)
    except LeaveNow:
        raise
    except BaseException:  # a broken __str__ must not hide the type of the error
        return f"{name}: (its text cannot be shown)"


def describe_traceback(err: BaseException) -> str:
    """Return the traceback of an error, with those of its causes, as Python prints it.

    The frames of Alligator that lead to the code of a task are left out. Of a very long one,
    return the end, which says most.
    """
    try:
        shown = traceback.TracebackException.from_exception(err)
        _leave_out_ours(shown)
        text = "".join(shown.format())
    except LeaveNow:
        raise
    except BaseException:  # its text, notes or details may be anything
        frames = "".join(traceback.format_tb(err.__traceback__))
        text = f"{frames}{type(err).__name__} (the rest cannot be shown)\n"
    return text if len(text) <= LONGEST_TRACEBACK else "…" + text[-LONGEST_TRACEBACK:]


def _leave_out_ours(shown: traceback.TracebackException) -> None:
    """Take off the first frames of each traceback that are Alligator's own, unless all are."""
    seen: set[int] = set()
    left = [shown]
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        first = next(
            (at for at, frame in enumerate(each.stack) if not frame.filename.startswith(_OURS)), 0
        )
        if first:
            each.stack = traceback.StackSummary.from_list(each.stack[first:])
        left += [other for other in (each.__cause__, each.__context__) if other is not None]
        left += each.exceptions or ()


#: Characters of a generated id that are shown; the first ones hold the time, so the last are.
_SHORT_ID = 12


def short_id(task_id: str, limit: int = 40) -> str:
    """Return the part of an id that tells it from others: of a generated or a long one, the end.

    :param limit: cut an id of the user's own to so many characters.
    """
    if len(task_id) == 36 and task_id.count("-") == 4:
        return f"…{shorten(task_id[-_SHORT_ID:], _SHORT_ID)}"
    if len(task_id) <= limit:
        return shorten(task_id, limit)
    end = (limit - 1) // 2
    start = limit - 1 - end
    return f"{shorten(task_id[:start], start)}…{shorten(task_id[-end:], end)}"


def show_time(
    moment: float, unit: str = "seconds", zone: tzinfo | None = None, today: float | None = None
) -> str:
    """Return a Unix timestamp as a date and a time of day; as a number if no clock can show it.

    :param unit: the last unit to show, ``'seconds'`` or ``'minutes'``.
    :param zone: the time zone; None: local time.
    :param today: a Unix timestamp; leave out the date if it is the same on that day.
    """
    try:
        shown = datetime.fromtimestamp(moment, zone)
        date = None if today is None else datetime.fromtimestamp(today, zone).date()
    except (OverflowError, ValueError, OSError):  # a message may hold any number
        return f"{moment!r:.19}"
    text = shown.isoformat(" ", unit)
    return text.partition(" ")[2] if shown.date() == date else text


def shorten(text: str, limit: int = 120) -> str:
    """Return ``text`` with control characters escaped, cut to ``limit`` characters.

    For text from a message that goes into a log line or an error.
    """
    shown = escape(text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def escape(text: str) -> str:
    """Return ``text`` with control and other unprintable characters escaped."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def with_stop(text: str) -> str:
    """Return text with a full stop at its end, unless it ends a sentence already."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
