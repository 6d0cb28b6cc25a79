"""Every piece of code in the documentation works, as it stands there."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alligator import Gator, cli
from tests.docs.snippets import PAGES, ROOT, blocks

WITH_PYTHON = [page for page in PAGES if any(each.language == "python" for each in blocks(page))]
COMMANDS = [
    pytest.param(line[2:], id=f"{page.stem}: {line[2:60]}")
    for page in PAGES
    for block in blocks(page)
    if block.language == "console"
    for line in block.code.splitlines()
    if line.startswith("$ latergator.py")
]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.stem)
def test_python_of_a_page(page, redis_dsn, tmp_path):
    for queue in ("all", "notifications", "images", "test_all"):
        gator = Gator(redis_dsn, queue)
        gator.client.drop_all(queue)
        gator.close()
    project = tmp_path / "project"
    shutil.copytree(Path(__file__).parent / "project", project)
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.run_page", str(page), redis_dsn],
        cwd=project,
        env={**os.environ, "PYTHONPATH": f"{project}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    count = sum(each.language == "python" for each in blocks(page))
    assert f"ran {count} blocks" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command):
    _, *arguments = shlex.split(command, comments=True)
    if arguments[0] in ("status", "dead", "revive", "drop"):
        cli.queue_parser(arguments[0]).parse_args(arguments[1:])
    else:
        cli.worker_parser().parse_args(arguments)


def test_no_block_hides():
    """Python that is marked otherwise, or not at all, would not be run."""
    languages = {block.language for page in PAGES for block in blocks(page)}
    assert languages <= {"python", "console", "ini"}
    for page in PAGES:
        assert not [
            line
            for line in page.read_text().splitlines()
            if line.endswith("::") and not line.lstrip().startswith("..")
        ], page
    assert len(WITH_PYTHON) >= 6
    assert len(COMMANDS) >= 8
