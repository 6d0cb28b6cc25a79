"""Translate the errors of SQS and boto3."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

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

from alligator.backends.sqs.config import CREDENTIALS_ADVICE, Address
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

_CREDENTIALS = (
    CredentialRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
)


@contextmanager
def translated(queue_name: str, address: Address) -> Iterator[None]:
    """Raise errors of boto3 about a queue as errors of Alligator."""
    try:
        yield
    except ClientError as err:
        raise _refusal(err, queue_name, address) from err
    except _CREDENTIALS as err:
        raise ConnectionLost(
            f"SQS cannot be used: {with_stop(str(err))} {CREDENTIALS_ADVICE}"
        ) from err
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
        return ConnectionLost(f"SQS refused access ({code}: {said}). {CREDENTIALS_ADVICE}")
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
