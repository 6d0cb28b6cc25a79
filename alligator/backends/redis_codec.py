"""Names of keys, and data on its way to the server and back."""

import math
from functools import lru_cache
from typing import Any

from alligator.backends.base import Data, Delivery
from alligator.exceptions import InvalidTask

#: The largest task, in bytes of its data.
MAX_SIZE = 1024 * 1024

#: Before data pushed as ``bytes``: no UTF-8 text begins so, and text needs no mark.
_BYTES = b"\xff"

_PARTS = (
    "ready",
    "data",
    "leases",
    "delayed",
    "meta",
    "after",
    "dead",
    "graves",
    "seq",
    "wake",
    "waiting",
    "watched",
    "held",
    "waits",
    "children",
)
_FOREVER = 2**53 - 1  # what a score holds exactly, in microseconds: some 285 years


@lru_cache(maxsize=1024)
def keys_of(queue_name: str) -> tuple[bytes, ...]:
    """Return the keys of a queue in the order that the scripts want."""
    return tuple(f"alligator:{{{queue_name}}}:{part}".encode() for part in _PARTS)


def wake_key(queue_name: str) -> bytes:
    """Return the list that wakes those who wait for a queue."""
    return keys_of(queue_name)[9]


def watched_key(queue_name: str) -> bytes:
    """Return the key that stands while somebody watches tasks of a queue."""
    return keys_of(queue_name)[11]


def encode(data: Data) -> bytes:
    """Return data as it is kept on the server."""
    if isinstance(data, bytes):
        return _BYTES + data
    return encode_text(data)


def encode_text(text: str) -> bytes:
    """Return text as UTF-8, which a lone surrogate has no place in."""
    try:
        return text.encode()
    except UnicodeEncodeError as err:
        raise InvalidTask(f"The task is not text that UTF-8 can carry: {err}.") from err


def encode_id(task_id: str) -> bytes:
    """Return an id to look for; one that :func:`decode_text` made of a stranger's bytes, too."""
    try:
        return task_id.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return encode_text(task_id)  # which says what is wrong


def decode_text(raw: bytes) -> str:
    """Return text as it was written, and bytes that are no UTF-8 as lone surrogates."""
    return raw.decode("utf-8", "surrogateescape")


def encode_new(data: Data) -> bytes:
    """Return data to be pushed, unless it is too large."""
    encoded = encode(data)
    size = len(encoded) - isinstance(data, bytes)
    if size > MAX_SIZE:
        raise InvalidTask(f"The task is {size} bytes long; redis takes {MAX_SIZE} at most here.")
    return encoded


def decode(raw: bytes) -> Data:
    """Return data as it was pushed."""
    return raw[1:] if raw.startswith(_BYTES) else decode_text(raw)


def micros(timestamp: float | None) -> int:
    """Return a due time in microseconds, rounded up; 0: now."""
    if timestamp is None or not timestamp > 0:
        return 0
    return _FOREVER if timestamp * 1e6 >= _FOREVER else math.ceil(timestamp * 1e6)


def deliveries_from(queue_name: str, flat: list[Any]) -> list[Delivery]:
    """Return the deliveries in the reply of a script that leased."""
    return [
        Delivery(
            queue_name,
            decode_text(flat[index]),
            decode(flat[index + 1]),
            flat[index + 2],
            flat[index + 3],
            flat[index + 4],
        )
        for index in range(0, len(flat), 5)
    ]


def pushed_at(task_id: bytes) -> float | None:
    """Return when an id of Alligator's own making was made; None: it is some other id."""
    digits = task_id.replace(b"-", b"")
    if len(task_id) != 36 or task_id[14:15] != b"7":
        return None
    try:
        return int(digits[:12], 16) / 1000
    except ValueError:
        return None
