"""Names of keys, and data on its way to the server and back."""

import math
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from alligator.backends.base import Data
from alligator.common.ids import own_ids
from alligator.exceptions import InvalidTask

#: The largest task, in bytes of its data.
MAX_SIZE = 1024 * 1024

# No UTF-8 text begins so, and text needs no mark.
_BYTES = b"\xff"  # before data pushed as ``bytes``
_NO_ID = b"\xfe"  # in place of how most text begins, up to the id, which the key says
_USUAL = b"\xfd"  # in place of the id and what mostly follows it
_AFTER_ID = '"retries":0,"is_async":'
_UUID = b"\xff"  # before the 16 bytes of an id

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


@lru_cache(maxsize=1024)
def keys_of_push(queue_name: str) -> tuple[bytes, ...]:
    """Return those keys that the push of one plain task wants."""
    keys = dict(zip(_PARTS, keys_of(queue_name), strict=True))
    return tuple(keys[part] for part in ("ready", "data", "seq", "wake", "waiting"))


def wake_key(queue_name: str) -> bytes:
    """Return the list that wakes those who wait for a queue."""
    return keys_of(queue_name)[9]


def opening(ids: Sequence[str], *, one_server: bool) -> list[Any]:
    """Return what the arguments of scripts that push begin with: see common.lua."""
    own = [encode_new_id(each) for each in own_ids(ids)]
    return [len(own), int(one_server), *own]


def watched_key(queue_name: str) -> bytes:
    """Return the key that stands while somebody watches tasks of a queue."""
    return keys_of(queue_name)[11]


def encode_text(text: str) -> bytes:
    """Return text as UTF-8, which a lone surrogate has no place in."""
    try:
        return text.encode()
    except UnicodeEncodeError as err:
        raise InvalidTask(f"The task is not text that UTF-8 can carry: {err}.") from err


def decode_text(raw: bytes) -> str:
    """Return text as it was written, and bytes that are no UTF-8 as lone surrogates."""
    return raw.decode("utf-8", "surrogateescape")


# -- Ids: a UUID as 16 bytes after a mark, any other as its text. ---------------------------------


def _short(task_id: str) -> bytes | None:
    """Return the short form of a UUID written as usual, in lower case; None: it is not that."""
    digits = task_id.replace("-", "")
    if len(digits) != 32 or task_id[8:24:5] != "----":
        return None
    try:
        raw = bytes.fromhex(digits)
    except ValueError:
        return None
    return _UUID + raw if raw.hex() == digits else None


def encode_new_id(task_id: str) -> bytes:
    """Return the id of a task to be pushed as it is kept on the server."""
    return (_short(task_id) if len(task_id) == 36 else None) or encode_text(task_id)


def encode_id(task_id: str) -> bytes:
    """Return an id to look for; one that :func:`decode_id` made of a stranger's bytes, too."""
    try:
        return encode_new_id(task_id)
    except InvalidTask:
        with suppress(UnicodeEncodeError):
            raw = task_id.encode("utf-8", "surrogateescape")
            if decode_id(raw) == task_id:
                return raw
        raise


def decode_id(raw: bytes) -> str:
    """Return an id as it was pushed."""
    if len(raw) == 17 and raw.startswith(_UUID):
        digits = raw.hex()  # those of the mark first
        return f"{digits[2:10]}-{digits[10:14]}-{digits[14:18]}-{digits[18:22]}-{digits[22:]}"
    return decode_text(raw)


def pushed_at(raw: bytes) -> float | None:
    """Return when an id of Alligator's own making was made; None: it is some other id."""
    if len(raw) == 17 and raw.startswith(_UUID) and raw[7] >> 4 == 7:
        return int.from_bytes(raw[1:7]) / 1000
    return None


# -- Data. ----------------------------------------------------------------------------------------


def _beginning(task_id: str) -> str:
    """Return how most data begins, which is not kept a second time."""
    return f'{{"task_id":"{task_id}",'


def encode(data: Data, task_id: str) -> bytes:
    """Return data as it is kept on the server."""
    if isinstance(data, bytes):
        return _BYTES + data
    beginning = _beginning(task_id)
    if not data.startswith(beginning):
        return encode_text(data)
    start = len(beginning)
    if data.startswith(_AFTER_ID, start):
        return _USUAL + encode_text(data[start + len(_AFTER_ID) :])
    return _NO_ID + encode_text(data[start:])


def encode_new(data: Data, task_id: str) -> bytes:
    """Return data to be pushed, unless it is too large."""
    encoded = encode(data, task_id)
    if len(data) > MAX_SIZE // 4:
        size = len(data if isinstance(data, bytes) else data.encode())
        if size > MAX_SIZE:
            raise InvalidTask(
                f"The task is {size} bytes long; redis takes {MAX_SIZE} at most here."
            )
    return encoded


def decode(raw: bytes, task_id: str) -> Data:
    """Return data as it was pushed."""
    mark = raw[:1]
    if mark == _USUAL:
        return f'{{"task_id":"{task_id}",{_AFTER_ID}{raw[1:].decode("utf-8", "surrogateescape")}'
    if mark == _NO_ID:
        return _beginning(task_id) + decode_text(raw[1:])
    return raw[1:] if mark == _BYTES else decode_text(raw)


def micros(timestamp: float | None) -> int:
    """Return a due time in microseconds, rounded up; 0: now."""
    if timestamp is None or not timestamp > 0:
        return 0
    return _FOREVER if timestamp * 1e6 >= _FOREVER else math.ceil(timestamp * 1e6)
