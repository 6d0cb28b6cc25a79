"""Reading JSON that strangers may have written: strict, and bounded before it is parsed.

RFC 8259 leaves duplicate names and the size of numbers to each reader; Python's reader
also takes ``NaN`` and recurses as deep as a message says. Here such a message is refused.
"""

import json
import math
import re
from typing import Any

from alligator.exceptions import BadPayload

#: A message longer than this is not parsed: the largest that any backend takes by default.
MAX_BYTES = 64 * 1024 * 1024

#: Lists and objects within each other; far below what overflows Python's stack.
MAX_DEPTH = 100

_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKETS = re.compile(r"[\[\]{}]")


def loads(data: str | bytes) -> Any:
    """Return the value of a JSON text.

    :raises BadPayload: it is not JSON, holds NaN, Infinity or a name twice in one object,
        is nested deeper than :data:`MAX_DEPTH` or longer than :data:`MAX_BYTES`.
    """
    if len(data) > MAX_BYTES:
        raise BadPayload(f"The message has {len(data)} bytes; at most {MAX_BYTES} are read.")
    try:
        text = data if isinstance(data, str) else data.decode()
        if text.count("[") + text.count("{") > MAX_DEPTH:  # cheap test before the exact one
            _check_depth(text)
        return _decoder.decode(text)
    except (ValueError, RecursionError) as err:
        raise BadPayload(f"The message is not JSON as Alligator reads it: {err}.") from err


def _check_depth(text: str) -> None:
    depth = 0
    for bracket in _BRACKETS.finditer(_STRINGS.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is larger than any number here")
    return number


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


_decoder = json.JSONDecoder(
    parse_float=_finite, parse_constant=_no_constant, object_pairs_hook=_no_duplicates
)


def dumps(value: Any) -> str:
    """Return the JSON text of a value, in ASCII.

    :raises TypeError, ValueError: something in it has no place in JSON.
    """
    return _encoder.encode(value)


_encoder = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
