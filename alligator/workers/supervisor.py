"""Start, restart and stop several worker processes together.

The supervisor starts its children by exec, never by fork, in sessions of their own, so that a
Ctrl-C in the terminal reaches them only through the supervisor. It passes a stop on as one SIGTERM,
and a stop that insists (:mod:`alligator.workers.signals`) as a SIGQUIT. Each child has one end of a
pipe: when the supervisor dies, in whatever way, the pipe closes and the children stop.
"""

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

from alligator.workers.isolation import start_worker
from alligator.workers.signals import QUIT, StopSignals

#: Seconds before a dead child is replaced: at first, and at most.
FIRST_DELAY = 0.1
LONGEST_DELAY = 10.0

#: A child that lived for so many seconds was healthy; its next death counts as the first.
HEALTHY_AFTER = 10.0

#: Seconds beyond the workers' own grace after which they are killed.
EXTRA_GRACE = 5.0


class _Child:
    """One place for a worker process, and the process in it."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        self.start_at: float | None = 0.0  # monotonic; None: never again
        self.failures = 0

    def next_delay(self) -> float:
        if time.monotonic() - self.started_at > HEALTHY_AFTER:
            self.failures = 0
        self.failures += 1
        return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (self.failures - 1))


class Supervisor:
    """Keeps ``processes`` workers going until it is told to stop.

    :param argv: the arguments of ``python -m alligator`` for one worker.
    :param grace: seconds that a worker takes at most to stop once told.
    :param replace_finished: whether a worker that ended well is replaced.
    :param signals: those of the process; None: :meth:`run` counts its own.
    :param start: starts one worker with these arguments, which inherits these descriptors.
    :param was_to_restart: returns whether a worker that has ended was to be replaced at once.
    """

    def __init__(
        self,
        argv: Sequence[str],
        processes: int,
        *,
        grace: float,
        log: logging.Logger,
        replace_finished: bool,
        signals: StopSignals | None = None,
        start: Callable[[Sequence[str], Sequence[int]], "subprocess.Popen[bytes]"] = start_worker,
        was_to_restart: Callable[[], bool] = lambda: False,
    ) -> None:
        self.argv = list(argv)
        self.grace = grace
        self.log = log
        self.replace_finished = replace_finished
        self._start_worker, self._was_to_restart = start, was_to_restart
        self._children = [_Child() for _ in range(processes)]
        self._signals = signals or StopSignals()
        self._signals.raises = False
        self._passed_on = 0
        self._stop_at: float | None = None
        self._killed = False

    def run(self) -> int:
        """Run until all workers have ended; return 0, or 1 if one did not stop in order."""
        with self._signals:
            self._leash, self._leash_of_child = os.pipe()
            try:
                while self._turn():
                    time.sleep(0.05)
            finally:
                os.close(self._leash_of_child)
                os.close(self._leash)
        return 1 if self._killed else 0

    def _turn(self) -> bool:
        """Look at each child once; return whether any is left."""
        if (count := min(self._signals.count, 2)) > self._passed_on:
            self._passed_on = count
            self._pass_on(signal.SIGTERM if count == 1 else QUIT)
        for child in self._children:
            self._look_after(child)
        if self._stop_at is not None and time.monotonic() > self._stop_at:
            self._kill_the_rest()
        return any(child.process or child.start_at is not None for child in self._children)

    def _pass_on(self, number: int) -> None:
        now = time.monotonic()
        if self._stop_at is None:
            self._stop_at = now + self.grace + EXTRA_GRACE
            self.log.info("Stopping %s worker processes.", len(self._children))
        if number == QUIT:
            self._stop_at = min(self._stop_at, now + EXTRA_GRACE)
        for child in self._children:
            child.start_at = None
            if child.process:
                child.process.send_signal(number)

    def _look_after(self, child: _Child) -> None:
        if child.process is None:
            if child.start_at is not None and time.monotonic() >= child.start_at:
                self._start(child)
            return
        code = child.process.poll()
        if code is None:
            return
        pid, child.process = child.process.pid, None
        if self._stop_at is not None:
            child.start_at = None
            # A Worker class that handles no signals is ended by ours: in order.
            self._killed = self._killed or code not in (0, -signal.SIGTERM)
        elif self._was_to_restart():
            child.start_at = time.monotonic()
        elif code == 0:
            child.start_at = time.monotonic() if self.replace_finished else None
        else:
            delay = child.next_delay()
            child.start_at = time.monotonic() + delay
            how = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
            self.log.warning("Worker #%s %s; starting another in %.1f s.", pid, how, delay)

    def _start(self, child: _Child) -> None:
        child.started_at = time.monotonic()
        child.start_at = None
        argv = [*self.argv, f"--leash={self._leash}"]
        child.process = self._start_worker(argv, [self._leash])

    def _kill_the_rest(self) -> None:
        for child in self._children:
            if child.process:
                self._killed = True
                self.log.error("Worker #%s did not stop in time; killing it.", child.process.pid)
                child.process.kill()
                child.process.wait()


def stop_when_abandoned(leash: int) -> None:
    """In a worker process, stop as on SIGTERM once the supervisor is gone."""

    def wait() -> None:
        os.read(leash, 1)  # no process writes there: it returns when the other end is closed
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="alligator-leash", daemon=True).start()
