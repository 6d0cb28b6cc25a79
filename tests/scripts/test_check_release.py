"""Test the check that version, changelog and tag agree."""

import runpy
import shutil
import subprocess

import pytest

import alligator
from tests.support import ROOT

SCRIPT = runpy.run_path(str(ROOT / "scripts" / "check-release"))
find_errors, read_version = SCRIPT["find_errors"], SCRIPT["read_version"]


@pytest.fixture
def make_tree(tmp_path):
    """Make a tree with this version and these sections of the changelog."""

    def make(version, *sections):
        package = tmp_path / "alligator"
        package.mkdir()
        numbers = tuple(map(int, version.split(".")))
        (package / "__init__.py").write_text(f'"""Queues."""\n\n__version__ = {numbers}\n')
        text = "\n".join(f"{line}\n{'=' * len(line)}\n\n* A line.\n" for line in sections)
        (tmp_path / "CHANGELOG.rst").write_text(f"=========\nChangelog\n=========\n\n{text}")
        return tmp_path

    return make


def test_this_tree_agrees_with_itself():
    assert read_version(ROOT) == alligator.version()
    assert find_errors(ROOT) == []


def test_a_tag_of_this_commit_agrees_with_the_tree():
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    tagged = subprocess.run(
        [git, "tag", "--points-at", "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert tagged.returncode == 0, tagged.stderr
    releases = [tag for tag in tagged.stdout.split() if any(map(str.isdigit, tag))]
    assert [error for tag in releases for error in find_errors(ROOT, tag)] == []


@pytest.mark.parametrize(
    ("version", "sections", "tag"),
    [
        ("1.1.0", ["1.2.0 (not released)", "1.1.0"], None),
        ("1.1.0", ["1.10.0 (not released)", "1.1.0 (2026-01-31)"], None),
        ("1.2.0", ["1.2.0 (2026-12-31)", "1.1.0"], None),
        ("1.2.0", ["1.2.0 (2026-12-31)", "1.1.0"], "1.2.0"),
    ],
)
def test_right_trees_pass(make_tree, version, sections, tag):
    assert find_errors(make_tree(version, *sections), tag) == []


@pytest.mark.parametrize(
    ("version", "sections", "tag", "error"),
    [
        ("1.2.0", ["1.2.0 (not released)", "1.1.0"], None, "the last release in"),
        ("1.0.0", ["1.2.0 (not released)", "1.1.0"], None, "the last release in"),
        ("1.1.0", ["1.2.0 (2026-12-31)", "1.1.0"], None, "CHANGELOG.rst begins with 1.2.0"),
        ("1.2.0", ["1.2.0", "1.1.0"], None, "a release has its date there"),
        ("1.2.0", ["1.2.0 (soon)", "1.1.0"], None, "a release has its date there"),
        ("1.2.0", ["1.2.0 (2026-02-30)", "1.1.0"], None, "a release has its date there"),
        ("1.2.0", ["1.2.0 (not released)", "1.1.0"], "1.2.0", "a release has its date there"),
        ("1.2.0", ["1.2.0 (2026-12-31)", "1.1.0"], "v1.2.0", "the tag is 'v1.2.0'"),
        ("1.2.0", ["1.2.0 (2026-12-31)", "1.1.0"], "1.2", "the tag is '1.2'"),
        ("1.1.0", ["1.1.0 (2026-12-31)", "1.2.0"], None, "from the newest version down"),
        ("1.2.0", ["1.2.0 (2026-12-31)", "1.1.0 (not released)"], None, "only the first section"),
        ("1.2.0", [], None, "has no section"),
        ("1.2", ["1.2.0 (2026-12-31)"], None, "it has to be three numbers"),
    ],
)
def test_wrong_trees_are_named(make_tree, version, sections, tag, error):
    assert any(error in found for found in find_errors(make_tree(version, *sections), tag))


def test_the_command_tells_by_its_exit_code():
    command = [str(ROOT / "scripts" / "check-release")]
    assert subprocess.run(command, timeout=30).returncode == 0
    wrong = subprocess.run([*command, "v0"], capture_output=True, text=True, timeout=30)
    assert wrong.returncode == 1
    assert "the tag is 'v0'" in wrong.stderr
