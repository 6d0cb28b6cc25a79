"""List all scenarios, in the order in which they are measured."""

from benchmarks.catalog import (
    BARE,
    BATCHES,
    HUEY_SQLITE,
    LIBRARIES,
    OURS,
    OURS_SQLITE,
    UNRECORDED,
    UNRECORDED_SQLITE,
    Library,
)
from benchmarks.scenarios import Scenario, footprint, rates, waits

_BULK = tuple(library for library in LIBRARIES if library.name in ("RQ", "streaQ"))
_SQLITE: tuple[Library, ...] = (OURS_SQLITE, HUEY_SQLITE)
_RECORDED = (OURS, UNRECORDED, OURS_SQLITE, UNRECORDED_SQLITE)

EVERY = (
    Scenario("drain", (OURS, *LIBRARIES), rates.drain),
    Scenario("batches", BATCHES, rates.drain),
    Scenario("two", (OURS, *LIBRARIES), rates.drain_by_two),
    Scenario("enqueue", (OURS, *LIBRARIES, BARE), rates.enqueue),
    Scenario("bulk", (OURS, *_BULK, BARE), rates.enqueue_bulk),
    Scenario("latency", (OURS, *LIBRARIES), waits.latency),
    Scenario("depth", (OURS, OURS_SQLITE), rates.depth),
    Scenario("sqlite-drain", _SQLITE, rates.drain),
    Scenario("sqlite-enqueue", _SQLITE, rates.enqueue),
    Scenario("threads", (OURS,), waits.threads),
    Scenario("coroutines", (OURS,), waits.coroutines),
    Scenario("recording", _RECORDED, rates.drain),
    Scenario("import", (OURS, *LIBRARIES), footprint.imports),
    Scenario("idle", (OURS, *LIBRARIES), footprint.idle, together=True),
    Scenario("crash", (OURS, *LIBRARIES), waits.crash, together=True),
)

#: Alligator against the bare loop: these judge a change to Alligator.
SELF = (
    Scenario("drain", (OURS,), rates.drain),
    Scenario("batches", [library for library in BATCHES if library.variant != "0"], rates.drain),
    Scenario("enqueue", (OURS, BARE), rates.enqueue),
    Scenario("bulk", (OURS, BARE), rates.enqueue_bulk),
    Scenario("latency", (OURS,), waits.latency),
    *(scenario for scenario in EVERY if scenario.name.startswith("sqlite-")),
    Scenario("recording", _RECORDED, rates.drain),
)
