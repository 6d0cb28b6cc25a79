"""Ask, through the store, that a task is canceled while it runs.

A request is a document that the worker of the task finds. It holds for one push of an id: a later
push of the same id is another task.
"""

import json

from alligator.backends.base import GET, Data, Delivery
from alligator.backends.dsn import mask_password
from alligator.backends.store import Store
from alligator.constants import CANCELED, RUNNING, WAITING
from alligator.exceptions import UnsupportedOption
from alligator.results.query import Results
from alligator.tasks.message import fields_in, fields_of
from alligator.tasks.task import Task

#: Seconds that a request is kept. A worker finds it within a second, unless the store is away.
KEEP = 3600.0


def document_key(key: str) -> str:
    """Return under which key a store keeps the request to cancel a task.

    :param key: that of the record of the task.
    """
    return f"cancel:{key}"


def to_text(pushed_at: float | None, now: float) -> str:
    """Return the document.

    :param pushed_at: when the task was pushed, by its message; None: its id is not used again.
    :param now: when it is to be canceled, a Unix timestamp.
    """
    return json.dumps({"pushed_at": pushed_at, "at": now})


def is_about(document: str, data: Data) -> bool:
    """Return whether a request is about the push of this message."""
    try:
        pushed_at = json.loads(document)["pushed_at"]
    except (ValueError, TypeError, LookupError, RecursionError):  # another program's
        return False
    return pushed_at is None or pushed_at == pushed_in(data)


def pushed_in(data: Data) -> float:
    """Return when the task of a message was pushed, a Unix timestamp; 0: it does not say.

    Where the id is the user's own, it does.
    """
    pushed = fields_in(fields_of(data), "options").get("pushed_at")
    return pushed if isinstance(pushed, int | float) else 0.0


def store_of(results: Results) -> Store:
    """Return the store that passes requests on.

    :raises UnsupportedOption: there is none.
    """
    store = results.store
    if store is None or not store.monitors:
        raise UnsupportedOption(
            f"{mask_password(results.client.conn_string)} cannot cancel a task that runs: it has "
            "no store that could tell its worker. Name one, Gator(…, store='redis://…'), here and "
            "for the workers."
        )
    return store


def make(results: Results, task: Task | str) -> tuple[int, Data | None]:
    """Ask that a task is canceled, if it runs.

    :returns: ``RUNNING``: it runs, and is asked to end; ``WAITING``: it is back on its queue, or
        not there; ``CANCELED``: it is canceled. And its message, where the queue can tell.
    :raises UnsupportedOption: no store can pass that on, or it cannot be told whether it runs.
    """
    store, client = store_of(results), results.client
    queue_name, place = results.where(task)
    now = results.recorder.clock.time()
    if GET not in client.supports:
        if results.status(task) != RUNNING:
            return WAITING, None
        store.put_document(document_key(results.keys(task)[-1]), to_text(None, now), KEEP)
        return RUNNING, None
    where, data = client.find(queue_name, place), client.peek(queue_name, place)
    if where is None or where.state != RUNNING or data is None:
        return WAITING, None
    document = document_key(results.recorder.key_in(Delivery(queue_name, place, data, None)))
    store.put_document(document, to_text(pushed_in(data), now), KEEP)
    where = client.find(queue_name, place)
    if where is not None and where.state == RUNNING:
        return RUNNING, data
    store.delete_documents([document])  # it has ended, or is to be retried
    return (CANCELED if results.status(task) == CANCELED else WAITING), data
