"""Read the Lua scripts of the redis backend and join them with their libraries.

Three kinds of lines in ``lua/*.lua`` and ``lua/lib/*.lua`` are directives:

- ``-- include: states leases``: the libraries follow here, each once, with what they include;
- ``-- constants: MAX_LEASE``: the numbers follow here, as Python has them;
- ``-- idempotent``: the script does no harm, and replies the same, when it runs twice for one call.
"""

from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple

from alligator.backends.activity_sums import (
    KEEP_ACTIVITY,
    KEEP_LOST,
    MAX_RECENT,
    MAX_ROWS,
    SINGLE_ROWS,
)
from alligator.backends.base import MAX_LEASE
from alligator.backends.store import KEEP_FAILED
from alligator.backends.task_controls import PUT_ASIDE
from alligator.constants import CANCELED, FAILED

#: Seconds after which a waiting client marks the queue again.
LONGEST_WAIT = 15.0

_INCLUDE, _CONSTANTS, _IDEMPOTENT = "-- include: ", "-- constants: ", "-- idempotent"
_VALUES = {
    "MAX_LEASE": int(MAX_LEASE * 1e6),  # microseconds
    "PUT_ASIDE": int(PUT_ASIDE * 1e6),
    "KEEP_FAILED": int(KEEP_FAILED * 1e3),  # milliseconds, likewise the next
    "LONGEST_WAIT": int(LONGEST_WAIT * 1e3),
    "FAILED": FAILED,
    "CANCELED": CANCELED,
    "KEEP_ACTIVITY": int(KEEP_ACTIVITY * 1e3),
    "KEEP_LOST": int(KEEP_LOST * 1e6),  # microseconds
    "MAX_RECENT": MAX_RECENT,
    "MAX_ROWS": MAX_ROWS,
    "SINGLE_ROWS": SINGLE_ROWS,
}


class Script(NamedTuple):
    """A script and the hash that the server knows it by."""

    text: bytes
    sha: bytes
    flagless: bytes  # for servers before 7.0, which cannot read the first line
    idempotent: bool

    @property
    def flagless_sha(self) -> bytes:
        """The hash of the text without flags."""
        return _sha(self.flagless)


@cache
def script(name: str) -> Script:
    """Return a script by the name of its file."""
    flags, _, body = _read(f"{name}.lua").partition("\n")
    flagless = "".join(_joined(body, set())).encode()
    text = f"{flags}\n".encode() + flagless
    return Script(text, _sha(text), flagless, _IDEMPOTENT in body.splitlines())


def _joined(text: str, included: set[str]) -> list[str]:
    """Return the code of a script or library, with libraries and constants in their places."""
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        if line.startswith(_INCLUDE):
            for name in line.removeprefix(_INCLUDE).split():
                if name not in included:
                    included.add(name)
                    lines += _joined(_read(f"lib/{name}.lua"), included)
        elif line.startswith(_CONSTANTS):
            names = line.removeprefix(_CONSTANTS).split()
            lines += [f"local {each} = {_VALUES[each]}\n" for each in names]
        elif line.strip() and not line.lstrip().startswith("--"):
            lines.append(line)
    return lines


def _read(name: str) -> str:
    return files("alligator.backends.redis").joinpath("lua", name).read_text("utf-8")


def _sha(text: bytes) -> bytes:
    return sha1(text, usedforsecurity=False).hexdigest().encode()
