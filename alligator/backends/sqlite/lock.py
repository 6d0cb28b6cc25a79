"""Hold the two locks of a SQLite file: between threads of a process, and between processes.

A thread waits for one of them for :data:`DEADLINE` seconds at most: its holder may have been
stopped (SIGSTOP, a debugger, a container that is paused), or hang.

An interrupt at any step leaves neither of them taken. An asynchronous exception (a timeout, a
signal handler) is raised after a call has returned, or as a function of Python begins. So the code
that takes a lock notes that in the same step, and a call of C code gives it back.
"""

import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType, GeneratorType

from alligator.exceptions import ConnectionLost

try:
    import fcntl
except ImportError:  # not a Unix: SQLite's own waiting has to do
    fcntl = None  # type: ignore[assignment]

#: Seconds to wait for a lock. The longest that one was kept is a third of this: by a program with
#: Alligator 1.1 that pushes a million tasks at once.
DEADLINE = 30.0

#: Seconds between two looks at a lock of processes: at first; at most; and after a longer wait than
#: a working writer causes.
_FIRST_PAUSE, _LONGEST_PAUSE, _LATE_PAUSE = 0.00005, 0.0005, 0.005
_LATE = 0.1

#: Seconds that a single pause counts for at most: all processes may have been stopped meanwhile.
_COUNTED = 1.0

#: The frame of a ``with``, and the list in which its generator noted that it took the lock. (Of the
#: generator's own frame there would be a circle, of which every transaction left one.)
Holder = tuple[FrameType, list[bool]]

#: Seconds after which it is looked at whether a thread is still where it took a lock.
_SLICE = 0.2


class ThreadLock:
    """A lock of threads that no exception leaves taken, at whatever step it comes.

    A generator that takes it, for a ``with`` of its caller, notes the frame of that ``with``, and
    the list that says that it took the lock. Both lead to the generator: it does not close by
    itself as long as the traceback of an exception on the way into or out of the ``with`` is kept.
    Then the next thread that wants the lock closes it.

    :param path: of the file it is for.
    """

    def __init__(self, path: Path) -> None:
        self.owner = 0  # the thread that has it
        self.holder: Holder | None = None
        self._path = path
        self._lock = threading.Lock()
        self.free = self._lock.release  # after the owner and the holder have been forgotten
        self._nested: list[bool] = []

    def take(self) -> list[bool]:
        """Take it, and return [True]; [False]: this thread has it, further out.

        To be added to a list, in the ``try`` whose ``finally`` gives it back, without a call of
        a function of Python: no exception can come between the step that takes it and the note.

        :raises ConnectionLost: another thread has held it all the time.
        """
        me = threading.get_ident()
        if self.owner == me:
            if self.holder is not None:
                self.end_abandoned()
            if self.owner == me:
                return [False]
        taken = [*map(self._lock.acquire, (False,))]
        if taken[0]:
            self.owner = me
            return taken
        waited = 0.0
        while waited < DEADLINE:
            taken = [*map(self._lock.acquire, (True,), (min(_SLICE, DEADLINE),))]
            if taken[0]:
                self.owner = me
                return taken
            waited += _SLICE
            self.end_abandoned()
        raise _waited_too_long(self._path, "another thread of this process")

    def end_abandoned(self) -> None:
        """Close the generator of an owner that left its ``with`` and did not give the lock back."""
        if (holder := self.holder) is not None and not runs(holder[0]):
            close_generator(holder)

    def acquire(self, timeout: float) -> bool:
        """Take it, for :meth:`release`; also where this thread has it."""
        if self.owner == threading.get_ident():
            self._nested.append(False)
            return True
        if not self._lock.acquire(timeout=timeout):
            return False
        self.owner = threading.get_ident()
        self._nested.append(True)
        return True

    def release(self) -> None:
        """Give it back."""
        if self._nested.pop():
            self.owner = 0
            self.free()

    def __enter__(self) -> None:
        """Take it; see :meth:`take`."""
        self._nested += self.take()

    def __exit__(self, *exception: object) -> None:
        """Give it back."""
        self.release()


def runs(frame: FrameType) -> bool:
    """Return whether a thread runs the code of a frame, or code that it called."""
    for each in sys._current_frames().values():
        inner: FrameType | None = each
        while inner is not None:
            if inner is frame:
                return True
            inner = inner.f_back
    return False


def close_generator(holder: Holder) -> None:
    """Close the generator that has the list as its ``taken``."""
    for each in gc.get_objects():
        # Not isinstance(): a lazy object, as the settings of Django, would begin to load.
        if type(each) is GeneratorType and each.__name__ in ("transaction", "reading"):
            frame = each.gi_frame
            if frame is not None and frame.f_locals.get("taken") is holder[1]:
                with suppress(ValueError):  # it runs
                    each.close()


def lock_file(descriptor: int, path: Path, look: Callable[[], object]) -> None:
    """Take the lock of processes; ``fcntl.flock`` gives it back.

    To be called inside the ``try`` that does so: it may have been taken when an exception comes.

    :param look: called now and then while it waits: another connection of this process may have it.
    :raises ConnectionLost: another process has held it all the time; with its id, where known.
    :raises OSError: the file cannot be locked.
    """
    if fcntl is None:
        return
    waited, pause, looks_at = 0.0, _FIRST_PAUSE, _SLICE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waited >= DEADLINE:
                raise _waited_too_long(path, "another process") from None
        else:
            return
        before = time.monotonic()
        time.sleep(pause)
        waited += min(time.monotonic() - before, _COUNTED)
        pause = min(1.5 * pause, _LONGEST_PAUSE if waited < _LATE else _LATE_PAUSE)
        if waited >= looks_at:
            look()
            looks_at = waited + _SLICE


def name_of_lock(path: Path) -> Path:
    """Return the file beside a database whose lock is for processes."""
    return path.with_name(path.name + ".lock")


def _waited_too_long(path: Path, by_default: str) -> ConnectionLost:
    return ConnectionLost(
        f"SQLite file {path} cannot be used: {_holder(path) or by_default} has held its lock for "
        f"more than {DEADLINE:g} s."
    )


def _holder(path: Path) -> str:
    """Say which process holds the lock; '' where the system does not tell, or it is this one."""
    pid = _pid_of_holder(name_of_lock(path))
    if pid in (0, os.getpid()):
        return ""
    try:
        # The name in it may have spaces and parentheses.
        name, _, rest = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")
    except OSError:
        return f"process {pid}"
    shown = ascii(name.partition("(")[2])
    stopped = f", which is stopped (kill -CONT {pid} lets it go on)," if rest[1:2] in "Tt" else ""
    return f"process {pid} {shown}{stopped}"


def _pid_of_holder(path: Path) -> int:
    try:
        found = path.stat()
        locks = Path("/proc/locks").read_text("ascii", "replace")
    except OSError:
        return 0
    major, minor = os.major(found.st_dev), os.minor(found.st_dev)
    place = f"{major:02x}:{minor:02x}:{found.st_ino}"
    for line in locks.splitlines():
        # "1: FLOCK  ADVISORY  WRITE 4711 08:02:131 0 EOF"; "1: -> FLOCK …" only waits.
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK" and words[5] == place and words[4].isdigit():
            return int(words[4])
    return 0
