"""Find the interpreters of this machine that Alligator runs on."""

import os
import shutil
import sys
from pathlib import Path

PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))


def interpreters() -> dict[str, str]:
    """Return one for each release that Alligator runs on, by its number."""
    found = {f"{sys.version_info.major}.{sys.version_info.minor}": sys.executable}
    for minor in range(11, 15):
        here = [*PYENV.glob(f"versions/3.{minor}.*/bin/python")]
        path = shutil.which(f"python3.{minor}", path="/usr/local/bin:/usr/bin")
        if each := str(here[0]) if here else path:
            found.setdefault(f"3.{minor}", each)
    return found
