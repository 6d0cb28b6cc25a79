"""Buffer the acks of a worker, until they are sent in bulk or with the next reserve."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from alligator.backends.base import Client, Delivery
from alligator.common.text import shorten
from alligator.exceptions import NodeLost
from alligator.execution.backend_trouble import Outage

#: Seconds that the ack of a task waits at most for others.
ACK_WITHIN = 0.005


class Acks:
    """The acks that have yet to reach the backend.

    :param outage: told whenever the backend answers.
    :param lock: guards all that is kept here.
    :param turn: a condition on that lock, notified when a sending ends.
    :param refused: told of the acks that the backend refused.
    """

    def __init__(
        self,
        client: Client,
        outage: Outage,
        lock: threading.Lock,
        turn: threading.Condition,
        log: logging.Logger,
        refused: Callable[[Sequence[Delivery]], None] | None = None,
    ) -> None:
        self.client, self._outage, self.log = client, outage, log
        self._refused = refused
        self._lock, self._turn = lock, turn  # a Condition would enter the lock by Python code
        #: The acks to be sent. ``Leases.end`` appends to it, with the lock.
        self.unsent: list[Delivery] = []
        #: When the first of them came (monotonic); set with the lock, too.
        self.oldest = 0.0
        self._repeated: set[int] = set()  # by id(): sent again, for want of a reply
        self._sending = 0  # calls of send() that have not returned
        self._parked: list[Delivery] = []  # until a node that was lost answers again

    def __bool__(self) -> bool:
        return bool(self.unsent)

    def all(self) -> list[Delivery]:
        """Return the acks to be sent. The caller has the lock."""
        return self._parked + self.unsent

    def are_on_their_way(self) -> bool:
        """Return whether any are to be sent, or are being sent. The caller has the lock."""
        return bool(self.unsent or self._parked or self._sending)

    def are_due(self) -> bool:
        """Return whether the oldest has waited long enough."""
        return bool(self.unsent) and time.monotonic() - self.oldest >= ACK_WITHIN

    def hurry(self) -> None:
        """Make them due, since no others are to be expected."""
        self.oldest = 0.0

    def take(self) -> list[Delivery]:
        """Return the unsent acks; the caller sends them, or gives them back."""
        if not self.unsent:
            return []
        with self._lock:
            acks, self.unsent = self.unsent, []
            return acks

    def put_back(self, acks: list[Delivery]) -> None:
        """Buffer acks again that were taken and not sent."""
        with self._lock:
            self.unsent = acks + self.unsent

    def give_back(self, acks: list[Delivery], err: BaseException | None = None) -> None:
        """Buffer acks again that could not be sent, or whose reply was lost, because of ``err``."""
        if isinstance(err, NodeLost):
            untold = set(map(id, err.untold))
            self.were_sent([each for each in acks if id(each) not in untold], err.refused)
            with self._lock:
                self._parked += [each for each in acks if id(each) in untold]
                self._repeated |= untold
            return
        with self._lock:
            self.unsent = acks + self.unsent
            self._repeated.update(map(id, acks))

    def unpark(self) -> None:
        """Have parked acks sent again, unless their node is still known to be lost."""
        if not self._parked:
            return
        with self._lock:
            names = {each.queue_name for each in self._parked}
            lost = self.client.out_of_reach(list(names))
            back = [each for each in self._parked if each.queue_name not in lost]
            self._parked = [each for each in self._parked if each.queue_name in lost]
            self.unsent = back + self.unsent

    def were_sent(self, acks: Sequence[Delivery], refused: Sequence[Delivery]) -> None:
        """Report the acks that the backend refused."""
        if not (refused or self._repeated):
            return
        with self._lock:
            repeated = {id(delivery) for delivery in acks} & self._repeated
            self._repeated -= repeated
        certain = [each for each in refused if id(each) not in repeated]
        report_refused(self.log, certain)
        if self._refused is not None:
            self._refused(certain)
        for delivery in refused:
            if id(delivery) in repeated:
                self.log.info(
                    "The second ack of task %s was refused: the first one counted, though its "
                    "reply was lost, or the lease had run out.",
                    shorten(delivery.task_id),
                )

    def send(self) -> None:
        """Send all acks now.

        :raises AlligatorException: they are kept, and sent again.
        """
        self.unpark()
        with self._lock:
            acks, self.unsent = self.unsent, []
            self._sending += 1
        try:
            if acks:
                refused = self.client.ack(acks)
                self._outage.ends()
                self.were_sent(acks, refused)
        except BaseException as err:
            self.give_back(acks, err)
            raise
        finally:
            with self._lock:
                self._sending -= 1
                self._turn.notify_all()


def report_refused(log: logging.Logger, refused: Sequence[Delivery]) -> None:
    """Log the tasks whose lease was lost, so that another worker has run them as well, or will."""
    for delivery in refused:
        log.warning(
            "Task %s lost its lease before it ended, so it may run twice.",
            shorten(delivery.task_id),
        )
