"""Test which code of users type checkers accept, and which they refuse.

The code is in the files beside this one, and in docs/typing.rst. Nothing of it is run here. Each
line that is to be refused says so, ``type: ignore``: a checker must find an error in each of these,
and in no other.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs.snippets import blocks
from tests.support import ROOT

CODE = sorted(
    path for path in Path(__file__).parent.glob("*.py") if not path.name.startswith(("test_", "__"))
)
STRICT = "# pyright: strict, reportUnnecessaryTypeIgnoreComment=true\n"

#: What each prints and returns when it refuses all wrong calls and no right one. pyright takes
#: its own strictness from the first line of each file.
CHECKERS = {
    "mypy": (
        *("--strict", "--no-error-summary", "--config-file=", "--follow-imports=silent"),
        *("--warn-unused-ignores", "--cache-dir={cache}"),
    ),
    "pyright": ("--pythonpath", sys.executable, "--pythonversion", "3.11"),
}


def check(checker, paths, cwd, cache):
    """Fail unless a checker finds nothing to say of these files."""
    if find_spec(checker) is None:
        message = f"{checker} is not installed: pip install -e '.[dev]'"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    arguments = [argument.format(cache=cache) for argument in CHECKERS[checker]]
    checked = subprocess.run(
        [sys.executable, "-m", checker, *arguments, *map(str, paths)],
        cwd=cwd,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    said = checked.stdout.replace("0 errors, 0 warnings, 0 informations", "").strip()
    assert (checked.returncode, said) == (0, ""), checked.stdout + checked.stderr


@pytest.mark.parametrize("checker", CHECKERS)
def test_right_calls_pass_and_wrong_ones_are_refused(checker, tmp_path):
    for path in CODE:
        assert path.read_text().startswith(STRICT), path
    check(checker, CODE, ROOT, tmp_path)


@pytest.mark.parametrize("checker", CHECKERS)
def test_the_page_on_types_says_what_checkers_say(checker, tmp_path):
    project = tmp_path / "project"
    shutil.copytree(ROOT / "tests" / "docs" / "project", project)
    (project / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT)]}))
    paths, script = [], [STRICT]
    for block in blocks(ROOT / "docs" / "typing.rst"):
        if file := re.match(r"# ([\w/]+\.py)\n", block.code):
            paths.append(project / file[1])
            paths[-1].write_text(STRICT + block.code)
        elif block.no_run:
            wrong = [line.partition("  #")[0] for line in block.code.splitlines()]
            script += [f"{line}  # type: ignore" for line in wrong]
        else:
            script.append(block.code)
    paths.append(project / "script.py")
    paths[-1].write_text("\n".join(script))
    check(checker, paths, project, tmp_path / "cache")
