"""End a function, or a coroutine, that runs: by an exception that is raised inside it.

It is done as for a timeout (:mod:`alligator.runtime.timeouts`): by the same thread, put off where
it would leave a lock held, and with the same action if the function runs on. Two things differ.

Nothing is prepared before a function runs, since hardly any is canceled. The watching thread finds
the function by the frame of its caller. And the exception is a
:exc:`~alligator.exceptions.TaskCanceled`, which ``except Exception`` catches; a function that has
swallowed it gets it again.

It never meets what runs next in that thread. As soon as the function has returned, its caller looks
for a cancellation, and calls :meth:`Cancellation.disarm`. The cancellation is there before the
watching thread looks, and that thread raises nothing unless it finds the caller at a line that
calls the function. So the caller has yet to look. If it gets there first, nothing is raised; if
not, it waits until that is done, and takes it back.
"""

import dis
import math
import sys
import weakref
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, FrameType
from typing import ClassVar

from alligator.exceptions import TaskCanceled
from alligator.runtime import event_loop, safe_points
from alligator.runtime.timeouts import Alarm, Overrun, TimeIsUp

#: Seconds between two looks at a run that is not in its function now.
_ELSEWHERE = 0.02


class CanceledInside(TimeIsUp, TaskCanceled):
    """Raised inside a function that is canceled."""

    #: Of the class that a cancellation makes of this one.
    cancellation: ClassVar["Cancellation"]

    def __init__(self) -> None:
        super().__init__("This task is canceled.")
        self.cancellation.note_raised(self)


class Cancellation(Alarm):
    """The end of one run.

    :param owner: the object whose method calls the function.
    :param caller: the code of that method.
    :param names: what that code names only in the lines where it calls the function.
    :param overrun: what to do if the run goes on.
    :param is_over: returns whether the run is over.
    """

    def __init__(
        self,
        owner: object,
        caller: CodeType,
        names: frozenset[str],
        overrun: Overrun | None,
        is_over: Callable[[], bool],
    ) -> None:
        super().__init__(0.0, None)
        self.overrun = overrun
        self._owner, self._is_over = owner, is_over
        self._caller, self._lines = caller, _lines_of(caller, names)
        self._told_at = math.inf  # monotonic
        # It lives while it is handled. None: it has not been raised yet.
        self._raised: weakref.ref[BaseException] | None = None
        self.error = type("CanceledInside", (CanceledInside,), {"cancellation": self})

    def note_raised(self, error: BaseException) -> None:
        """Note that the exception has come up in the function."""
        self._raised = weakref.ref(error)

    @property
    def acts_at(self) -> float:
        return self._told_at + self.overrun.grace if self.overrun else math.inf

    def look(self, now: float) -> float:
        if self._over or self._is_over():
            self.disarm()
            return math.inf
        if now >= self.acts_at and self.overrun:
            return self._act(self.overrun)
        if self._told_at == math.inf or (self._raised is not None and self._raised() is None):
            return min(now + self._tell(now), self.acts_at)
        return self._wait(now)

    def _tell(self, now: float) -> float:
        """Raise it in the function; return the seconds to the next look."""
        if (coroutine := event_loop.find(self._owner)) is not None:
            event_loop.cancel_soon(self._owner, coroutine)
            self._told_at = now
            return _ELSEWHERE
        thread = self._thread_in_function()
        if thread is None:
            self.rings_at = now  # it is put off for some seconds of its function, not of hooks
            return _ELSEWHERE
        if self._thread is None:
            self._thread, self._clock = thread, safe_points.clock_of(thread)
        elif self._sent:
            # Once more. While this is unset disarm() waits; it sets _over first, so that one of the
            # two sees the other.
            self._sent = False
            if self._over:
                self._sent = True
                return _ELSEWHERE
            self._raising.clear()
        pause = self._send(now)
        if self._sent:
            self._raised, self._told_at = None, min(now, self._told_at)
        return _ELSEWHERE if pause is None else pause

    def _thread_in_function(self) -> int | None:
        """Return the thread that is in the function now; None: none is."""
        for thread, frame in _frames_of(self._caller):
            if frame.f_locals.get("self") is self._owner:
                return thread if frame.f_lineno in self._lines else None
        return None


def owners(caller: CodeType) -> Iterator[object]:
    """Yield the objects whose method, by its code, calls a function now; and those of coroutines.

    One may be named twice.
    """
    for _, frame in _frames_of(caller):
        yield frame.f_locals.get("self")
    yield from event_loop.owners()


def _frames_of(code: CodeType) -> Iterator[tuple[int, FrameType]]:
    frame: FrameType | None
    for thread, frame in sys._current_frames().items():
        while frame is not None:
            if frame.f_code is code:
                yield thread, frame
            frame = frame.f_back


@cache
def _lines_of(code: CodeType, names: frozenset[str]) -> frozenset[int]:
    found = (each.positions for each in dis.get_instructions(code) if each.argval in names)
    return frozenset(each.lineno for each in found if each is not None and each.lineno is not None)
