"""Limit how long a function may run, by an exception that is raised inside it.

One thread of the process watches all limits. It raises :exc:`TimeIsUp` in the function's own
thread, by the interpreter's call for that. Python raises it between two steps, so C code goes on
until it returns. The thread puts it off for a moment where it would leave a lock held; see
:mod:`alligator.runtime.safe_points`. A SIGURG, which does nothing by itself, wakes the main thread
from calls that wait (``time.sleep``, sockets).

A function may still run after a grace: it swallowed the exception, or is in C code. Then the worker
acts, by what it set as :data:`overrun`.

Time that a function lets pass on a test's clock counts as well; see :func:`pass_time`.
"""

import contextlib
import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from alligator.common.after_fork import at_fork
from alligator.common.hard_exit import beside
from alligator.common.log import SafeTracebacks
from alligator.exceptions import LeaveNow, TaskTimeout
from alligator.runtime import safe_points
from alligator.runtime.watchdog import Watchdog

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

#: Seconds between two looks at a function whose time is up.
_PAUSE = 0.5

#: The same while the exception is put off: at first, and if the thread makes no progress.
_NEXT_STEP = 0.001
_STANDSTILL = 0.02

#: Seconds that the action on an overrun may take, before the watchdog ends the process.
_TO_ACT = 30.0

#: Seconds that the watching thread sleeps at most, even if a call to wake it was missed.
_LONGEST_PAUSE = 1.0

#: Whether an exception that was sent to one thread stops the others, if they have a trace function
#: (a debugger, coverage): Python 3.11 notes it once for all threads, and a traced one then repeats
#: the first step of its next call until the note is gone.
_STOPS_TRACED_THREADS = sys.version_info < (3, 12)


class TimeIsUp(BaseException):
    """Raised inside a function that ran too long; no Exception, so that no handler swallows it.

    Outside, the failure is :exc:`~alligator.exceptions.TaskTimeout`.
    """


@dataclass(slots=True)
class Overrun:
    """What to do if a function runs on after its time.

    :param grace: seconds that it gets to end after the exception.
    :param act: called then, in the watching thread.
    :param ends_process: whether that ends the process, also if no Python can run.
    """

    grace: float
    act: Callable[[], object]
    ends_process: bool = False


#: Set by a worker around each task.
overrun: ContextVar[Overrun | None] = ContextVar("alligator_overrun", default=None)


@contextmanager
def overruns_tell(whom: Overrun | None) -> Iterator[None]:
    """Set what to do about overruns in the block; None: nothing."""
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
        self.around = _allowance.get()  # that of a task that runs this one


_allowance: ContextVar[Allowance | None] = ContextVar("alligator_allowance", default=None)


@contextmanager
def allowed(seconds: float) -> Iterator[Allowance]:
    """Count the time that passes on tests' clocks within the block."""
    allowance = Allowance(seconds)
    token = _allowance.set(allowance)
    try:
        yield allowance
    finally:
        _allowance.reset(token)


def pass_time(seconds: float) -> float:
    """Count the seconds that the function that runs here lets pass on a test's clock.

    :returns: how many of them may pass before a timeout is up. If that is not all, the clock must
        raise :exc:`TimeIsUp` then.
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

    :raises TaskTimeout: it took longer, also if it returned or raised something in the end.
    """
    with allowed(seconds) as allowance:
        return _call_within(seconds, call, allowance)


@safe_points.calls_users
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
        alarm.disarm()  # again: the exception may have interrupted it
        if alarm.was_raised:
            safe_points.release_logging()
        if alarm.rang or allowance.is_up:
            raise timed_out(seconds) from err
        raise
    if alarm.was_raised:
        safe_points.release_logging()  # the function swallowed it
    if alarm.rang or allowance.is_up:
        raise timed_out(seconds)
    return result


@contextmanager
def watched(seconds: float | None) -> Iterator[None]:
    """Act on an overrun of the block, and raise nothing: coroutines are canceled instead."""
    alarm = watch(seconds)
    try:
        yield
    finally:
        if alarm is not None:
            alarm.disarm()


def watch(seconds: float | None) -> "Alarm | None":
    """Do the same without a block, until the returned alarm is disarmed."""
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

    Either the clock claims it, or the end of the function, once. So the exception comes inside the
    function, or not at all.

    :param thread: where to raise; None: nowhere.
    """

    #: What is raised.
    error: type[BaseException] = TimeIsUp

    def __init__(self, seconds: float, thread: int | None) -> None:
        self.rings_at = time.monotonic() + seconds
        self.overrun = overrun.get()
        self._thread = thread
        # The first of the two, each: setdefault is one step, and cannot be interrupted.
        self._claim: dict[str, str] = {}
        self._raising: dict[str, str] = {}
        self._sent = False
        self._clock = None if thread is None else safe_points.clock_of(thread)
        self._seen: object = None  # at the last look: where the thread was, and its processor time
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
        """When the function must have ended; infinity if no overrun is acted on."""
        return self.rings_at + self.overrun.grace if self.overrun else math.inf

    def disarm(self) -> None:
        """In the thread of the function, make sure that nothing is raised from here on."""
        self._over = True
        _watch.remove(self)
        # If C code has held the interpreter's lock, the watching thread may be late.
        in_time = time.monotonic() < self.rings_at
        self._claim.setdefault("by", "function" if in_time else "clock")
        while self._raising.setdefault("by", "function") == "clock" and self._thread is not None:
            if self._sent:
                # Python 3.11 has raised it: it does so before the thread gets here, and would keep
                # the note of what is taken back.
                if not _STOPS_TRACED_THREADS:
                    _raise_in(self._thread, None)  # take back what has not been raised yet
                return
            time.sleep(0)

    def begin(self) -> None:
        """Have the watching thread look at it, from now on."""
        _watch.add(self)

    def drop(self) -> None:
        """In the child of a fork, forget it: the watching thread is not there."""
        self._sent = self._over = True

    def look(self, now: float) -> float:
        """In the watching thread, ring if it is time; return when to look again."""
        if now < self.rings_at:
            return self.rings_at
        if self._claim.setdefault("by", "clock") != "clock":
            return math.inf
        pause = None
        if not self._sent:
            pause = self._send(now)
        elif self._thread is not None:
            _let_traced_threads_run()  # once more: C code that waits several times noted it again
        if self._over:
            return math.inf
        if now >= self.acts_at and self.overrun:
            return self._act(self.overrun)
        if pause is not None:
            return min(now + pause, self.acts_at)
        return self._wait(now)

    def _act(self, overrun: Overrun) -> float:
        self._over = True
        if overrun.ends_process:
            _watch.let_act(_TO_ACT)
        overrun.act()
        return math.inf

    def _wait(self, now: float) -> float:
        """Let it end; return when to look again."""
        _wake(self._thread)  # once more: it may have begun to wait during the first signal
        return min(now + _PAUSE, self.acts_at)

    def _send(self, now: float) -> float | None:
        """Raise it, or put it off and return the seconds to the next look."""
        thread = self._thread
        if thread is not None:
            spot: safe_points.Spot | None
            spot, longest = safe_points.look(thread)
            if longest:
                if pause := self._put_off(thread, now, longest):
                    return pause
                spot = None
            if self._raising.setdefault("by", "clock") != "clock":
                return None  # it ended meanwhile
            if not _raise_in(thread, self.error, spot):
                self._raising.clear()  # the thread has moved on meanwhile
                return _NEXT_STEP
        self._sent = True
        return None

    def _put_off(self, thread: int, now: float, longest: float) -> float:
        """Return the seconds to the next look; 0: it has been put off long enough."""
        before, self._seen = self._seen, (safe_points.spot(thread), safe_points.used(self._clock))
        at_lock = longest == safe_points.LONGEST
        if before == self._seen:  # it waits
            if not safe_points.is_main(thread):
                # No signal interrupts that. The exception would come when the call returns, with
                # the lock that it waited for.
                return _STANDSTILL
            if at_lock:
                return 0.0  # a signal interrupts it, without the lock
        if self.overrun and not at_lock:
            longest = min(longest, self.overrun.grace / 2)
        elif self.overrun and self.overrun.ends_process:
            longest = math.inf  # to end the process is cleaner: other tasks are handed back
        return _NEXT_STEP if now < self.rings_at + longest else 0.0


class Reminder:
    """Calls a function once, in a thread of its own, unless it is disarmed before.

    :param seconds: after which.
    :param about: the argument of the call.
    """

    __slots__ = ("_about", "_call", "rings_at")

    overrun: Overrun | None = None
    acts_at = math.inf

    def __init__(self, seconds: float, call: Callable[[Any], object], about: object) -> None:
        self.rings_at = time.monotonic() + seconds
        self._call, self._about = call, about
        try:
            _watch.add(self)
        except RuntimeError:  # the system has no room for a thread: no call then
            return

    def disarm(self) -> None:
        """Make no call."""
        _watch.remove(self)

    def drop(self) -> None:
        """In the child of a fork, forget it."""

    def look(self, now: float) -> float:
        """In the watching thread, call if it is time; return when to look again."""
        if now < self.rings_at:
            return self.rings_at
        _watch.remove(self)
        beside(partial(self._call, self._about), 0.0)
        return math.inf


class _WakeUp:
    """An event that the waiting thread clears; several calls count as one.

    To call is a single step of the interpreter, so an exception cannot leave it half done.
    ``SimpleQueue`` of the standard library is no substitute: in Python 3.11 and 3.12 its
    ``get(timeout=…)`` may block forever, if the time is over when it looks the second time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # free: there was a call
        self._lock.acquire()

    def call(self) -> None:
        """End the wait, or the next one."""
        with contextlib.suppress(RuntimeError):  # it is free: called already
            self._lock.release()

    def wait(self, seconds: float) -> None:
        """Block until called, or the time is over; do not block for 0 or less."""
        self._lock.acquire(timeout=max(seconds, 0.0))


class _Watch:
    """The watching thread and its alarms. It sleeps until the next limit, or a new, shorter one."""

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
        if alarm.overrun and alarm.overrun.ends_process and alarm.acts_at < math.inf:
            self._watchdog.cover(alarm.acts_at)
        self._alarms[id(alarm)] = alarm
        if alarm.rings_at < self._next:
            self._wake_up.call()

    def let_act(self, seconds: float) -> None:
        """Let the process live for so long, while this thread acts on an overrun."""
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
        import ctypes  # noqa: F401 - now, since a stuck task may hold the import lock later

        if _STOPS_TRACED_THREADS:
            sys.settrace(None)  # or it may stop here, before it acts on an overrun
        while True:
            pause = _PAUSE
            with contextlib.suppress(Exception):  # such as MemoryError: look again
                pause = self._turn()
            if pause > _NEXT_STEP:
                self._wake_up.wait(pause)
            else:  # mostly since an exception is put off
                with safe_points.switching_often():
                    self._wake_up.wait(pause)

    def _turn(self) -> float:
        """Look at all; return the seconds until the next look."""
        now = time.monotonic()
        # First, so that a thread that adds a shorter one from here on calls. A later one needs no
        # call, so short tasks cost none.
        self._next = now + _LONGEST_PAUSE
        alarms = list(self._alarms.values())
        looks = [self._look(alarm, now) for alarm in alarms]
        ending = (each.acts_at for each in alarms if each.overrun and each.overrun.ends_process)
        ends = [each for each in ending if each < math.inf]
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

            def report() -> None:
                log.exception("A timeout could not be acted upon.", exc_info=error)

            beside(report, 0.0)
            return math.inf


def _raise_in(
    thread: int, error: type[BaseException] | None, spot: safe_points.Spot | None = None
) -> bool:
    """Raise an exception in another thread; None: take back what has not been raised yet.

    :param spot: where the thread must be; if it is elsewhere, raise nothing and return False.
    """
    import ctypes  # only when a task takes too long: it would slow ``import alligator`` down

    number, what = ctypes.c_ulong(thread), None if error is None else ctypes.py_object(error)
    here, noted = ctypes.c_ulong(threading.get_ident()), ctypes.py_object(_Noted)
    send = ctypes.pythonapi.PyThreadState_SetAsyncExc
    # No step between these two, or the thread could move on.
    if spot is not None and safe_points.spot(thread) != spot:
        return False
    try:
        send(number, what)
        if _STOPS_TRACED_THREADS:
            # Raised here, it removes the note. The other thread notes its own again when it runs.
            send(here, noted)
    except _Noted:
        pass
    if error is not None:
        _wake(thread)
    return True


class _Noted(Exception):
    """Raised by this module in the thread that raises something in another, and caught at once."""


def _let_traced_threads_run() -> None:
    """Remove the note that an exception waits in some thread; no exception is lost by that."""
    if _STOPS_TRACED_THREADS:
        _raise_in(threading.get_ident(), _Noted)


_wakes = False
_before_ours: Any = signal.SIG_DFL  # the handler from before
_SIGNAL = getattr(signal, "SIGURG", None)  # whose default is to be ignored


def _wake(thread: int | None) -> None:
    if _SIGNAL and thread and thread == threading.main_thread().ident:
        with contextlib.suppress(OSError):
            signal.pthread_kill(thread, _SIGNAL)


def wake_main_thread() -> None:
    """Wake the main thread from a call that waits, to run signal handlers, if that is set up."""
    if _wakes:
        _wake(threading.main_thread().ident)


def _note_signal(number: int, frame: object) -> None:
    """Do nothing: to run this handler, the main thread left the call in which it waited."""


def let_main_thread_wake() -> None:
    """In the main thread, let the signal wake calls that wait, from now on."""
    global _wakes, _before_ours
    if _wakes or _SIGNAL is None or threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(_SIGNAL) in (signal.SIG_DFL, signal.SIG_IGN):
        _before_ours = signal.signal(_SIGNAL, _note_signal)
    _wakes = True


def _after_fork_in_child() -> None:
    global _wakes
    _watch.after_fork_in_child()
    overrun.set(None)  # it would hand back the deliveries of the parent's worker
    if _wakes and _SIGNAL and signal.getsignal(_SIGNAL) is _note_signal:
        signal.signal(_SIGNAL, _before_ours)
    _wakes = False


_watch = _Watch()
at_fork(
    before=_watch.before_fork,
    after_in_parent=_watch.after_fork,
    after_in_child=_after_fork_in_child,
)
