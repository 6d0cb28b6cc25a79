"""Process 1 of a container: it passes signals on, and reaps orphans.

A process whose parent has ended becomes a child of process 1, and stays a zombie until that one
waits for it. A worker cannot do so: it would take the exit status of what its tasks have started
and wait for themselves. So all else runs in a child, and process 1 does nothing but this.
"""

import os
import signal
import sys

from alligator.workers.signals import STOPS

_PASSED_ON = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def stay_behind() -> int | None:
    """Fork; return None in the child, and in the parent, once the child has ended, its exit code.

    That is 128 and the number of the signal, where it was ended by one. The child has a session
    of its own, so that a Ctrl-C in the terminal reaches it once; stop signals wait there until
    it lets them in. Call it before there are threads and open connections.
    """
    # Blocked, they wait to be asked for: process 1 has no default action to fear, and none of
    # them is lost, whenever it comes.
    watched = {*_PASSED_ON, signal.SIGCHLD}
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
    """Reap all that have ended; return the exit code of the one child, if it is among them."""
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
