"""The overview: every queue, how full it is, and who serves it."""

from alligator.web.view import Page, View


def page(view: View) -> Page:
    """Show all queues."""
    return Page("overview.html", "Overview", {"queues": view.gator.queues()}, nav="", is_live=True)
