"""Write and read the cursors of ``Client.list_tasks``: opaque text that says where a page ended."""

import base64
import json
from collections.abc import Sequence
from typing import Any

from alligator.common.text import shorten
from alligator.exceptions import InvalidTask


def write_cursor(*values: str | float) -> str:
    """Return a cursor that holds these values."""
    raw = json.dumps(values, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def read_cursor(cursor: str, *kinds: type) -> Sequence[Any]:
    """Return the values in a cursor.

    :param kinds: the types of its values; a whole number counts as a float.
    :raises InvalidTask: it was not written by this kind of listing.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        values = json.loads(raw)
        if (
            isinstance(values, list)
            and len(values) == len(kinds)
            and all(map(_is_a, values, kinds))
        ):
            return list(values)
    except (ValueError, TypeError, RecursionError):
        pass
    raise no_cursor(cursor)


def no_cursor(cursor: str) -> InvalidTask:
    """Return the error for a cursor that no such listing wrote."""
    return InvalidTask(
        f"{shorten(repr(cursor))} is no cursor of this listing; give what the page before it has "
        "as next, or nothing for the first page."
    )


def _is_a(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return False
    if kind is int:  # what SQLite and Python's clocks take
        return isinstance(value, int) and abs(value) < 2**63
    if kind is float:
        return isinstance(value, int | float) and abs(value) < 2**63
    return isinstance(value, kind)
