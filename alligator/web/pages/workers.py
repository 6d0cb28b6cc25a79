"""The workers that live, or were lost lately: where, since when, and what they do."""

from typing import Any

from alligator.common.text import shorten
from alligator.exceptions import UnsupportedOption
from alligator.web.view import Page, View

#: Workers on the page; more are only counted.
MOST = 200

#: Tasks of one worker that are shown at once; the others are behind a click: on the page, if there
#: are no more than so many, or else on that of all that runs.
FEW, DETAILED = 3, 200


def page(view: View) -> Page:
    """Show all workers, or those of one queue."""
    wanted = view.request.first("queue")
    values: dict[str, Any] = {"wanted": wanted, "trouble": "", "rows": [], "few": FEW}
    try:
        found = view.gator.workers()
    except UnsupportedOption as err:
        values["trouble"] = str(err)
        return Page("workers.html", "Workers", values, nav="workers", is_live=True)
    rows = [row for row in found if not wanted or wanted in row.queues]
    live = [row for row in rows if not row.is_lost]
    served = {name for row in found if not row.is_lost for name in row.queues}
    values |= {
        "rows": rows[:MOST],
        "left_out": max(0, len(rows) - MOST),
        "is_detailed": sum(len(row.running) for row in rows[:MOST]) <= DETAILED,
        "live": len(live),
        "lost": len(rows) - len(live),
        "hosts": len({row.host for row in live}),
        "slots": sum(row.concurrency for row in live),
        "busy": sum(len(row.running) for row in live),
        "versions": sorted({row.version for row in live}),
        "queues": sorted({name for row in found for name in row.queues}),
        "unserved": [
            each
            for each in view.gator.queues()
            if each.waiting and each.name not in served and wanted in ("", each.name)
        ],
    }
    title = f"Workers of {shorten(wanted, 60)}" if wanted else "Workers"
    return Page("workers.html", title, values, nav="workers", is_live=True)
