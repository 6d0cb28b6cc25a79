"""How a task travels in an SQS message: its data in the body, the rest in one attribute.

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

#: The name of the message attribute that holds a :class:`Note` as ASCII JSON.
ATTRIBUTE = "alligator"

#: A message with its attributes, and a batch of them, in bytes (SQS service quota).
LIMIT = 1_048_576

#: The largest data that is plain text: the limit, less an id and what hops and retries note.
LARGEST_TEXT = LIMIT - 1024

#: Entries in one batch (SQS service quota).
BATCH = 10

#: Receives that count as no death: SQS cannot tell a hand-back from a death, so some are free.
FREE_RECEIVES = 7

_LONGEST_ID = 1_000  # what is longer is none of ours, and would not fit once it hops
_SPARE = 512  # bytes kept for the fields that a note gains on its way
_ERROR_SIZE, _TRACEBACK_SIZE = 4096, 65_536  # letters, before the cut to what fits
_DATA_TYPE = "String"
_BASE64 = "base64"
_EMPTY = "-"  # SQS refuses an empty body; this is base64 of nothing at all

# The characters that SQS takes (SendMessage: "#x9 | #xA | #xD | #x20 to #xD7FF | ...").
_PLAIN = re.compile("[\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")


@dataclass(frozen=True, slots=True)
class Note:
    """What travels beside the data."""

    own_id: str = ""  # given at the push
    first_id: str = ""  # returned by the push; a retry is a new message with a new MessageId
    due: float = 0.0  # not to run before, a Unix timestamp in seconds
    attempts: int = 0  # in messages before this one
    deaths: int = 0  # likewise
    used: int = 0  # of the free receives; a task handed back must not get them anew
    error: str = ""
    traceback: str = ""
    died_at: float = 0.0


@dataclass(slots=True, eq=False)
class Receipt:
    """Our side of a lease; SQS itself often honours the handles of leases that ran out."""

    handle: str
    received: float  # monotonic seconds
    ends: float  # monotonic seconds, as far as we know
    count: int  # how often SQS handed it out, with the free receives used before this message
    note: Note
    succeeded: bool = False  # its successor (a retry, a dead letter) is under way already
    acked: bool = False

    def close(self) -> None:
        """Let nothing count any more that is done with this lease."""
        self.ends = -math.inf


class Outgoing(NamedTuple):
    """A message ready to be sent."""

    body: str
    attribute: str

    @property
    def size(self) -> int:
        """Bytes, as SQS counts them: the body and the attribute's name, type and value."""
        rest = len(ATTRIBUTE) + len(_DATA_TYPE) + len(self.attribute)
        return len(self.body.encode()) + rest

    def entry(self, delay: int, group: str | None) -> dict[str, Any]:
        """Return the parameters to send it with; ``group`` is for FIFO queues."""
        value = {"DataType": _DATA_TYPE, "StringValue": self.attribute}
        entry: dict[str, Any] = {"MessageBody": self.body, "MessageAttributes": {ATTRIBUTE: value}}
        if group is not None:
            # Unique, since SQS drops what has the id of a message of the last five minutes.
            return {**entry, "MessageGroupId": group, "MessageDeduplicationId": uuid.uuid4().hex}
        return {**entry, "DelaySeconds": delay} if delay else entry


def encode(data: Data, note: Note) -> Outgoing:
    """Make a message of a task.

    :raises InvalidTask: too large, now or once it is retried or hops.
    """
    body, kind = _body(data)
    needed = len(body.encode()) + len(json.dumps(note.own_id)) + _SPARE
    if needed > LIMIT:
        size = len(data.encode(errors="surrogatepass") if isinstance(data, str) else data)
        raise InvalidTask(
            f"The task is {size} bytes and takes {needed} in a message of SQS, which may have "
            f"{LIMIT} (service quota; bytes and control characters travel as base64, 4/3 as long)."
        )
    return Outgoing(body, _attribute(note, kind))


def encode_dead(data: Data, note: Note, reason: Reason) -> Outgoing:
    """Make a dead letter, its reason cut to what fits: the start of the error, the end of
    the traceback.
    """
    body, kind = _body(data)
    error, trace = reason.error[:_ERROR_SIZE], reason.traceback[-_TRACEBACK_SIZE:]
    while True:
        full = replace(note, error=error, traceback=trace)
        letter = Outgoing(body, _attribute(full, kind))
        if letter.size <= LIMIT or not (error or trace):
            return letter
        error, trace = (error, trace[len(trace) // 2 + 1 :]) if trace else (error[:-64], "")


def decode(message: dict[str, Any]) -> tuple[Data, Note]:
    """Take a message apart; what cannot be read is given as it is, as text."""
    body: str = message.get("Body", "")
    attribute = message.get("MessageAttributes", {}).get(ATTRIBUTE, {}).get("StringValue", "{}")
    try:
        found = json.loads(attribute)
        note = Note(**{each.name: _typed(found.get(each.name), each.type) for each in fields(Note)})
        if max(len(note.own_id), len(note.first_id)) > _LONGEST_ID:
            return body, Note()
        kind = found.get(_BASE64)
        data = _from_body(body, kind) if kind in ("str", "bytes") else body
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return body, Note()
    return data, note


def receive_count(message: dict[str, Any]) -> int:
    """Return how often SQS handed out a message, from 1."""
    return max(1, int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1)))


def decode_delivery(
    queue_name: str, message: dict[str, Any], since: float, visibility: int
) -> Delivery:
    """Make a delivery of a message that was received for so many seconds."""
    data, note = decode(message)
    received = receive_count(message)
    count = note.used + received
    return Delivery(
        queue_name,
        note.first_id or message["MessageId"],
        data,
        Receipt(message["ReceiptHandle"], since, since + visibility, count, note),
        note.attempts + received,
        note.deaths + max(0, count - FREE_RECEIVES),
    )


def successor(taken: Delivery, due: float = 0.0) -> Note:
    """Return the note for a new message that takes over from a delivery."""
    own_id = taken.receipt.note.own_id
    return Note(own_id, taken.task_id, due, attempts=taken.attempt, deaths=taken.deaths)


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


def _attribute(note: Note, kind: str) -> str:
    set_fields = {name: value for name, value in asdict(note).items() if value}
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
