"""What is to begin anew in a forked child, such as that of a task that uses ``multiprocessing``.

A child has the thread that forked, and no other: a lock that another one held stays locked for
ever, and what another one was to do is not done.

Nor is a child the worker that its parent is. Where it comes out of the function that forked it,
as after a bare ``os.fork``, it ends there (:func:`leave`): whoever calls code that may fork
compares :data:`generation` before and after, or has :func:`leave_unless` do so.
"""

import os
import sys
import weakref
from typing import NoReturn, Protocol

from alligator.common.log import safe_traceback
from alligator.common.text import escape

#: How many forks lie between the first of these processes and this one.
generation = 0


def _count() -> None:
    global generation
    generation += 1


os.register_at_fork(after_in_child=_count)


def leave_unless(origin: int, error: BaseException | None = None) -> None:
    """End this process unless it still is that of the given :data:`generation`."""
    if generation != origin:
        leave(error)


def leave(error: BaseException | None = None) -> NoReturn:
    """End this process at once, a child that came out of what its parent had called.

    The exit code is 0, as where ``multiprocessing`` has called it; what ``sys.exit`` was given;
    or 1 for any other error, whose traceback is printed.
    """
    code = 0
    try:
        code = _code_of(error)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        os._exit(code)


def _code_of(error: BaseException | None) -> int:
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        print(f"Process {os.getpid()}, forked by a task:", file=sys.stderr)
        print(safe_traceback(error), file=sys.stderr)
        return 1
    if error.code is None or isinstance(error.code, int):
        return int(error.code or 0) & 0xFF
    print(escape(str(error.code)), file=sys.stderr)
    return 1


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
