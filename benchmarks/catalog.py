"""Who is compared, under which names."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """One library in one way of running it.

    :param folder: of its adapter and requirements, below ``benchmarks/peers``.
    :param variant: what the adapter is told in ``BENCH_VARIANT``.
    :param about: tasks/s that may be expected of a worker; enough for a first probe.
    :param place: where its queue is: ``redis`` or ``sqlite``.
    """

    name: str
    folder: str
    about: int
    variant: str = ""
    place: str = "redis"


OURS = Peer("Alligator", "alligator", 10_000)
OURS_SQLITE = Peer("Alligator on SQLite", "alligator", 10_000, place="sqlite")
HUEY_SQLITE = Peer("Huey on SQLite", "huey", 2_500, place="sqlite")
BARE = Peer("bare commands", "bare", 100_000, "100")

PEERS = (
    Peer("RQ", "rq", 220),
    Peer("RQ (SimpleWorker)", "rq", 500, "rq.worker.SimpleWorker"),
    Peer("Celery", "celery", 950),
    Peer("Dramatiq", "dramatiq", 2_000),
    Peer("Huey", "huey", 2_500),
    Peer("arq", "arq", 1_900),
    Peer("SAQ", "saq", 1_900),
    Peer("Taskiq (list)", "taskiq", 3_700, "list"),
    Peer("Taskiq (stream)", "taskiq", 3_700, "stream"),
    Peer("streaQ", "streaq", 1_200),
    Peer("rpqueue", "rpqueue", 1_400),
)

#: Ours and the bare loop, with the same number of tasks per round trip.
BATCHES = (
    *(Peer(f"prefetch {n}", "alligator", 5_000, str(n)) for n in (1, 32, 100)),
    *(Peer(f"bare loop {n}", "bare", 20_000, str(n)) for n in (1, 32, 100)),
    Peer("bare BLPOP", "bare", 6_000, "0"),
)

EVERYBODY = (OURS, *PEERS, BARE, *BATCHES, OURS_SQLITE, HUEY_SQLITE)
