"""What runs now: since when, on which worker, how far it is."""

from math import inf
from typing import Any

from alligator.common.text import shorten
from alligator.exceptions import UnsupportedOption
from alligator.monitoring.rows import RunningRow
from alligator.web.rendering import whole_number
from alligator.web.view import Page, View

#: Tasks on one page.
PER_PAGE = 100

#: When a lease ends is told to so many seconds, so that a page without news stays the same.
_STEP = 5.0


def page(view: View) -> Page:
    """Show all tasks that run, or those of one queue; the one that runs longest first."""
    wanted = view.request.first("queue")
    start = whole_number(view.request.first("from"), "from", 0, 0, 10**9)
    values: dict[str, Any] = {"wanted": wanted, "trouble": "", "rows": [], "queues": []}
    try:
        rows = view.gator.running()
    except UnsupportedOption as err:
        values["trouble"] = str(err)
        values["counts"] = [each for each in view.gator.queues() if each.running]
        return Page("running.html", "Running", values, nav="running", is_live=True)
    chosen = sorted(
        (row for row in rows if wanted in ("", row.queue_name)),
        key=lambda row: (row.started or inf, row.queue_name, row.task_id),
    )
    values |= {
        "queues": sorted({row.queue_name for row in rows} | ({wanted} if wanted else set())),
        "rows": chosen[start : start + PER_PAGE],
        "total": len(chosen),
        "started": sum(row.started is not None for row in chosen),
        "start": start,
        "following": start + PER_PAGE if start + PER_PAGE < len(chosen) else None,
        "lost": _of_lost_workers(view) if any(not row.worker for row in chosen) else {},
        "lease_ends": lambda row: lease_end(row, view.now),
    }
    title = f"Running on {shorten(wanted, 60)}" if wanted else "Running"
    return Page("running.html", title, values, nav="running", is_live=True)


def _of_lost_workers(view: View) -> dict[tuple[str, str], tuple[str, float]]:
    """Return what lost workers ran: the worker and the start, by queue and id."""
    return {
        (now.queue_name, now.task_id): (f"{worker.host}:{worker.pid}", now.started)
        for worker in view.gator.workers()
        if worker.is_lost
        for now in worker.running
    }


def lease_end(row: RunningRow, now: float) -> float | None:
    """Return about when a lease ends if its worker does not extend it; None: not known, or over."""
    if not row.lease_left or row.lease_left == inf:
        return None
    return round((now + row.lease_left) / _STEP) * _STEP
