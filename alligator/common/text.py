"""Show text that may come from anywhere: errors, tracebacks, and parts of messages."""

import traceback

from alligator.exceptions import LeaveNow


def describe_error(err: BaseException) -> str:
    """Return ``'ValueError: too much'`` on one line, cut to a length fit for a log."""
    name = type(err).__name__
    try:
        text = str(err)
        return shorten(f"{name}: {text}" if text else name, 500)
    except LeaveNow:
        raise
    except BaseException:  # a broken __str__ must not hide which error it was
        return f"{name}: (its text cannot be shown)"


def describe_traceback(err: BaseException) -> str:
    """Return the traceback of an error, with those of its causes, as Python prints it."""
    try:
        return "".join(traceback.format_exception(err))
    except LeaveNow:
        raise
    except BaseException:  # its text, notes or details may be anything
        frames = "".join(traceback.format_tb(err.__traceback__))
        return f"{frames}{type(err).__name__} (the rest cannot be shown)\n"


def shorten(text: str, limit: int = 120) -> str:
    """Return ``text`` free of control characters, and then cut to ``limit`` characters.

    For text that comes from a message and goes into a log line or an error.
    """
    shown = escape(text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def end_of(text: str, limit: int) -> str:
    """Return the last ``limit`` characters: the end of a traceback says most."""
    return text if len(text) <= limit else "…" + text[-limit:]


def escape(text: str) -> str:
    """Return ``text`` with control characters, and what else cannot be shown, written out."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def with_stop(text: str) -> str:
    """Return text with a full stop behind it, unless it ends a sentence as it is."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
