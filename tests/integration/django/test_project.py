"""Run the tests inside of the project, with its own manage.py."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

PROJECT = Path(__file__).parent / "project"


@pytest.mark.parametrize("suite", ["transactions", "gator_handler", "inline", "system_checks"])
def test_the_suite(suite, tmp_path):
    shutil.copytree(PROJECT, tmp_path, dirs_exist_ok=True)
    done = subprocess.run(
        [sys.executable, "manage.py", "test", f"shop.suites.{suite}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SHOP_FOLDER": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    assert "Ran 0 tests" not in done.stderr
