"""Where a worker's lines go: standard output, once, with nothing in them that could pass
for another line or steer a terminal.
"""

import contextlib
import logging
import os
import sys
from typing import Any

from alligator.common.text import describe_traceback, escape

_FORMAT = "%(asctime)s %(name)s %(levelname)s %(message)s"


class _StdoutHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to whatever ``sys.stdout`` is at the time, also what that has no letters for."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; what the stream cannot encode is written out with backslashes."""
        stream = sys.stdout
        if stream is None:  # as in a program without a console
            return
        try:
            line = self.format(record) + self.terminator
            try:
                stream.write(line)
            except UnicodeEncodeError as err:  # nothing of it was written
                stream.write(line.encode(err.encoding, "backslashreplace").decode(err.encoding))
            stream.flush()
        except RecursionError:
            raise
        except Exception:
            self.handleError(record)


#: Seconds that a worker waits at most for the lock of a handler.
PATIENCE = 1.0


class _WorkerLogger(logging.Logger):
    """Gives a record to its own handler for standard output last, and only if no other handler
    on the record's way has written it to a terminal.

    A handler whose lock is not to be had goes without the record: a task may hold it for ever,
    and the worker has leases to keep. In the place of its own, standard error gets the record.
    """

    def __init__(self, name: str, level: int | str) -> None:
        super().__init__(name, level)
        self._stuck: set[int] = set()  # by id(): handlers that are not waited for any more

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        """Whether such a record is made. What is inherited takes the lock of all of logging."""
        if self.disabled or self.manager.disable >= level:
            return False
        return level >= self.getEffectiveLevel()

    def callHandlers(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Pass a record to all handlers, those of the loggers above as far as it propagates."""
        own: list[logging.Handler] = []
        others, shown = 0, False
        logger: logging.Logger | None = self
        while logger is not None:
            for handler in logger.handlers:
                if isinstance(handler, _StdoutHandler):
                    own.append(handler)
                    continue
                others += 1
                if record.levelno >= handler.level:
                    on_terminal = _stream_of(handler) in (sys.stdout, sys.stderr)
                    # What its filters say is known only now, and they are to be asked once.
                    taken = self._give(record, handler)
                    shown = shown or (on_terminal and bool(taken))
            logger = logger.parent if logger.propagate else None
        if not (own or others):
            super().callHandlers(record)  # to the handler of last resort
        if not shown:
            for handler in own:
                if record.levelno >= handler.level:
                    self._give(record, handler)

    def _give(self, record: logging.LogRecord, handler: logging.Handler) -> object:
        """Have a handler handle a record, unless its lock is not to be had in good time."""
        lock: Any = getattr(handler, "lock", None)
        if not hasattr(lock, "_is_owned"):  # of another kind than logging's own
            return handler.handle(record)
        if not lock.acquire(timeout=0.0 if id(handler) in self._stuck else PATIENCE):
            self._stuck.add(id(handler))
            if isinstance(handler, _StdoutHandler):  # the last resort, which needs no lock
                with contextlib.suppress(OSError):
                    os.write(2, f"{handler.format(record)}\n".encode(errors="backslashreplace"))
            return False
        try:
            self._stuck.discard(id(handler))
            return handler.handle(record)
        finally:
            lock.release()


def _stream_of(handler: logging.Handler) -> object:
    """Return what a handler writes to, that of ``rich`` included; else an object of no use."""
    stream = getattr(handler, "stream", None) or getattr(
        getattr(handler, "console", None), "file", None
    )
    return object() if stream is None else stream


class SafeTracebacks(logging.Filter):
    """Renders the traceback of a record, so that formatters take it as it is here.

    The text of an exception may come from a message: its control characters are escaped, and
    every line is indented, so that none looks like the beginning of a record.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Set ``record.exc_text``, which :class:`logging.Formatter` uses where it is set."""
        if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
            record.exc_text = safe_traceback(record.exc_info[1])
        return True


def safe_traceback(err: BaseException) -> str:
    """Return a traceback, fit for a log; see :func:`describe_traceback`."""
    text = describe_traceback(err).rstrip("\n")
    return "\n".join(f"  {escape(line)}" for line in text.split("\n"))


def worker_logger(level: int | str) -> logging.Logger:
    """Return a new logger with a level of its own, so that workers do not share or double it.

    Its lines also reach the handlers of ``logging.getLogger('alligator.workers')`` and up. It
    writes to standard output itself unless one of those has written that very record to
    standard output or error.
    """
    logger = _WorkerLogger("alligator.workers", level)
    logger.parent = logging.getLogger("alligator.workers")
    logger.addFilter(SafeTracebacks())
    handler = _StdoutHandler(sys.stdout)
    handler.setFormatter(logging.Formatter(_FORMAT))
    logger.addHandler(handler)
    return logger
