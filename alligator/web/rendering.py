"""Render pages with Jinja2: every value is escaped, and times carry their timestamp."""

import hashlib
import re
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import quote, unquote

from alligator.common.text import escape as escape_controls
from alligator.common.text import short_id, shorten
from alligator.exceptions import InvalidTask
from alligator.web.http import static_files
from alligator.web.http.messages import URL_ERRORS
from alligator.web.view import Page, View

try:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup, escape
except ImportError as err:
    raise ImportError(
        "The dashboard needs Jinja2; install it: pip install 'alligator[web]'"
    ) from err

#: The pages of the navigation: their path, and their name.
NAVIGATION = (
    ("", "Overview"),
    ("running", "Running"),
    ("recent", "Recent"),
    ("dead", "Dead letters"),
    ("activity", "Functions"),
    ("schedules", "Schedules"),
    ("workers", "Workers"),
)

#: A space at which no line is broken: between a number and its unit.
_NO_BREAK = "\u00a0"

#: Where a long name may be broken: after a dot, an underscore and the like.
_BREAKS = re.compile(r"(?<=[._:/])(?=[^._:/])")

#: What changes with time alone: the age that is written in a ``time`` element.
_AGES = re.compile(r"(<time [^>]*>)[^<]*(</time>)")


#: The templates that most pages need: they are compiled before the first request.
_COMMON = ("base.html", "fragment.html", "parts.html", "charts.html", "problem.html")


@cache
def environment() -> Environment:
    """Return what all dashboards of a process share: a template is compiled once, in 20 ms."""
    found = Environment(
        loader=PackageLoader("alligator.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,  # else each look asks the disk whether a template changed
    )
    found.filters.update(
        {
            "number": number,
            "duration": duration,
            "short": short,
            "breakable": breakable,
            "short_id": short_id,
            "percent": percent,
            "ref": ref,
            "rate": rate,
            "clock": clock,
        }
    )
    return found


def compile_all() -> None:
    """Compile all templates, so that no visitor waits for it."""
    for name in environment().list_templates():
        environment().get_template(name)


class Renderer:
    """Renders the templates of this package.

    :param every: seconds after which a page looks for news.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        for name in _COMMON:
            environment().get_template(name)

    def render(self, view: View, page: Page, *, is_fragment: bool) -> str:
        """Return the HTML of a page.

        :param is_fragment: only its content, without what stands around it on every page.
        """
        return (
            environment()
            .get_template(page.template)
            .render(
                **page.values,
                layout="fragment.html" if is_fragment else "base.html",
                view=view,
                page=page,
                navigation=NAVIGATION,
                every=self._every,
                files_version=static_files.version(),
                ago=lambda moment: ago(moment, view.now),
                until=lambda moment: until(moment, view.now),
            )
        )

    @staticmethod
    def tag(body: str) -> str:
        """Return the entity tag of a fragment: it stays the same while only ages grow."""
        same = _AGES.sub(r"\1\2", body).encode("utf-8", "replace")
        return f'"{hashlib.sha256(same).hexdigest()[:32]}"'


def number(value: float | None) -> str:
    """Return a count with separators; a dash for None."""
    return "–" if value is None else f"{value:,.0f}"  # noqa: RUF001 - a dash is meant


def rate(value: float | None) -> str:
    """Return a number per minute, with one decimal if it is small; a dash for None."""
    if value is None or value == 0 or value >= 9.95:
        return number(value)
    return f"{value:.1f}" if value >= 0.05 else "< 0.1"


def percent(share: float | None) -> str:
    """Return a share of 1 as a percentage."""
    if share is None:
        return "–"  # noqa: RUF001 - a dash is meant
    if 0 < share < 0.0005:
        return f"<{_NO_BREAK}0.1{_NO_BREAK}%"
    text = f"{100 * share:.1f}" if 0 < share < 0.1 else f"{100 * share:.0f}"
    return f"{text}{_NO_BREAK}%"


def duration(seconds: float | None) -> str:
    """Return seconds for people: ``'12 ms'``, ``'3.4 s'``, ``'5 min'``, ``'2 h 10 min'``.

    Its spaces break no line.
    """
    return _duration(seconds).replace(" ", _NO_BREAK)


def _duration(seconds: float | None) -> str:
    if seconds is None or seconds != seconds or abs(seconds) == float("inf"):
        return "–"  # noqa: RUF001 - a dash is meant
    if seconds < 0:
        return f"-{_duration(-seconds)}"
    if seconds < 0.9995:
        text = f"{1000 * seconds:.0f} ms"
        return "< 1 ms" if seconds and text == "0 ms" else text
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    if seconds < 3600:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s" if minutes < 10 and rest else f"{minutes} min"
    if seconds < 86_400:
        hours, rest = divmod(round(seconds / 60), 60)
        return f"{hours} h {rest} min" if rest else f"{hours} h"
    days, rest = divmod(round(seconds / 3600), 24)
    return f"{days:,} d {rest} h" if rest and days < 10 else f"{days:,} d"


def clock(moment: float) -> Markup:
    """Return a clock time, which the browser shows by its own clock."""
    text = datetime.fromtimestamp(moment, UTC).strftime("%H:%M")
    return Markup('<span data-clock="{}">{}</span>').format(f"{moment:.0f}", text)


def ago(moment: float | None, now: float) -> Markup:
    """Return a time that has passed, as its age; the timestamp stands with it."""
    if moment is None:
        return Markup("–")  # noqa: RUF001 - a dash is meant
    age = _whole(now - moment)
    return _time(moment, "just now" if age < 1 else f"{_age(age)} ago", "ago")


def until(moment: float | None, now: float) -> Markup:
    """Return a time to come, as what is left."""
    if moment is None:
        return Markup("–")  # noqa: RUF001 - a dash is meant
    left = moment - now
    return _time(moment, f"in {_age(_whole(left))}" if left >= 1 else "now", "until")


def _age(seconds: float) -> str:
    return duration(seconds).replace(f".0{_NO_BREAK}s", f"{_NO_BREAK}s")  # as the browser counts


def _whole(seconds: float) -> float:
    return seconds if abs(seconds) == float("inf") or seconds != seconds else float(round(seconds))


def _time(moment: float, text: str, kind: str) -> Markup:
    try:
        shown = datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):  # a message may hold any number
        return escape(shorten(f"{moment!r}", 30))
    title = shown.replace("T", " ")
    # Nothing here is of a message. A page may have hundreds, and Markup.format is slow.
    return Markup(f'<time datetime="{shown}" data-kind="{kind}" title="{title}">{text}</time>')  # noqa: S704


def short(text: Any, limit: int = 120) -> str:
    """Return text with control characters written out, cut to ``limit`` characters."""
    return shorten(str(text), limit)


def breakable(text: Any, limit: int = 120) -> Markup:
    """Return a name, shortened, that may be broken after its dots and underscores."""
    return Markup("<wbr>").join(_BREAKS.split(short(text, limit)))


def ref(row: Any) -> str:
    """Return the name of a task in forms: its queue and its id, with all but ASCII encoded.

    A browser changes line breaks in a form, and NUL in a page; an id may have either.
    """
    return queue_ref(row.queue_name, row.task_id)


def queue_ref(queue_name: str, text: str) -> str:
    """Return a queue and an id, or a cursor of that queue, for :func:`read_ref`."""
    return f"{_encoded(queue_name)}/{_encoded(text)}"


def read_ref(text: str) -> tuple[str, str]:
    """Return the queue and the id that :func:`ref` has written.

    :raises InvalidTask: it is no such name.
    """
    queue_name, slash, task_id = text.partition("/")
    if not (queue_name and slash and task_id):
        raise InvalidTask(f"{shorten(text, 60)!r} names no task; use the buttons of the pages.")
    return (
        unquote(queue_name, errors="surrogateescape"),
        unquote(task_id, errors="surrogateescape"),
    )


def _encoded(text: str) -> str:
    return quote(text, safe="", errors=URL_ERRORS)


def lines(text: str) -> str:
    """Return text of several lines with all other control characters written out."""
    return "\n".join(escape_controls(line) for line in text.split("\n"))


def whole_number(text: str, name: str, default: int, low: int, high: int) -> int:
    """Return a number of the query.

    :raises InvalidTask: it is none from ``low`` to ``high``.
    """
    if not text:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and low <= int(text) <= high):
        raise InvalidTask(
            f"{name}={shorten(text, 60)!r} is no whole number from {low} to {high:,}."
        )
    return int(text)
