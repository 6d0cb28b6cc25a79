"""Be the init process (process 1) of a container: pass signals on, and reap orphans.

A process whose parent has ended becomes a child of process 1, and stays a zombie until process 1
waits for it. A worker cannot do that: it would take the exit status of processes that its tasks
have started and wait for. So the worker runs in a child, and process 1 does only this.
"""

import os
import signal
import sys

from alligator.workers.signals import STOPS


def stay_behind() -> int | None:
    """Fork; return None in the child, and in the parent, after the child has ended, its exit code.

    The exit code is 128 plus the number of the signal, if a signal ended it. The child has a
    session of its own, so that a Ctrl-C in the terminal reaches it once. It starts with stop
    signals blocked. Call this before there are threads and open connections.
    """
    # Blocked signals wait for sigwait: no default action follows, and no signal is lost.
    watched = {*STOPS, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()  # else the child would write it once more
    child = os.fork()
    if child == 0:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, {*before, *STOPS})
        return None
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, no status would be kept
    try:
        while (code := _reap(child)) is None:
            number = signal.sigwait(watched)
            if number != signal.SIGCHLD:
                os.kill(child, number)
    finally:
        signal.signal(signal.SIGCHLD, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return code


def _reap(child: int) -> int | None:
    """Reap all processes that have ended; return the exit code of the child, if it is one."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code
