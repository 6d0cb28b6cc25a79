"""Read the address of SQS from a DSN, and translate the errors of SQS and boto3."""

import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

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
from alligator.common.text import with_stop
from alligator.exceptions import (
    AlligatorException,
    ConnectionLost,
    InvalidDSN,
    InvalidTask,
    QueueFull,
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

#: Error codes of too many requests, or too many messages in flight.
_NOT_NOW = {
    "KmsThrottled",
    "OverLimit",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
}
_TOO_MANY_REQUESTS = 429

#: Error codes of a receipt that is no longer valid.
STALE = {"InvalidParameterValue", "MessageNotInflight", "ReceiptHandleIsInvalid"}
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


#: Parameters of other libraries, and what to write here instead.
_HINTS = {
    **dict.fromkeys(("region", "region_name"), "write it as the host: sqs://us-west-2/."),
    **dict.fromkeys(("endpoint", "url", "host"), "write endpoint_url=http://localhost:4566, say."),
    **dict.fromkeys(
        ("access_key", "secret_key", "aws_access_key_id", "aws_secret_access_key", "profile"),
        _ADVICE,
    ),
    **dict.fromkeys(
        ("visibility_timeout", "lease"), "leave it out: it is the lease of a worker, --lease."
    ),
    **dict.fromkeys(
        ("wait_time_seconds", "polling_interval"),
        "leave it out: a worker polls for up to 20 seconds, and a task ends that at once.",
    ),
    **dict.fromkeys(
        ("queue", "queue_name"), "name the queue beside the DSN: Gator(dsn, queue_name='mail')."
    ),
}


class Address(NamedTuple):
    """Where the queues are; None: as boto3 is configured."""

    region: str | None
    endpoint_url: str | None


def parse_address(conn_string: str) -> Address:
    """Read ``sqs://region/?endpoint_url=…``.

    :raises InvalidDSN: it is malformed, or holds credentials.
    """
    if "@" in conn_string:  # not shown, since a secret key may hold what no pattern masks
        raise InvalidDSN(f"A DSN of sqs:// holds no credentials. {_ADVICE}")
    dsn = parse_dsn(conn_string, default_host="", allowed=("endpoint_url",), hints=_HINTS)
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


@contextmanager
def translated(queue_name: str, address: Address) -> Iterator[None]:
    """Raise errors of boto3 about a queue as errors of Alligator."""
    try:
        yield
    except ClientError as err:
        raise _refusal(err, queue_name, address) from err
    except _CREDENTIALS as err:
        raise ConnectionLost(f"SQS cannot be used: {with_stop(str(err))} {_ADVICE}") from err
    except NoRegionError as err:
        raise InvalidDSN(
            "The DSN names no region and boto3 has no default: sqs://us-west-2/"
        ) from err
    except ParamValidationError as err:
        raise InvalidTask(f"boto3 refused the request: {err}") from err
    except (BotoCoreError, ResponseParserError, ValueError) as err:
        raise ConnectionLost(f"Cannot reach SQS: {err}") from err


def _refusal(err: ClientError, queue_name: str, address: Address) -> AlligatorException:
    code, said = plain(err.response["Error"]["Code"]), _said(err.response["Error"])
    status = err.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code in _NOT_NOW or status == _TOO_MANY_REQUESTS:
        return QueueFull(f"SQS refused {err.operation_name} for now ({code}: {said}).")
    if code in _NO_QUEUE:
        return QueueNotFound(_how_to_make(queue_name, address))
    if code in _NO_ACCESS:
        return ConnectionLost(f"SQS refused access ({code}: {said}). {_ADVICE}")
    if code in _BAD_MESSAGE and err.operation_name.startswith("SendMessage"):
        return InvalidTask(f"SQS refused the message ({code}: {said}).")
    return ConnectionLost(f"SQS refused {err.operation_name} ({code}: {said}).")


def _said(error: Mapping[str, Any]) -> str:
    return str(error.get("Message", "")).removesuffix(".")


def plain(code: str) -> str:
    """Return an error code without the prefix that some carry."""
    return code.rpartition(".")[2]


def is_in_progress(err: AlligatorException) -> bool:
    """Whether SQS refused to purge a queue that was purged within 60 seconds."""
    cause = err.__cause__
    return isinstance(cause, ClientError) and (
        plain(cause.response["Error"]["Code"]) == "PurgeQueueInProgress"
    )


def failure(entry: dict[str, Any]) -> AlligatorException:
    """Return the error of one entry of a batch."""
    said = f"{entry.get('Code')}: {_said(entry)}"
    if plain(entry.get("Code", "")) in _NOT_NOW:
        return QueueFull(f"SQS refused one of a batch for now ({said}).")
    if entry.get("SenderFault") and plain(entry.get("Code", "")) in _BAD_MESSAGE:
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
