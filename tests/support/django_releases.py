"""Say which Django is tested on which Python, beside the one of this interpreter, and where it is.

``scripts/fetch-django`` installs them.
"""

import os
from pathlib import Path

from tests.support.interpreters import interpreters

ROOT = Path(__file__).resolve().parent.parent.parent

#: Where the venvs are, and the tests of Django.
FOLDER = ROOT / ".venv-django"

#: The release of Django for each Python.
PINNED = {"3.12": "6.0.10", "3.13": "6.1.3"}


def python_of(version: str) -> Path:
    """Return the interpreter of the venv for a Python, ``'3.13'``."""
    return FOLDER / version / "bin" / "python"


def folder_of_tests(django: str) -> Path:
    """Return the folder of the tests of a Django."""
    return FOLDER / f"tests-{django}"


def missing(version: str) -> str:
    """Return why the Django for a Python is not there; '': it is.

    :raises AssertionError: it could be there, and this is CI.
    """
    django = PINNED[version]
    if version not in interpreters():
        return f"Python {version}, which Django {django} is tested on, is not installed"
    if python_of(version).exists() and folder_of_tests(django).exists():
        return ""
    why = f"Django {django} is not there: run scripts/fetch-django"
    if os.environ.get("CI"):
        raise AssertionError(why)
    return why
