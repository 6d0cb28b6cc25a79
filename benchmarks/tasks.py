"""Define the tasks of a measurement: the same code in the worker of every library.

It needs the standard library only. Environment variables say which task is measured
(``BENCH_TASK``) and which file it marks (``BENCH_MARKS``). One write to a file opened with
``O_APPEND`` is never mixed with other writes, and the harness only looks at the file's size.
"""

import asyncio
import os
import struct
import time

#: Seconds that a waiting task waits.
WAIT = 0.05
#: A stamp: when a task started, in ns of the clock that all processes share.
STAMP = struct.Struct("=q")

_marks = os.open(os.environ.get("BENCH_MARKS", os.devnull), os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def tick(number: int, text: str, x: int = 0) -> None:
    """Count."""
    os.write(_marks, b".")


def stamp(number: int, text: str, x: int = 0) -> None:
    """Record when it started."""
    os.write(_marks, STAMP.pack(time.monotonic_ns()))


def hang(number: int, text: str, x: int = 0) -> None:
    """Record when it started, and sleep until the worker is killed."""
    stamp(number, text, x)
    time.sleep(3600)


def wait(number: int, text: str, x: int = 0) -> None:
    """Sleep like a task that waits for a server, then count."""
    time.sleep(WAIT)
    tick(number, text, x)


async def wait_async(number: int, text: str, x: int = 0) -> None:
    """Do the same as a coroutine."""
    await asyncio.sleep(WAIT)
    tick(number, text, x)


#: The task that is measured now.
chosen = globals()[os.environ.get("BENCH_TASK", "tick")]
