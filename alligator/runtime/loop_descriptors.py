"""Give an event loop of asyncio new descriptors after other code has closed them.

Code that makes a daemon of its process closes all descriptors that it finds: that by which the loop
waits, and the pair of sockets that wakes it. Then each further step of the loop would fail, or it
would wait for ever.

Imported with the first coroutine, since it imports asyncio.
"""

import asyncio
import os
import select
import selectors
import socket
from typing import Any

from alligator.common.descriptors import FileId, close_if, identity, moved_up

#: Selectors whose descriptor was closed. To delete one would close that number, which may lead to a
#: file of other code by now.
_closed: list[object] = []


class LoopDescriptors:
    """The descriptors of one loop, with high numbers; see :func:`moved_up`.

    A loop that is not one of asyncio's own, with a selector, is left as it is.

    :param loop: it has not run yet.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop: Any = loop
        self._known: dict[int, FileId | None] = {}
        if os.name == "posix" and isinstance(loop, asyncio.SelectorEventLoop):
            self._replace()

    def were_closed(self) -> bool:
        """Return whether other code has closed one that wakes the loop."""
        return any(identity(each) != known for each, known in self._known.items())

    def renew_if_closed(self) -> bool:
        """Open new ones if other code has closed them; return whether it has.

        Call it in the thread of the loop. Timers go on. What waits for a descriptor that is closed
        is told, and so fails.
        """
        if not self.were_closed():
            return False
        ours, waiting = set(self._known), list(self._loop._selector.get_map().values())
        self._replace()
        for key in waiting:
            if key.fd in ours or identity(key.fd) is not None:
                continue  # a number that is open may lead to a file of other code
            for handle in filter(None, key.data):
                self._loop.call_soon(handle._run)
        return True

    def _replace(self) -> None:
        loop = self._loop
        known, self._known = self._known, {}
        for each in (loop._ssock, loop._csock):
            number = each.detach()  # else it would close its number later, whatever that leads to
            close_if(number, known.get(number, identity(number)))
        if known:
            _closed.append(loop._selector)
        else:
            loop._selector.close()
        loop._selector = _selector()
        loop._ssock, loop._csock = [
            socket.socket(fileno=moved_up(each.detach())) for each in socket.socketpair()
        ]
        for each in (loop._ssock, loop._csock):
            each.setblocking(False)
            self._known[each.fileno()] = identity(each.fileno())
        loop._add_reader(loop._ssock.fileno(), loop._read_from_self)


def _selector() -> selectors.BaseSelector:
    made: Any = selectors.DefaultSelector()
    low: Any = getattr(made, "_selector", None)
    if hasattr(select, "epoll") and isinstance(low, select.epoll):
        made._selector = select.epoll.fromfd(moved_up(os.dup(low.fileno())))
        low.close()
    return made  # type: ignore[no-any-return]
