"""The pages of the dashboard by their paths: each is a function from a view to a page."""

from collections.abc import Callable

from alligator.web.pages import (
    activity,
    dead,
    overview,
    queue,
    recent,
    running,
    schedules,
    search,
    task,
    workers,
)
from alligator.web.view import Page, View

#: What is shown at which path, below that of the source.
PAGES: dict[str, Callable[[View], Page]] = {
    "": overview.page,
    "activity": activity.page,
    "queue": queue.page,
    "running": running.page,
    "schedules": schedules.page,
    "workers": workers.page,
    "task": task.page,
    "dead": dead.page,
    "recent": recent.page,
    "search": search.page,
}

__all__ = ["PAGES"]
