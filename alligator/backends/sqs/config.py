"""Read the address of SQS from a DSN."""

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from alligator.backends.dsn import parse_dsn
from alligator.exceptions import InvalidDSN

#: Where credentials come from.
CREDENTIALS_ADVICE = (
    "Credentials come from boto3's own chain: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "~/.aws, or the role of the machine."
)

#: Parameters of other libraries, and what to write here instead.
_HINTS = {
    **dict.fromkeys(("region", "region_name"), "write it as the host: sqs://us-west-2/."),
    **dict.fromkeys(("endpoint", "url", "host"), "write endpoint_url=http://localhost:4566, say."),
    **dict.fromkeys(
        ("access_key", "secret_key", "aws_access_key_id", "aws_secret_access_key", "profile"),
        CREDENTIALS_ADVICE,
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
        raise InvalidDSN(f"A DSN of sqs:// holds no credentials. {CREDENTIALS_ADVICE}")
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
