"""Test that every piece of code in the documentation works, unchanged."""

import configparser
import doctest
import operator
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from alligator import Gator
from alligator.cli import commands as cli
from alligator.cli import parser
from alligator.common import importing
from alligator.exceptions import MissingDriver
from alligator.tasks import validation
from tests.docs.snippets import PAGES, ROOT, blocks, commands, dsns, hidden_code

WITH_PYTHON = [page for page in PAGES if any(each.language == "python" for each in blocks(page))]
COMMANDS = [
    pytest.param(command, id=f"{page.stem}: {command[:60]}")
    for page in PAGES
    for command in commands(page)
]
DSNS = [(page.stem, dsn) for page in PAGES for dsn in dsns(page)]


@pytest.fixture
def page_dsn(request, tmp_path):
    """The redis of the pages; a file, rather than a skip, on a laptop that has no server."""
    if shutil.which("redis-server") or os.environ.get("CI"):
        return request.getfixturevalue("redis_dsn")
    return f"sqlite://{tmp_path}/instead-of-redis.db"


@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.stem)
def test_python_of_a_page(page, page_dsn, tmp_path):
    for queue in ("all", "notifications", "images", "test_all"):
        gator = Gator(page_dsn, queue)
        gator.client.drop_all(queue)
        gator.close()
    project = tmp_path / "project"
    shutil.copytree(Path(__file__).parent / "project", project)
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.run_page", str(page), page_dsn],
        cwd=project,
        env={**os.environ, "PYTHONPATH": f"{project}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    count = sum(each.language == "python" and not each.no_run for each in blocks(page))
    assert f"ran {count} blocks" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command):
    arguments = shlex.split(command.partition(" >")[0], comments=True)
    if arguments[0] in cli.COMMANDS:
        parsed = cli.queue_parser(arguments[0]).parse_intermixed_args(arguments[1:])
    else:
        parsed = cli.worker_parser().parse_args(arguments)
    source = parsed.dsns if arguments[0] == "dashboard" else getattr(parsed, "dsn", None)
    assert arguments[0] == "completion" or source or parsed.app


@pytest.mark.parametrize(("page", "dsn"), DSNS)
def test_dsns_are_accepted(page, dsn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        Gator(dsn).close()  # connects to nothing
    except MissingDriver as err:
        pytest.skip(str(err))
    assert not list(tmp_path.iterdir())


def test_absolute_paths_of_sqlite_have_one_spelling():
    written = [dsn for _, dsn in DSNS]
    written += [each for command in parser.COMMANDS.values() for each in command.examples]
    assert [each for each in written if "sqlite:////" in each] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_code_hides(page):
    """Code that is marked otherwise, or not at all, would not be run."""
    assert hidden_code(page) == []
    if page.stem != "typing":  # tests/typing has its wrong lines refused by type checkers
        assert not [block for block in blocks(page) if block.no_run], "none needs it so far"
    for block in blocks(page):
        if block.language == "ini":
            configparser.ConfigParser(interpolation=None).read_string(block.code)
        elif block.language == "toml":
            tomllib.loads(block.code)
        elif block.language == "text":
            assert page.stem == "internals", "which has drawings"
        else:
            assert block.language in ("python", "console")
            if block.language == "console":
                whole = block.code.replace("\\\n", "")
                assert all(line.startswith("$ ") for line in whole.splitlines())


@pytest.mark.parametrize("backend", ["locmem", "sqlite", "redis", "beanstalk"])
def test_the_tutorial_cancels_on_each_backend_that_it_names(backend, request, tmp_path):
    """Where the server gives ids of its own, too."""
    page = ROOT / "docs" / "tutorial.rst"
    (block,) = [each for each in blocks(page) if "cancel" in each.code]
    if backend == "locmem":
        dsn = f"locmem://{tmp_path}"
    else:
        dsn = request.getfixturevalue(f"{backend}_dsn")
    gator = Gator(dsn, "tutorial")
    names = {"gator": gator, "send_post_email": operator.add}
    names |= {"user": SimpleNamespace(pk=1), "post": SimpleNamespace(pk=2)}
    exec(block.code, names)
    assert gator.len() == 0
    gator.close()


def test_nothing_went_missing():
    assert len(WITH_PYTHON) >= 6
    assert sum(block.language == "python" for page in PAGES for block in blocks(page)) >= 50
    assert len(COMMANDS) >= 12
    assert len(DSNS) >= 30


def test_the_table_of_options_is_complete():
    page = (ROOT / "docs" / "reference" / "options.rst").read_text()
    rows = re.findall(r"^   \* - (.+)$", page, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"``(\w+)``", row)}
    assert named == {*validation.CHECKS, *validation.ALIASES, *validation.SCHEDULE_OPTIONS}


def test_the_table_of_flags_is_complete():
    page = (ROOT / "docs" / "deployment.rst").read_text()
    rows = re.findall(r"^   \* - (.+)$", page, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"(--[\w-]+)", row)}
    actions = cli.worker_parser()._actions
    assert named == {
        name for each in actions for name in each.option_strings if name.startswith("--")
    } - {"--help", "--version", "--leash", "--isolated"}


def test_the_doctests_of_the_reference():
    assert doctest.testmod(importing, raise_on_error=True).attempted > 0
