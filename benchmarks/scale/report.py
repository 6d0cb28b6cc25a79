"""Compare the model with each measured figure, and extend it to larger loads."""

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.scale import arrivals, model
from benchmarks.scale.costs import BATCHES, MANY, WORK
from benchmarks.scale.model import Cost

Found = Mapping[str, Any]

#: The durations of tasks, in µs, for which the page gives the limit of one redis.
DURATIONS = (0.0, 100.0, 1_000.0, 10_000.0, 100_000.0, 1_000_000.0)


@dataclass(frozen=True)
class Way:
    """Hold costs in µs in one way of working: without a pause, or after sleeping.

    :param server: redis' one thread, for reserve and ack, with one worker.
    :param worker: CPU of a worker.
    :param wait: the time during which a single worker does not use its CPU.
    """

    server: Cost
    worker: Cost
    wait: Cost

    def cycle(self, batch: float, task_us: float) -> float:
        """Return the µs that a single worker takes for a task."""
        return self.worker.per_task(batch) + self.wait.per_task(batch) + task_us


@dataclass(frozen=True)
class Inputs:
    """Hold all that the model knows of a machine: costs in µs.

    :param hot: with tasks that take no time.
    :param asleep: with tasks that wait: worker and redis wake up for each round trip.
    :param busy: redis' thread for reserve and ack when it finds several clients at each look.
    :param push: redis' thread for a push, with one client.
    :param busy_push: µs of a push, one by one, with many producers.
    :param producer: CPU of the producer.
    :param start: seconds until a task starts in an idle worker.
    :param service: seconds that a worker needs for a task that waits ``arrivals.DURATION``.
    """

    hot: Way
    asleep: Way
    busy: Cost
    push: Cost
    busy_push: float
    producer: Cost
    start: float
    service: float

    def way(self, task_us: float) -> Way:
        """Return the costs with tasks that wait for so long."""
        return self.asleep if task_us >= 1000 else self.hot


@dataclass(frozen=True)
class Check:
    """Hold a measured figure, and that of the model."""

    what: str
    workers: int
    measured: float
    model: float

    @property
    def off(self) -> float:
        """Return the error of the model, as a part of the measured figure."""
        return self.model / self.measured - 1


def median(found: Found, part: str, name: str, figure: str) -> float:
    """Return the median over the passes; KeyError if it was not measured."""
    return statistics.median(each[figure] for each in found[part][name])


def inputs(found: Found) -> Inputs:
    """Return the costs that a run has found."""
    pushed = {1: "1", 100: "100"}
    many = {n: f"nothing|{MANY}|{n}" for n in (1, 100)}
    return Inputs(
        hot=_hot(found),
        asleep=_asleep(found),
        busy=_fitted(found, "work", "server_us", many),
        push=_fitted(found, "push", "server_us", pushed),
        busy_push=median(found, "push", "many", "server_us"),
        producer=_fitted(found, "push", "producer_us", pushed),
        start=found["idle"],
        service=found["service"],
    )


def _hot(found: Found) -> Way:
    alone = {n: f"nothing|1|{n}" for n in BATCHES}
    return Way(
        server=_fitted(found, "serve", "server_us", {n: str(n) for n in BATCHES}),
        worker=_fitted(found, "work", "worker_us", alone),
        wait=model.fit({n: _unused(found, name) for n, name in alone.items()}),
    )


def _asleep(found: Found) -> Way:
    took = {f"{name}|1|auto": us for name, _, us, cpu in WORK if not cpu}
    names = {model.per_trip(us): name for name, us in took.items()}
    return Way(
        server=_fitted(found, "work", "server_us", names),
        worker=_fitted(found, "work", "worker_us", names),
        wait=model.fit(
            {
                n: max(0.0, _unused(found, name) - took[name] - found["overslept"])
                for n, name in names.items()
            }
        ),
    )


def _fitted(found: Found, part: str, figure: str, names: Mapping[Any, str]) -> Cost:
    return model.fit({n: median(found, part, name, figure) for n, name in names.items()})


def _unused(found: Found, name: str) -> float:
    """Return the µs per task during which a worker did not use its CPU."""
    taken = 1e6 / median(found, "work", name, "rate")
    return max(0.0, taken - median(found, "work", name, "worker_us"))


def checks(found: Found) -> dict[str, list[Check]]:
    """Return tasks/s, and µs per task of redis and of worker, beside those of the model."""
    costs, cores = inputs(found), float(found["about"]["cores"])
    result: dict[str, list[Check]] = {"rate": [], "server_us": [], "worker_us": []}
    for name in found["work"]:
        task, number, prefetch = name.split("|")
        workers, (task_us, cpu) = int(number), _task(task)
        batch = model.per_trip(task_us) if prefetch == "auto" else float(prefetch)
        way = costs.hot if cpu else costs.asleep
        # With many clients redis is under load; with tasks that take time it sleeps in between.
        serving = costs.busy if workers == MANY else costs.way(task_us).server
        server = serving.per_task(batch)
        worker = way.worker.per_task(batch) + (task_us if cpu else 0.0)
        cycle = way.cycle(batch, task_us + (0.0 if cpu else found["overslept"]))
        said = {
            "rate": model.throughput(workers, cycle, server, server + worker, cores),
            "server_us": server,
            "worker_us": worker,
        }
        what = task if prefetch == "auto" else f"{task}, prefetch {prefetch}"
        for figure, each in said.items():
            measured = median(found, "work", name, figure)
            result[figure].append(Check(what, workers, measured, each))
    return result


def _task(name: str) -> tuple[float, bool]:
    return next((each[2], each[3]) for each in WORK if each[0] == name)


@dataclass(frozen=True)
class Waited:
    """Hold seconds until a task starts: measured, by formula, by simulation of the same draws."""

    workers: int
    load: float
    measured: Mapping[str, float]
    formula: Mapping[str, float]
    simulated: Mapping[str, float]


def waited(found: Found) -> Iterator[Waited]:
    """Yield how long tasks waited, beside the model."""
    costs = inputs(found)
    service = costs.service
    for row in found["waits"]:
        workers, rate = row["workers"], row["rate"]
        drawn = arrivals.draws(rate, row["seconds"], row["seed"])
        over = service - arrivals.DURATION
        simulated = model.simulate([(at, takes + over) for at, takes in drawn], workers)
        formula = {
            "mean": model.mean_wait(rate, service, workers),
            "p50": model.wait_quantile(0.5, rate, service, workers),
            "p99": model.wait_quantile(0.99, rate, service, workers),
        }
        yield Waited(
            workers,
            rate * service / workers,
            row,
            {name: each + costs.start for name, each in formula.items()},
            {name: each + costs.start for name, each in arrivals.summary(simulated).items()},
        )


@dataclass(frozen=True)
class Reach:
    """Hold the limit of one redis with tasks of one duration, on enough machines.

    :param batch: tasks that share a round trip.
    :param alone: tasks/s of one worker.
    :param server_us: µs of redis' thread for a task, its push included.
    :param most: tasks/s of one redis.
    :param workers: the number of workers that keep it busy.
    :param cpu_s: CPU seconds of a million tasks, without what the tasks do themselves.
    """

    task_us: float
    batch: float
    alone: float
    server_us: float
    most: float
    workers: float
    cpu_s: float


def reach(costs: Inputs, task_us: float) -> Reach:
    """Return the limit of one redis, with every task pushed by itself."""
    batch = model.per_trip(task_us)
    way = costs.way(task_us)
    cycle = way.cycle(batch, task_us)
    both = costs.busy.per_task(batch) + costs.busy_push
    most = model.capacity(both)
    own = (costs.producer.per_task(1), way.worker.per_task(batch))
    return Reach(
        task_us=task_us,
        batch=batch,
        alone=1e6 / cycle,
        server_us=both,
        most=most,
        workers=model.saturating(cycle, both),
        cpu_s=model.cpu_seconds(1e6, both, *own),
    )
