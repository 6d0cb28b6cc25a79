"""Test what is called before a process ends without Python's own exit."""

import subprocess
import sys
import time

import pytest

from alligator.common import hard_exit


def ended(code, **options):
    """Run code in a process of its own; return its exit code, and what it printed."""
    start = "import os, time\nfrom alligator.common.hard_exit import *\n"
    done = subprocess.run(
        [sys.executable, "-c", start + code], capture_output=True, text=True, timeout=120, **options
    )
    return done.returncode, done.stdout


SAY = "say = lambda seconds: os.write(1, b'said %d ' % (0 < seconds <= 2))\n"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("hard_exit(3)", (3, "")),
        (f"{SAY}before_hard_exit(say)\nbefore_hard_exit(say)\nhard_exit(3)", (3, "said 1 ")),
        (
            f"{SAY}before_hard_exit(lambda seconds: 1 / 0)\nbefore_hard_exit(say)\nhard_exit(4)",
            (4, "said 1 "),
        ),
        (
            f"{SAY}before_hard_exit(say)\nbefore_hard_exit(lambda _: hard_exit(2))\nhard_exit(5)",
            (2, "said 1 "),
        ),
    ],
    ids=["nothing registered", "registered twice", "one raises", "one exits itself"],
)
def test_what_was_registered_is_called(code, expected):
    assert ended(code) == expected


def test_a_forked_child_calls_it_as_well():
    code = f"{SAY}before_hard_exit(say)\nchild = os.fork()\nchild or hard_exit(0)\n"
    assert ended(f"{code}os.waitpid(child, 0)\nhard_exit(6)") == (6, "said 1 said 1 ")


def test_a_call_that_hangs_is_not_waited_for():
    began = time.monotonic()
    assert ended("before_hard_exit(lambda seconds: time.sleep(60))\nhard_exit(7)") == (7, "")
    assert time.monotonic() - began < hard_exit.SECONDS + 30
