"""All rows, in the order in which they are measured."""

from benchmarks.catalog import BARE, BATCHES, HUEY_SQLITE, OURS, OURS_SQLITE, PEERS, Peer
from benchmarks.rows import Row, rates, waits, weight

_BULK = tuple(peer for peer in PEERS if peer.name in ("RQ", "streaQ"))
_SQLITE: tuple[Peer, ...] = (OURS_SQLITE, HUEY_SQLITE)

EVERY = (
    Row("drain", (OURS, *PEERS), rates.drain),
    Row("batches", BATCHES, rates.drain),
    Row("two", (OURS, *PEERS), rates.drain_by_two),
    Row("enqueue", (OURS, *PEERS, BARE), rates.enqueue),
    Row("bulk", (OURS, *_BULK, BARE), rates.enqueue_bulk),
    Row("latency", (OURS, *PEERS), waits.latency),
    Row("depth", (OURS, OURS_SQLITE), rates.depth),
    Row("sqlite-drain", _SQLITE, rates.drain),
    Row("sqlite-enqueue", _SQLITE, rates.enqueue),
    Row("threads", (OURS,), waits.threads),
    Row("coroutines", (OURS,), waits.coroutines),
    Row("import", (OURS, *PEERS), weight.imports),
    Row("idle", (OURS, *PEERS), weight.idle, together=True),
    Row("crash", (OURS, *PEERS), waits.crash, together=True),
)

#: Ours against the bare loop: what a change to Alligator is judged by.
SELF = (
    Row("drain", (OURS,), rates.drain),
    Row("batches", [peer for peer in BATCHES if peer.variant != "0"], rates.drain),
    Row("enqueue", (OURS, BARE), rates.enqueue),
    Row("bulk", (OURS, BARE), rates.enqueue_bulk),
    Row("latency", (OURS,), waits.latency),
    *(row for row in EVERY if row.name.startswith("sqlite-")),
)
