"""What the tasks of a measurement do; the same code in the worker of every library.

Needs the standard library only. The environment says which of them is measured
(``BENCH_TASK``) and which file it marks (``BENCH_MARKS``): one write to a file opened with
``O_APPEND`` is whole, whoever else writes, and the harness only looks at the file's size.
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
    """Say when it started."""
    os.write(_marks, STAMP.pack(time.monotonic_ns()))


def hang(number: int, text: str, x: int = 0) -> None:
    """Say when it started, and stay until the worker is killed."""
    stamp(number, text, x)
    time.sleep(3600)


def wait(number: int, text: str, x: int = 0) -> None:
    """Wait as one that waits for a server, then count."""
    time.sleep(WAIT)
    tick(number, text, x)


async def wait_async(number: int, text: str, x: int = 0) -> None:
    """The same as a coroutine."""
    await asyncio.sleep(WAIT)
    tick(number, text, x)


#: The one that is measured now.
chosen = globals()[os.environ.get("BENCH_TASK", "tick")]
