"""Compute throughput and waiting from the costs of single steps: pure functions.

Throughput is that of *k* workers which each think for a while and then ask one server, a closed
queueing network: exact mean value analysis (Reiser and Lavenberg, JACM 27, 1980) within the bounds
of operational analysis (Denning and Buzen, Computing Surveys 10, 1978). Waiting is that of M/M/c:
Poisson arrivals, exponential durations, *c* workers (Erlang; Kleinrock, Queueing Systems I, 1975).
"""

import heapq
import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: What `latergator.py` fetches by default: about so many µs of work, and so many tasks at most.
AHEAD_US, MOST = 50_000.0, 100
#: The worker sends acks after so many µs at the latest; that of a slower task at once.
ACK_US = 5_000.0


@dataclass(frozen=True)
class Cost:
    """Hold the cost in µs of a round trip itself, and of each task in it."""

    trip: float
    each: float

    def per_task(self, batch: float) -> float:
        """Return the µs of each task if so many share a round trip."""
        return self.each + self.trip / batch


def fit(found: Mapping[float, float]) -> Cost:
    """Return the cost that comes closest to the µs per task found at each batch size.

    Closest in proportion (least squares of the relative errors), and not below 0.
    """
    rows = [(1 / batch, us) for batch, us in found.items() if us > 1e-9]
    if not rows:
        return Cost(0.0, 0.0)
    # Divided by the figure itself each row reads: trip * x + each * y = 1.
    xs, ys = [part / us for part, us in rows], [1 / us for _, us in rows]
    x, y = sum(xs), sum(ys)
    xx, yy = sum(each * each for each in xs), sum(each * each for each in ys)
    xy = sum(map(operator.mul, xs, ys))
    flat, steep = Cost(0.0, y / yy), Cost(x / xx, 0.0)
    around = xx * yy - xy * xy
    if around <= 1e-12 * xx * yy:
        return flat
    best = Cost((x * yy - y * xy) / around, (y * xx - x * xy) / around)
    if best.trip < 0:
        return flat
    return steep if best.each < 0 else best


def prefetch(task_us: float) -> int:
    """Return how many tasks a worker fetches together if each takes so long."""
    return max(1, min(MOST, int(AHEAD_US / task_us))) if task_us > 0 else MOST


def per_trip(task_us: float) -> float:
    """Return how many tasks share a round trip; less than 1 if a task takes more than one.

    A worker fetches tasks together, and acks together the tasks that end within 5 ms.
    """
    fetched = prefetch(task_us)
    acked = 1 + ACK_US / task_us if 0 < task_us < ACK_US else 1.0
    if task_us == 0 or acked >= fetched > 1:
        return float(fetched)  # acks go along with the next fetch
    return 1 / (1 / fetched + 1 / acked)


# -- Throughput. ----------------------------------------------------------------------------------


def closed(workers: int, think_us: float, server_us: float) -> float:
    """Return the tasks/s of workers that think for so long per task, then use the server.

    :param think_us: the worker's time per task during which the server does not work for it.
    """
    queued, rate = 0.0, 0.0
    for count in range(1, workers + 1):
        stay = server_us * (1 + queued)
        rate = count / (think_us + stay)
        queued = rate * stay
    return rate * 1e6


def throughput(
    workers: int, cycle_us: float, server_us: float, cpu_us: float = 0.0, cores: float = math.inf
) -> float:
    """Return the tasks/s of so many workers on one server.

    :param cycle_us: the total time of a task with a single worker.
    :param server_us: the time of a task in the server's one thread.
    :param cpu_us: CPU of a task, server and worker together, if both share ``cores``.
    """
    rate = closed(workers, max(0.0, cycle_us - server_us), server_us)
    return min(rate, cores * 1e6 / cpu_us) if cpu_us > 0 else rate


def capacity(server_us: float) -> float:
    """Return the most tasks/s that a server with one thread can do."""
    return 1e6 / server_us


def saturating(cycle_us: float, server_us: float) -> float:
    """Return how many workers keep the server's one thread busy: where the two bounds meet."""
    return max(1.0, cycle_us / server_us)


# -- Waiting. -------------------------------------------------------------------------------------


def erlang_c(servers: int, offered: float) -> float:
    """Return the probability that an arriving task must wait.

    :param offered: the load in Erlang: arrivals/s times seconds of service; 1 from ``servers`` up.
    """
    if offered >= servers:
        return 1.0
    blocked = 1.0  # Erlang's B, by its recursion
    for count in range(1, servers + 1):
        blocked = offered * blocked / (count + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))


def mean_wait(rate: float, service: float, workers: int) -> float:
    """Return the mean seconds that a task waits for a worker; infinite if there are too few.

    :param rate: arrivals in tasks/s.
    :param service: seconds that a worker needs for a task.
    """
    spare = workers / service - rate
    return erlang_c(workers, rate * service) / spare if spare > 0 else math.inf


def wait_quantile(share: float, rate: float, service: float, workers: int) -> float:
    """Return the seconds within which a share of the tasks starts, such as 0.99."""
    spare = workers / service - rate
    if spare <= 0:
        return math.inf
    late = erlang_c(workers, rate * service)
    return max(0.0, math.log(late / (1 - share)) / spare) if late > 0 else 0.0


def simulate(tasks: Iterable[tuple[float, float]], workers: int) -> list[float]:
    """Return how long each task waits, given when it arrives and how long it takes (seconds).

    First come, first served. The formulas give the average; this gives one sequence of events.
    """
    free, waits = [0.0] * workers, []
    for at, takes in tasks:
        start = max(at, free[0])
        heapq.heapreplace(free, start + takes)
        waits.append(start - at)
    return waits


# -- Memory and money. ----------------------------------------------------------------------------


def memory(depth: float, task_bytes: float, base: float = 0.0, headroom: float = 1.0) -> float:
    """Return the bytes of so many queued tasks.

    :param headroom: 1 for the tasks alone; up to 2 while redis forks to save its data.
    """
    return (base + depth * task_bytes) * headroom


def cpu_seconds(tasks: float, *costs_us: float) -> float:
    """Return the CPU seconds of so many tasks whose steps take so many µs each."""
    return tasks * sum(costs_us) / 1e6


def sqs_requests(tasks: float, per_task: float, chunks: int = 1) -> float:
    """Return the requests that SQS bills for tasks.

    :param chunks: of 64 KiB in a request; each is billed as one.
    """
    return tasks * per_task * chunks


def sqs_polls(idle_workers: float, seconds: float, poll: float = 20.0) -> float:
    """Return the requests of workers that wait with long polls and find nothing."""
    return idle_workers * seconds / poll


def sqs_price(requests: float, per_million: float) -> float:
    """Return the cost of requests, in the currency of the price."""
    return requests * per_million / 1e6


# -- Shards. --------------------------------------------------------------------------------------


def shards_in_use(queues: int, shards: int) -> float:
    """Return the mean number of shards with a queue, if names are spread at random."""
    return shards * (1 - (1 - 1 / shards) ** queues)
