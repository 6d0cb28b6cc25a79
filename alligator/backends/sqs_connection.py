"""boto3 at arm's length: one client per process, requests in batches, errors translated."""

import re
import shlex
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import boto3.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.parsers import ResponseParserError

from alligator.backends.dsn import parse_dsn
from alligator.backends.sqs_message import ATTRIBUTE, BATCH, LIMIT, Outgoing
from alligator.exceptions import (
    AlligatorException,
    ConnectionLost,
    InvalidDSN,
    InvalidTask,
    QueueNotFound,
)

#: Error codes of SQS, without the "AWS.SimpleQueueService." that some carry.
_NO_QUEUE = {"NonExistentQueue", "QueueDoesNotExist"}
_NO_ACCESS = {
    "AccessDenied",
    "AccessDeniedException",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_BAD_MESSAGE = {
    "BatchRequestTooLong",
    "InvalidMessageContents",
    "InvalidParameterValue",
    "MissingParameter",
}
_STALE = {"InvalidParameterValue", "MessageNotInflight", "ReceiptHandleIsInvalid"}
_LONGEST_NAME = 80  # SQS service quota
_ADVICE = (
    "Credentials come from boto3's own chain: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "~/.aws, or the role of the machine."
)
_CREDENTIALS = (
    CredentialRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
)


class Address(NamedTuple):
    """Where the queues are; None: what boto3 is configured for."""

    region: str | None
    endpoint_url: str | None


def parse_address(conn_string: str) -> Address:
    """Read ``sqs://region/?endpoint_url=…``.

    :raises InvalidDSN: it is malformed, or holds credentials.
    """
    if "@" in conn_string:  # not shown, since a secret key may hold what no pattern masks
        raise InvalidDSN(f"A DSN of sqs:// holds no credentials. {_ADVICE}")
    dsn = parse_dsn(conn_string, default_host="", allowed=("endpoint_url",))
    if len(dsn.hosts) > 1 or dsn.port or dsn.path or not re.fullmatch(r"[a-z0-9-]*", dsn.host):
        raise InvalidDSN(
            f"DSN {conn_string!r} is not 'sqs://us-west-2/', with or without ?endpoint_url=…"
        )
    endpoint = dsn.query.get("endpoint_url")
    if endpoint is not None:
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidDSN(f"endpoint_url={endpoint!r} is not a URL of http:// or https://.")
    return Address(dsn.host or None, endpoint)


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
        return session.client("sqs", endpoint_url=endpoint, config=config)

    def close(self) -> None:
        """Let go of the sockets; those in use follow when their replies are in."""
        with self._lock:
            if self._conn is not None:
                self._conn.close()

    # -- Single requests. -----------------------------------------------------------------

    def call(self, queue_name: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """Send one request about a queue and return the reply."""
        with self._translated(queue_name):
            url = self._urls.get(queue_name)
            if url is None:
                if len(queue_name) > _LONGEST_NAME:  # as that of dead letters may be
                    raise QueueNotFound(f"SQS can have no queue {queue_name!r}: above 80 letters.")
                url = self.conn.get_queue_url(QueueName=queue_name)["QueueUrl"]
                self._urls[queue_name] = url
            reply: dict[str, Any] = getattr(self.conn, operation)(QueueUrl=url, **parameters)
            return reply

    def attributes(self, queue_name: str, *names: str) -> dict[str, str]:
        """Return attributes of a queue; those that are not set are missing."""
        reply = self.call(queue_name, "get_queue_attributes", AttributeNames=list(names))
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

        :param group: the message group, where the queue is a FIFO queue.
        """
        in_group = group if queue_name.endswith(".fifo") else None
        entries = [
            {"Id": str(index), **each.entry(delay, in_group)}
            for index, (each, delay) in enumerate(zip(outgoing, delays, strict=True))
        ]
        results = list[str | AlligatorException]()
        for chunk in _chunks(entries, [each.size for each in outgoing]):
            try:
                reply = self.call(queue_name, "send_message_batch", Entries=chunk)
            except AlligatorException as err:
                # Nothing further is tried, lest what comes later be queued first.
                return results + [err] * (len(entries) - len(results))
            found: dict[str, str | AlligatorException] = {
                each["Id"]: _failure(each) for each in reply.get("Failed", [])
            }
            found |= {each["Id"]: each["MessageId"] for each in reply.get("Successful", [])}
            unknown = ConnectionLost("SQS did not say what became of a message.")
            results += [found.get(each["Id"], unknown) for each in chunk]
        return results

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
        stale, failures = set[str](), list[AlligatorException]()
        for start in range(0, len(entries), BATCH):
            chunk = entries[start : start + BATCH]
            named = [{"Id": str(index), **each} for index, each in enumerate(chunk)]
            reply = self.call(queue_name, operation, Entries=named)
            for failed in reply.get("Failed", []):
                if _plain(failed["Code"]) in _STALE:
                    stale.add(chunk[int(failed["Id"])]["ReceiptHandle"])
                else:
                    failures.append(_failure(failed))
        if failures:
            raise failures[0]
        return stale

    # -- Errors. --------------------------------------------------------------------------

    @contextmanager
    def _translated(self, queue_name: str) -> Iterator[None]:
        try:
            yield
        except ClientError as err:
            raise self._refusal(err, queue_name) from err
        except _CREDENTIALS as err:
            raise ConnectionLost(f"SQS cannot be used: {err}. {_ADVICE}") from err
        except NoRegionError as err:
            raise InvalidDSN(
                "The DSN names no region and boto3 has no default: sqs://us-west-2/"
            ) from err
        except ParamValidationError as err:
            raise InvalidTask(f"boto3 refused the request: {err}") from err
        except (BotoCoreError, ResponseParserError, ValueError) as err:
            raise ConnectionLost(f"SQS is out of reach: {err}") from err

    def _refusal(self, err: ClientError, queue_name: str) -> AlligatorException:
        code, said = _plain(err.response["Error"]["Code"]), err.response["Error"].get("Message", "")
        if code in _NO_QUEUE:
            self._urls.pop(queue_name, None)
            return QueueNotFound(_how_to_make(queue_name, self._address))
        if code in _NO_ACCESS:
            return ConnectionLost(f"SQS refused access ({code}: {said}). {_ADVICE}")
        if code in _BAD_MESSAGE and err.operation_name.startswith("SendMessage"):
            return InvalidTask(f"SQS refused the message ({code}: {said}).")
        return ConnectionLost(f"SQS refused {err.operation_name} ({code}: {said}).")


def _plain(code: str) -> str:
    return code.rpartition(".")[2]


def is_in_progress(err: AlligatorException) -> bool:
    """Whether SQS refused to purge a queue that was purged within 60 seconds."""
    cause = err.__cause__
    return isinstance(cause, ClientError) and (
        _plain(cause.response["Error"]["Code"]) == "PurgeQueueInProgress"
    )


def _failure(entry: dict[str, Any]) -> AlligatorException:
    said = f"{entry.get('Code')}: {entry.get('Message', '')}"
    if entry.get("SenderFault") and _plain(entry.get("Code", "")) in _BAD_MESSAGE:
        return InvalidTask(f"SQS refused the message ({said}).")
    return ConnectionLost(f"SQS could not do one of a batch ({said}).")


def _how_to_make(queue_name: str, address: Address) -> str:
    options = f" --region {shlex.quote(address.region)}" if address.region else ""
    if address.endpoint_url:
        options += f" --endpoint-url {shlex.quote(address.endpoint_url)}"
    fifo = ",FifoQueue=true" if queue_name.endswith(".fifo") else ""
    return (
        f"Queue {queue_name!r} does not exist (or may not be seen with these credentials), and "
        f"Alligator creates none. Make it: aws sqs create-queue --queue-name {queue_name} "
        f"--attributes MessageRetentionPeriod=1209600{fifo}{options}"
    )


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
