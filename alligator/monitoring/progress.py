"""Write and read the document in the store that has the progress of a task that runs."""

import json
from math import isfinite

from alligator.backends.base import GET
from alligator.backends.dsn import mask_password
from alligator.constants import RUNNING
from alligator.exceptions import UnsupportedOption
from alligator.results.query import Results
from alligator.tasks.task import Task

#: Seconds that it is kept, unless it is written again or deleted.
KEEP = 3600.0


def document_key(key: str) -> str:
    """Return under which key a store keeps the progress of a task.

    :param key: that of the record of the task.
    """
    return f"progress:{key}"


def to_text(fraction: float, text: str) -> str:
    """Return the document."""
    return json.dumps([fraction, text])


def from_text(document: str | None) -> tuple[float, str] | None:
    """Return what a document says; None: there is none, or another program wrote it."""
    try:
        fraction, text = json.loads(document or "null")
        if isinstance(text, str) and isfinite(fraction):
            return float(fraction), text
    except (ValueError, TypeError, RecursionError):
        pass
    return None


def of_task(results: Results, task: Task | str) -> tuple[float, str] | None:
    """Return how far a task is that runs; see :meth:`alligator.Gator.progress`."""
    store, client = results.store, results.client
    if store is None or not store.monitors:
        raise UnsupportedOption(
            f"{mask_password(client.conn_string)} cannot tell the progress of a task: it has no "
            "store that keeps it. Name one, Gator(…, store='redis://…'), here and for the workers."
        )
    documents = store.documents([document_key(each) for each in results.keys(task)])
    found = next((said for each in documents if (said := from_text(each))), None)
    if found is None or GET not in client.supports:
        return found
    place = client.find(*results.where(task))  # the document of a killed worker outlives the run
    return found if place is not None and place.state == RUNNING else None
