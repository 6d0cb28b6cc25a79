"""The Lua scripts of the redis backend, read from their files and put together."""

from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple

_HERE = "-- (here follows common.lua)\n"  # where a script has lines that go before
_LEASING = frozenset({"reserve", "take", "ack", "ack_again", "settle"})
_NOTING = frozenset({"note", "settle", "cancel_held"})
#: Scripts that do no harm, and reply the same, when they run twice for one call.
_REPEATABLE = frozenset(
    {
        "beat",
        "dead",
        "drop",
        "extend",
        "find",
        "history",
        "note",
        "note_stop",
        "peek",
        "position",
        "stats",
        "waits",
        "workers",
    }
)
_CHILDLESS = frozenset(
    {
        "note",
        "note_stop",
        "extend",
        "find",
        "peek",
        "stats",
        "dead",
        "purge",
        "beat",
        "workers",
        "position",
        "history",
    }
)


class Script(NamedTuple):
    """A script and the hash that the server knows it by."""

    text: bytes
    sha: bytes
    flagless: bytes  # for servers before 7.0, which do not know the first line
    repeatable: bool

    @property
    def flagless_sha(self) -> bytes:
        """The hash of the text without flags."""
        return _sha(self.flagless)


def _sha(text: bytes) -> bytes:
    return sha1(text, usedforsecurity=False).hexdigest().encode()


def _read(name: str) -> str:
    return files("alligator.backends.redis").joinpath("lua", f"{name}.lua").read_text("utf-8")


@cache
def script(name: str) -> Script:
    """Return a script by the name of its file: its flags, what is shared, its own lines."""
    flags, _, body = _read(name).partition("\n")
    base = _read("base") + (_read("leasing") if name in _LEASING else "")
    shared = _read("common") + (_read("children") if name not in _CHILDLESS else "")
    shared += _read("noting") if name in _NOTING else ""
    first, here, rest = body.partition(_HERE)
    flagless = (base + (first + shared + rest if here else shared + body)).encode()
    if name == "push_one":
        flagless = body.encode()
    text = f"{flags}\n".encode() + flagless
    return Script(text, _sha(text), flagless, name in _REPEATABLE)
