"""Reset locks and threads in a forked child, and end a child that returns from a task.

A task that uses ``multiprocessing`` forks. The child has only the thread that forked: a lock that
another thread held stays locked for ever, and the work of other threads is not done.

A child must not go on as a worker. If it returns from the function that forked it, as after a bare
``os.fork``, it ends there (:func:`leave`). A caller of code that may fork compares
:data:`generation` before and after, or calls :func:`exit_child_unless`.
"""

import os
import sys
import weakref
from collections.abc import Callable
from typing import NoReturn, Protocol

from alligator.common.hard_exit import hard_exit
from alligator.common.log import safe_traceback
from alligator.common.text import escape

#: The number of forks between the first process and this one.
generation = 0


def at_fork(**calls: Callable[[], object]) -> None:
    """Register functions as ``os.register_at_fork`` does; do nothing where no process can fork.

    :param calls: ``before``, ``after_in_parent`` and ``after_in_child``.
    """
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(**calls)


def _count() -> None:
    global generation
    generation += 1


at_fork(after_in_child=_count)


def exit_child_unless(origin: int, error: BaseException | None = None) -> None:
    """End this process unless its :data:`generation` is the given one."""
    if generation != origin:
        leave(error)


def leave(error: BaseException | None = None) -> NoReturn:
    """End this process at once: a child that returned from the function its parent had called.

    The exit code is 0, as for a child of ``multiprocessing``; or the argument of ``sys.exit``; or
    1 for any other error, whose traceback is printed.
    """
    code = 0
    try:
        code = _code_of(error)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    finally:
        hard_exit(code)


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
    """An object with locks, or with threads."""

    def renew(self) -> None:
        """Make new locks in a forked child, and wait for no thread of the parent."""


_registered: "weakref.WeakSet[Renewable]" = weakref.WeakSet()


def renew_in_children(thing: Renewable) -> None:
    """Call its ``renew`` in each child that is forked while it lives."""
    _registered.add(thing)


def _renew_all() -> None:
    for each in list(_registered):
        each.renew()


at_fork(after_in_child=_renew_all)
