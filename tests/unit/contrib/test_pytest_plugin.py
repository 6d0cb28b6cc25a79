"""Test the fixture ``gator`` as a project with Alligator installed gets it."""

import os
import subprocess
import sys
import tomllib

import pytest

from tests.support import ROOT

PLUGIN = "alligator.contrib.pytest_plugin"

METADATA = {
    "METADATA": "Metadata-Version: 2.1\nName: alligator\nVersion: 1.1.0\n",
    "entry_points.txt": f"[pytest11]\nalligator = {PLUGIN}\n",
    "RECORD": "",
}


@pytest.fixture
def project(tmp_path):
    """A folder for tests, with Alligator installed beside it, as far as pytest can tell."""
    installed = tmp_path / "site" / "alligator-1.1.0.dist-info"
    installed.mkdir(parents=True)
    for name, text in METADATA.items():
        (installed / name).write_text(text)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def run(project, code, *arguments, conftest=""):
    folder = project / "tests"
    (folder / "test_it.py").write_text(code)
    (folder / "conftest.py").write_text(conftest)
    path = os.pathsep.join(map(str, (project / "site", ROOT)))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr


def test_the_entry_point_is_the_one_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"alligator": PLUGIN}


def test_each_test_has_a_queue_and_a_clock_of_its_own(project):
    said = run(
        project,
        """
import operator
import pytest
from alligator.testing import FakeClock

seen = []

@pytest.mark.parametrize("number", range(3))
def test_fresh(gator, number):
    assert isinstance(gator.clock, FakeClock)
    assert (gator.len(), gator.dead()) == (0, [])
    assert gator.clock.time() == FakeClock().time()
    gator.options(delay_by=3600, retries=2)(operator.truediv, 1, 0)
    gator.task(operator.add, 1, 2)
    assert gator.run_until("+1d") == 4
    gator.task(operator.add, 1, 2)
    seen.append(gator)

def test_nothing_is_left():
    assert len({each.conn_string for each in seen}) == 3
    assert [each.stats()["waiting"] + each.stats()["dead"] for each in seen] == [0, 0, 0]
""",
        "-W",
        "error",
    )
    assert "4 passed" in said, said


ASYNC_TESTS = """
import asyncio
import operator
import pytest

async def check(agator):
    task = await agator.options(save_results=60, delay_by=3600).atask(operator.add, 1, 2)
    assert await agator.arun_all() == 0
    assert await agator.arun_until("+1h") == 1
    assert await agator.aresult(task, 5) == 3
    await agator.aclose()

def test_with_asyncio_run(agator, gator):
    assert agator is gator
    asyncio.run(check(agator))
"""
WITH_PLUGIN = {
    "anyio": """
@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
async def test_with_a_plugin(agator):
    await check(agator)
""",
    "pytest_asyncio": """
@pytest.mark.asyncio
async def test_with_a_plugin(agator):
    await check(agator)
""",
}


@pytest.mark.parametrize("plugin", WITH_PLUGIN)
def test_in_coroutines(project, plugin):
    pytest.importorskip(plugin)
    scope = ["-o", "asyncio_default_fixture_loop_scope=function"]  # else it warns
    more = scope if plugin == "pytest_asyncio" else []
    said = run(project, ASYNC_TESTS + WITH_PLUGIN[plugin], "-W", "error", *more)
    assert "2 passed" in said, said


def test_ones_own_fixture_comes_first(project):
    said = run(
        project,
        "def test_own(gator):\n    assert gator == 'mine'\n",
        conftest="import pytest\n\n@pytest.fixture\ndef gator():\n    return 'mine'\n",
    )
    assert "1 passed" in said, said


def test_it_can_be_switched_off(project):
    code = "def test_it(gator):\n    pass\n"
    assert "1 passed" in run(project, code)
    assert "fixture 'gator' not found" in run(project, code, "-p", "no:alligator")


def test_the_plugin_adds_nothing_but_the_package_itself(project):
    """Modules imported before a measurement of coverage begins count as not covered."""
    said = run(
        project,
        """
import subprocess, sys

LOADED = "print(sorted(name for name in sys.modules if name.startswith('alligator')))"

def test_it():
    package, plugin = (
        subprocess.run(
            [sys.executable, "-c", f"import sys, {name}; {LOADED}"],
            check=True, capture_output=True, text=True,
        ).stdout
        for name in ("alligator", "alligator.contrib.pytest_plugin")
    )
    more = set(eval(plugin)) - set(eval(package))
    assert more == {"alligator.contrib", "alligator.contrib.pytest_plugin"}
    assert "alligator.testing" not in sys.modules
""",
    )
    assert "1 passed" in said, said
