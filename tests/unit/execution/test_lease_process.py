"""The helper process finds Alligator by itself, wherever that is installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from alligator import Gator
from alligator.execution import lease_process

_CONNECT = """
import runpy, sys
helper = runpy.run_path(sys.argv[1])
client = helper["connect"](sys.argv[2])
print(type(client).__module__, "alligator.gator" in sys.modules)
"""


def test_it_connects_where_nothing_else_leads_to_alligator(tmp_path):
    """Without site-packages, where an editable installation would be found all the same."""
    environment = {name: each for name, each in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-S", "-P", "-c", _CONNECT, lease_process.__file__]
    done = subprocess.run(
        [*command, f"sqlite:///{tmp_path}/db"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "alligator.backends.sqlite.client False\n", done.stderr


def test_a_child_process_gets_the_folder_of_alligator_on_its_path(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "first")
    first, last = lease_process.environment()["PYTHONPATH"].split(os.pathsep)
    assert first == "first"
    assert (Path(last) / "alligator" / "__init__.py").exists()


@pytest.mark.parametrize("helper_lives", [True, False])
def test_a_task_that_closes_the_board_ends_no_thread(tmp_path, helper_lives):
    """The board gets another descriptor, with a high number; or the worker has no helper."""
    gator = Gator(f"sqlite:///{tmp_path}/db")
    process = lease_process.LeaseProcess(gator.client, 30.0)
    assert process.start()
    board = process._board
    os.close(board.descriptor)
    taken = os.open(os.devnull, os.O_RDONLY)  # by other code, which may get that very number
    try:
        if not helper_lives:
            process._process.kill()
            process._process.wait()
        board.taken_back_at = 1.0
        assert process.was_taken_back() == (helper_lives and sys.platform == "linux")
        assert not process.was_taken_back()
        process.restart_if_ended()
    finally:
        process.stop()
        os.fstat(taken)
        os.close(taken)
        gator.close()
