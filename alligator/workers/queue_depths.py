"""Look once a minute how full the queues of a worker are: for ``gator.depths()``."""

import logging
import random
from collections.abc import Callable, Sequence

from alligator.backends.base import Client
from alligator.backends.types import QueueStats
from alligator.common.clock import Clock
from alligator.common.text import describe_error
from alligator.execution.backend_trouble import Outage

log = logging.getLogger(__name__)

#: Queues of one worker that are looked at, at most.
MOST_QUEUES = 100


class QueueDepths:
    """Looks at the queues of one worker.

    :param note: is told what a look found; it must not raise.
    :param outage: that of the queue: nothing is asked for while it lasts.
    """

    def __init__(
        self,
        client: Client,
        queue_names: Sequence[str],
        note: Callable[[str, QueueStats], None],
        clock: Clock,
        outage: Outage | None = None,
    ) -> None:
        self._client, self._queue_names = client, queue_names[:MOST_QUEUES]
        self._note, self._clock, self._outage = note, clock, outage
        self._shift = 60 * random.random()  # noqa: S311 - so that not all workers ask at once
        self._minute: int | None = None  # of the last look

    def look(self) -> None:
        """Look at each queue, if that was not done in this minute; raise nothing.

        What fails is tried again in the next minute: a look is not worth an outage.
        """
        if self._outage is not None and self._outage.lasts:
            return
        minute = int((self._clock.time() + self._shift) // 60)
        if minute == self._minute:
            return
        self._minute = minute
        try:
            for name in self._queue_names:
                self._note(name, self._client.stats(name))
        except Exception as err:
            log.debug("It is unknown how full the queues are: %s", describe_error(err))
