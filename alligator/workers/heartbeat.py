"""Send the heartbeats of a worker to the store; ``gator.explain`` reads them.

A thread of its own sends them. The store may hang on another server, and leases and acks must not
wait for that.
"""

import logging
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Self

from alligator.backends.store import Store
from alligator.common.text import describe_error
from alligator.exceptions import NodeLost
from alligator.execution.backend_trouble import Outage

#: Seconds between two heartbeats.
EVERY = 30.0

#: Seconds without a heartbeat after which a worker counts as gone: two may get lost.
COUNTS = 3 * EVERY

#: Seconds that a worker takes at most for its last heartbeat, which removes it.
_LAST = 1.0


class Heartbeat:
    """Sends heartbeats to a store, for as long as it is entered; see ``Store.beat``.

    A failure is logged once, and has no further effect.

    :param store: None: there is none, and no heartbeat is sent.
    :param look: called after each heartbeat that got through.
    :param outage: that of the worker's queue, which logs for itself, if the store is on the same
        backend; None: it is on another.
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
        # Each of several containers may be process 1 on a host of the same name.
        import socket  # only here: it would slow ``import alligator`` down

        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._look = look
        self._failures = 0
        self._logged = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="alligator-heartbeat", daemon=True)

    def __enter__(self) -> Self:
        if self.store is not None:
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        if self.store is not None:
            self._thread.join(_LAST)

    def _serve(self) -> None:
        while True:
            self._send(COUNTS)
            self._call_look()
            if self._stop.wait(EVERY):
                break
        if not self._failures:
            self._send(0.0)

    def _send(self, seconds: float) -> None:
        assert self.store is not None
        try:
            self.store.beat(self.name, self.queue_names, seconds)
        except Exception as err:
            self._failures += 1
            self._complain(err)
            return
        if self._logged:
            self.log.info("The heartbeat of this worker gets through again.")
        self._failures, self._logged = 0, False

    def _call_look(self) -> None:
        if self._look is not None and not self._failures:
            try:
                self._look()
            except Exception as err:  # the look is a courtesy, and may not be allowed
                self.log.debug("It is unknown which queues are served: %s", describe_error(err))

    def _complain(self, err: Exception) -> None:
        # Once; and not at all if it is the queue that cannot be reached.
        outage = self.outage
        if outage is not None and isinstance(err, NodeLost):
            return
        if outage is not None and (outage.lasts or outage.is_full or self._failures < 2):
            return
        if not self._logged:
            self._logged = True
            self.log.warning(
                "The heartbeat of this worker failed (%s); the worker goes on.",
                describe_error(err),
            )
