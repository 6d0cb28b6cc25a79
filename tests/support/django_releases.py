"""Say which Django is tested on which Python, beside the one of this interpreter, and where it is.

``scripts/fetch-django`` installs them.
"""

from pathlib import Path

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
