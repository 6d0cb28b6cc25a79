"""Run the tests inside of the project, with its own manage.py."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.django_releases import PINNED, missing, python_of

PROJECT = Path(__file__).parent / "project"

#: The suites that need no driver, which the venvs of other releases do not have.
WITHOUT_DRIVERS = ("transactions", "gator_handler", "inline")


def run(python, folder, *suites):
    shutil.copytree(PROJECT, folder, dirs_exist_ok=True)
    done = subprocess.run(
        [python, "manage.py", "test", *(f"shop.suites.{each}" for each in suites)],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SHOP_FOLDER": str(folder),
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    assert "Ran 0 tests" not in done.stderr


@pytest.mark.parametrize("suite", [*WITHOUT_DRIVERS, "system_checks"])
def test_the_suite(suite, tmp_path):
    run(sys.executable, tmp_path, suite)


@pytest.mark.parametrize("version", PINNED)
def test_the_suites_on_other_releases_of_django(version, tmp_path):
    if why := missing(version):
        pytest.skip(why)
    run(python_of(version), tmp_path, *WITHOUT_DRIVERS)
