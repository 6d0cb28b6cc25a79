"""boto3 at arm's length: one client per process, requests in batches, errors translated.

boto3 retries nothing here. What does no harm when it is done twice is sent once more where the
connection broke; a receive never is, as it may have leased tasks to nobody.
"""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import boto3.session
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError

from alligator.backends.keepalive import TCP_OPTIONS
from alligator.backends.sqs.encoding import ATTRIBUTE, BATCH, LIMIT, Outgoing
from alligator.backends.sqs.errors import STALE, Address, failure, plain, translated
from alligator.backends.sqs.parallel import run_all
from alligator.exceptions import AlligatorException, ConnectionLost, QueueNotFound

_LONGEST_NAME = 80  # SQS service quota


class Connection:
    """One process's client of SQS; threads share it."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._lock = threading.Lock()
        self.listing = threading.RLock()  # one listing of dead letters at a time
        self._conn: Any = None
        self._urls: dict[str, str] = {}

    @property
    def conn(self) -> Any:
        """The boto3 client, made at the first use."""
        with self._lock:
            if self._conn is None:
                self._conn = self._connect()
            return self._conn

    def _connect(self) -> Any:
        # No retries: a receive that is repeated leases tasks to nobody.
        config = Config(
            retries={"total_max_attempts": 1, "mode": "standard"},
            connect_timeout=5,
            read_timeout=30,  # a long poll takes up to 20
            max_pool_connections=32,
            tcp_keepalive=True,
        )
        region, endpoint = self._address
        session: Any = boto3.session.Session(region_name=region)
        client = session.client("sqs", endpoint_url=endpoint, config=config)
        _probe_when_quiet(client)
        return client

    def close(self) -> None:
        """Let go of the sockets; those in use follow when their replies are in."""
        with self._lock:
            if self._conn is not None:
                self._conn.close()

    # -- Single requests. -----------------------------------------------------------------

    def call(
        self, queue_name: str, operation: str, *, repeatable: bool = False, **parameters: Any
    ) -> dict[str, Any]:
        """Send one request about a queue and return the reply.

        :param repeatable: whether it does no harm when it is carried out twice.
        """
        try:
            with translated(queue_name, self._address):
                url = self._url(queue_name)
                send = getattr(self.conn, operation)
                ask: Callable[[], dict[str, Any]] = partial(send, QueueUrl=url, **parameters)
                return _twice(ask) if repeatable else ask()
        except QueueNotFound:
            self._urls.pop(queue_name, None)
            raise

    def _url(self, queue_name: str) -> str:
        url = self._urls.get(queue_name)
        if url is None:
            if len(queue_name) > _LONGEST_NAME:  # as that of dead letters may be
                raise QueueNotFound(f"SQS can have no queue {queue_name!r}: above 80 letters.")
            found = _twice(partial(self.conn.get_queue_url, QueueName=queue_name))
            url = self._urls[queue_name] = found["QueueUrl"]
        return url

    def attributes(self, queue_name: str, *names: str) -> dict[str, str]:
        """Return attributes of a queue; those that are not set are missing."""
        reply = self.call(
            queue_name, "get_queue_attributes", repeatable=True, AttributeNames=list(names)
        )
        found: dict[str, str] = reply.get("Attributes", {})
        return found

    def receive(
        self, queue_name: str, limit: int, visibility: int, wait: int = 0
    ) -> list[dict[str, Any]]:
        """Receive up to ten messages, waiting up to so many seconds for the first."""
        reply = self.call(
            queue_name,
            "receive_message",
            MaxNumberOfMessages=min(limit, BATCH),
            VisibilityTimeout=visibility,
            WaitTimeSeconds=wait,
            MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            MessageAttributeNames=[ATTRIBUTE],
        )
        messages: list[dict[str, Any]] = reply.get("Messages", [])
        return messages

    # -- Batches. -------------------------------------------------------------------------

    def send(
        self, queue_name: str, outgoing: Sequence[Outgoing], delays: Sequence[int], group: str
    ) -> list[str | AlligatorException]:
        """Send messages; return the id of each, or why it was not sent.

        On a FIFO queue nothing is sent after a request that failed, lest what comes later be
        queued first. On others a few requests are under way at a time.

        :param group: the message group, where the queue is a FIFO queue.
        """
        is_fifo = queue_name.endswith(".fifo")
        entries = [
            {"Id": str(index), **each.entry(delay, group if is_fifo else None)}
            for index, (each, delay) in enumerate(zip(outgoing, delays, strict=True))
        ]
        chunks = list(_chunks(entries, [each.size for each in outgoing]))
        replies = run_all(lambda chunk: self._send(queue_name, chunk), chunks, in_order=is_fifo)
        results = list[str | AlligatorException]()
        for chunk, reply in zip(chunks, replies, strict=True):
            results += [reply] * len(chunk) if isinstance(reply, AlligatorException) else reply
        return results

    def _send(
        self, queue_name: str, chunk: Sequence[dict[str, Any]]
    ) -> list[str | AlligatorException]:
        # A FIFO queue knows a message that it has got by the id that it was given here.
        is_fifo = queue_name.endswith(".fifo")
        reply = self.call(queue_name, "send_message_batch", repeatable=is_fifo, Entries=chunk)
        found: dict[str, str | AlligatorException] = {
            each["Id"]: failure(each) for each in reply.get("Failed", [])
        }
        found |= {each["Id"]: each["MessageId"] for each in reply.get("Successful", [])}
        unknown = ConnectionLost("SQS did not say what became of a message.")
        return [found.get(each["Id"], unknown) for each in chunk]

    def delete(self, queue_name: str, handles: Sequence[str]) -> set[str]:
        """Delete received messages; return the handles that were refused as stale."""
        return self._batch(
            queue_name, "delete_message_batch", [{"ReceiptHandle": h} for h in handles]
        )

    def change(self, queue_name: str, handles: Sequence[str], visibility: int) -> set[str]:
        """Keep messages invisible for so many seconds from now; return the stale handles."""
        entries = [{"ReceiptHandle": each, "VisibilityTimeout": visibility} for each in handles]
        return self._batch(queue_name, "change_message_visibility_batch", entries)

    def _batch(self, queue_name: str, operation: str, entries: list[dict[str, Any]]) -> set[str]:
        chunks = [entries[at : at + BATCH] for at in range(0, len(entries), BATCH)]
        stale = set[str]()
        for each in run_all(lambda chunk: self._change(queue_name, operation, chunk), chunks):
            if isinstance(each, AlligatorException):
                raise each
            stale |= each
        return stale

    def _change(self, queue_name: str, operation: str, chunk: list[dict[str, Any]]) -> set[str]:
        named = [{"Id": str(index), **each} for index, each in enumerate(chunk)]
        # One that was handed back may be another's by then.
        repeatable = all(each.get("VisibilityTimeout") != 0 for each in chunk)
        reply = self.call(queue_name, operation, repeatable=repeatable, Entries=named)
        stale, failures = set[str](), list[AlligatorException]()
        for failed in reply.get("Failed", []):
            if plain(failed["Code"]) in STALE:
                stale.add(chunk[int(failed["Id"])]["ReceiptHandle"])
            else:
                failures.append(failure(failed))
        if failures:
            raise failures[0]
        return stale


def _probe_when_quiet(client: Any) -> None:
    # botocore can only be told to, not when, and the kernel's own time for it is two hours.
    session = getattr(getattr(client, "_endpoint", None), "http_session", None)
    options = getattr(session, "_socket_options", None)
    if isinstance(options, list):
        options += [(socket.IPPROTO_TCP, name, value) for name, value in TCP_OPTIONS.items()]


def _twice(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Ask, and once more if the connection broke before the reply came."""
    try:
        return ask()
    except ConnectionClosedError:
        return ask()


def _chunks(entries: list[dict[str, Any]], sizes: list[int]) -> Iterator[list[dict[str, Any]]]:
    chunk, total = list[dict[str, Any]](), 0
    for entry, size in zip(entries, sizes, strict=True):
        if chunk and (len(chunk) == BATCH or total + size > LIMIT):
            yield chunk
            chunk, total = [], 0
        chunk.append(entry)
        total += size
    if chunk:
        yield chunk
