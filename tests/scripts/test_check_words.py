"""Test that the check finds the words which the project does not use, and no similar ones."""

import re
import runpy
import subprocess

import pytest

from tests.support import ROOT

SCRIPT = ROOT / "scripts" / "check-words"
NAMES = runpy.run_path(str(SCRIPT))
find_words, BANNED = NAMES["find_words"], NAMES["BANNED"]


def run(*arguments):
    return subprocess.run(
        [str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Whoever pushes it waits.", [(1, "Whoever")]),
        ("One.\nNobody waits, and no one asks.", [(2, "Nobody"), (2, "no one")]),
        ("    # the tasks, and those\n    # that wait", [(1, "those that")]),
        ("def nobody_waits(): ...", [(1, "nobody")]),
        ("def those_that_wait(): ...", [(1, "those that")]),
        ("It is in the place of a lock.", [(1, "in the place of")]),
        ("It is in\nplace of a lock.", [(1, "in place of")]),
        ("The crew; the Keeper; two molds.", [(1, "crew"), (1, "Keeper"), (1, "molds")]),
        ("The server was out of reach.", [(1, "was out of reach")]),
    ],
)
def test_banned_words_are_found(text, found):
    assert [(line, words) for line, words, _ in find_words(text)] == found


@pytest.mark.parametrize(
    "text",
    [
        "The worker renews those leases that it holds.",
        "The user ``nobody`` owns the file.",
        "def test_nobody_waits(): ...",
        "ZooKeeper, impulses, moldy, canew, latest, where",
        "Those are the tasks. That is all.",
        "in place",
        "What comes next is a task.",
    ],
)
def test_other_words_are_not(text):
    assert list(find_words(text)) == []


def test_each_entry_can_be_found_and_says_what_to_write_instead():
    for words, instead in BANNED.items():
        assert instead
        # Spell an expression out: its first alternatives, without what is optional.
        plain = re.sub(r"\(([^()|]*)(\|[^()]*)*\)\??", r"\1", words).split("|")[0]
        plain = re.sub(r"\[(.)[^]]*\]\??|(.)\?", lambda m: m[1] or "", plain)
        assert list(find_words(plain)), (words, plain)


def test_a_file_is_checked_where_its_folder_is_switched_on(tmp_path):
    wrong = tmp_path / "page.rst"
    wrong.write_text("Nobody\n")
    assert run(wrong).returncode == 0
    everywhere = run("--all", wrong)
    assert everywhere.returncode == 1
    assert everywhere.stdout.startswith(f"{wrong}:1: 'Nobody': name the actor")
    counted = run("--count", tmp_path)
    assert counted.stdout.split() == ["1", str(wrong), "1", "in", "all"]


def test_what_is_switched_on_exists_and_is_clean():
    assert [name for name in NAMES["CHECKED"] if not (ROOT / name).exists()] == []
    checked = run()
    assert (checked.returncode, checked.stdout) == (0, "")
