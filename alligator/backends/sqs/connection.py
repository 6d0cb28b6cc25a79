"""Send requests to SQS by boto3: one client per process, in batches, with errors translated.

boto3 retries nothing here. An idempotent request is sent once more if the connection broke. A
receive never is, since the lost reply may have leased tasks.
"""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, TypeVar

import boto3.session
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError

from alligator.backends.keepalive import TCP_OPTIONS
from alligator.backends.sqs.config import Address
from alligator.backends.sqs.encoding import ATTRIBUTE, BATCH, LIMIT, Outgoing
from alligator.backends.sqs.errors import STALE, failure, plain, translated
from alligator.exceptions import AlligatorException, ConnectionLost, QueueNotFound

#: Requests under way at a time for one call.
MOST = 4

#: The one message group of a FIFO queue.
GROUP = "alligator"

_LONGEST_NAME = 80  # SQS service quota

R = TypeVar("R")
T = TypeVar("T")


class Connection:
    """One process's connection to SQS; its threads share it."""

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
        # No retries: a repeated receive would lease tasks that no worker gets.
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
        """Close the idle sockets; a socket in use is closed after its reply."""
        with self._lock:
            if self._conn is not None:
                self._conn.close()

    # -- Single requests. -----------------------------------------------------------------

    def call(
        self, queue_name: str, operation: str, *, idempotent: bool = False, **parameters: Any
    ) -> dict[str, Any]:
        """Send one request about a queue and return the reply.

        :param idempotent: whether it may be sent twice.
        """
        try:
            with translated(queue_name, self._address):
                url = self._url(queue_name)
                send = getattr(self.conn, operation)
                ask: Callable[[], dict[str, Any]] = partial(send, QueueUrl=url, **parameters)
                return _twice(ask) if idempotent else ask()
        except QueueNotFound:
            self._urls.pop(queue_name, None)
            raise

    def _url(self, queue_name: str) -> str:
        url = self._urls.get(queue_name)
        if url is None:
            if len(queue_name) > _LONGEST_NAME:  # as the queue of dead letters may have
                raise QueueNotFound(f"SQS can have no queue {queue_name!r}: above 80 letters.")
            found = _twice(partial(self.conn.get_queue_url, QueueName=queue_name))
            url = self._urls[queue_name] = found["QueueUrl"]
        return url

    def attributes(self, queue_name: str, *names: str) -> dict[str, str]:
        """Return attributes of a queue; an attribute that is not set is missing."""
        reply = self.call(
            queue_name, "get_queue_attributes", idempotent=True, AttributeNames=list(names)
        )
        found: dict[str, str] = reply.get("Attributes", {})
        return found

    def url(self, queue_name: str) -> str:
        """Return the URL of a queue, which names its region and account."""
        with translated(queue_name, self._address):
            return self._url(queue_name)

    def server_time(self, queue_name: str) -> float | None:
        """Return the date of a reply about a queue, a Unix timestamp in whole seconds."""
        reply = self.call(
            queue_name, "get_queue_attributes", idempotent=True, AttributeNames=["QueueArn"]
        )
        date = reply.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        try:
            return parsedate_to_datetime(date).timestamp() if date else None
        except ValueError:
            return None

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
        self,
        queue_name: str,
        outgoing: Sequence[Outgoing],
        delays: Sequence[int],
        group: str = GROUP,
    ) -> list[str | AlligatorException]:
        """Send messages; return the id of each, or why it was not sent.

        On a FIFO queue nothing is sent after a request that failed, so that no later message is
        queued first. On other queues a few requests are under way at a time.

        :param group: the message group, if the queue is a FIFO queue.
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
        # A FIFO queue recognizes a repeated message by its id, which is set here.
        is_fifo = queue_name.endswith(".fifo")
        reply = self.call(queue_name, "send_message_batch", idempotent=is_fifo, Entries=chunk)
        found: dict[str, str | AlligatorException] = {
            each["Id"]: failure(each) for each in reply.get("Failed", [])
        }
        found |= {each["Id"]: each["MessageId"] for each in reply.get("Successful", [])}
        unknown = ConnectionLost("SQS did not say whether it took a message.")
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
        # Another worker may have the message once it was handed back.
        idempotent = all(each.get("VisibilityTimeout") != 0 for each in chunk)
        reply = self.call(queue_name, operation, idempotent=idempotent, Entries=named)
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
    # botocore has an option for probes, but none for when; the kernel waits for two hours.
    session = getattr(getattr(client, "_endpoint", None), "http_session", None)
    options = getattr(session, "_socket_options", None)
    if isinstance(options, list):
        options += [(socket.IPPROTO_TCP, name, value) for name, value in TCP_OPTIONS.items()]


def _twice(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Ask, and once more if the connection broke before the reply arrived."""
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


def run_all(
    request: Callable[[T], R], items: Sequence[T], *, in_order: bool = False
) -> list[R | AlligatorException]:
    """Make a request for each item; return what each returned or raised, in their order.

    A few run at a time. Once one has failed, no other starts: the rest get the same error.

    :param in_order: one at a time, each after the one before it.
    """
    failed: list[AlligatorException] = []

    def run(item: T) -> R | AlligatorException:
        if failed:
            return failed[0]
        try:
            return request(item)
        except AlligatorException as err:
            failed.append(err)
            return err

    if in_order or len(items) < 2:
        return [run(each) for each in items]
    # The threads serve this call alone: a request may make calls of its own, and a fork finds none.
    threads = ThreadPoolExecutor(min(MOST, len(items)), "alligator-sqs")
    try:
        return list(threads.map(run, items))
    finally:
        threads.shutdown(wait=False, cancel_futures=True)  # an interrupted caller does not wait
