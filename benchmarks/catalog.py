"""List the libraries that are compared, with their names in tables."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Library:
    """One library in one way of running it.

    :param folder: the folder of its adapter and requirements, below ``benchmarks/libraries``.
    :param variant: the value of ``BENCH_VARIANT`` for the adapter.
    :param about: tasks/s to expect of a worker; enough for a first probe.
    :param backend: the backend of its queue: ``redis`` or ``sqlite``.
    """

    name: str
    folder: str
    about: int
    variant: str = ""
    backend: str = "redis"


OURS = Library("Alligator", "alligator", 10_000)
OURS_SQLITE = Library("Alligator on SQLite", "alligator", 10_000, backend="sqlite")
HUEY_SQLITE = Library("Huey on SQLite", "huey", 2_500, backend="sqlite")
BARE = Library("bare commands", "bare", 100_000, "100")

#: Ours with ``Gator(activity=False)``.
UNRECORDED = Library("nothing recorded", "alligator", 10_000, "unrecorded")
UNRECORDED_SQLITE = Library(
    "nothing recorded, SQLite", "alligator", 10_000, "unrecorded", backend="sqlite"
)

LIBRARIES = (
    Library("RQ", "rq", 220),
    Library("RQ (SimpleWorker)", "rq", 500, "rq.worker.SimpleWorker"),
    Library("Celery", "celery", 950),
    Library("Dramatiq", "dramatiq", 2_000),
    Library("Huey", "huey", 2_500),
    Library("arq", "arq", 1_900),
    Library("SAQ", "saq", 1_900),
    Library("Taskiq (list)", "taskiq", 3_700, "list"),
    Library("Taskiq (stream)", "taskiq", 3_700, "stream"),
    Library("streaQ", "streaq", 1_200),
    Library("rpqueue", "rpqueue", 1_400),
)

#: Ours and the bare loop, with the same number of tasks per round trip.
BATCHES = (
    *(Library(f"prefetch {n}", "alligator", 5_000, str(n)) for n in (1, 32, 100)),
    *(Library(f"bare loop {n}", "bare", 20_000, str(n)) for n in (1, 32, 100)),
    Library("bare BLPOP", "bare", 6_000, "0"),
)
