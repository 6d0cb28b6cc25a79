"""Proof that the harness can see a loss: the loop of killed workers on a client that loses."""

import tempfile
from pathlib import Path

from chaos.loops import worker_killed
from chaos.places import Place


def losses_seen(kills: int = 10, patience: float = 3.0) -> int:
    """Return how many losses the loop reports of a lossy client.

    :param patience: seconds to wait for what is missing in the end.
    """
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        dsn = f"sqlite://{folder}/lossy.db"
        place = Place("sqlite", dsn, folder, environment={"CHAOS_LOSSY_DSN": dsn})
        row = worker_killed.run(place, kills, "--app", "chaos.lossy:gator", patience=patience)
        return row.lost
