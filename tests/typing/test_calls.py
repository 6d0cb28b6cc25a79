"""Test which code of users type checkers accept, and which they refuse."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support import ROOT

CALLS = Path(__file__).parent / "calls.py"

#: What each prints and returns when it refuses all wrong calls and no right one. pyright takes
#: its own strictness from the first line of the file.
CHECKERS = {
    "mypy": (
        *("--strict", "--no-error-summary", "--config-file=", "--follow-imports=silent"),
        *("--warn-unused-ignores", "--cache-dir={cache}"),
    ),
    "pyright": ("--pythonpath", sys.executable, "--pythonversion", "3.11"),
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_right_calls_pass_and_wrong_ones_are_refused(checker, tmp_path):
    if find_spec(checker) is None:
        message = f"{checker} is not installed: pip install -e '.[dev]'"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    arguments = [argument.format(cache=tmp_path) for argument in CHECKERS[checker]]
    checked = subprocess.run(
        [sys.executable, "-m", checker, *arguments, str(CALLS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    said = checked.stdout.replace("0 errors, 0 warnings, 0 informations", "").strip()
    assert (checked.returncode, said) == (0, ""), checked.stdout + checked.stderr
