"""Prove that the harness sees losses: run the loop of killed workers on a client that loses."""

import tempfile
from pathlib import Path

from chaos.environment import Environment
from chaos.loops import worker_killed


def losses_seen(kills: int = 10, patience: float = 3.0) -> int:
    """Return how many losses the loop reports of a lossy client.

    :param patience: seconds to wait for missing tasks in the end.
    """
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        dsn = f"sqlite://{folder}/lossy.db"
        environment = Environment("sqlite", dsn, folder, variables={"CHAOS_LOSSY_DSN": dsn})
        row = worker_killed.run(
            environment, kills, "--app", "chaos.lossy_client:gator", patience=patience
        )
        return row.lost
