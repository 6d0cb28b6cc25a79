"""Let a store know what workers would have recorded."""

import time

from alligator.backends.types import Report
from alligator.monitoring.activity_counts import QUEUE, Measured, Tally, depth_numbers


def record(gator, queue="mail", function="shop.mail.send", *, ago=2, runs=10, failed=0, took=0.2):
    """Let workers have recorded runs, some minutes ago."""
    tally = Tally()
    tally.add("succeeded", runs - failed)
    tally.add("failed", failed)
    tally.add("dead", failed)
    tally.add_runs(runs, [Measured(took, took / 4, is_single=True)] * runs)
    minute = int(time.time() // 60 - ago) * 60
    gator.store.report(Report("w", activity=[(minute, queue, function, tally.take())]))


def record_depth(gator, waiting, queue="mail", *, ago=4):
    minute = int(time.time() // 60 - ago) * 60
    row = (minute, queue, QUEUE, depth_numbers(waiting, 0, 0, None))
    gator.store.report(Report("w", activity=[row]))


def serve(gator, queue="mail"):
    gator.store.beat("host:1:a", [queue], 60)
