"""Write and read beanstalkd's protocol in bytes, so that one write carries many commands."""

import re
from collections.abc import Iterator, Sequence
from io import BufferedReader
from typing import NamedTuple, TypedDict

import greenstalk

#: The most commands sent and not yet answered. The server answers one before it reads the next,
#: so with much unread on both sides each would wait for the other. Either these commands are
#: short (reserve, stats-job) or their replies are (put): that many fit in any socket's buffer.
MOST_COMMANDS = 256

#: The most bytes sent and not yet answered; a single command may have more.
MOST_BYTES = 65_536

_WITH_BODY = frozenset({b"RESERVED", b"FOUND", b"OK"})


class NewJob(NamedTuple):
    """A job to be put."""

    body: bytes
    pri: int  # the server's priority: the smallest number goes first
    delay: int  # seconds
    ttr: int  # seconds


class Reply(NamedTuple):
    """The server's reply to one command that it carried out."""

    number: int  # the id of the job, where it is about one
    body: bytes


class Record(TypedDict):
    """The part of ``stats-job`` that a lease needs: the constant fields, and the age."""

    tube: str
    pri: int
    age: int  # seconds from the put to the reserve
    ttr: int
    reserves: int
    releases: int
    buries: int


# The order of servers up to 1.13. The reply is YAML, so another server may order it differently.
_IN_ORDER = re.compile(
    rb'\ntube: "?([^"\n]+)"?\n(?:.+\n)*?pri: (\d+)\nage: (\d+)\n(?:.+\n)*?ttr: (\d+)\n(?:.+\n)*?'
    rb"reserves: (\d+)\n(?:.+\n)*?releases: (\d+)\n(?:.+\n)*?buries: (\d+)\n"
)
_FIELDS = (b"tube", b"pri", b"age", b"ttr", b"reserves", b"releases", b"buries")

Answer = Reply | greenstalk.BeanstalkdError


def windows(commands: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut a pipeline into pieces; the server answers each before the next is sent."""
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


def put(job: NewJob) -> bytes:
    """Return the command that puts a job on the tube in use."""
    body, pri, delay, ttr = job
    return b"put %d %d %d %d\r\n%b\r\n" % (pri, delay, ttr, len(body), body)


def record_of(raw: bytes) -> Record:
    """Return the record of a reserved job from the reply to ``stats-job``."""
    if found := _IN_ORDER.search(raw):
        tube, *numbers = found.groups()
    else:
        fields = dict(line.split(b": ", 1) for line in raw.splitlines()[1:])
        tube, *numbers = (fields[name] for name in _FIELDS)
    pri, age, ttr, reserves, releases, buries = map(int, numbers)
    return {
        "tube": tube.strip(b'"').decode(),
        "pri": pri,
        "age": age,
        "ttr": ttr,
        "reserves": reserves,
        "releases": releases,
        "buries": buries,
    }
