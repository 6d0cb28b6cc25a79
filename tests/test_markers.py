"""Test that markers tell which tests need a server, so that the others run without any."""

import os
import re
import subprocess
import sys

import pytest

from tests.support import ROOT, browser, markers
from tests.support.servers.process import Server

#: Collects, and writes what it found: a line for each test, with its markers.
COLLECT = """
import sys
import pytest

class Show:
    def pytest_collection_finish(self, session):
        for item in session.items:
            print("test", item.nodeid, *sorted({mark.name for mark in item.iter_markers()}))

sys.exit(pytest.main(["-q", "--collect-only", *sys.argv[1:]], plugins=[Show()]))
"""


def run(folder, *command):
    """Run Python with no server on its PATH; in CI a test that lacks its server fails."""
    environment = {**os.environ, "PATH": str(folder), "PYTHONPATH": str(ROOT), "CI": "true"}
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_what_needs_no_server_runs_without_any(tmp_path):
    where = ["tests/unit/common", "tests/unit/test_gator.py", "tests/behaviour/test_contexts.py"]
    said = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not server", *where)
    passed = re.search(r"(\d+) passed", said)
    assert passed
    assert int(passed[1]) > 100
    assert re.search(r"\d+ deselected", said)
    assert "skipped" not in said


@pytest.mark.slow
def test_each_test_is_marked_by_the_servers_that_it_needs(tmp_path):
    # Nothing runs, so no assertion has to be rewritten: that is half of the time.
    said = run(tmp_path, "-c", COLLECT, "-p", "no:cacheprovider", "--assert=plain")
    tests = [line.split("::", 1) for line in said.splitlines() if line.startswith("test ")]
    assert len(tests) > 5000
    for file, rest in tests:
        marks = set(rest.rpartition("]")[2].split())
        kinds = marks & {"redis", "beanstalk", "sqs", "browser"}
        assert bool(kinds) == ("server" in marks), rest
        for kind in ("redis", "beanstalk", "sqs"):
            if f"conformance/test_{kind}.py" in file:
                assert kinds == {kind}, rest
        if file.endswith("browser/test_pages.py"):
            assert kinds == {"browser"}, rest
        if rest.endswith("[locmem]") or "[sqlite]" in rest or file.endswith("test_sqlite.py"):
            assert not kinds, rest


def test_a_server_starts_for_no_test_that_is_not_marked(tmp_path):
    server = Server("redis", [sys.executable, "-c", ""], lambda: True, tmp_path)
    with pytest.raises(RuntimeError, match=r"not marked 'redis'.*@pytest\.mark\.redis"):
        server.start()
    assert server.process is None


def a_helper():
    from tests.support.servers.beanstalk import Beanstalkd

    return Beanstalkd


@pytest.mark.parametrize(
    ("function", "needs"),
    [
        (lambda: a_helper(), {"beanstalk"}),
        (lambda request: request.getfixturevalue("sqs_dsn"), {"sqs"}),
        (lambda: browser.start(), {"browser"}),
        (lambda: markers.check("redis"), set()),
    ],
)
def test_what_a_function_starts_is_seen_through_what_it_calls(function, needs):
    assert markers._needs_of(function) == needs
