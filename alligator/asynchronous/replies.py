"""Answer coroutines from threads."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from alligator.common.group_by import group_by
from alligator.common.log import SafeTracebacks
from alligator.common.text import describe_error

log = logging.getLogger(__name__)
log.addFilter(SafeTracebacks())

#: The most coroutines that one step of a loop wakes: so many take about a millisecond.
AT_ONCE = 50


class Reply(NamedTuple):
    """What a coroutine is told."""

    future: "asyncio.Future[Any]"
    result: Any = None
    error: BaseException | None = None
    #: What failed, for the log, where the coroutine that asked has ended; '': not logged.
    about: str = ""


def send(replies: Sequence[Reply]) -> None:
    """Wake the coroutines that wait for these futures, each on its loop."""
    for loop, group in group_by(replies, _loop_of).items():
        for first in range(0, len(group), AT_ONCE):
            some = group[first : first + AT_ONCE]
            try:
                loop.call_soon_threadsafe(_settle, some)
            except RuntimeError:  # that loop has been closed
                for each in some:
                    _log(each)


def _loop_of(reply: Reply) -> asyncio.AbstractEventLoop:
    return reply.future.get_loop()


def _settle(replies: Sequence[Reply]) -> None:
    for each in replies:
        if each.future.done():  # its coroutine was canceled
            _log(each)
        elif each.error is None:
            each.future.set_result(each.result)
        else:
            each.future.set_exception(_raisable(each.error))


def _raisable(error: BaseException) -> BaseException:
    """Return an error that a future can hold."""
    if not isinstance(error, StopIteration):
        return error
    found = RuntimeError(f"A call raised {describe_error(error)}.")
    found.__cause__ = error
    return found


def _log(reply: Reply) -> None:
    if reply.error is not None and reply.about:
        log.warning(
            "%s, whose coroutine has ended, failed: %s", reply.about, describe_error(reply.error)
        )


def call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> bool:
    """Have a loop make a call; return False if that loop has been closed."""
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        return False
    return True
