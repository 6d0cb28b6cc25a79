"""Create a virtual environment per library, when first needed."""

import compileall
import hashlib
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from alligator import version
from benchmarks.errors import NotMeasured

HERE = Path(__file__).resolve().parent


def binaries(folder: str) -> Path:
    """Return the folder of the scripts and the interpreter of a library's environment.

    It is created again when its ``requirements.txt`` has changed.

    :raises NotMeasured: the installation failed; with the reason.
    """
    home = HERE / ".venvs" / folder
    wanted = HERE / "libraries" / folder / "requirements.txt"
    mark, digest = home / "made-from", hashlib.sha256(wanted.read_bytes()).hexdigest()
    if not mark.exists() or mark.read_text() != digest:
        _run([sys.executable, "-m", "venv", "--clear", str(home)])
        _run([str(home / "bin" / "pip"), "install", "--quiet", "-r", str(wanted)])
        mark.write_text(digest)
    return home / "bin"


def versions(folder: str) -> str:
    """Return the pinned requirements of a library, on one line."""
    pinned = (HERE / "libraries" / folder / "requirements.txt").read_text().split()
    return " ".join([f"alligator {version()}"] * (folder == "alligator") + pinned)


def environment() -> dict[str, str]:
    """Return environment variables by which the processes of a measurement find this repository.

    Python byte-compiles it, as pip compiles the packages that it installs.
    """
    _compile()
    return {**os.environ, "PYTHONPATH": str(HERE.parent), "PYTHONUNBUFFERED": "1"}


@cache
def _compile() -> None:
    compileall.compile_dir(HERE.parent / "alligator", quiet=1)


def _run(argv: list[str]) -> None:
    ran = subprocess.run(argv, capture_output=True, text=True, check=False)
    if ran.returncode:
        lines = [line for line in ran.stderr.splitlines() if line.startswith("ERROR")]
        raise NotMeasured(f"the installation failed: {(lines or ['it did not say why'])[-1]}")
