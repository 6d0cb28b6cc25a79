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


def run(checker, *arguments, cwd=ROOT):
    """Run a checker, and return how it ended; skip the test where it is not installed."""
    if find_spec(checker) is None:
        message = f"{checker} is not installed: pip install -e '.[dev]'"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    # pyright --verifytypes asks the first Python on the path for packages, whatever it is given.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    where = {"MYPYPATH": str(ROOT), "PYTHONPATH": str(ROOT), "PATH": path}
    return subprocess.run(
        [sys.executable, "-m", checker, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **where},
        capture_output=True,
        text=True,
        timeout=110,
    )


def write_page(project):
    """Write the code of docs/typing.rst into a project, and return the paths of its files."""
    shutil.copytree(ROOT / "tests" / "docs" / "project", project)
    paths, script = [project / "script.py"], [STRICT]
    for block in blocks(ROOT / "docs" / "typing.rst"):
        if file := re.match(r"# ([\w/]+\.py)\n", block.code):
            paths.append(project / file[1])
            paths[-1].write_text(STRICT + block.code)
        elif block.no_run:
            wrong = [line.partition("  #")[0] for line in block.code.splitlines()]
            script += [f"{line}  # type: ignore" for line in wrong]
        else:
            script.append(block.code)
    paths[0].write_text("\n".join(script))
    return paths


@pytest.mark.parametrize("checker", CHECKERS)
def test_right_calls_pass_and_wrong_ones_are_refused(checker, tmp_path):
    project = tmp_path / "project"
    paths = [*CODE, *write_page(project)]
    for path in paths:
        assert path.read_text().startswith(STRICT), path
    (project / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT)]}))
    arguments = [argument.format(cache=tmp_path) for argument in CHECKERS[checker]]
    checked = run(checker, *arguments, *paths, cwd=project)
    said = checked.stdout.replace("0 errors, 0 warnings, 0 informations", "").strip()
    assert (checked.returncode, said) == (0, ""), checked.stdout + checked.stderr


#: What users import from: for them, no checker may have to guess a type.
PUBLIC = (
    *("alligator.gator", "alligator.options", "alligator.producer.options_and_batch"),
    *("alligator.tasks.task", "alligator.tasks.middleware", "alligator.tasks.validation"),
    *("alligator.scheduling.rules", "alligator.scheduling.scheduler.Schedule"),
    *("alligator.exceptions", "alligator.constants", "alligator.utils", "alligator.common.clock"),
    *("alligator.common.ids", "alligator.security", "alligator.monitoring.rows"),
    *("alligator.backends.base", "alligator.backends.store", "alligator.backends.types"),
    *(
        "alligator.workers.worker",
        "alligator.testing",
        "alligator.contrib",
        "alligator.web.dashboard",
    ),
)
#: Logs, errors that an import was caught with, and what derives from Django, which has no types.
NOT_OURS = re.compile(r"\.(log|err)$|\.contrib\.django\.(?!gators$|gator_handler\.)")
#: A method that is a plain function of another module, since a call more would cost each push.
KNOWN = {"alligator.tasks.task.Task.serialize"}


def test_what_is_public_has_types():
    options = ("--ignoreexternal", "--outputjson", "--pythonpath", sys.executable)
    checked = run("pyright", "--verifytypes", "alligator", *options)
    symbols = json.loads(checked.stdout)["typeCompleteness"]["symbols"]
    assert "alligator.gator.Gator.task" in {each["name"] for each in symbols}
    missing, unknown = set(), set()
    for symbol in symbols:
        name, said = symbol["name"], str(symbol["diagnostics"])
        if not symbol["isExported"] or NOT_OURS.search(name):
            continue
        if not (symbol["isTypeKnown"] or symbol["isTypeAmbiguous"]):
            unknown.add(name)
        guessed = "missing type annotation" in said and "Ambiguous base class override" not in said
        if guessed and name.startswith(PUBLIC):
            missing.add(name)
    assert (missing - KNOWN, unknown) == (set(), set())
