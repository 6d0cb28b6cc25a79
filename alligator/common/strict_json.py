"""Read JSON from untrusted senders strictly, with limits checked before it is parsed.

RFC 8259 leaves duplicate names and the size of numbers to each reader. Python's reader also
accepts ``NaN`` and recurses as deep as a message is nested. This one refuses such messages,
and the writer writes none of them.
"""

import json
import math
import re
from array import array
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any

from alligator.exceptions import BadPayload

#: Longer messages are not parsed: this is the most that any backend takes by default.
MAX_BYTES = 64 * 1024 * 1024

#: The deepest nesting of lists and objects; far below the limit of Python's stack.
MAX_DEPTH = 100

# Possessive (++): otherwise the engine remembers every letter of a string, to backtrack.
_STRINGS = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_STEPS = bytes.maketrans(b"[{]}", b"\1\1\xff\xff")  # one up, one down
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

# A key that was a number, a bool or None; as text it may equal another key.
_CONVERTED_KEY = re.compile(r'"(?:[-0-9][-+.e0-9]*|true|false|null)":')


def loads(data: str | bytes) -> Any:
    """Return the value of a JSON text.

    :raises BadPayload: it is not JSON, has NaN, Infinity or a name twice in one object, is
        nested deeper than :data:`MAX_DEPTH` or longer than :data:`MAX_BYTES`.
    """
    if len(data) > MAX_BYTES:
        raise BadPayload(f"The message has {len(data)} bytes; at most {MAX_BYTES} are read.")
    try:
        text = data if isinstance(data, str) else data.decode()
        if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(text):
            raise BadPayload(f"The message is nested deeper than {MAX_DEPTH}.")
        value, end = _decoder.raw_decode(text)
        return value if end == len(text) else _decoder.decode(text)
    except (ValueError, RecursionError) as err:
        raise BadPayload(f"The message is not JSON as Alligator reads it: {err}.") from err


def load_two(text: str, start: int, between: str) -> tuple[Any, Any, int] | None:
    """Return two values inside a text, and the end of the second; None: read it in full.

    :param start: the start of the first, which is nested one deep.
    :param between: the text between the two, with one colon.
    """
    # Fewer characters than MAX_DEPTH cannot nest as deep: these are not counted, as most are short.
    may_be_deep = len(text) - start >= MAX_DEPTH
    if len(text) > MAX_BYTES or (
        may_be_deep and text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(text)
    ):
        return None
    try:
        first, end = _scan(text, start)
        if not text.startswith(between, end):
            return None
        second, end = _scan(text, end + len(between))
        # Each name has a colon. As many colons as names in the result: no name stands twice. With
        # more colons, a string or an inner object may hold them, so the text is read in full.
        names = len(second) if isinstance(second, dict) else 0
        return (first, second, end) if text.count(":", start, end) == names + 1 else None
    except (ValueError, RecursionError, StopIteration):
        return None


def _is_deep(text: str) -> bool:
    """Whether a text with many brackets is nested deeper than :data:`MAX_DEPTH`."""
    bare = _STRINGS.sub("", text).encode("ascii", "replace")
    steps = array("b", bare.translate(_STEPS, _NO_BRACKETS))
    return max(accumulate(steps), default=0) > MAX_DEPTH


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


#: The same, but the last of two equal names counts.
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder(
    parse_float=_finite, parse_constant=_no_constant
).scan_once  # type: ignore[attr-defined]


def dumps(value: Any, before: str = "") -> str:
    """Return the JSON text of a value, in ASCII, such that :func:`loads` takes it.

    A tuple becomes a list, and a key of a dictionary text.

    :param before: the text of an object that this value, also an object, continues.
    :raises TypeError, ValueError: JSON cannot express the value, or it is too long or too deep;
        or two keys of a dictionary are equal as text.
    """
    try:
        text = "".join(_encode(value, 0))
    except RecursionError as err:
        raise ValueError(f"nested deeper than {MAX_DEPTH}") from err
    if len(text) > MAX_BYTES:
        raise ValueError(f"{len(text)} bytes are more than the {MAX_BYTES} that are read")
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(text):
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    if _CONVERTED_KEY.search(text):
        _decoder.decode(text)  # raises for a name that now stands twice
    if not before:
        return text
    if len(before) + len(text) > MAX_BYTES:
        raise ValueError(f"{len(before) + len(text)} bytes are more than the {MAX_BYTES} read")
    return f"{before[:-1]},{text[1:]}"


def _refuse(value: Any) -> Any:
    kind = type(value)
    model = hasattr(kind, "_meta") and hasattr(kind, "pk")  # of Django, not imported
    hint = "; give its pk" if model else ""
    raise TypeError(f"Object of type {kind.__name__} is not JSON serializable{hint}")


def _make_encoder() -> Callable[[Any, int], Iterable[str]]:
    """Return an encoder to be used again; ``json.JSONEncoder`` spends most time making one.

    A value that contains itself is found by its depth.
    """
    make: Any = json.encoder.c_make_encoder  # type: ignore[attr-defined]
    if make is None:  # a Python without it
        plain = json.JSONEncoder(check_circular=False, allow_nan=False, separators=(",", ":"))
        return lambda value, _: [plain.encode(value)]
    made: Callable[[Any, int], Iterable[str]] = make(
        None, _refuse, quoted, None, ":", ",", False, False, False
    )
    return made


#: Returns the JSON text of a text.
quoted: Callable[[str], str] = json.encoder.encode_basestring_ascii
_encode = _make_encoder()
