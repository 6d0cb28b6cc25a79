"""A worker in a thread of the web server, so that development takes one command.

It shares the interpreter's lock with the server, so work that computes makes the server slow, and
it ends with the server. In production, workers are processes of their own.
"""

import threading
import time

from alligator import Gator, Worker


class WorkerThread:
    """Runs a worker between :meth:`start` and :meth:`stop`."""

    def __init__(self, gator: Gator) -> None:
        self._worker = Worker(gator, concurrency=4)
        self._thread = threading.Thread(target=self._worker.run_forever, daemon=True)

    def start(self) -> None:
        """Start the worker."""
        self._thread.start()

    def stop(self, grace: float = 5.0) -> None:
        """Let running tasks finish, for up to so many seconds, before the process ends.

        What runs longer is handed back, and starts again with the next worker.
        """
        deadline = time.monotonic() + grace
        while self._thread.is_alive() and time.monotonic() < deadline:
            self._worker.keep_running = False  # again: a worker that starts sets it
            self._thread.join(0.1)
        self._worker.release()
