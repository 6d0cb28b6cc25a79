"""What the scripts that lease reply: one string of sizes, receipts and data."""

import struct
from itertools import accumulate, pairwise
from typing import NamedTuple

from alligator.backends.base import Delivery
from alligator.backends.redis.encoding import decode, decode_id

_HEAD = struct.Struct(">qII")  # soon, number of refused acks, number of receipts and data


class Reply(NamedTuple):
    """What a script leased."""

    leased: list[Delivery]
    refused: tuple[int, ...]  # indices of acks
    soon: int  # microseconds until the next change, or a negative number: see reserve.lua


def read_reply(queue_name: str, raw: bytes | list[bytes]) -> Reply:
    """Return what ``reply()`` of ``leasing.lua`` put together."""
    head, *values = raw if isinstance(raw, list) else (raw,)
    soon, acks, count = _HEAD.unpack_from(head)
    refused = struct.unpack_from(f">{acks}I", head, _HEAD.size) if acks else ()
    if count and not values:
        values = _cut(head, _HEAD.size + 4 * acks, count)
    leased = []
    for receipt, data in zip(values[::2], values[1::2], strict=True):
        _, attempt, deaths, _, raw_id = receipt.split(b":", 4)
        task_id = decode_id(raw_id)
        text = decode(data, task_id)
        leased.append(Delivery(queue_name, task_id, text, receipt, int(attempt), int(deaths)))
    return Reply(leased, refused, soon)


def _cut(raw: bytes, start: int, count: int) -> list[bytes]:
    """Return receipts and data by turns, which follow their sizes."""
    sizes = struct.unpack_from(f">{count}I", raw, start)
    ends = list(accumulate(sizes, initial=start + 4 * count))
    return [raw[begin:end] for begin, end in pairwise(ends)]
