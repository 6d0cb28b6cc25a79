"""Commands as a server reads them, put together for much less than the driver does it.

How the call of a script begins, with all the keys of a queue, is the same every time.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any


def _packed(values: Iterable[Any]) -> bytes:
    raw = [each if type(each) is bytes else str(each).encode() for each in values]
    return b"".join([b"$%d\r\n%b\r\n" % (len(each), each) for each in raw])


def packed(*values: Any) -> bytes:
    """Return a command: its name and arguments, ``bytes`` or what ``str`` makes text of."""
    return b"*%d\r\n%b" % (len(values), _packed(values))


def _opening(name: bytes, script: bytes, keys: Sequence[bytes]) -> bytes:
    return _packed((name, script, len(keys), *keys))


_remembered = lru_cache(maxsize=1024)(_opening)


def packed_script(name: bytes, script: bytes, keys: Sequence[bytes], args: Sequence[Any]) -> bytes:
    """Return the call of a script.

    :param name: ``EVALSHA``, or ``EVAL`` with a script that is sent whole.
    :param keys: a tuple for keys that will be used again, as those of a queue.
    """
    opening = _remembered if isinstance(keys, tuple) and name == b"EVALSHA" else _opening
    count = 3 + len(keys) + len(args)
    return b"*%d\r\n%b%b" % (count, opening(name, script, keys), _packed(args))
