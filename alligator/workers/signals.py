"""Handle SIGINT, SIGTERM and SIGQUIT for a worker: the first asks it to stop.

One stop can reach a process more than once: from systemd and from its supervisor, from the terminal
and from a script. So only a deliberate signal insists, and makes the worker leave at once: a
SIGQUIT, or a SIGINT at least :data:`PAUSE` seconds after the first signal. A SIGTERM only asks,
however often it comes. Windows has no SIGQUIT, and blocks no signals. Its SIGBREAK (Ctrl-Break),
which one process can send to another there, is treated as a SIGTERM.

A forked child gets the handlers from before. The task that started it, by ``multiprocessing`` for
example, expects a signal to end it, and not only to ask.
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from types import FrameType
from typing import Any, Self, TypeVar, TypeVarTuple

from alligator.common.after_fork import at_fork
from alligator.common.descriptors import FileId, close_if, identity, moved_up
from alligator.common.hard_exit import hard_exit
from alligator.exceptions import LeaveNow
from alligator.runtime.timeouts import let_main_thread_wake, wake_main_thread

#: SIGQUIT; -1, which is no signal, where there is none.
QUIT: int = getattr(signal, "SIGQUIT", -1)

STOPS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGQUIT", "SIGBREAK")
    if hasattr(signal, name)
)

#: Seconds. A person who presses Ctrl-C again after that insists; sooner, it may be the same stop.
PAUSE = 1.0

#: Seconds in which the main thread is woken again and again, to run the handler of a signal: the
#: signal may have come right before that thread began to wait, or to another thread.
_WAKING = 2.0

Ts = TypeVarTuple("Ts")
T = TypeVar("T")


class Handlers:
    """One handler for SIGINT, SIGTERM and SIGQUIT in a ``with`` block, in this process alone.

    Does nothing outside the main thread. A SIGQUIT handler of the program's own stays: many use
    one to look into a process.

    :param handle: called with the number of a signal.
    """

    def __init__(self, handle: Callable[[int], object]) -> None:
        self._handle = handle
        self._pid = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._pid = os.getpid()
            _standing.append(self)  # first: a fork may follow at once
            for each in STOPS:
                before = signal.getsignal(each)
                if each == QUIT and not _is_default(before):
                    continue
                self._before[each] = before
                signal.signal(each, self._call)
        return self

    def __exit__(self, *exc: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, _of_python(handler))
        self._before = {}
        if self in _standing:
            _standing.remove(self)

    def give_back(self) -> None:
        """In the child of a fork, put back the handlers from before, unless others are set now."""
        for each, handler in self._before.items():
            if signal.getsignal(each) == self._call:
                signal.signal(each, _of_python(handler))

    def _call(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._pid:
            self._handle(number)
            return
        # In a child: a handler of a task calls the handler that it replaced.
        before = _of_python(self._before.get(number))
        if callable(before):
            before(number, frame)
        elif before != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def _is_default(handler: Any) -> bool:
    ours = isinstance(getattr(handler, "__self__", None), Handlers)
    return ours or handler in (signal.SIG_DFL, signal.SIG_IGN)


def _of_python(handler: Any) -> Any:
    return signal.SIG_DFL if handler is None else handler  # None: one that C code installed


#: The handlers inside their block, the innermost last.
_standing: list[Handlers] = []


class _Stage(Enum):
    """How far a process is with its work."""

    BEFORE = "it has no tasks yet, and may be ended anywhere"
    DURING = "it is told to stop, and stops in order"
    AFTER = "it is about to end"


class StopSignals:
    """Counts stop signals inside its ``with`` block; does nothing outside the main thread.

    The handler only sets plain attributes, since it may interrupt any line of code, also one with
    a lock. If a signal insists, it raises :exc:`LeaveNow` in the main thread: at once in a call of
    :meth:`interruptible`; elsewhere only if another signal insists, since it would cut a call to a
    server short.
    """

    def __init__(self) -> None:
        #: 1: told to stop; 2: to leave at once; more: it insists again.
        self.count = 0
        self.first_at = 0.0  # monotonic
        self.announced = False
        #: Whether to raise exceptions; False: the owner looks at the count.
        self.raises = True
        self._last_at = 0.0  # monotonic: when it was counted last
        self._may_raise = False
        self._wakes_until = 0.0  # monotonic
        self._stage = _Stage.DURING
        self._ends_with_process = False
        self._handlers, self._around = Handlers(self._handle), Handlers(self._handle)
        self._wakeup = _Wakeup()

    @contextmanager
    def around(self, *, to_the_end: bool) -> Iterator[None]:
        """Count also before and after the ``with`` block of this object, which goes inside.

        Before it, the process has no tasks: each signal raises KeyboardInterrupt or LeaveNow. After
        it, no signal ends the process early, unless it insists. Unblocks stop signals first.

        :param to_the_end: whether the process ends with this block, so that no handler is put back.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._stage, self._ends_with_process = _Stage.BEFORE, to_the_end
        self._around.__enter__()
        if to_the_end:
            # The interpreter removes its handlers right after this, before it has ended.
            atexit.register(_ignore_stops)
        try:
            unblock()
            yield
        finally:
            self._stage = _Stage.AFTER
            if not self._ends_with_process:
                self._around.__exit__(None, None, None)

    def put_back(self) -> None:
        """Inside of :meth:`around`, put back the handlers from before."""
        self._ends_with_process = False
        atexit.unregister(_ignore_stops)
        self._around.__exit__(None, None, None)

    def __enter__(self) -> Self:
        self._stage = _Stage.DURING
        self._handlers.__enter__()
        if threading.current_thread() is threading.main_thread():
            let_main_thread_wake()
            self._wakeup.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stage = _Stage.AFTER
        try:
            if not self._ends_with_process:
                self._handlers.__exit__(*exc)
        finally:
            self._wakeup.close()

    def interruptible(self, call: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call a function in the main thread; let :exc:`LeaveNow` be raised inside.

        :raises LeaveNow: also if a signal has insisted before.
        """
        before, self._may_raise = self._may_raise, True
        try:
            if self.count > 1:
                raise LeaveNow
            return call(*args)
        finally:
            self._may_raise = before

    def shielded(self, call: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call a function inside of :meth:`interruptible`; let nothing be raised inside."""
        before, self._may_raise = self._may_raise, False
        try:
            return call(*args)
        finally:
            self._may_raise = before

    def _handle(self, number: int) -> None:
        insists = self._counts(number, time.monotonic())
        if self._stage is _Stage.BEFORE:
            raise KeyboardInterrupt if number == signal.SIGINT else LeaveNow
        if not insists or not self.raises:
            return
        if self._stage is _Stage.AFTER:
            with contextlib.suppress(Exception):  # the signal may have interrupted a flush
                sys.stdout.flush()
            hard_exit(1)
        if self._may_raise or self.count > 2:
            raise LeaveNow

    def _counts(self, number: int, now: float) -> bool:
        """Count a signal, unless it repeats the last one; return whether it insists."""
        if self.count == 0:
            self.count, self.first_at, self._last_at = 1, now, now
            if number != QUIT:
                return False
        else:
            is_later = now - self._last_at >= PAUSE
            first_quit = number == QUIT and self.count == 1
            only_asks = number not in (signal.SIGINT, QUIT)
            if only_asks or not (is_later or first_quit):
                return False
        self.count, self._last_at = self.count + 1, now
        return True

    def has_come(self) -> bool:
        """Return whether a stop signal has been counted, or has come since the last call.

        While the main thread is in C code no handler runs; this wakes it from a call that waits.
        Let one thread call it, again and again.
        """
        now = time.monotonic()
        if has_come := self._wakeup.has_stop():
            self._wakes_until = now + _WAKING
        if now < self._wakes_until:
            wake_main_thread()
        return has_come or self.count > 0

    def grace_is_over(self, grace: float) -> bool:
        """Return whether so many seconds have passed since the first signal, or one insists."""
        return self.count > 1 or (self.count == 1 and time.monotonic() - self.first_at > grace)


def block() -> set[Any]:
    """Block stop signals, also for what this thread starts; return what was blocked before."""
    return _mask("SIG_BLOCK", STOPS)


def unblock(before: set[Any] | None = None) -> None:
    """Unblock stop signals, or all signals but the ones that were blocked before."""
    if before is None:
        _mask("SIG_UNBLOCK", STOPS)
    else:
        _mask("SIG_SETMASK", before)


def _mask(how: str, numbers: Iterable[int]) -> set[Any]:
    """Change the mask of this thread, and return the one before; without one, do nothing."""
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        return signal.pthread_sigmask(getattr(signal, how), numbers)
    return set()


def _ignore_stops() -> None:
    for each in STOPS:
        signal.signal(each, signal.SIG_IGN)


class _Wakeup:
    """The interpreter's wakeup descriptor, to which it writes the number of each signal at once."""

    def __init__(self) -> None:
        self._ends: tuple[int, int] | None = None  # of a pipe: to read, to write
        self._pipe: FileId | None = None  # a task may close the ends, and open others

    def open(self) -> None:
        """Listen, unless the program has such a descriptor. Call it in the main thread."""
        if not hasattr(os, "set_blocking"):  # Windows before Python 3.12: a read would wait
            return
        # High: where a task closes them, and opens files, no signal must be written into those.
        reads, writes = map(moved_up, os.pipe())
        ends = reads, writes
        for each in ends:
            os.set_blocking(each, False)
        self._ends, self._pipe = ends, identity(ends[0])
        others = signal.set_wakeup_fd(ends[1], warn_on_full_buffer=False)
        if others != -1:
            signal.set_wakeup_fd(others)
        _open.add(self)

    def close(self) -> None:
        """Listen no longer. Call it in the main thread."""
        if self._ends is None:
            return
        self.forget()
        ends, self._ends = self._ends, None
        for each in ends:
            close_if(each, self._pipe)

    def forget(self) -> None:
        """Let no more signals be written here."""
        _open.discard(self)
        if self._ends is not None:
            current = signal.set_wakeup_fd(-1)
            if current != self._ends[1]:  # the program's own
                signal.set_wakeup_fd(current)

    def has_stop(self) -> bool:
        """Return whether a stop signal was written since the last call.

        It may have been for a task, which can set a handler of its own for a while.
        """
        if (ends := self._ends) is not None and identity(ends[0]) == self._pipe:
            with contextlib.suppress(OSError):  # no signal was, or it has just been closed
                return not set(os.read(ends[0], 4096)).isdisjoint(STOPS)
        return False


_open: set[_Wakeup] = set()

#: By thread: the signals that it had blocked before its fork.
_masks: dict[int, set[Any]] = {}


def _before_fork() -> None:
    # A signal for the child that comes before its handlers are set would be counted, and lost.
    if _standing:
        _masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)


def _after_fork() -> None:
    if (blocked := _masks.pop(threading.get_ident(), None)) is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _after_fork_in_child() -> None:
    try:
        while _standing:
            _standing.pop().give_back()
        # A signal to the child must not count as one to its parent, which has the other end.
        for each in list(_open):
            each.forget()
    finally:
        _after_fork()  # last: from here on signals arrive
        _masks.clear()


at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
