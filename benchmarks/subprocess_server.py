"""Serve the calls of the harness in the environment of one library, one line at a time.

``python -m benchmarks.subprocess_server FOLDER``: reads ``{"call": name, "args": [...]}`` and
answers ``{"value": ...}`` or ``{"error": ...}``. Needs the standard library and the adapter only.
"""

import asyncio
import importlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.tasks import STAMP

#: Seconds to wait for a task to start.
PATIENCE = 30.0
#: The file that the tasks mark.
MARKS = Path(os.environ["BENCH_MARKS"])


class SubprocessServer:
    """Hold one adapter, and the event loop that its coroutines need."""

    def __init__(self, adapter: ModuleType) -> None:
        self.adapter = adapter
        self.runner = asyncio.Runner()
        self.do(adapter.setup)

    def do(self, function: Callable[..., Any], *args: Any) -> None:
        """Call a function of the adapter, coroutine or not."""
        result = function(*args)
        if asyncio.iscoroutine(result):
            self.runner.run(result)

    def about(self) -> dict[str, Any]:
        """Return the settings of the adapter."""
        return {
            "settings": self.adapter.SETTINGS,
            "bulk": hasattr(self.adapter, "enqueue_bulk"),
        }

    def worker(self, processes: int, concurrency: int) -> list[list[str]]:
        """Return the commands that start a worker."""
        return self.adapter.worker(processes, concurrency)

    def enqueue(self, count: int) -> float:
        """Push one by one; return the seconds that it took."""
        return self._timed(self.adapter.enqueue, count)

    def enqueue_bulk(self, count: int) -> float:
        """Push with the library's call for many; return the seconds that it took."""
        return self._timed(self.adapter.enqueue_bulk, count)

    def fill(self, count: int) -> float:
        """Push in the fastest way; return the seconds that it took."""
        return self._timed(getattr(self.adapter, "enqueue_bulk", self.adapter.enqueue), count)

    def latencies(self, count: int, seconds: float) -> list[float]:
        """Push one at a time to an idle worker; return the ms until each has started.

        It ends after ``count`` tasks or ``seconds``, whichever is first.
        """
        took: list[float] = []
        end = time.monotonic() + seconds
        while len(took) < count and (time.monotonic() < end or len(took) < 3):
            seen = MARKS.stat().st_size
            pushed = time.monotonic_ns()
            self.do(self.adapter.enqueue, 1)
            took.append((_next_stamp(seen) - pushed) / 1e6)
            time.sleep(random.uniform(0.01, 0.03))  # the worker is to be idle again
        return took

    def hold(self, pushed: int, depth: int, count: int, step: int = 500) -> int:
        """Keep about ``depth`` tasks queued until ``count`` are done; return how many.

        :param pushed: how many are queued now.
        """
        push = getattr(self.adapter, "enqueue_bulk", self.adapter.enqueue)
        deadline = time.monotonic() + 120
        while (done := MARKS.stat().st_size) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{done} of {count} tasks were done after 120 s")
            if pushed - done < depth:
                self.do(push, step)
                pushed += step
            else:
                time.sleep(0.0005)
        return done

    def import_ms(self) -> float:
        """Return the milliseconds that a new interpreter takes to import the library."""
        code = f"import time; t = time.perf_counter(); import {self.adapter.IMPORT}; "
        code += "print((time.perf_counter() - t) * 1000)"
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        return float(ran.stdout)

    def _timed(self, function: Callable[[int], Any], count: int) -> float:
        started = time.perf_counter()
        self.do(function, count)
        return time.perf_counter() - started


def _next_stamp(seen: int) -> int:
    """Wait for the stamp that begins at byte ``seen``; return it."""
    deadline = time.monotonic() + PATIENCE
    with MARKS.open("rb") as marks:
        while os.fstat(marks.fileno()).st_size < seen + STAMP.size:
            if time.monotonic() > deadline:
                raise TimeoutError(f"a task did not start within {PATIENCE:.0f} s")
            time.sleep(0.0002)
        marks.seek(seen)
        return STAMP.unpack(marks.read(STAMP.size))[0]


def main(folder: str) -> None:
    """Answer until the harness closes the pipe."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # so that output of a library is not read as an answer
    server = SubprocessServer(importlib.import_module(f"benchmarks.libraries.{folder}.adapter"))
    print(json.dumps({"value": server.about()}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"value": getattr(server, asked["call"])(*asked["args"])}
        except Exception as err:
            answer = {"error": f"{type(err).__name__}: {err}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
