"""Measure one library once by each scenario: one function per scenario.

A scenario's function takes a library and the scale of the run, and returns its figures by name.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.catalog import Library


@dataclass(frozen=True)
class Scale:
    """Hold how much a scenario does.

    :param seconds: seconds of work to give a worker; the less, the noisier.
    :param depth: the most tasks to queue.
    :param idle: seconds to watch idle workers.
    :param crash: seconds to wait for an interrupted task at most.
    """

    seconds: float = 2.0
    depth: int = 1_000_000
    idle: float = 20.0
    crash: float = 120.0


#: A quick run: rough figures, but all of them.
QUICK = Scale(seconds=0.5, depth=100_000, idle=5.0, crash=40.0)

Figures = dict[str, float]


@dataclass(frozen=True)
class Scenario:
    """Hold one scenario.

    :param measure: measures one library.
    :param together: measure all libraries at the same time, since they mostly wait.
    """

    name: str
    libraries: Iterable[Library]
    measure: Callable[[Library, Scale], Figures]
    together: bool = False
