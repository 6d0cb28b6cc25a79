"""Proof that the harness can see a loss: the loop of killed workers on a client that loses."""

import tempfile
from pathlib import Path

from tests.chaos.loops import worker_killed
from tests.chaos.places import Place


def losses_seen(kills: int = 10) -> int:
    """Return how many losses the loop reports of a lossy client."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        dsn = f"sqlite://{folder}/lossy.db"
        place = Place("sqlite", dsn, folder, environment={"CHAOS_LOSSY_DSN": dsn})
        row = worker_killed.run(place, kills, "--app", "tests.chaos.lossy:gator", patience=3.0)
        return row.lost
