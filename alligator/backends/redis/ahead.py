"""A reserve that was sent, and whose reply is read later."""

import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from redis.exceptions import NoScriptError

from alligator.backends.base import MAX_LEASE, Ahead, Delivery, Reserved
from alligator.backends.redis.connection import Link
from alligator.backends.redis.encoding import keys_of
from alligator.backends.redis.errors import DRIVER_ERRORS, translate, translated
from alligator.backends.redis.reply import read_reply
from alligator.backends.redis.reserve import MOST_AT_ONCE
from alligator.backends.redis.scripts import script
from alligator.exceptions import AlligatorException, ConnectionLost


class RedisAhead(Ahead):
    """The contract, on a connection that nobody else gets before the reply was read.

    Thrown away unread, it takes the connection along.
    """

    def __init__(
        self, link: Link, queue_name: str, limit: int, lease: float, acks: Sequence[Delivery]
    ) -> None:
        self._link, self._queue_name, self._acks = link, queue_name, acks
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._result: Reserved | AlligatorException | None = None
        # As if something had been taken elsewhere: so nothing comes that has to go alone.
        args = [min(limit, MOST_AT_ONCE), int(min(lease, MAX_LEASE) * 1e6), 0, 0]
        self._call = script("reserve"), keys_of(queue_name), [*args, *(a.receipt for a in acks)]
        self.sent = time.monotonic()
        with translated():
            self._stack, self._connection = link.begin(*self._call)

    def ready(self) -> bool:
        """Look at the connection."""
        if self._pid != os.getpid() or not self._lock.acquire(blocking=False):
            return False
        try:
            if self._result is None and not self._connection.can_read(0):
                return False
        except DRIVER_ERRORS as err:
            self._result = translate(err)
            self._give_up(err)
        finally:
            self._lock.release()
        return True

    def read(self) -> Reserved:
        """Read it once, and keep it for the others."""
        if self._pid != os.getpid():
            raise ConnectionLost("The reply to this reserve belongs to the process that sent it.")
        with self._lock:
            if self._result is None:
                try:
                    self._result = self._receive()
                except AlligatorException as err:
                    self._result = err
                except BaseException:
                    self._result = ConnectionLost("The reply was not read to its end.")
                    raise
        if isinstance(self._result, AlligatorException):
            raise self._result
        return self._result

    def _receive(self) -> Reserved:
        with translated():
            try:
                with self._stack:
                    raw = self._connection.read_response()
            except NoScriptError:  # so nothing was done
                raw = self._link.run(*self._call)
        reply = read_reply(self._queue_name, raw)
        return Reserved(reply.leased, [self._acks[index] for index in reply.refused])

    def _give_up(self, err: BaseException) -> None:
        with suppress(*DRIVER_ERRORS), self._stack:
            raise err
