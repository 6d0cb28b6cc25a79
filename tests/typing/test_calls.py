"""What a type checker accepts of a user's code, and what it refuses."""

import subprocess
import sys
from pathlib import Path

from tests.support import ROOT


def test_right_calls_pass_and_wrong_ones_are_refused(tmp_path):
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-error-summary"),
            *("--config-file=", f"--cache-dir={tmp_path}", "--follow-imports=silent"),
            *("--warn-unused-ignores", str(Path(__file__).parent / "calls.py")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stdout + checked.stderr
