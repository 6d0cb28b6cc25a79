"""The overview: every queue, how full it is and was, who serves it, and what is wrong."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from alligator.exceptions import ConnectionLost, UnsupportedOption
from alligator.monitoring.rates import Rate
from alligator.monitoring.rows import ActivityRow, DepthRow, QueueRow, ScheduleRow, WorkerRow
from alligator.results.unserved import Served, no_worker
from alligator.web import findings
from alligator.web.charts import drawing, series
from alligator.web.charts.drawing import Chart, Series
from alligator.web.charts.series import Bins, Range, Total
from alligator.web.view import Page, View

#: Queues that have a line of their own in a chart; the others are one line.
_MOST_LINES = 3

_HOUR = 60  # minutes


class QueueCard(NamedTuple):
    """What is shown of one queue."""

    row: QueueRow
    rate: Rate
    total: Total  # over the range
    spark: Any
    pushed: float | None  # when the oldest was pushed


def page(view: View) -> Page:
    """Show all queues."""
    chosen = range_in(view)
    queues = view.gator.queues()
    view.source.sampler.sample(view.gator, queues, view.now)
    found = view.source.history.recorded(
        view.gator, max(chosen.minutes, series.LATELY + series.COMPARED) + 1, view.now
    )
    bins = Bins(view.now, chosen.minutes, chosen.step)
    shown = series.by_queue((row for row in found.activity if row.minute >= bins.start), bins)
    hour = [row for row in found.activity if row.minute >= Bins(view.now, _HOUR, 1).start]
    rates = series.rates_now(queues, hour, found.depths, view.now)
    knows_workers = view.gator.store is not None
    workers = _workers(view)
    by_call = series.totals(hour, lambda row: (row.queue_name, row.function))
    changes = {} if found.is_partial else series.changes(found.activity, view.now)
    busy = {
        row.name: text
        for row in queues
        if row.waiting
        and (text := findings.busy_with(row.name, workers or (), _on(row, by_call), changes))
    }
    problems = findings.of_queues(
        queues, rates, knows_workers=knows_workers, without=_without(view, queues), busy=busy
    ) + findings.of_failures(_by_function(by_call), "the last hour")
    problems += findings.of_changes(changes)
    problems += findings.of_workers(workers or ()) + findings.of_schedules(_schedules(view))
    problems.sort(key=lambda each: not each.is_bad)
    by_queue = {name: series.total(of_bins) for name, of_bins in shown.items()}
    values = {
        "cards": [
            QueueCard(
                row,
                series.rate_of(rates, row.name),
                by_queue.get(row.name, Total()),
                _spark(row.name, found.depths, bins),
                None if row.oldest is None else view.now - row.oldest,
            )
            for row in queues
        ],
        "trouble": found.trouble,
        "is_partial": found.is_partial and chosen.minutes > _HOUR,
        "figures": _figures(queues, rates, hour, workers),
        "knows_workers": knows_workers,
        "problems": problems,
        "range": chosen,
        "ranges": series.RANGES,
        "charts_shown": [] if found.trouble else _charts(shown, found.depths, queues, bins),
    }
    return Page("overview.html", "Overview", values, nav="", is_live=True)


def range_in(view: View, default: str = "1h") -> Range:
    """Return the range that the query names; the default, if it names none that there is."""
    name = view.request.first("range") or default
    known = {each.name: each for each in series.RANGES}
    return known.get(name, known[default])


def _without(view: View, queues: Sequence[QueueRow]) -> dict[str, str]:
    """Return of queues on which tasks wait without a worker, since when that is so, in words."""
    gator = view.gator
    served = Served(gator.client, gator.store, gator.schedules)
    alone = [row.name for row in queues if row.waiting and not row.workers]
    return {} if gator.store is None else {name: no_worker(served, name) for name in alone[:10]}


def _workers(view: View) -> list[WorkerRow] | None:
    try:
        return view.gator.workers()
    except (ConnectionLost, UnsupportedOption):
        return None


def _schedules(view: View) -> Sequence[ScheduleRow]:
    try:
        return view.gator.schedule_rows(ahead=1)
    except (ConnectionLost, UnsupportedOption):
        return ()


def _on(queue: QueueRow, by_call: dict[tuple[str, str], Total]) -> dict[str, Total]:
    """Return what ran on a queue, by function."""
    return {function: each for (name, function), each in by_call.items() if name == queue.name}


def _by_function(by_call: dict[tuple[str, str], Total]) -> dict[str, Total]:
    """Return what happened to each function, on all queues."""
    found = dict[str, Total]()
    for (_, function), each in by_call.items():
        found.setdefault(function, Total()).add(each)
    return found


def _figures(
    queues: Sequence[QueueRow],
    rates: dict[str, Rate],
    hour: Sequence[ActivityRow],
    workers: Sequence[WorkerRow] | None,
) -> dict[str, Any]:
    came = [rates[row.name].came for row in queues if row.name in rates]
    went = [rates[row.name].went for row in queues if row.name in rates]
    return {
        "waiting": sum(row.waiting for row in queues),
        "delayed": sum(row.delayed for row in queues),
        "running": sum(row.running for row in queues),
        "came": sum(each for each in came if each is not None)
        if any(each is not None for each in came)
        else None,
        "went": sum(each for each in went if each is not None) if went else None,
        "failed": sum(row.failed for row in hour),
        "retried": sum(row.retried for row in hour),
        "dead": sum(row.dead for row in hour),
        "workers": None if workers is None else sum(not each.is_lost for each in workers),
    }


def _spark(name: str, depths: Sequence[DepthRow], bins: Bins) -> Any:
    values = series.depth(series.of_queue(depths, name), bins, lambda row: row.waiting)
    return drawing.sparkline("Waiting", values)


def _charts(
    shown: dict[str, list[Total]],
    depths: Sequence[DepthRow],
    queues: Sequence[QueueRow],
    bins: Bins,
) -> list[Chart]:
    names = sorted({row.name for row in queues} | {row.queue_name for row in depths})
    nothing = [Total()] * bins.count
    came = series.summed(
        series.came_in(series.of_queue(depths, name), shown.get(name, nothing), bins)
        for name in names
    )
    all_bins = [series.total(some) for some in zip(*shown.values(), strict=True)] or nothing
    went = series.per_minute(all_bins, bins, lambda each: each.ended)
    rates = drawing.line_chart(
        "Tasks a minute",
        [Series("In", came or [None] * bins.count, 2), Series("Out", went, 1)],
        bins.starts,
        bins.seconds,
    )
    waiting = {
        name: series.depth(series.of_queue(depths, name), bins, lambda row: row.waiting)
        for name in names
    }
    fullest = sorted(names, key=lambda name: -max((v or 0.0 for v in waiting[name]), default=0.0))
    lines = [Series(name, waiting[name]) for name in fullest[:_MOST_LINES]]
    if rest := [waiting[name] for name in fullest[_MOST_LINES:]]:
        lines.append(Series("other queues", series.summed(rest)))
    full = drawing.line_chart("Waiting", lines, bins.starts, bins.seconds, whole=True, filled=True)
    ends = drawing.bar_chart(
        "Runs",
        [
            Series("Succeeded", [float(each.succeeded) for each in all_bins], 1),
            Series("Failed", [float(each.failed) for each in all_bins], 3),
        ],
        bins.starts,
        bins.seconds,
        whole=True,
    )
    return [full, rates, ends]
