"""Define the tasks of the scale measurement, besides those of ``benchmarks.tasks``."""

import os
import time

from benchmarks.tasks import STAMP, tick

_marks = os.open(os.environ.get("BENCH_MARKS", os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def compute(microseconds: int) -> None:
    """Use the CPU for so long, then count."""
    end = time.perf_counter_ns() + microseconds * 1000
    while time.perf_counter_ns() < end:
        pass
    tick(0, "")


def wait(microseconds: int) -> None:
    """Wait for so long, as for a server, then count."""
    time.sleep(microseconds / 1e6)
    tick(0, "")


def late(pushed_ns: int, seconds: float) -> None:
    """Record how many ns passed until the start, and wait for so long."""
    os.write(_marks, STAMP.pack(time.monotonic_ns() - pushed_ns))
    time.sleep(seconds)
