"""Kill workers that run random graphs of 50 tasks which wait for each other.

Each task starts after all its parents have ended, and runs again only if its worker was killed: it
is released once. In every fifth graph a task fails, and its descendants never start.
"""

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count

from alligator import Gator, Task
from chaos import jobs
from chaos.common import is_empty
from chaos.environment import Environment
from chaos.fleet import Fleet
from chaos.ledger import ACKNOWLEDGED, ATTEMPTED, Account, Ledger
from chaos.rows import Row, row_of

BACKENDS = ("sqlite", "redis")
FULL = {"sqlite": 1000, "redis": 1000}  # graphs
SMALL = {"sqlite": 4, "redis": 4}

TASKS = 50
PARENTS = 4  # of a task, at most
AT_ONCE = 20  # graphs that are queued
WORKERS = 3
PER_KILL = 60  # tasks
SECONDS = (0.0, 0.001, 0.004)
WITHIN = 120.0  # seconds without progress


@dataclass
class Graph:
    """Hold which task waits for which; the order of the names is a possible order to run in."""

    names: list[str]
    parents: dict[str, list[str]]
    failing: set[str] = field(default_factory=set)

    def without(self, gone: Iterable[str]) -> set[str]:
        """Return the tasks that depend on one of these, directly or not."""
        lost = set(gone)
        for name in self.names:
            if lost.intersection(self.parents[name]):
                lost.add(name)
        return lost - set(gone)


def make_graph(number: int) -> Graph:
    """Return a random graph."""
    names = [f"g{number}/t{each}" for each in range(TASKS)]
    parents = {
        name: random.sample(names[:index], random.randint(0, min(index, PARENTS)))
        for index, name in enumerate(names)
    }
    failing = {random.choice(names)} if number % 5 == 4 else set()
    return Graph(names, parents, failing)


def push(gator: Gator, ledger: Ledger, graph: Graph) -> None:
    """Push a graph in one batch, its tasks in any order; every second one by one."""
    ledger.note(ATTEMPTED, *graph.names)
    tasks = {name: Task(task_id=name) for name in graph.names}
    for name, task in tasks.items():
        task.depends_on = [tasks[each] for each in graph.parents[name]] or None
        job, rest = jobs.work, [random.choice(SECONDS)]
        if name in graph.failing:
            job, rest = jobs.never, []
        gator.prepare(task, job, [ledger.path, name, *rest], {})
    if int(graph.names[0][1:].partition("/")[0]) % 2:
        gator.push_batch(random.sample(list(tasks.values()), TASKS))
    else:
        for name, task in tasks.items():
            gator.push(task, task.func, *task.func_args)
            ledger.note(ACKNOWLEDGED, name)
        return
    ledger.note(ACKNOWLEDGED, *graph.names)


def run(environment: Environment, size: int) -> Row:
    """Push ``size`` graphs, and kill a worker every :data:`PER_KILL` tasks."""
    started = time.monotonic()
    gator, ledger = environment.gator(), Ledger(environment.folder / "ledger")
    graphs = [make_graph(number) for number in range(size)]
    fleet = Fleet(
        environment.dsn,
        gator.queue_name,
        environment.folder,
        ledger,
        *("--lease", str(environment.lease)),
        size=WORKERS,
        variables=environment.variables,
    )
    with fleet:
        stuck = not drive(gator, ledger, fleet, graphs)
        said = fleet.said()[-500:]
    account = ledger.account()
    buried = {letter.task_id for letter in gator.dead(10_000)}
    canceled = {name for graph in graphs for name in graph.without(buried)}
    row = row_of("graphs", environment.name, account, len(account.kills), buried | canceled)
    row.buried = len(buried)
    judge(row, account, graphs, buried, canceled)
    if stuck:
        row.wrong.append(f"stuck: {gator.stats()}; {said}")
    row.note = f"{size} graphs of {TASKS} tasks, {len(canceled)} tasks canceled"
    row.seconds = time.monotonic() - started
    gator.client.drop_all(gator.queue_name)
    gator.close()
    return row


def drive(gator: Gator, ledger: Ledger, fleet: Fleet, graphs: list[Graph]) -> bool:
    """Push and kill until all is done; False: nothing happened for too long."""
    pushed, kills, before = 0, 0, -1
    never = 0  # pushed tasks that will not be completed
    deadline = time.monotonic() + WITHIN
    for turn in count():
        done = ledger.count_completed()
        if done > before:
            before, deadline = done, time.monotonic() + WITHIN
        # One at a time: no worker is killed while graphs are pushed.
        if pushed < len(graphs) and pushed < (done + never) / TASKS + AT_ONCE:
            graph = graphs[pushed]
            push(gator, ledger, graph)
            never += len(graph.failing) + len(graph.without(graph.failing))
            pushed += 1
        if done > kills * PER_KILL:
            fleet.kill()
            kills += 1
        fleet.fill()
        if pushed == len(graphs) and turn % 10 == 0 and is_empty(gator):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return False


def judge(
    row: Row, account: Account, graphs: list[Graph], buried: set[str], canceled: set[str]
) -> None:
    """Report the tasks that ran too early, too often, or although they were canceled."""
    killed = {kill.pid for kill in account.kills}
    first_end = {end.name: end.at for end in reversed(account.ends)}
    starts: dict[str, list] = {}
    for start in account.starts:
        starts.setdefault(start.name, []).append(start)
    for graph in graphs:
        for name in graph.names:
            runs = starts.get(name, [])
            early = [
                parent
                for parent in graph.parents[name]
                if runs and not first_end.get(parent, float("inf")) <= runs[0].at
            ]
            if early:
                row.wrong.append(f"{name} started before its parents {early} had ended")
            if any(each.pid not in killed for each in runs[:-1]):
                row.wrong.append(f"{name} ran {len(runs)} times, not for a kill")
            if name in canceled and runs:
                row.wrong.append(f"{name} ran although a parent of it failed")
        if missing := graph.failing - buried - canceled:  # a parent died too often with its worker
            row.wrong.append(f"{missing} should be buried")
