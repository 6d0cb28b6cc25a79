"""Test that the steps at which chaos kills a worker are reached, also in the middle of a call."""

import os
import signal
import subprocess
import sys
import uuid

import pytest

from alligator import Gator
from chaos import steps
from tests.support import ROOT

#: What a process does that dies in the middle of the last call.
PROGRAM = """
import sys
from alligator.backends.base import Reason
from chaos.steps import gator
what, queue = sys.argv[1].removesuffix(" mid"), sys.argv[2]
client = gator.client
done = client.reserve([queue]).deliveries
if what == "ride":
    client.reserve([queue], acks=done)
elif what == "ack":
    client.ack(done)
elif what == "release":
    client.release(done[0], done[0].data)
elif what == "hand back":
    client.release(done[0])
elif what == "bury":
    client.bury(done[0], None, Reason("no"))
elif what == "extend":
    client.extend(done, 60)
"""

#: Each step, and how many then wait, run and are dead on redis, where the script has run.
REDIS = {
    "reserve mid": (1, 1, 0),
    "ride mid": (0, 1, 0),
    "ack mid": (1, 0, 0),
    "release mid": (2, 0, 0),
    "hand back mid": (2, 0, 0),
    "bury mid": (1, 0, 1),
    "extend mid": (1, 1, 0),
}

#: The same on sqlite, where the last change is not committed.
SQLITE = dict.fromkeys(REDIS, (1, 1, 0)) | {"reserve mid": (2, 0, 0)}


@pytest.mark.parametrize("backend", ["redis", "sqlite"])
def test_a_worker_dies_in_the_middle_of_each_call(backend, request, tmp_path):
    dsn = request.getfixturevalue(f"{backend}_dsn")
    started = []
    for step in REDIS:
        gator = Gator(dsn, f"steps-{uuid.uuid4().hex[:8]}")
        for name in ("one", "two"):
            gator.task(steps.good, name, 0.0)
        folder = tmp_path / step
        folder.mkdir()
        variables = {"CHAOS_DSN": dsn, "CHAOS_STEP": step, "CHAOS_FOLDER": str(folder)}
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, step, gator.queue_name],
            env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        )
        started.append((step, gator, folder, process))
    for step, gator, folder, process in started:
        assert process.wait(60) == -signal.SIGKILL, step
        assert (folder / "reached").exists(), step
        stats = gator.client.stats(gator.queue_name)
        wanted = {"redis": REDIS, "sqlite": SQLITE}[backend][step]
        assert (stats.waiting, stats.running, stats.dead) == wanted, step
        gator.client.drop_all(gator.queue_name)
        gator.close()
