"""Decide where an exception may be raised in another thread, so that it leaves no lock held.

Python raises such an exception between two steps of any code: also between the call that takes a
lock and the ``try`` or ``with`` that releases it. The caller can look at a thread right before. So
it puts the exception off

* while the standard library is at a step of its own that takes or releases a lock;
* in a call of Alligator's, which talks to a server or a file;
* while a module is imported, which would be left half made.

It puts it off for :data:`LONGEST` or :data:`LONGEST_CALL` at most.
"""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, TypeVar

#: Seconds that an exception is put off at most, if a thread is always found at a lock.
LONGEST = 5.0

#: The same if it is in a call of Alligator's, or imports a module.
LONGEST_CALL = 1.0

#: Packages of the standard library whose functions take locks in Python code.
_TAKE_LOCKS = frozenset(
    {"concurrent", "logging", "multiprocessing", "queue", "subprocess", "tempfile", "threading"}
)
#: Their functions that do nothing else; their callers do not guard the lock yet.
_LOCKING = frozenset(
    (
        *("acquire", "release", "__enter__", "__exit__"),
        *("_acquire_restore", "_release_save", "_acquireLock", "_releaseLock"),
    )
)
_IMPORTS = frozenset({"importlib._bootstrap", "importlib._bootstrap_external"})
#: Packages of Alligator where it may be raised: test clocks, and code of the user's.
_LIKE_OTHERS = ("alligator.testing", "alligator.contrib")

#: Seconds between two switches of threads in :func:`switching_often`.
_OFTEN = 2e-5

F = TypeVar("F", bound=Callable[..., Any])

#: Where in its code a thread is: the identity of a frame, and the step in it.
Spot = tuple[int, int]
_NOWHERE: Spot = (0, 0)  # the thread has ended

#: Code that calls functions of the user's; the frames above it are theirs.
_calls_users: set[CodeType] = set()


def calls_users(function: F) -> F:
    """Decorate a function of Alligator that calls one of the user's."""
    _calls_users.add(function.__code__)
    return function


@contextmanager
def switching_often() -> Iterator[None]:
    """Let running threads switch at any step, and not mostly where they wait for a lock.

    Else a thread that shares a busy lock would be found at that very step at each look.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_OFTEN)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
        # A thread that began to wait meanwhile asks for the interpreter's lock within this time,
        # so that it does not take it away in the middle of the code that follows.
        settled = time.perf_counter() + 3 * _OFTEN
        while time.perf_counter() < settled:
            pass


def clock_of(thread: int) -> int | None:
    """Return the clock of a thread's processor time; None: the system has none."""
    find = getattr(time, "pthread_getcpuclockid", None)
    return None if find is None else find(thread)


def spot(thread: int) -> Spot:
    """Return where in its code a thread is."""
    frame = sys._current_frames().get(thread)
    return _NOWHERE if frame is None else (id(frame), frame.f_lasti)


def used(clock: int | None) -> float:
    """Return the processor time of a thread by its :func:`clock_of`; 0: unknown."""
    with contextlib.suppress(OSError):
        return time.clock_gettime(clock) if clock is not None else 0.0
    return 0.0


def look(thread: int) -> tuple[Spot, float]:
    """Return where a thread is, and for how many seconds at most to put an exception off.

    0: raised there, it leaves no known lock held. That holds for this very step. The interpreter
    may switch threads at any, so raise it only if the thread is still there.
    """
    frame = top = sys._current_frames().get(thread)
    if top is None:
        return _NOWHERE, 0.0
    here = id(top), top.f_lasti
    if _takes_lock(top):
        return here, LONGEST
    while frame is not None and frame.f_code not in _calls_users:
        name = _name(frame)
        if name in _IMPORTS or _is_ours(name):
            return here, LONGEST_CALL
        frame = frame.f_back
    return here, 0.0


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] == "alligator" and not name.startswith(_LIKE_OTHERS)


def _takes_lock(top: FrameType | None) -> bool:
    """Return whether the innermost functions, of the standard library, take or free a lock."""
    frame = top
    while frame is not None and _name(frame).partition(".")[0] in _TAKE_LOCKS:
        if frame.f_code.co_name in _LOCKING:
            return True
        if getattr(frame.f_code, "co_exceptiontable", b""):
            return not _is_guarded(frame)
        frame = frame.f_back
    return False


def _name(frame: FrameType) -> str:
    name = frame.f_globals.get("__name__")
    return name if isinstance(name, str) else ""


def _is_guarded(frame: FrameType) -> bool:
    """Return whether an exception here goes to a ``finally`` or ``with`` of that function."""
    try:
        ranges = _ranges(frame.f_code.co_exceptiontable)
    except (AttributeError, StopIteration):  # another format than CPython's
        return False
    handlers = {target for _, _, target in ranges}
    return any(
        start <= frame.f_lasti < end
        # An entry for a handler itself only tidies up after it, and releases nothing.
        for start, end, _ in ranges
        if start not in handlers
    )


def _ranges(table: bytes) -> list[tuple[int, int, int]]:
    """Return start, end and target in bytes; for the format see CPython's InternalDocs."""
    steps, found = iter(table), list[tuple[int, int, int]]()

    def number() -> int:
        byte = next(steps)
        value = byte & 63
        while byte & 64:
            byte = next(steps)
            value = value << 6 | byte & 63
        return value

    while True:
        try:
            start = number() * 2
        except StopIteration:
            return found
        end = start + number() * 2
        target = number() * 2
        number()  # the depth of the stack
        found.append((start, end, target))


def release_logging() -> None:
    """Release the locks of logging that an exception left held by this thread."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if _name(frame).partition(".")[0] == "logging":
            return  # the code there needs them
        frame = frame.f_back
    handlers = [known() for known in getattr(logging, "_handlerList", ())]
    locks = [getattr(each, "lock", None) for each in handlers]
    for lock in (*locks, getattr(logging, "_lock", None)):
        is_ours = getattr(lock, "_is_owned", None)  # of an RLock, which knows its thread
        while lock is not None and is_ours is not None and is_ours():
            lock.release()


def is_main(thread: int) -> bool:
    """Return whether it is the main thread, whose waiting calls a signal interrupts."""
    return thread == threading.main_thread().ident
