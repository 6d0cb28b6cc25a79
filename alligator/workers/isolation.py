"""Run tasks that may kill their process in worker processes of their own.

The worker starts a child with its own command line, and names the task to it over a pipe. The
child reserves that very task by its id, runs it, and answers when it has ended. So nothing runs
beside the task, and nothing waits for it. A child runs one task after the other. It ends when it
was idle for a while, or when its parent is gone.
"""

import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from alligator.common.descriptors import readable
from alligator.common.text import shorten
from alligator.execution.lease_process import environment
from alligator.workers.signals import block, unblock

if TYPE_CHECKING:
    import subprocess

#: The most processes at a time.
MOST = 4

#: Seconds after which an idle process ends.
_IDLE = 5.0

#: Seconds that a process has to start; an application may have a lot to import.
_START = 60.0

#: Seconds without another try after a process could not be started.
_REST = 60.0

_PAUSE = 0.1

#: Whether a worker process can inherit descriptors here; on Windows it cannot.
CAN_START_WORKERS = hasattr(os, "fork")

#: A queue, and the id of a task on it.
Key = tuple[str, str]


def start_worker(
    argv: Sequence[str], pass_fds: Sequence[int], module: str = "alligator"
) -> "subprocess.Popen[bytes]":
    """Start a worker process by exec, in a session of its own.

    It starts with stop signals blocked, and unblocks them once it can stop in order.

    :param argv: the arguments of ``python -m alligator``.
    :param pass_fds: the descriptors that it inherits, by the same numbers.
    :param module: what is run by ``python -m``.
    """
    import subprocess  # few workers need it, and it would slow ``import alligator`` down

    before = block()
    try:
        return subprocess.Popen(  # noqa: S603 - our own program and arguments
            [sys.executable, "-m", module, *argv],
            env=environment(),  # -m puts only the current directory on the path
            pass_fds=list(pass_fds),
            start_new_session=True,
        )
    finally:
        unblock(before)


class Isolation:
    """Runs tasks by their ids, each while nothing else runs in its process.

    :param argv: the arguments of ``python -m alligator`` for such a worker.
    :param most: how many processes there may be.
    """

    def __init__(self, argv: Sequence[str], most: int, log: logging.Logger) -> None:
        self.argv, self.most, self.log = list(argv), most, log
        self._ready = threading.Condition()
        self._waiting: dict[Key, None] = {}  # in the order in which they came
        self._running: set[Key] = set()
        self._untaken: list[Key] = []
        self._threads: list[threading.Thread] = []
        self._children: list[_Child] = []
        self._idle = 0  # threads that wait for a task
        self._rests_until = 0.0  # monotonic
        self._closed = False

    @property
    def is_busy(self) -> bool:
        """Whether a task waits or runs here."""
        with self._ready:
            return bool(self._waiting or self._running or self._untaken)

    def give_back(self) -> list[Key]:
        """Return the tasks for which there was no process, and forget them."""
        if not self._untaken:
            return []
        with self._ready:
            untaken, self._untaken = self._untaken, []
            return untaken

    def can_take(self) -> bool:
        """Return whether to call :meth:`give` now."""
        return not self._closed and time.monotonic() >= self._rests_until

    def give(self, key: Key) -> None:
        """Run a task as soon as a process is free, unless it is here already."""
        with self._ready:
            if self._closed or key in self._waiting or key in self._running:
                return
            self._waiting[key] = None
            if self._idle >= len(self._waiting):
                self._ready.notify()
            elif len(self._threads) < self.most:
                thread = threading.Thread(target=self._serve, name="isolation", daemon=True)
                with contextlib.suppress(
                    RuntimeError
                ):  # no room for a thread: another one takes it
                    thread.start()
                    self._threads.append(thread)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Start no more tasks, and tell the processes to end after their task.

        :param number: the signal for them; on SIGQUIT they leave at once.
        """
        with self._ready:
            self._closed = True
            self._waiting.clear()
            self._ready.notify_all()
            children = list(self._children)
        for child in children:
            child.signal(number)

    def join(self, over: Callable[[], bool]) -> None:
        """Wait for the processes to end, but no longer than until ``over()``."""
        for thread in list(self._threads):
            while thread.is_alive() and not over():
                thread.join(_PAUSE)

    def _serve(self) -> None:
        child: _Child | None = None
        while (key := self._next()) is not None:
            try:
                if child is not None and child.process.poll() is not None:
                    ended, child = child, None  # a signal from outside ended it
                    self._end(ended)
                child = child or self._start()
                if child is None:
                    self._rest(key)
                elif not child.run(key):
                    self._report_end(child, key)
                    self._end(child)
                    child = None
            except Exception as err:
                self.log.warning("A process for one task: %s", shorten(str(err), 500))
                self._rest(key)
                self._end(child)
                child = None
            finally:
                with self._ready:
                    self._running.discard(key)
        self._end(child)

    def _next(self) -> Key | None:
        with self._ready:
            until = time.monotonic() + _IDLE
            while not self._waiting:
                left = until - time.monotonic()
                if self._closed or left <= 0:
                    self._threads.remove(threading.current_thread())
                    return None
                self._idle += 1
                try:
                    self._ready.wait(left)
                finally:
                    self._idle -= 1
            key = next(iter(self._waiting))
            del self._waiting[key]
            self._running.add(key)
            return key

    def _start(self) -> "_Child | None":
        if not self._closed:
            child = _Child(self.argv)
            with self._ready:
                self._children.append(child)
            if self._closed:  # meanwhile
                child.signal(signal.SIGTERM)
            if child.begins():
                return child
            self._end(child)
        return None

    def _rest(self, key: Key) -> None:
        if not self._closed:
            self.log.warning("No process could be started for a task that is to run alone.")
            with self._ready:
                self._rests_until = time.monotonic() + _REST
                self._untaken += [key, *self._waiting]
                self._waiting.clear()

    def _report_end(self, child: "_Child", key: Key) -> None:
        if not self._closed:
            self.log.error(
                "Process #%s ended (%s) while it ran task %s, and nothing else.",
                child.process.pid,
                child.process.returncode,
                shorten(key[1]),
            )

    def _end(self, child: "_Child | None") -> None:
        if child is not None:
            with self._ready:
                self._children.remove(child)
            child.close()


class _Child:
    """One process, as its parent sees it."""

    def __init__(self, argv: Sequence[str]) -> None:
        theirs = [os.pipe() for _ in range(3)]  # each as (to read, to write)
        (leash, self._leash), (tasks, self._tasks), (self._answers, answers) = theirs
        given = [leash, tasks, answers]
        try:
            flags = [f"--leash={leash}", f"--isolated={tasks},{answers}"]
            flags += ["--concurrency=1", "--max-tasks=0"]
            self.process = start_worker([*argv, *flags], given)
        except BaseException:
            self._close_all(self._leash, self._tasks, self._answers)
            raise
        finally:
            self._close_all(*given)

    @staticmethod
    def _close_all(*descriptors: int) -> None:
        for each in descriptors:
            os.close(each)

    def begins(self) -> bool:
        """Wait until it is ready for a task; return False if it does not get there."""
        if self._answered(time.monotonic() + _START):
            return True
        self.process.kill()
        return False

    def run(self, key: Key) -> bool:
        """Let it run a task; return False if the process ended first."""
        try:
            os.write(self._tasks, json.dumps(key).encode() + b"\n")
        except BrokenPipeError:
            self.process.wait()
            return False
        return self._answered(float("inf"))

    def _answered(self, until: float) -> bool:
        # Do not wait for the end of the pipe: a child of a task may hold it open.
        while time.monotonic() < until:
            ended = self.process.poll() is not None
            has_answer = readable([self._answers], 0.0 if ended else _PAUSE)
            if has_answer and os.read(self._answers, 1):
                return True
            if has_answer or ended:
                self.process.wait()
                return False
        return False

    def signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        self.process.send_signal(number)

    def close(self) -> None:
        """Close its pipe, on which it ends once it is idle, and wait for that."""
        self._close_all(self._tasks)
        self.process.wait()
        self._close_all(self._leash, self._answers)


class Given:
    """The tasks that such a process is given to run.

    :param tasks: the descriptor to read their keys from, one a line.
    :param answers: the descriptor to answer on.
    """

    def __init__(self, tasks: int, answers: int) -> None:
        self._tasks, self._answers = tasks, answers
        for each in (tasks, answers):
            os.set_inheritable(each, False)

    def keys(self, stop: Callable[[], bool]) -> Iterator[Key]:
        """Yield each key; to ask for the next one means that the task before has ended."""
        rest = b""
        self._answer()
        while not stop():
            if not readable([self._tasks], _PAUSE):
                continue
            read = os.read(self._tasks, 65536)
            if not read:
                return
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                queue_name, task_id = json.loads(line)
                yield str(queue_name), str(task_id)
                self._answer()

    def _answer(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # the parent is gone, and the leash reports it
            os.write(self._answers, b".")
