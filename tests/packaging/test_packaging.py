"""Test the files that get installed, and that the core needs no other package."""

import os
import subprocess
import sys
import tomllib
import venv
import zipfile

import pytest

import alligator
from tests.support import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder)]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("alligator-*.whl")
    return found


def test_the_version_is_written_once(wheel):
    assert wheel.name == f"alligator-{alligator.version()}-py3-none-any.whl"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" not in project
    assert "version" in project["dynamic"]


def test_the_core_needs_nothing():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == []
    assert {"redis", "beanstalk", "sqs", "cron", "all", "dev"} <= set(
        project["optional-dependencies"]
    )


@pytest.mark.slow
def test_the_wheel_has_all_it_needs_and_no_more(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    scripts = [str(path.relative_to(ROOT)) for path in (ROOT / "alligator").rglob("*.lua")]
    assert scripts
    assert {"alligator/py.typed", *scripts} <= set(names)
    assert any(name.endswith("scripts/latergator.py") for name in names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"alligator"}


def test_installed_it_runs_without_any_other_package(wheel, tmp_path):
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    # Without the checkout on the path, pip would take it for an installed package.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    install = [*command, "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, timeout=110, env=environment)
    latergator = tmp_path / "env" / "bin" / "latergator.py"
    done = subprocess.run(
        [str(latergator), "sqlite://q.db", "--burst"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    missing = subprocess.run(
        [str(latergator), "redis://127.0.0.1/0"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert missing.returncode == 2
    assert "pip install 'alligator[redis]'" in missing.stderr
