"""Encode keys, ids, data and due times for the server, and decode its replies."""

import math
import struct
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache, partial
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from alligator.backends.task_controls import write_controls
from alligator.backends.types import Data, Delivery, Message, controls_of
from alligator.common.ids import own_ids
from alligator.exceptions import InvalidTask

#: The largest task, in bytes of its data.
MAX_SIZE = 1024 * 1024

# Marks before data and ids. No UTF-8 text begins with such a byte, so text needs none.
_BYTES = b"\xff"  # before data pushed as ``bytes``
_NO_ID = b"\xfe"  # instead of the beginning of most text, with the id, which the key has
_NO_ID_NOR_MORE = b"\xfd"  # instead of the same and _AFTER_ID
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
    "controls",
)
_FOREVER = 2**53 - 1  # what a score holds exactly, in microseconds: some 285 years


def _key(queue_name: str, part: str) -> bytes:
    return f"alligator:{{{queue_name}}}:{part}".encode()


@lru_cache(maxsize=1024)
def keys_of(queue_name: str) -> tuple[bytes, ...]:
    """Return the keys of a queue in the order that the scripts take."""
    return tuple(_key(queue_name, part) for part in _PARTS)


@lru_cache(maxsize=1024)
def keys_of_push(queue_name: str) -> tuple[bytes, ...]:
    """Return the keys of a queue that ``push_plain.lua`` takes."""
    return tuple(_key(queue_name, part) for part in ("ready", "data", "seq", "wake", "waiting"))


def queue_of(key: bytes) -> str:
    """Return the queue of a key, by its hash tag; '': it has none."""
    tag, found, _ = key.removeprefix(b"alligator:{").partition(b"}:")
    return tag.decode(errors="replace") if found and tag != key else ""


def wake_key(queue_name: str) -> bytes:
    """Return the key of the list that wakes clients waiting for a queue."""
    return _key(queue_name, "wake")


def opening(ids: Sequence[str], *, one_server: bool) -> list[Any]:
    """Return the first arguments of scripts that push: see begin_pushes() in push_arguments.lua."""
    own = [encode_new_id(each) for each in own_ids(ids)]
    return [len(own), int(one_server), *own]


def watched_key(queue_name: str) -> bytes:
    """Return the key that exists while a client watches tasks of a queue."""
    return _key(queue_name, "watched")


def encode_text(text: str) -> bytes:
    """Return text as UTF-8.

    :raises InvalidTask: there is a lone surrogate in it.
    """
    try:
        return text.encode()
    except UnicodeEncodeError as err:
        raise _no_utf8(err) from err


def _no_utf8(err: UnicodeEncodeError) -> InvalidTask:
    return InvalidTask(f"The task is not text that UTF-8 can carry: {err}.")


def decode_text(raw: bytes) -> str:
    """Return UTF-8 as text; other bytes become lone surrogates."""
    return raw.decode("utf-8", "surrogateescape")


# -- Ids: a UUID as 16 bytes after a mark, any other as its text. ---------------------------------


def encode_new_id(task_id: str) -> bytes:
    """Return the id of a task to be pushed as the server keeps it."""
    if len(task_id) == 36 and task_id[8:24:5] == "----":
        digits = task_id.replace("-", "")
        try:
            raw = bytes.fromhex(digits)
        except ValueError:
            return encode_text(task_id)
        if len(raw) == 16 and raw.hex() == digits:  # else it has other dashes, or capitals
            return _UUID + raw
    return encode_text(task_id)


def encode_id(task_id: str) -> bytes:
    """Return an id to look for as the server keeps it.

    This also takes an id that :func:`decode_id` made of the bytes of another program.
    """
    try:
        return encode_new_id(task_id)
    except InvalidTask:
        with suppress(UnicodeEncodeError):
            raw = task_id.encode("utf-8", "surrogateescape")
            if decode_id(raw) == task_id:
                return raw
        raise


def decode_id(raw: bytes) -> str:
    """Return an id that the server keeps as it was pushed."""
    if len(raw) == 17 and raw.startswith(_UUID):
        digits = raw.hex()  # the first two are the mark's
        return f"{digits[2:10]}-{digits[10:14]}-{digits[14:18]}-{digits[18:22]}-{digits[22:]}"
    return decode_text(raw)


def pushed_at(raw: bytes) -> float | None:
    """Return the time in a generated id, a Unix timestamp in seconds; None: another kind of id."""
    if len(raw) == 17 and raw.startswith(_UUID) and raw[7] >> 4 == 7:
        return int.from_bytes(raw[1:7]) / 1000
    return None


# -- Data. ----------------------------------------------------------------------------------------


def encode(data: Data, task_id: str, *, new: bool = False) -> bytes:
    """Return data as the server keeps it.

    :param new: whether it is to be pushed, so that its size is checked.
    :raises InvalidTask: it is too large, or no text that UTF-8 can carry.
    """
    if new and len(data) > MAX_SIZE // 4:
        _check_size(data)
    if isinstance(data, bytes):
        return _BYTES + data
    mark, start = b"", 0
    beginning = f'{{"task_id":"{task_id}",'  # that of most data
    if data.startswith(beginning):
        mark, start = _NO_ID, len(beginning)
        if data.startswith(_AFTER_ID, start):
            mark, start = _NO_ID_NOR_MORE, start + len(_AFTER_ID)
    try:
        return mark + data[start:].encode()
    except UnicodeEncodeError as err:
        raise _no_utf8(err) from err


#: The same for data that is to be pushed, whose size is checked. No call more than :func:`encode`.
encode_new = partial(encode, new=True)


def _check_size(data: Data) -> None:
    size = len(data if isinstance(data, bytes) else encode_text(data))
    if size > MAX_SIZE:
        raise InvalidTask(f"The task is {size} bytes long; redis takes {MAX_SIZE} at most here.")


def decode(raw: bytes, task_id: str) -> Data:
    """Return data that the server keeps as it was pushed."""
    mark = raw[:1]
    if mark == _NO_ID_NOR_MORE:
        return f'{{"task_id":"{task_id}",{_AFTER_ID}{raw[1:].decode("utf-8", "surrogateescape")}'
    if mark == _NO_ID:
        return f'{{"task_id":"{task_id}",{decode_text(raw[1:])}'
    return raw[1:] if mark == _BYTES else decode_text(raw)


def encode_controls(message: Message) -> str:
    """Return the controls of a message as the scripts keep them; '': it has none."""
    return write_controls(controls_of(message)) or ""


def micros(timestamp: float | None) -> int:
    """Return a due time in microseconds, rounded up; 0: now."""
    if timestamp is None or not timestamp > 0:
        return 0
    return _FOREVER if timestamp * 1e6 >= _FOREVER else math.ceil(timestamp * 1e6)


# -- Replies of the scripts that lease: one string of sizes, receipts and data. --------------------


_HEAD = struct.Struct(">qII")  # soon, number of refused acks, number of receipts and data


class Reply(NamedTuple):
    """The reply of a script that leases."""

    leased: list[Delivery]
    refused: tuple[int, ...]  # indices of the acks that were overtaken
    soon: int  # microseconds until the next change, or a negative number: see reserve.lua


def read_reply(queue_name: str, raw: bytes | list[bytes]) -> Reply:
    """Read what ``reply()`` of ``leases.lua`` wrote."""
    head, *values = raw if isinstance(raw, list) else (raw,)
    soon, acks, count = _HEAD.unpack_from(head)
    refused = struct.unpack_from(f">{acks}I", head, _HEAD.size) if acks else ()
    if count and not values:
        values = _split(head, _HEAD.size + 4 * acks, count)
    leased, new = list[Delivery](), tuple.__new__  # what Delivery() calls as well
    for receipt, data in zip(values[::2], values[1::2], strict=True):
        _, attempt, deaths, _, raw_id = receipt.split(b":", 4)
        task_id = decode_id(raw_id)
        if data[:1] == _NO_ID_NOR_MORE:  # most are such: as decode() does it, without the call
            rest = data[1:].decode("utf-8", "surrogateescape")
            text: Data = f'{{"task_id":"{task_id}",{_AFTER_ID}{rest}'
        else:
            text = decode(data, task_id)
        fields = queue_name, task_id, text, receipt, int(attempt), int(deaths)
        leased.append(new(Delivery, fields))
    return Reply(leased, refused, soon)


def _split(raw: bytes, start: int, count: int) -> list[bytes]:
    """Return receipts and data by turns; they follow their sizes."""
    sizes = struct.unpack_from(f">{count}I", raw, start)
    ends = list(accumulate(sizes, initial=start + 4 * count))
    return [raw[begin:end] for begin, end in pairwise(ends)]
