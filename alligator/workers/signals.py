"""SIGINT, SIGTERM and SIGQUIT for a worker: the first asks it to stop.

One stop reaches a process more than once: from systemd and from its supervisor, from the
terminal and from a script. So only what somebody does on purpose insists, and makes it leave at
once: a SIGQUIT, or a SIGINT at least :data:`PAUSE` seconds after the first signal. SIGTERM, however
often it comes, only asks.

A forked child gets back what stood before: whoever started it, such as a task that uses
``multiprocessing``, ends it by a signal, and not by asking.
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar, TypeVarTuple

from alligator.common.descriptors import FileId, close_if, identity
from alligator.exceptions import LeaveNow
from alligator.runtime.timeouts import let_main_thread_wake, wake_main_thread

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)

#: Seconds. A person who presses Ctrl-C again after that means it; sooner, it may be the same stop.
PAUSE = 1.0

#: Seconds in which the main thread is woken again and again, for it to see to a signal: it may
#: have come right before that thread began to wait, or to another one.
_WAKING = 2.0

Ts = TypeVarTuple("Ts")
T = TypeVar("T")


class Handlers:
    """One handler for SIGINT, SIGTERM and SIGQUIT in a ``with`` block, in this process alone.

    Does nothing outside the main thread. A handler of the program's own for SIGQUIT, which many
    use to look into a process, stays.

    :param handle: called with the number of a signal.
    """

    def __init__(self, handle: Callable[[int], object]) -> None:
        self._handle = handle
        self._pid = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._pid = os.getpid()
            _standing.append(self)  # first: a fork may come in between
            for each in STOPS:
                before = signal.getsignal(each)
                if each == signal.SIGQUIT and not _is_default(before):
                    continue
                self._before[each] = before
                signal.signal(each, self._call)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, _of_python(handler))
        self._before = {}
        if self in _standing:
            _standing.remove(self)

    def give_back(self) -> None:
        """In the child of a fork: put back what stood before, unless another stands there now."""
        for each, handler in self._before.items():
            if signal.getsignal(each) == self._call:
                signal.signal(each, _of_python(handler))

    def _call(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._pid:
            self._handle(number)
            return
        # In a child, where a handler of a task's own calls the one that it replaced.
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


#: Those inside their block, the innermost last.
_standing: list[Handlers] = []


class _Stage(Enum):
    """Where a process stands with its work."""

    BEFORE = "it holds nothing yet, and may be ended anywhere"
    DURING = "it is told to stop, and stops in order"
    AFTER = "it is about to end"


class StopSignals:
    """Counts stop signals inside its ``with`` block; does nothing outside the main thread.

    The handler only sets plain attributes, since it may interrupt any line of code, locks
    held. Where somebody insists it raises :exc:`LeaveNow` in the main thread: at once in what is
    called by :meth:`interruptible`; elsewhere not before somebody insists once more, as what is
    told to a server would be cut short.
    """

    def __init__(self) -> None:
        #: 1: told to stop; 2: to leave at once; more: that was not soon enough.
        self.count = 0
        self.first_at = 0.0  # monotonic
        self.announced = False
        #: Whether anything is raised; False: whoever made this looks at the count.
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
        """Count also before and after the ``with`` block of this object, which is to be inside.

        Before, nothing is held: each signal is raised, as KeyboardInterrupt or LeaveNow. After,
        none ends the process before its time, unless somebody insists. Signals that were
        blocked until now come in.

        :param to_the_end: the process is about to end with this block, so nothing is put back.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._stage, self._ends_with_process = _Stage.BEFORE, to_the_end
        self._around.__enter__()
        if to_the_end:
            # The interpreter takes its handlers back right after this, before it has ended.
            atexit.register(_ignore_stops)
        try:
            unblock()
            yield
        finally:
            self._stage = _Stage.AFTER
            if not self._ends_with_process:
                self._around.__exit__(None, None, None)

    def put_back(self) -> None:
        """Inside of :meth:`around`: have what stood before it, from here on."""
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stage = _Stage.AFTER
        try:
            if not self._ends_with_process:
                self._handlers.__exit__(kind, error, trace)
        finally:
            self._wakeup.close()

    def interruptible(self, call: Callable[[*Ts], T], *args: *Ts) -> T:
        """Call it in the main thread, and let :exc:`LeaveNow` be raised inside.

        :raises LeaveNow: also where somebody has insisted before.
        """
        before, self._may_raise = self._may_raise, True
        try:
            if self.count > 1:
                raise LeaveNow
            return call(*args)
        finally:
            self._may_raise = before

    def shielded(self, call: Callable[[*Ts], T], *args: *Ts) -> T:
        """The opposite, inside of that: let nothing be raised."""
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
            with contextlib.suppress(Exception):  # it may be in the middle of just that
                sys.stdout.flush()
            os._exit(1)
        if self._may_raise or self.count > 2:
            raise LeaveNow

    def _counts(self, number: int, now: float) -> bool:
        """Count a signal, unless it belongs to one that was counted; return whether it insists."""
        if self.count == 0:
            self.count, self.first_at, self._last_at = 1, now, now
            if number != signal.SIGQUIT:
                return False
        else:
            is_later = now - self._last_at >= PAUSE
            first_quit = number == signal.SIGQUIT and self.count == 1
            if number == signal.SIGTERM or not (is_later or first_quit):
                return False
        self.count, self._last_at = self.count + 1, now
        return True

    def has_come(self) -> bool:
        """Whether a stop signal has been counted, or has come since the last call.

        While the main thread is in C code no handler runs; from a call that waits it is woken.
        To be called by one thread only, and again and again.
        """
        now = time.monotonic()
        if has_come := self._wakeup.has_stop():
            self._wakes_until = now + _WAKING
        if now < self._wakes_until:
            wake_main_thread()
        return has_come or self.count > 0

    def grace_is_over(self, grace: float) -> bool:
        """Whether so many seconds have passed since the first signal, or somebody insists."""
        return self.count > 1 or (self.count == 1 and time.monotonic() - self.first_at > grace)


def block() -> set[Any]:
    """Have stop signals wait, also in what this thread starts; return what waited before."""
    return signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)


def unblock(before: set[Any] | None = None) -> None:
    """Let stop signals come in, or all but those that waited before."""
    if before is None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    else:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_stops() -> None:
    for each in STOPS:
        signal.signal(each, signal.SIG_IGN)


class _Wakeup:
    """The interpreter's wakeup descriptor: it writes the number of a signal to it at once."""

    def __init__(self) -> None:
        self._ends: tuple[int, int] | None = None  # of a pipe: to read, to write
        self._pipe: FileId | None = None  # a task may close them, and open others

    def open(self) -> None:
        """Listen, unless somebody else does. In the main thread, as :meth:`close`."""
        ends = os.pipe()
        for each in ends:
            os.set_blocking(each, False)
        self._ends, self._pipe = ends, identity(ends[0])
        others = signal.set_wakeup_fd(ends[1], warn_on_full_buffer=False)
        if others != -1:
            signal.set_wakeup_fd(others)
        _open.add(self)

    def close(self) -> None:
        """Listen no longer."""
        if self._ends is None:
            return
        self.forget()
        ends, self._ends = self._ends, None
        for each in ends:
            close_if(each, self._pipe)

    def forget(self) -> None:
        """Have no more signals written here."""
        _open.discard(self)
        if self._ends is not None:
            current = signal.set_wakeup_fd(-1)
            if current != self._ends[1]:  # somebody else's
                signal.set_wakeup_fd(current)

    def has_stop(self) -> bool:
        """Whether a stop signal was written since the last call.

        It may not have been for the worker: a task can have a handler of its own for a while.
        """
        if (ends := self._ends) is not None and identity(ends[0]) == self._pipe:
            with contextlib.suppress(OSError):  # nothing was, or it has just been closed
                return not set(os.read(ends[0], 4096)).isdisjoint(STOPS)
        return False


_open: set[_Wakeup] = set()

#: By thread: which signals it had blocked before the fork that it is about.
_masks: dict[int, set[Any]] = {}


def _before_fork() -> None:
    # A signal for the child that came before its handlers stand would be counted, and forgotten.
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
        # What a child is sent must not be taken for a signal to its parent, who has the other end.
        for each in list(_open):
            each.forget()
    finally:
        _after_fork()  # last: from here on signals come
        _masks.clear()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
)
