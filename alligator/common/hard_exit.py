"""End this process at once, as threads that hang, or a fork, leave no other way.

Python's own exit, with ``atexit``, does not happen then. Code that holds what is still to be sent,
such as traces, registers a call with :func:`before_hard_exit`.
"""

import _thread
import contextlib
import os
import time
from collections.abc import Callable
from functools import partial
from typing import NoReturn

#: Seconds that all registered calls may take together.
SECONDS = 2.0

#: Is given the seconds that it may take.
Call = Callable[[float], object]

_registered: list[Call] = []
_begun: list[int] = []  # the processes that are about to end this way


def before_hard_exit(call: Call) -> None:
    """Have a function called before each such exit of this process, and of forked ones.

    It is given the seconds that it may take, is called in a thread, and is not waited for any
    longer. Its exceptions are dropped. A function that equals a registered one is not added.
    """
    if call not in _registered:
        _registered.append(call)


def hard_exit(code: int) -> NoReturn:
    """End this process with an exit code, whatever its threads do."""
    try:
        if _registered and os.getpid() not in _begun:  # else a signal has come meanwhile
            _begun.append(os.getpid())
            ends_at = time.monotonic() + SECONDS
            for call in _registered:
                if (left := ends_at - time.monotonic()) > 0:
                    beside(partial(call, left), left)
    finally:
        os._exit(code)


def beside(call: Callable[[], object], seconds: float) -> bool:
    """Call a function in another thread; return whether it ended within so many seconds.

    Use it for calls that may wait for a lock of a stuck task. This function itself takes no lock.
    Exceptions of the call are dropped.
    """
    done = _thread.allocate_lock()
    done.acquire()

    def run() -> None:
        try:
            with contextlib.suppress(Exception):
                call()
        finally:
            done.release()

    try:
        _thread.start_new_thread(run, ())
    except RuntimeError:  # the system has no room for one
        run()
    return done.acquire(timeout=seconds) if seconds > 0 else False
