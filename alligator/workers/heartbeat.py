"""Send the heartbeats of a worker to the store; ``gator.explain`` reads them.

A thread of its own sends them. The store may hang on another server, and leases and acks must not
wait for that.
"""

import logging
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from alligator.backends.store import Store
from alligator.common.text import describe_error
from alligator.exceptions import NodeLost
from alligator.execution.outage import Outage

#: Seconds between two signs.
EVERY = 30.0

#: Seconds after which a worker that gives none counts as gone: two may get lost.
COUNTS = 3 * EVERY

#: Seconds that a worker takes at most to say goodbye.
_LAST = 1.0


class Heartbeat:
    """Tells a store that a worker lives, for as long as it is entered; see ``Store.beat``.

    What cannot be told is logged once, and does no further harm.

    :param store: None: there is none to tell.
    :param look: called after each sign that could be given.
    :param outage: that of the worker's queue, which is logged by itself, where the store is
        beside that; None: it is elsewhere.
    """

    def __init__(
        self,
        store: Store | None,
        queue_names: Sequence[str],
        *,
        log: logging.Logger,
        outage: Outage | None,
        look: Callable[[], None] | None = None,
    ) -> None:
        self.store, self.queue_names, self.log, self.outage = store, queue_names, log, outage
        # Of several containers, each may be number 1 on a host of the same name.
        import socket  # it would be a good part of what ``import alligator`` takes

        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._look = look
        self._failures = 0
        self._said = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="alligator-heartbeat", daemon=True)

    def __enter__(self) -> Self:
        if self.store is not None:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self.store is not None:
            self._thread.join(_LAST)

    def _go_on(self) -> None:
        while True:
            self._tell(COUNTS)
            self._look_around()
            if self._stop.wait(EVERY):
                break
        if not self._failures:
            self._tell(0.0)

    def _tell(self, seconds: float) -> None:
        assert self.store is not None
        try:
            self.store.beat(self.name, self.queue_names, seconds)
        except Exception as err:
            self._failures += 1
            self._complain(err)
            return
        if self._said:
            self.log.info("The store knows again that this worker lives.")
        self._failures, self._said = 0, False

    def _look_around(self) -> None:
        if self._look is not None and not self._failures:
            try:
                self._look()
            except Exception as err:  # it is for people to know, and may not be allowed
                self.log.debug("It is not known which queues are served: %s", describe_error(err))

    def _complain(self, err: Exception) -> None:
        # Once is enough, and none is needed where it is the queue that is out of reach.
        outage = self.outage
        if outage is not None and isinstance(err, NodeLost):
            return
        if outage is not None and (outage.lasts or outage.is_full or self._failures < 2):
            return
        if not self._said:
            self._said = True
            self.log.warning(
                "The store cannot be told that this worker lives (%s); it works on.",
                describe_error(err),
            )
