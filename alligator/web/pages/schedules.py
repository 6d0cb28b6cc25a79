"""The schedules of a Gator: when they ticked last, and when they tick next."""

from alligator.web.view import Page, View

#: Schedules on the page; more are only counted.
MOST = 200


def page(view: View) -> Page:
    """Show all schedules, the one that ticks next first."""
    rows = view.gator.schedule_rows()
    queues = {each.name: each for each in view.gator.queues()} if rows else {}
    values = {"rows": rows[:MOST], "left_out": max(0, len(rows) - MOST), "queues": queues}
    return Page("schedules.html", "Schedules", values, nav="schedules", is_live=True)
