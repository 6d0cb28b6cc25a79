"""Measure awaitable calls beside the plain ones, in one run, and how long they hold up the loop.

``python -m benchmarks.asyncio_calls`` starts a redis server of its own. Rates are pushes a second:
of the plain call one by one, and of 50 coroutines that each push one by one. Both are measured in
turns, short ones, and the best of each counts, since a machine has other work, too. The second pair
goes through a proxy that adds 2 ms to each round trip.

*Longest step* is the longest time that the event loop spent in one callback while the calls were
made: nothing else on the loop runs in that time. *Longest work* is the longest time that a callback
kept a processor busy; what the callback waits, for a lock, say, or for the processor on a machine
that has other work, is in the step alone. *Longest gap* is the longest time by which a timer was
late, which other processes of the machine lengthen as well; the first row is without any call.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from asyncio import events
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass

import alligator
from alligator.exceptions import AlligatorException

COROUTINES = 50
TURNS = 12


def note(*args: object) -> None:
    """Do nothing: the task that is pushed."""


@dataclass
class Held:
    """How long the loop was held up, in seconds."""

    longest_step: float = 0.0
    longest_work: float = 0.0
    longest_gap: float = 0.0


@dataclass
class Figures:
    """What one run has found; rates are pushes a second."""

    plain: float
    awaited: float
    plain_late: float
    awaited_late: float
    held: dict[str, Held]


@asynccontextmanager
async def held_up() -> AsyncIterator[Held]:
    """Measure how long the loop is held up in the block."""
    found, run = Held(), events.Handle._run

    def timed(handle: events.Handle) -> None:
        began, worked = time.perf_counter(), time.thread_time()
        run(handle)
        found.longest_step = max(found.longest_step, time.perf_counter() - began)
        found.longest_work = max(found.longest_work, time.thread_time() - worked)

    async def tick() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            found.longest_gap, last = max(found.longest_gap, now - last - 0.001), now

    events.Handle._run = timed  # type: ignore[method-assign]
    ticking = asyncio.create_task(tick())
    try:
        yield found
        await asyncio.sleep(0.01)
    finally:
        events.Handle._run = run  # type: ignore[method-assign]
        ticking.cancel()


@contextmanager
def redis_server() -> Iterator[tuple[int, int]]:
    """Start a redis server for this alone, and yield its port and its process id."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="alligator-asyncio-") as folder:
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.01)
            yield port, process.pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.terminate()
            process.wait()


@contextmanager
def late_by(port: int, seconds: float) -> Iterator[int]:
    """Yield a port through which a server answers so much later."""
    command = [sys.executable, "-m", "benchmarks.delaying_proxy", str(port), str(seconds / 2)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def plain_rate(gator: alligator.Gator, count: int) -> float:
    """Return how many plain pushes a second there are, one by one."""
    began = time.perf_counter()
    for number in range(count):
        gator.task(note, number)
    return count / (time.perf_counter() - began)


async def awaited_rate(gator: alligator.Gator, count: int) -> float:
    """Return how many awaited pushes a second there are, in :data:`COROUTINES` coroutines."""

    async def push() -> None:
        for number in range(count // COROUTINES):
            await gator.atask(note, number)

    began = time.perf_counter()
    await asyncio.gather(*(push() for _ in range(COROUTINES)))
    return count / (time.perf_counter() - began)


def _rates(port: int, plain_count: int, awaited_count: int) -> tuple[float, float]:
    gator = alligator.Gator(f"redis://127.0.0.1:{port}/0", "asyncio-rates")
    plain = awaited = 0.0
    plain_rate(gator, 10)
    for _ in range(TURNS):
        plain = max(plain, plain_rate(gator, plain_count))
        awaited = max(awaited, asyncio.run(awaited_rate(gator, awaited_count)))
        gator.client.drop_all(gator.queue_name)
    gator.close()
    return plain, awaited


async def each_call(gator: alligator.Gator, task: alligator.Task, times: int = 10) -> None:
    """Make each kind of awaitable call some times, in a coroutine each; errors are answers."""
    kinds: list[Callable[[], Awaitable[object]]] = [
        lambda: gator.atask(note, 1),
        lambda: gator.astatus(task),
        lambda: gator.aresult(task, 0.2),
        lambda: gator.await_(task, 0.2),
        lambda: gator.aprogress(task),
        lambda: gator.acancel("unknown"),
        lambda: gator.aqueues(),
        lambda: _first_events(gator, task),
    ]

    async def repeat(call: Callable[[], Awaitable[object]]) -> None:
        for _ in range(times):
            with contextlib.suppress(AlligatorException, TimeoutError):
                async with asyncio.timeout(0.3):
                    await call()

    await asyncio.gather(*(repeat(call) for call in kinds for _ in range(3)))


async def _first_events(gator: alligator.Gator, task: alligator.Task) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            async for _ in gator.aevents(task):
                pass


async def _measure_held(
    port: int, stop: Callable[[], None], end: Callable[[], None]
) -> dict[str, Held]:
    gator = alligator.Gator(f"redis://127.0.0.1:{port}/0", "asyncio-held")
    found: dict[str, Held] = {}
    async with held_up() as found["no call"]:
        await asyncio.sleep(0.5)
    task = await gator.options(save_results=60).atask(note, 1)
    await each_call(gator, task)  # what is imported at the first call does not count
    async with held_up() as found["each call"]:
        await each_call(gator, task)
    async with held_up() as found["50 coroutines that push"]:
        await awaited_rate(gator, 5000)
    stop()
    logging.getLogger("alligator").setLevel(logging.ERROR)  # pushes fail, and their callers left
    async with held_up() as found["each call, server paused"]:
        await each_call(gator, task)
    end()
    async with held_up() as found["each call, server gone"]:
        await each_call(gator, task)
    return found


def measure() -> Figures:
    """Measure all of it, in about half a minute."""
    with redis_server() as (port, pid):
        plain, awaited = _rates(port, 600, 1200)
        with late_by(port, 0.002) as late:
            plain_late, awaited_late = _rates(late, 50, 1000)

        def stop() -> None:
            os.kill(pid, signal.SIGSTOP)

        def end() -> None:
            os.kill(pid, signal.SIGKILL)

        held = asyncio.run(_measure_held(port, stop, end))
    return Figures(plain, awaited, plain_late, awaited_late, held)


def main() -> None:
    """Print the figures; with ``--json``, as JSON."""
    found = measure()
    if "--json" in sys.argv:
        print(json.dumps(asdict(found)))
        return
    for what, plain, awaited in (
        ("no delay", found.plain, found.awaited),
        ("2 ms round trip", found.plain_late, found.awaited_late),
    ):
        print(
            f"{what:>16}: plain {plain:7,.0f}/s, {COROUTINES} coroutines {awaited:7,.0f}/s, "
            f"{awaited / plain:5.1f} times as many"
        )
    for what, held in found.held.items():
        print(
            f"{what:>26}: longest step {held.longest_step * 1000:5.1f} ms, "
            f"work {held.longest_work * 1000:5.1f} ms, gap {held.longest_gap * 1000:5.1f} ms"
        )


if __name__ == "__main__":
    from benchmarks import asyncio_calls  # as a module that can be imported: it has the task

    asyncio_calls.main()
