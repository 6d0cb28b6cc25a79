"""A limit to how long a function may run: once it is over, an exception is raised inside.

One thread of the process watches all limits. It raises :exc:`TimeIsUp` in the function's own
thread, by the interpreter's call for that; Python sees it between two steps, so C code goes
on until it returns. It is put off for a moment where it would leave a lock held; see
:mod:`alligator.runtime.interrupts`. The main thread is woken from calls that wait (``time.sleep``,
sockets) by a SIGURG, which does nothing by itself.

A function that still goes on after a grace (it swallowed the exception, or sits in C code) is
the business of whoever set :data:`overrun`.

Time that a function lets pass on a clock of a test counts as well; see :func:`pass_time`.
"""

import _thread
import contextlib
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from alligator.common.log import SafeTracebacks
from alligator.exceptions import LeaveNow, TaskTimeout
from alligator.runtime import interrupts
from alligator.runtime.watchdog import Watchdog

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

#: Seconds between two looks at a function whose time is up.
_PAUSE = 0.5

#: The same while the exception is put off: at first, and where the thread stands still.
_NEXT_STEP = 0.001
_STANDSTILL = 0.02

#: Seconds that what follows an overrun may take, before the process is ended anyway.
_TO_ACT = 30.0

#: Seconds that the thread which watches sleeps at most, whatever it was told, or was not.
_LONGEST_PAUSE = 1.0


class TimeIsUp(BaseException):
    """Raised inside a function that ran too long; no Exception, so that none swallows it.

    Outside, the failure is :exc:`~alligator.exceptions.TaskTimeout`.
    """


@dataclass(slots=True)
class Overrun:
    """What follows where a function goes on after its time.

    :param grace: seconds that it gets to end after the exception.
    :param act: called then, in the thread that watches.
    :param ends_process: whether that is to end the process, also where no Python can run.
    """

    grace: float
    act: Callable[[], object]
    ends_process: bool = False


#: Set by a worker around each task.
overrun: ContextVar[Overrun | None] = ContextVar("alligator_overrun", default=None)


@contextmanager
def overruns_tell(whom: Overrun | None) -> Iterator[None]:
    """Have what runs inside tell of its overruns; None: nobody."""
    token = overrun.set(whom)
    try:
        yield
    finally:
        overrun.reset(token)


class Allowance:
    """How much time a function may still let pass on a clock that a test moves."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds
        self.is_up = False
        self.around = _allowance.get()  # of a task that runs this one


_allowance: ContextVar[Allowance | None] = ContextVar("alligator_allowance", default=None)


@contextmanager
def allowed(seconds: float) -> Iterator[Allowance]:
    """Count what is let pass on clocks of tests within the block."""
    allowance = Allowance(seconds)
    token = _allowance.set(allowance)
    try:
        yield allowance
    finally:
        _allowance.reset(token)


def pass_time(seconds: float) -> float:
    """Count time that the function that runs here lets pass on a clock of a test.

    :returns: how much of it may pass before a timeout is up. If that is not all of it, the
        clock is to raise :exc:`TimeIsUp` then.
    """
    counting, each = [], _allowance.get()
    while each is not None:
        counting += [] if each.is_up else [each]
        each = each.around
    first = min(counting, key=lambda each: each.left, default=None)
    passes = seconds if first is None else min(seconds, first.left)
    if first is not None and passes < seconds:
        first.is_up = True
    for each in counting:
        each.left -= passes
    return passes


def call_within(seconds: float, call: Callable[[], Any]) -> Any:
    """Return what a call returns.

    :raises TaskTimeout: it took longer, also where it returned or raised something in the end.
    """
    with allowed(seconds) as allowance:
        return _call_within(seconds, call, allowance)


@interrupts.calls_users
def _call_within(seconds: float, call: Callable[[], Any], allowance: Allowance) -> Any:
    let_main_thread_wake()
    alarm = Alarm(seconds, threading.get_ident())
    try:
        try:
            _watch.add(alarm)
            result = call()
        finally:
            alarm.disarm()
    except LeaveNow:
        alarm.disarm()
        raise
    except BaseException as err:
        alarm.disarm()  # again: the exception may have come in the middle of it
        if alarm.was_raised:
            interrupts.release_logging()
        if alarm.rang or allowance.is_up:
            raise timed_out(seconds) from err
        raise
    if alarm.was_raised:
        interrupts.release_logging()  # the function swallowed it
    if alarm.rang or allowance.is_up:
        raise timed_out(seconds)
    return result


@contextmanager
def watched(seconds: float | None) -> Iterator[None]:
    """Raise nothing, only see to it that :data:`overrun` follows: coroutines are canceled."""
    alarm = watch(seconds)
    try:
        yield
    finally:
        if alarm is not None:
            alarm.disarm()


def watch(seconds: float | None) -> "Alarm | None":
    """The same without a block: it ends when the alarm that is returned is disarmed."""
    if seconds is None:
        return None
    alarm = Alarm(seconds, None)
    _watch.add(alarm)
    return alarm


def timed_out(seconds: float) -> TaskTimeout:
    """Return the error of a task that ran for too long."""
    return TaskTimeout(f"It ran for more than its {seconds:g} s.")


class Alarm:
    """One limit.

    It is claimed once, by the clock or by the end of the function, so that the exception comes
    either inside the function, or not at all.

    :param thread: where to raise; None: nowhere.
    """

    def __init__(self, seconds: float, thread: int | None) -> None:
        self.rings_at = time.monotonic() + seconds
        self.overrun = overrun.get()
        self._thread = thread
        # Who came first, each: setdefault is one step, and cannot be interrupted.
        self._claim: dict[str, str] = {}
        self._raising: dict[str, str] = {}
        self._sent = False
        self._clock = None if thread is None else interrupts.own_clock()
        self._seen: object = None  # where the thread was, and its processor time, at the last look
        self._over = False  # ended, or acted upon

    @property
    def rang(self) -> bool:
        """Whether the time was up before the function ended."""
        return self._claim.get("by") == "clock"

    @property
    def was_raised(self) -> bool:
        """Whether the exception was raised in the thread; known once the alarm is disarmed."""
        return self._raising.get("by") == "clock"

    @property
    def acts_at(self) -> float:
        """When the function has to have ended; infinite where nobody cares."""
        return self.rings_at + self.overrun.grace if self.overrun else math.inf

    def disarm(self) -> None:
        """In the thread of the function: nothing is raised after this."""
        self._over = True
        _watch.remove(self)
        # Where C code has held the interpreter's lock, the thread that watches may be late.
        in_time = time.monotonic() < self.rings_at
        self._claim.setdefault("by", "function" if in_time else "clock")
        while self._raising.setdefault("by", "function") == "clock" and self._thread is not None:
            if self._sent:
                _raise_in(self._thread, None)  # what is on its way and has not arrived
                return
            time.sleep(0)

    def drop(self) -> None:
        """In the child of a fork: nobody watches it any more, nor is about to raise anything."""
        self._sent = self._over = True

    def look(self, now: float) -> float:
        """In the thread that watches: ring if it is time; return when to look again."""
        if now < self.rings_at:
            return self.rings_at
        if self._claim.setdefault("by", "clock") != "clock":
            return math.inf
        pause = self._send(now) if not self._sent else None
        if self._over:
            return math.inf
        if now >= self.acts_at and self.overrun:
            self._over = True
            if self.overrun.ends_process:
                _watch.let_act(_TO_ACT)
            self.overrun.act()
            return math.inf
        if pause is not None:
            return min(now + pause, self.acts_at)
        _wake(self._thread)  # once more: it may have begun to wait as the first one came
        return min(now + _PAUSE, self.acts_at)

    def _send(self, now: float) -> float | None:
        """Raise it, unless it is to be put off; then return the seconds to the next look."""
        thread = self._thread
        if thread is not None:
            spot: interrupts.Spot | None
            spot, longest = interrupts.look(thread)
            if longest:
                if pause := self._put_off(thread, now, longest):
                    return pause
                spot = None
            if self._raising.setdefault("by", "clock") != "clock":
                return None  # it ended meanwhile
            if not _raise_in(thread, TimeIsUp, spot):
                self._raising.clear()  # the thread has gone on meanwhile
                return _NEXT_STEP
        self._sent = True
        return None

    def _put_off(self, thread: int, now: float, longest: float) -> float:
        """Return the seconds to the next look; 0: it was put off long enough."""
        before, self._seen = self._seen, (interrupts.spot(thread), interrupts.used(self._clock))
        at_lock = longest == interrupts.LONGEST
        if before == self._seen:  # it waits
            if not interrupts.is_main(thread):
                # Nothing breaks that off; what is raised now would come up as the call returns:
                # with the lock that it waited for.
                return _STANDSTILL
            if at_lock:
                return 0.0  # a signal breaks it off, without the lock
        if self.overrun and not at_lock:
            longest = min(longest, self.overrun.grace / 2)
        elif self.overrun and self.overrun.ends_process:
            longest = math.inf  # that end is cleaner: all others are handed back
        return _NEXT_STEP if now < self.rings_at + longest else 0.0


class Reminder:
    """Has something called once, in a thread of its own, unless it is disarmed before.

    :param seconds: after which.
    :param about: what to call it with.
    """

    __slots__ = ("_about", "_call", "rings_at")

    overrun: Overrun | None = None
    acts_at = math.inf

    def __init__(self, seconds: float, call: Callable[[Any], object], about: object) -> None:
        self.rings_at = time.monotonic() + seconds
        self._call, self._about = call, about
        try:
            _watch.add(self)
        except RuntimeError:  # the system has no room for a thread: nothing is called
            return

    def disarm(self) -> None:
        """It is not needed any more."""
        _watch.remove(self)

    def drop(self) -> None:
        """In the child of a fork: nobody watches it any more."""

    def look(self, now: float) -> float:
        """In the thread that watches: call if it is time; return when to look again."""
        if now < self.rings_at:
            return self.rings_at
        _watch.remove(self)
        beside(partial(self._call, self._about), 0.0)
        return math.inf


def beside(call: Callable[[], object], seconds: float) -> bool:
    """Call something in another thread; return whether it ended within so many seconds.

    For what may have to wait for a lock that a stuck task holds. It takes none by itself. What
    the call raises is dropped.
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


class _WakeUp:
    """An event that is cleared by whoever has waited for it; several calls count as one.

    To call is a single step of the interpreter, so an exception cannot leave it half done. The
    standard library has ``SimpleQueue`` for that, whose ``get(timeout=…)`` may block for ever in
    Python 3.11 and 3.12: where the time is over as it looks the second time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # free: somebody called
        self._lock.acquire()

    def call(self) -> None:
        """End the wait, or the next one."""
        with contextlib.suppress(RuntimeError):  # it is free: called already
            self._lock.release()

    def wait(self, seconds: float) -> None:
        """Block until called, or the time is over; 0 and less: not at all."""
        self._lock.acquire(timeout=max(seconds, 0.0))


class _Watch:
    """The thread, and what it watches. It sleeps until the next limit, or a shorter one."""

    def __init__(self) -> None:
        self._alarms: dict[int, Alarm | Reminder] = {}
        self._next = math.inf
        self._wake_up = _WakeUp()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._watchdog = Watchdog()

    def add(self, alarm: "Alarm | Reminder") -> None:
        if self._thread is None:
            self._start()
        if alarm.overrun and alarm.overrun.ends_process:
            self._watchdog.cover(alarm.acts_at)
        self._alarms[id(alarm)] = alarm
        if alarm.rings_at < self._next:
            self._wake_up.call()

    def let_act(self, seconds: float) -> None:
        """Have the process live for so long, while this thread does what follows an overrun."""
        self._watchdog.keep(time.monotonic() + seconds)

    def remove(self, alarm: "Alarm | Reminder") -> None:
        self._alarms.pop(id(alarm), None)

    def before_fork(self) -> None:
        self._watchdog.before_fork()

    def after_fork(self) -> None:
        self._watchdog.after_fork()

    def after_fork_in_child(self) -> None:
        for alarm in list(self._alarms.values()):
            alarm.drop()
        self.__init__()  # type: ignore[misc]

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="alligator-timeouts", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        import ctypes  # noqa: F401 - now, as a stuck task may hold the lock of an import later

        while True:
            pause = _PAUSE
            with contextlib.suppress(Exception):  # such as MemoryError: it looks again
                pause = self._turn()
            if pause > _NEXT_STEP:
                self._wake_up.wait(pause)
            else:  # so short for one that is put off, mostly
                with interrupts.switching_often():
                    self._wake_up.wait(pause)

    def _turn(self) -> float:
        """Look at all; return the seconds until the next look."""
        now = time.monotonic()
        # First, so that whoever adds one from here on calls. What is due later needs no call,
        # however short the tasks are.
        self._next = now + _LONGEST_PAUSE
        alarms = list(self._alarms.values())
        looks = [self._look(alarm, now) for alarm in alarms]
        ends = [each.acts_at for each in alarms if each.overrun and each.overrun.ends_process]
        if ends or self._watchdog.ends_at is not None:
            self._watchdog.keep(min(ends, default=None))
            looks += [now + 1.0] * bool(ends)
        self._next = min([self._next, *looks])
        return self._next - time.monotonic()

    def _look(self, alarm: "Alarm | Reminder", now: float) -> float:
        try:
            return alarm.look(now)
        except Exception as err:
            error = err

            def say() -> None:
                log.exception("A timeout could not be acted upon.", exc_info=error)

            beside(say, 0.0)
            return math.inf


def _raise_in(
    thread: int, error: type[BaseException] | None, spot: interrupts.Spot | None = None
) -> bool:
    """Let an exception come up in another thread; None: take back what has not come up yet.

    :param spot: where the thread has to be for that; else return False, and raise nothing.
    """
    import ctypes  # not before a task takes too long: it would slow ``import alligator`` down

    number, what = ctypes.c_ulong(thread), None if error is None else ctypes.py_object(error)
    send = ctypes.pythonapi.PyThreadState_SetAsyncExc
    # No step between these two, lest the thread goes on.
    if spot is not None and interrupts.spot(thread) != spot:
        return False
    send(number, what)
    if error is not None:
        _wake(thread)
    return True


_wakes = False
_before_ours: Any = signal.SIG_DFL  # what was done at that signal
_SIGNAL = getattr(signal, "SIGURG", None)  # whose default is to be ignored


def _wake(thread: int | None) -> None:
    if _SIGNAL and thread and thread == threading.main_thread().ident:
        with contextlib.suppress(OSError):
            signal.pthread_kill(thread, _SIGNAL)


def wake_main_thread() -> None:
    """Have the main thread look up from a call that waits, and see to signals, if that is let."""
    if _wakes:
        _wake(threading.main_thread().ident)


def _note_signal(number: int, frame: object) -> None:
    """Do nothing: to get here, the main thread looked up from what it was waiting for."""


def let_main_thread_wake() -> None:
    """In the main thread: have calls that wait return for the signal, once and for all."""
    global _wakes, _before_ours
    if _wakes or _SIGNAL is None or threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(_SIGNAL) in (signal.SIG_DFL, signal.SIG_IGN):
        _before_ours = signal.signal(_SIGNAL, _note_signal)
    _wakes = True


def _after_fork_in_child() -> None:
    global _wakes
    _watch.after_fork_in_child()
    overrun.set(None)  # the business of the parent's worker, which would hand back what that holds
    if _wakes and _SIGNAL and signal.getsignal(_SIGNAL) is _note_signal:
        signal.signal(_SIGNAL, _before_ours)
    _wakes = False


_watch = _Watch()
os.register_at_fork(
    before=_watch.before_fork,
    after_in_parent=_watch.after_fork,
    after_in_child=_after_fork_in_child,
)
