"""Measure what a task costs: in the server's one thread, the producer, and busy workers."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from alligator.backends.base import Delivery
from benchmarks import venvs
from benchmarks.scale.environment import QUEUE, ScaleEnvironment
from benchmarks.scale.tasks import compute, wait

Figures = dict[str, float]

#: How many tasks share a round trip, for the fit.
BATCHES = (1, 32, 100)
#: Work whose rate is checked: name, function, µs, whether they are CPU.
WORK = (
    ("nothing", None, 0, True),
    ("computes 1 ms", compute, 1000, True),
    ("waits 2 ms", wait, 2000, False),
    ("waits 20 ms", wait, 20_000, False),
)
CROWDS = (1, 2, 3)
#: Clients that keep redis so busy that it finds several of them whenever it looks.
MANY = 8


def push(batch: int, seconds: float) -> Figures:
    """Return the cost of a push by the public call, one by one or in batches, on a deep queue."""
    with ScaleEnvironment() as environment:
        step = batch if batch > 1 else 100

        def more() -> int:
            if batch == 1:
                environment.push(step)
            else:
                environment.push_batches(step, batch)
            return step

        more()  # scripts are loaded, caches are warm
        found = _timed(environment, more, seconds)
        return found | {"producer_us": found.pop("client_us")}


def push_by_many(seconds: float) -> Figures:
    """Return the cost of a push on the server while several producers push one by one."""
    argv = [sys.executable, "-m", "benchmarks.scale.producer"]
    with ScaleEnvironment() as environment:
        started = [
            subprocess.Popen([*argv, environment.dsn], env=venvs.environment()) for _ in range(MANY)
        ]
        try:
            environment.await_connections(MANY)
            count, server, script = (
                environment.gator.len(),
                environment.server_us(),
                environment.script_us(),
            )
            began = time.perf_counter()
            time.sleep(seconds)
            took = time.perf_counter() - began
            server, script = environment.server_us() - server, environment.script_us() - script
            count = environment.gator.len() - count
        finally:
            for each in started:
                each.kill()
            for each in started:
                each.wait()
    return {"rate": count / took, "server_us": server / count, "script_us": script / count}


def serve(batch: int, seconds: float) -> Figures:
    """Return the cost of reserve and ack on the server, ``batch`` in one round trip."""
    with ScaleEnvironment() as environment:
        client, held = environment.gator.client, list[Delivery]()

        def more() -> int:
            nonlocal held
            held = client.reserve([QUEUE], batch, acks=held).deliveries
            return len(held)

        environment.fill(round(seconds * 50_000) + 1000)
        more()
        found = _timed(environment, more, seconds)
        client.ack(held)
        return found


def _timed(environment: ScaleEnvironment, more: Callable[[], int], seconds: float) -> Figures:
    """Repeat a call until the time is over or no task is left; return the costs per task."""
    count, server, script = 0, environment.server_us(), environment.script_us()
    used, started = time.process_time(), time.perf_counter()
    while time.perf_counter() < started + seconds:
        done = more()
        count += done
        if not done:
            break
    took, cpu = time.perf_counter() - started, time.process_time() - used
    return {
        "rate": count / took,
        "server_us": (environment.server_us() - server) / count,
        "script_us": (environment.script_us() - script) / count,
        "client_us": cpu / count * 1e6,
    }


def overslept(times: int = 200) -> float:
    """Return the median of the µs by which a short wait is too long on this machine."""
    found = []
    for _ in range(times):
        started = time.perf_counter()
        time.sleep(0.002)
        found.append(time.perf_counter() - started - 0.002)
    return statistics.median(found) * 1e6


#: Tasks/s of one worker, by what it does and its prefetch, from a probe.
_probed: dict[tuple[str, int | None], float] = {}


def work(name: str, workers: int, prefetch: int | None, seconds: float) -> Figures:
    """Return the pace of workers that all start at once, for about so long."""
    function, microseconds = next((each[1], each[2]) for each in WORK if each[0] == name)
    args = (function, microseconds) if function else ()
    with (
        ScaleEnvironment() as environment,
        environment.workers(workers, prefetch, held=True) as running,
    ):
        if (name, prefetch) not in _probed:
            first = round(max(20, 0.3e6 / microseconds)) if microseconds else 2000
            environment.fill(first * workers, *args)
            _probed[name, prefetch] = environment.drain(running, first * workers).rate / workers
            for each in running:
                each.hold()
        total = max(50, round(_probed[name, prefetch] * seconds * min(workers, 2)))
        environment.fill(total, *args)
        found = environment.drain(running, total)
    return {"rate": found.rate, "server_us": found.server_us, "worker_us": found.worker_us}
