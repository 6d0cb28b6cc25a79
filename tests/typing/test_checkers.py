"""Test which code of users type checkers accept, and which they refuse.

The code is in the files beside this one. Nothing of it is run. Each line that is to be refused says
so, ``type: ignore``: a checker must find an error in each of these, and in no other.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support import ROOT

CODE = sorted(
    path for path in Path(__file__).parent.glob("*.py") if not path.name.startswith(("test_", "__"))
)

#: What each prints and returns when it refuses all wrong calls and no right one. pyright takes
#: its own strictness from the first line of each file.
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
        [sys.executable, "-m", checker, *arguments, *map(str, CODE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    said = checked.stdout.replace("0 errors, 0 warnings, 0 informations", "").strip()
    assert (checked.returncode, said) == (0, ""), checked.stdout + checked.stderr
