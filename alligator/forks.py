"""What is to begin anew in a forked child, such as that of a task that uses ``multiprocessing``.

A child has the thread that forked, and no other: a lock that another one held stays locked for
ever, and what another one was to do is not done.
"""

import os
import weakref
from typing import Protocol


class Renewable(Protocol):
    """Has locks, or threads."""

    def renew(self) -> None:
        """In the child of a fork: begin anew, waiting for nothing that was the parent's."""


_registered: "weakref.WeakSet[Renewable]" = weakref.WeakSet()


def renew_in_children(thing: Renewable) -> None:
    """Have it renewed in every child that is forked while it lives."""
    _registered.add(thing)


def _renew_all() -> None:
    for each in list(_registered):
        each.renew()


os.register_at_fork(after_in_child=_renew_all)
