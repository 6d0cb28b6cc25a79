"""beanstalkd's protocol in bytes, for commands that are sent many in one write."""

import re
from collections.abc import Iterator, Sequence
from io import BufferedReader
from typing import NamedTuple, TypedDict

import greenstalk

#: Commands sent and not answered. The server answers one before it reads the next, so with
#: much unread on both sides each would wait for the other. Of this many, either the commands
#: are short (reserve, stats-job) or the replies are (put), and those fit in any socket's buffer.
MOST_COMMANDS = 256

#: Bytes sent and not answered; a single command may have more.
MOST_BYTES = 65_536

_WITH_BODY = frozenset({b"RESERVED", b"FOUND", b"OK"})


class Reply(NamedTuple):
    """What the server said to one command that it carried out."""

    number: int  # the id of the job, where it is about one
    body: bytes


class Record(TypedDict):
    """What a lease has to know of its job: the part of ``stats-job`` that stays; and its age."""

    tube: str
    pri: int
    age: int  # seconds since it was put, as it was reserved
    ttr: int
    reserves: int
    releases: int
    buries: int


# As servers up to 1.13 order it; it is YAML, so another may do otherwise.
_IN_ORDER = re.compile(
    rb'\ntube: "?([^"\n]+)"?\n(?:.+\n)*?pri: (\d+)\nage: (\d+)\n(?:.+\n)*?ttr: (\d+)\n(?:.+\n)*?'
    rb"reserves: (\d+)\n(?:.+\n)*?releases: (\d+)\n(?:.+\n)*?buries: (\d+)\n"
)

Answer = Reply | greenstalk.BeanstalkdError


def windows(commands: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut a pipeline into pieces, each to be answered before the next is sent."""
    if len(commands) == 1:
        yield commands
        return
    start = size = 0
    for index, command in enumerate(commands):
        full = index - start == MOST_COMMANDS or size + len(command) > MOST_BYTES
        if full and index > start:
            yield commands[start:index]
            start, size = index, 0
        size += len(command)
    if start < len(commands):
        yield commands[start:]


def read_answer(reader: BufferedReader) -> Answer:
    """Read the answer to one command; a refusal is returned, not raised.

    :raises OSError, ValueError, IndexError, greenstalk.Error: it cannot be read.
    """
    line = reader.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("The server hung up.")
    status, *values = line.split()
    if status in _WITH_BODY:
        size = int(values[-1])
        body = reader.read(size + 2)
        if len(body) != size + 2 or not body.endswith(b"\r\n"):
            raise ConnectionError("The server hung up within a reply.")
        return Reply(int(values[0]), body[:-2])
    if refusal := greenstalk.ERROR_RESPONSES.get(status):
        return refusal(values) if refusal is greenstalk.BuriedError else refusal()
    if status in (b"INSERTED", b"WATCHING"):
        return Reply(int(values[0]), b"")
    if status in (b"DELETED", b"TOUCHED", b"RELEASED", b"USING"):
        return Reply(0, b"")
    raise greenstalk.UnknownResponseError(status, values)


def put(body: bytes, urgency: int, delay: int, ttr: int) -> bytes:
    """Return the command that puts a job on the tube in use."""
    return b"put %d %d %d %d\r\n%b\r\n" % (urgency, delay, ttr, len(body), body)


def record_of(raw: bytes) -> Record:
    """Return what ``stats-job`` says of a job that was reserved."""
    if found := _IN_ORDER.search(raw):
        tube, *numbers = found.groups()
        urgency, age, ttr, reserves, releases, buries = map(int, numbers)
        return {
            "tube": tube.decode(),
            "pri": urgency,
            "age": age,
            "ttr": ttr,
            "reserves": reserves,
            "releases": releases,
            "buries": buries,
        }
    fields = dict(line.split(": ", 1) for line in raw.decode().splitlines()[1:])
    return {
        "tube": fields["tube"].strip('"'),
        "pri": int(fields["pri"]),
        "age": int(fields["age"]),
        "ttr": int(fields["ttr"]),
        "reserves": int(fields["reserves"]),
        "releases": int(fields["releases"]),
        "buries": int(fields["buries"]),
    }
