"""Test that no installed interpreter warns, with all warnings shown or taken for errors."""

import os
import re
import subprocess

import pytest

from tests.support import ROOT
from tests.support.interpreters import interpreters

PROGRAM = """
import gc, sys, time
from alligator import Gator, Worker

def add(a, b):
    return a + b

def fail():
    raise ValueError("as it should")

def pause():
    time.sleep(5)

async def wait():
    return 3

if __name__ == "__main__":
    import program
    gator = Gator(sys.argv[1])
    parent = gator.options(save_results=60)(program.add, 1, 2)
    gator.options(depends_on=[parent], priority=3)(program.add, 1, 2)
    gator.options(timeout=0.05)(program.pause)
    gator.options(save_results=60)(program.wait)
    gator.task(program.fail)
    for concurrency in (1, 2):
        gator.task(program.add, 2, 3)
        worker = Worker(gator, burst=True, concurrency=concurrency, log_level=50)
        assert worker.run_forever() == 0
    assert gator.result(parent) == 3
    assert gator.client.stats(gator.queue_name).dead == 2
    waiting = gator.task(program.add, 1, 1)
    assert gator.client.find(gator.queue_name, waiting.task_id)
    assert gator.client.peek(gator.queue_name, waiting.task_id)
    assert gator.client.pop(gator.queue_name)
    assert gator.revive() == 2
    assert gator.store.workers(gator.queue_name) == []
    assert gator.store.claim("key", 9.0)
    gator.client.drop_all(gator.queue_name)
    Gator(sys.argv[1]).len()  # let go of without a word
    gc.collect()
    gator.len()  # open as the program ends
"""


def test_no_numbered_parameters():
    """Python 3.12 takes ``?1`` for a name, and warns of it each time that a row is given."""
    for each in (ROOT / "alligator" / "backends" / "sqlite").glob("*.py"):
        assert not re.findall(r"\?[0-9]", each.read_text()), each


@pytest.mark.parametrize("flags", [("-W", "error"), ("-X", "dev")], ids=" ".join)
@pytest.mark.parametrize("version", interpreters())
def test_no_warning(version, flags, sqlite_dsn, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [interpreters()[version], *flags, "program.py", sqlite_dsn],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.returncode == 0
