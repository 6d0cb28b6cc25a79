"""Warn of calls that block an event loop of asyncio."""

import inspect
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import alligator.exceptions

Call = TypeVar("Call", bound=Callable[..., Any])

#: ``sys.modules.get``: without asyncio there is no event loop, and it is not imported for this.
loaded = sys.modules.get

_PACKAGE = str(Path(alligator.exceptions.__file__).parent) + os.sep
_COROUTINE = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE

#: The places that were warned of.
_warned: set[tuple[str, int]] = set()


def returns_coroutine(call: Call) -> Call:
    """Mark a plain function that returns a coroutine, so that frameworks await its result.

    That is what they do with an ``async def``; with Python 3.12 and later they can tell.
    """
    if sys.version_info >= (3, 12):
        inspect.markcoroutinefunction(call)
    return call


def warn_in_loop(plain: str, twin: str, off: str = "Gator(…, warn_in_loop=False)") -> None:
    """Warn once of each place at which a coroutine makes a blocking call.

    :param plain: the call, ``'gator.task'``.
    :param twin: what to write instead.
    :param off: what turns the warning off.
    """
    events = loaded("asyncio.events")
    if events is None or events._get_running_loop() is None:
        return
    level, place = 1, sys._getframe(0)
    while place.f_code.co_filename.startswith(_PACKAGE):  # what calls it inside Alligator
        if place.f_back is None:
            return
        level, place = level + 1, place.f_back
    at = place.f_code.co_filename, place.f_lineno
    if at in _warned or not _can_await(place):
        return
    warnings.warn(
        f"{plain} blocks the event loop until the server has answered; write '{twin}'. "
        f"{off} turns this warning off.",
        RuntimeWarning,
        stacklevel=level,
    )
    _warned.add(at)


def _can_await(place: FrameType) -> bool:
    """Return whether a coroutine of the user made the call: a hook, say, cannot await it."""
    frame: FrameType | None = place
    while frame is not None and not frame.f_code.co_filename.startswith(_PACKAGE):
        if frame.f_code.co_flags & _COROUTINE:
            return True
        frame = frame.f_back
    return frame is None
