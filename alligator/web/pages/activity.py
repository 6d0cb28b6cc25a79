"""The functions: how often each ran and failed, how long it takes, and which got slower."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from alligator.common.text import shorten
from alligator.monitoring.rows import ActivityRow
from alligator.web import findings
from alligator.web.charts import drawing, series
from alligator.web.charts.drawing import Chart, Series
from alligator.web.charts.series import Bins, Range, Total, Trend
from alligator.web.pages.overview import range_in
from alligator.web.rendering import duration
from alligator.web.view import Page, View

#: Rows of the table, at most.
_MOST = 200


class FunctionRow(NamedTuple):
    """What is shown of one function on one queue."""

    function: str
    queue_name: str
    total: Total
    trend: Trend | None


#: By which columns the table can be sorted: the name in the query, the title, and what counts.
SORTS: dict[str, tuple[str, Callable[[FunctionRow], object]]] = {
    "function": ("Function", lambda row: (row.function, row.queue_name)),
    "runs": ("Runs", lambda row: -row.total.runs),
    "failed": ("Failed", lambda row: (-row.total.failed, -(row.total.failure_rate or 0.0))),
    "p50": ("p50", lambda row: -(row.total.duration(0.5) or 0.0)),
    "p95": ("p95", lambda row: -(row.total.duration(0.95) or 0.0)),
    "max": ("Longest", lambda row: -row.total.duration_max),
    "total": ("Total time", lambda row: -row.total.duration_sum),
    "trend": ("Average", lambda row: -(row.trend.times if row.trend else 0.0)),
}


def page(view: View) -> Page:
    """Show all functions, or one of them."""
    chosen = range_in(view, "6h")
    found = view.source.history.recorded(
        view.gator,
        min(
            max(chosen.minutes + chosen.before, series.LATELY + series.COMPARED) + chosen.step, 2880
        ),
        view.now,
    )
    bins = Bins(view.now, chosen.minutes, chosen.step)
    now, before = series.split(found.activity, bins.start)
    before = [row for row in before if row.minute >= bins.start - 60 * chosen.before]
    changes = {} if found.is_partial else series.changes(found.activity, view.now)
    values: dict[str, Any] = {
        "range": chosen,
        "ranges": series.RANGES,
        "trouble": found.trouble,
        "is_partial": found.is_partial,
        "against": chosen.before_text if before else "",
        "why_not": "" if before or found.is_partial else _why_not(chosen),
    }
    name = view.request.first("function")
    if name:
        return _one(view, name, now, before, bins, values | {"change": changes.get(name)})
    queue, text = view.request.first("queue"), view.request.first("q").strip().lower()
    sort = view.request.first("sort")
    sort = sort if sort in SORTS else "total"
    rows = _rows(now, before)
    queues = sorted({row.queue_name for row in rows})
    rows = [row for row in rows if queue in ("", row.queue_name) and text in row.function.lower()]
    rows.sort(key=lambda row: (SORTS[sort][1](row), row.function, row.queue_name))
    values |= {
        "rows": rows[:_MOST],
        "left_out": max(0, len(rows) - _MOST),
        "sorts": [(key, title) for key, (title, _) in SORTS.items()],
        "sort": sort,
        "queues": queues,
        "queue": queue,
        "q": view.request.first("q"),
        "slower": findings.of_changes(changes),
        "is_compared": bool(changes),
        "is_recorded": bool(now),
    }
    return Page("activity.html", "Functions", values, nav="activity", is_live=True)


def _rows(now: Sequence[ActivityRow], before: Sequence[ActivityRow]) -> list[FunctionRow]:
    def key(row: ActivityRow) -> tuple[str, str]:
        return row.function, row.queue_name

    old = series.totals(before, key)
    return [
        FunctionRow(function, queue, total, series.trend(total, old.get((function, queue))))
        for (function, queue), total in series.totals(now, key).items()
    ]


def _why_not(chosen: Range) -> str:
    """Return why averages of a time are compared with nothing."""
    if not chosen.before:
        return "Averages are compared with nothing here: nothing is kept from before these 48 h."
    return f"Averages are compared with nothing: nothing was recorded in {chosen.before_text}."


def _one(
    view: View,
    name: str,
    now: Sequence[ActivityRow],
    before: Sequence[ActivityRow],
    bins: Bins,
    values: dict[str, Any],
) -> Page:
    """Show one function."""
    now = [row for row in now if row.function == name]
    before = [row for row in before if row.function == name]
    total = series.total(now)
    values |= {
        "function": name,
        "total": total,
        "is_recorded": bool(now),
        "rows": sorted(_rows(now, before), key=lambda row: -row.total.duration_sum),
        "charts_shown": _charts(now, bins) if now else [],
    }
    title = f"Function {shorten(name, 60)}"
    return Page("function.html", title, values, nav="activity", is_live=True)


def _charts(rows: Sequence[ActivityRow], bins: Bins) -> list[Chart]:
    of_bins = series.by_bin(rows, bins)
    return [
        drawing.line_chart(
            "Duration",
            [
                Series("p50", [each.duration(0.5) for each in of_bins], 1),
                Series("p95", [each.duration(0.95) for each in of_bins], 2),
                Series("average", [each.mean for each in of_bins], 4),
            ],
            bins.starts,
            bins.seconds,
            show=duration,
            is_time=True,
        ),
        drawing.bar_chart(
            "Runs",
            [
                Series("Succeeded", [float(each.succeeded) for each in of_bins], 1),
                Series("Failed", [float(each.failed) for each in of_bins], 3),
            ],
            bins.starts,
            bins.seconds,
            whole=True,
        ),
        drawing.line_chart(
            "Wait",
            [
                Series("p50", [each.wait(0.5) for each in of_bins], 1),
                Series("p95", [each.wait(0.95) for each in of_bins], 2),
            ],
            bins.starts,
            bins.seconds,
            show=duration,
            is_time=True,
        ),
    ]
