"""Encode and decode tasks as SQS messages: the data in the body, the rest in one attribute.

A message without our attribute, as Alligator 1.0 sent it, is a task too: its body is the data.
"""

import base64
import json
import math
import re
import uuid
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, NamedTuple

from alligator.backends.base import Data, Delivery, Reason
from alligator.exceptions import InvalidTask

#: The name of the message attribute that holds the :class:`Metadata` as ASCII JSON.
ATTRIBUTE = "alligator"

#: A message with its attributes, and a batch of them, in bytes (SQS service quota).
LIMIT = 1_048_576

#: The largest data that is plain text: the limit, less room for an id and the metadata that hops
#: and retries add.
LARGEST_TEXT = LIMIT - 1024

#: Entries in one batch (SQS service quota).
BATCH = 10

#: Receives that count as no death: SQS cannot tell a hand-back from a death, so some are free.
FREE_RECEIVES = 7

_LONGEST_ID = 1_000  # a longer one is not ours, and would not fit once the message hops
_SPARE = 512  # bytes kept for the fields that metadata gains later
_ERROR_SIZE, _TRACEBACK_SIZE = 4096, 65_536  # letters, before the cut to what fits
_DATA_TYPE = "String"
_BASE64 = "base64"
_EMPTY = "-"  # SQS refuses an empty body; this is base64 of nothing at all

# The characters that SQS takes (SendMessage: "#x9 | #xA | #xD | #x20 to #xD7FF | ...").
_PLAIN = re.compile("[\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")


@dataclass(frozen=True, slots=True)
class Metadata:
    """The fields that travel beside the data."""

    own_id: str = ""  # given at the push
    first_id: str = ""  # returned by the push; a retry is a new message with a new MessageId
    due: float = 0.0  # must not run before it; a Unix timestamp in seconds
    attempts: int = 0  # in messages before this one
    deaths: int = 0  # likewise
    used: int = 0  # free receives; a task that was handed back must not get them again
    error: str = ""
    traceback: str = ""
    died_at: float = 0.0


@dataclass(slots=True, eq=False)
class Receipt:
    """Our record of a lease; SQS itself often honours the handle of a lease that ran out."""

    handle: str
    received: float  # monotonic seconds
    ends: float  # monotonic seconds, as far as we know
    count: int  # how often SQS delivered it, with the free receives used before this message
    metadata: Metadata
    succeeded: bool = False  # its successor (a retry, a dead letter) was sent
    acked: bool = False

    def expire(self) -> None:
        """End this lease, so that no later call with it has an effect."""
        self.ends = -math.inf


class Outgoing(NamedTuple):
    """A message ready to be sent."""

    body: str
    attribute: str

    @property
    def size(self) -> int:
        """The bytes that SQS counts: the body and the attribute's name, type and value."""
        rest = len(ATTRIBUTE) + len(_DATA_TYPE) + len(self.attribute)
        return len(self.body.encode()) + rest

    def entry(self, delay: int, group: str | None) -> dict[str, Any]:
        """Return the parameters that send it; ``group`` is for FIFO queues."""
        value = {"DataType": _DATA_TYPE, "StringValue": self.attribute}
        entry: dict[str, Any] = {"MessageBody": self.body, "MessageAttributes": {ATTRIBUTE: value}}
        if group is not None:
            # Unique: SQS drops a message with the id of another of the last five minutes.
            return {**entry, "MessageGroupId": group, "MessageDeduplicationId": uuid.uuid4().hex}
        return {**entry, "DelaySeconds": delay} if delay else entry


def encode(data: Data, metadata: Metadata) -> Outgoing:
    """Return the message of a task.

    :raises InvalidTask: it is too large, now or once it is retried or hops.
    """
    body, kind = _body(data)
    needed = len(body.encode()) + len(json.dumps(metadata.own_id)) + _SPARE
    if needed > LIMIT:
        size = len(data.encode(errors="surrogatepass") if isinstance(data, str) else data)
        raise InvalidTask(
            f"The task is {size} bytes and takes {needed} in a message of SQS, which may have "
            f"{LIMIT} (service quota; bytes and control characters travel as base64, 4/3 as long)."
        )
    return Outgoing(body, _attribute(metadata, kind))


def encode_dead(data: Data, metadata: Metadata, reason: Reason) -> Outgoing:
    """Return the message of a dead letter, its reason cut to fit.

    The start of the error stays, and the end of the traceback.
    """
    body, kind = _body(data)
    error, trace = reason.error[:_ERROR_SIZE], reason.traceback[-_TRACEBACK_SIZE:]
    while True:
        full = replace(metadata, error=error, traceback=trace)
        letter = Outgoing(body, _attribute(full, kind))
        if letter.size <= LIMIT or not (error or trace):
            return letter
        error, trace = (error, trace[len(trace) // 2 + 1 :]) if trace else (error[:-64], "")


def decode(message: dict[str, Any]) -> tuple[Data, Metadata]:
    """Return the data and the metadata of a message.

    If the metadata cannot be read, the data is the body as it is, as text.
    """
    body: str = message.get("Body", "")
    attribute = message.get("MessageAttributes", {}).get(ATTRIBUTE, {}).get("StringValue", "{}")
    try:
        found = json.loads(attribute)
        metadata = Metadata(
            **{each.name: _typed(found.get(each.name), each.type) for each in fields(Metadata)}
        )
        if max(len(metadata.own_id), len(metadata.first_id)) > _LONGEST_ID:
            return body, Metadata()
        kind = found.get(_BASE64)
        data = _from_body(body, kind) if kind in ("str", "bytes") else body
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return body, Metadata()
    return data, metadata


def receive_count(message: dict[str, Any]) -> int:
    """Return how often SQS has delivered a message, from 1."""
    return max(1, int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1)))


def decode_delivery(
    queue_name: str, message: dict[str, Any], since: float, visibility: int
) -> Delivery:
    """Return the delivery of a message that was received for so many seconds."""
    data, metadata = decode(message)
    received = receive_count(message)
    count = metadata.used + received
    return Delivery(
        queue_name,
        metadata.first_id or message["MessageId"],
        data,
        Receipt(message["ReceiptHandle"], since, since + visibility, count, metadata),
        metadata.attempts + received,
        metadata.deaths + max(0, count - FREE_RECEIVES),
    )


def successor(taken: Delivery, due: float = 0.0) -> Metadata:
    """Return the metadata of a new message that replaces a delivery."""
    own_id = taken.receipt.metadata.own_id
    return Metadata(own_id, taken.task_id, due, attempts=taken.attempt, deaths=taken.deaths)


def _body(data: Data) -> tuple[str, str]:
    if isinstance(data, str):
        if _PLAIN.fullmatch(data):
            return data, ""
        return _to_base64(data.encode(errors="surrogatepass")), "str"
    return _to_base64(data), "bytes"


def _from_body(body: str, kind: str) -> Data:
    raw = b"" if body == _EMPTY else base64.b64decode(body, validate=True)
    return raw.decode(errors="surrogatepass") if kind == "str" else raw


def _to_base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode() or _EMPTY


def _attribute(metadata: Metadata, kind: str) -> str:
    set_fields = {name: value for name, value in asdict(metadata).items() if value}
    return json.dumps({**set_fields, **({_BASE64: kind} if kind else {})})


def _typed(value: Any, kind: Any) -> Any:
    if value is None:
        return kind()
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise TypeError
    if kind is int and value < 0:
        raise ValueError
    return value
