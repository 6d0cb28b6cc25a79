"""Sign messages: put a task in an envelope that only a holder of a key can make.

The signature is an HMAC-SHA256 (RFC 2104, FIPS 198-1) of the version, the queue, the task's own
id and the body. Each has its length before it, so that no byte can move from one field to another.
A message signed for one queue is refused on another. The envelope is a line before the body::

    alligator-signed:1:<64 hex digits>:"<task id>"

Text stays text, and bytes stay bytes.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Sequence

from alligator.exceptions import BadSignature, InvalidTask

_VERSION = "1"
_MARK = "alligator-signed:"
_LONGEST_HEADER = 4096
_HEADER = re.compile(r'alligator-signed:([0-9]{1,4}):([0-9a-f]{64}):("[^\n]*")')

#: A shorter key could be guessed; NIST SP 800-107 asks for at least 112 bits.
SHORTEST_KEY = 16


class Signer:
    """Sign with the first key, and accept any: to rotate, put a new key first.

    :param secret_keys: text or bytes, at least 16 bytes each.
    :raises InvalidTask: it is no such list; the error never shows a key.
    """

    def __init__(self, secret_keys: Sequence[str | bytes]) -> None:
        if isinstance(secret_keys, str | bytes) or not secret_keys:
            raise InvalidTask("secret_keys is not a list of keys; give [key], or [new, old].")
        self._keys = [_key_bytes(key) for key in secret_keys]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} with {len(self._keys)} keys>"

    def seal(self, queue_name: str, task_id: str, data: str | bytes) -> str | bytes:
        """Return the data in its envelope.

        :raises InvalidTask: text that UTF-8 cannot carry.
        """
        try:
            body = data if isinstance(data, bytes) else data.encode()
        except UnicodeEncodeError as err:
            raise InvalidTask(f"The task is not text that UTF-8 can carry: {err}.") from err
        digest = _digest(self._keys[0], _VERSION, queue_name, task_id, body)
        header = f"{_MARK}{_VERSION}:{digest}:{json.dumps(task_id)}\n"
        return header.encode() + data if isinstance(data, bytes) else header + data

    def open(self, queue_name: str, data: str | bytes) -> tuple[str, str | bytes]:
        """Return the task's own id and the data inside an envelope.

        :raises BadSignature: there is no envelope, it has another version, or none of these keys
            signed it for this queue.
        """
        parts = _split(data)
        if parts is None:
            raise BadSignature("The message is not signed, and only signed ones are run here.")
        version, given, task_id, body = parts
        if version != _VERSION:
            raise BadSignature(f"The message is signed by version {version}, not {_VERSION}.")
        raw = body if isinstance(body, bytes) else body.encode(errors="surrogatepass")
        # Always try all keys, so that the time tells nothing.
        digests = [_digest(key, version, queue_name, task_id, raw) for key in self._keys]
        if not sum(hmac.compare_digest(each, given) for each in digests):
            raise BadSignature(
                f"No key of this worker made the signature for queue {queue_name!r}: the message "
                "was changed or moved here, or a key is missing from secret_keys."
            )
        return task_id, body


def is_signed(data: str | bytes) -> bool:
    """Return whether data looks like an envelope."""
    if isinstance(data, bytes):
        return data.startswith(_MARK.encode())
    return data.startswith(_MARK)


def signed_id(data: str | bytes) -> str | None:
    """Return the task id in an envelope, unchecked; None: there is no envelope."""
    parts = _split(data)
    return parts[2] if parts else None


def body_of(data: str | bytes) -> str | bytes:
    """Return the body of an envelope, unchecked; data without an envelope, as they are."""
    parts = _split(data)
    return parts[3] if parts else data


def _split(data: str | bytes) -> tuple[str, str, str, str | bytes] | None:
    """Return version, signature, task id and body; None: it is no envelope."""
    if not is_signed(data):
        return None
    if isinstance(data, bytes):
        end = data.find(b"\n", 0, _LONGEST_HEADER)
        header = data[: max(end, 0)].decode("ascii", "replace")
    else:
        end = data.find("\n", 0, _LONGEST_HEADER)
        header = data[: max(end, 0)]
    found = _HEADER.fullmatch(header)
    try:
        task_id = json.loads(found[3]) if found else None
    except ValueError:
        return None
    if found is None or not isinstance(task_id, str):
        return None
    return found[1], found[2], task_id, data[end + 1 :]


def _digest(key: bytes, version: str, queue_name: str, task_id: str, body: bytes) -> str:
    fields = [version.encode(), queue_name.encode(), task_id.encode(errors="surrogatepass")]
    mac = hmac.new(key, digestmod=hashlib.sha256)
    for field in (*fields, body):
        mac.update(len(field).to_bytes(8, "big"))
        mac.update(field)
    return mac.hexdigest()


def _key_bytes(key: str | bytes) -> bytes:
    if not isinstance(key, str | bytes):
        raise InvalidTask(f"A secret key is a {type(key).__name__}; it must be text or bytes.")
    raw = key.encode() if isinstance(key, str) else key
    if len(raw) < SHORTEST_KEY:
        raise InvalidTask(
            f"A secret key has {len(raw)} bytes; use at least {SHORTEST_KEY}, such as those of "
            "secrets.token_hex()."
        )
    return raw
