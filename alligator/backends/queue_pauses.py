"""Pause the queues of a Gator: in its backend, or by a document in its store.

A backend that has ``PAUSE`` in ``Client.controls`` obeys in the very step that reserves. For any
other one, the store has a document for each paused queue, which ends with the pause. Workers look
at it; see :class:`alligator.workers.paused_queues.PausedQueues`.
"""

import math
from collections.abc import Sequence
from typing import Any

from alligator.backends.base import PAUSE, Client, time_on
from alligator.backends.dsn import mask_password
from alligator.backends.store import Store
from alligator.common.clock import Clock, Seconds, in_seconds
from alligator.common.text import shorten
from alligator.exceptions import InvalidTask, UnsupportedOption

#: Seconds that a pause lasts which ends by a call alone, where the store sets its end: a century.
FOR_EVER = 100 * 365 * 86_400.0


class Pauses:
    """Tells which queues of one Gator are paused, and changes that."""

    def __init__(self, client: Client, store: Store | None, clock: Clock) -> None:
        self.client, self.store, self.clock = client, store, clock
        #: Whether the backend obeys by itself.
        self.in_backend = PAUSE in client.controls
        #: Where documents say which queues are paused; None: nowhere.
        self.documents = None
        if not self.in_backend and store is not None and store.monitors:
            self.documents = store

    @property
    def can_pause(self) -> bool:
        """Whether queues can be paused at all."""
        return self.in_backend or self.documents is not None

    def pause(self, queue_name: str, seconds: Seconds | None) -> None:
        """Pause a queue; see :meth:`alligator.Gator.pause`."""
        self._check(queue_name)
        span = math.inf if seconds is None else in_seconds(seconds)
        if not span > 0 or (seconds is not None and math.isinf(span)):
            raise InvalidTask(
                f"seconds={shorten(repr(seconds), 60)} is neither a number above 0 nor such a "
                "timedelta; leave it out for a pause until resume()."
            )
        until = None
        if seconds is not None:
            until = time_on(self.client, queue_name, self.clock) + span
        if self.documents is None:
            self.client.pause(queue_name, until)
        else:
            text = "" if until is None else repr(until)
            self.documents.put_document(_key(queue_name), f"until {text}", min(span, FOR_EVER))

    def resume(self, queue_name: str) -> bool:
        """End the pause of a queue; see :meth:`alligator.Gator.resume`."""
        self._check(queue_name)
        if self.documents is None:
            return self.client.resume(queue_name)
        was_paused = self.until(queue_name) is not None
        self.documents.delete_documents([_key(queue_name)])
        return was_paused

    def until(self, queue_name: str) -> float | None:
        """Return until when a queue is paused, a Unix timestamp; infinity: until a call.

        :returns: None: it is not paused, or no queue can be paused here.
        """
        if self.in_backend:
            return self.client.paused(queue_name)
        if self.documents is None:
            return None
        return _until(self.documents.documents([_key(queue_name)])[0])

    def among(self, queue_names: Sequence[str]) -> set[str]:
        """Return which of these queues are paused by a document: one request for all."""
        if self.documents is None or not queue_names:
            return set()
        found = self.documents.documents([_key(each) for each in queue_names])
        return {
            name for name, text in zip(queue_names, found, strict=True) if _until(text) is not None
        }

    def _check(self, queue_name: Any) -> None:
        self.client.check_queue_name(queue_name)
        if not self.can_pause:
            raise UnsupportedOption(
                f"{mask_password(self.client.conn_string)} cannot pause a queue. Name a store, "
                "here and for the workers: Gator(…, store='redis://localhost:6379/0')."
            )


def _key(queue_name: str) -> str:
    return f"pause:{queue_name}"


def _until(text: str | None) -> float | None:
    """Return the end of a pause that a document tells; None: there is none.

    Whatever the document says, the queue is paused as long as it is there.
    """
    if text is None:
        return None
    try:
        until = float(text.removeprefix("until "))
    except ValueError:
        return math.inf
    return math.inf if math.isnan(until) else until
