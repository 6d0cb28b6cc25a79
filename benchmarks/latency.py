"""How long from ``gator.task`` to the start of the task, with an idle worker.

    PYTHONPATH=. python benchmarks/latency.py redis://localhost:6379/0

Uses the queue ``latency`` of that backend. The worker runs in a thread of this process, so
both ends read one clock; the way through the backend is the same as between processes.
"""

import logging
import statistics
import sys
import threading
import time

from alligator import Gator, Worker
from benchmarks import marks

ROUNDS = 300


def main(dsn: str) -> None:
    """Measure and print."""
    gator = Gator(dsn, "latency")
    gator.client.drop_all("latency")
    worker = Worker(Gator(dsn, "latency"), log_level=logging.ERROR)
    thread = threading.Thread(target=worker.run_forever)
    thread.start()
    took = []
    for _ in range(ROUNDS):
        marks.ran.clear()
        started = time.perf_counter()
        gator.task(marks.mark)
        if not marks.ran.wait(10):
            raise SystemExit("A task did not start within 10 s.")
        took.append((marks.at[0] - started) * 1000)
        time.sleep(0.01)  # so that the worker is idle, and waits, before the next
    worker.keep_running = False
    thread.join()
    p99 = sorted(took)[int(0.99 * ROUNDS)]
    print(f"{gator!r}: p50 {statistics.median(took):.2f} ms, p99 {p99:.2f} ms of {ROUNDS}")


if __name__ == "__main__":
    main(sys.argv[1])
