"""Write a worker's log to standard output, each line once, and escape its control characters.

So no line looks like two, and none controls a terminal.
"""

import contextlib
import json
import logging
import os
import sys
from typing import Any

from alligator.common.text import describe_traceback, escape

_FORMAT = "%(asctime)s %(name)s %(levelname)s %(message)s"


class _StdoutHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Write to the current ``sys.stdout``, also text that its encoding does not have."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; escape characters that the stream cannot encode."""
        stream = sys.stdout
        if stream is None:  # the program has no console
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


#: The fields of a record about a task, beside the ones of every record.
TASK_FIELDS = ("task_id", "function", "queue_name", "attempt", "outcome", "duration")


class JsonFormatter(logging.Formatter):
    """Write a record as one JSON object on one line.

    Its keys are ``time`` (Unix seconds), ``level``, ``logger``, ``message`` and ``process``;
    ``traceback``, if there is one; and of a record about a task those of :data:`TASK_FIELDS`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, in ASCII, so that no character of it controls a terminal."""
        found: dict[str, Any] = {
            "time": round(record.created, 6),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        known = vars(record)
        found |= {name: known[name] for name in TASK_FIELDS if name in known}
        if record.exc_info and record.exc_info[1] is not None:
            found["traceback"] = describe_traceback(record.exc_info[1])
        return json.dumps(found, default=str)


def log_as_json() -> None:
    """Write all that Alligator logs in this process as JSON, on standard output.

    A worker writes its lines by this handler then, and not by its own.
    """
    handler, ours = logging.StreamHandler(sys.stdout), logging.getLogger("alligator")
    handler.setFormatter(JsonFormatter())
    ours.addHandler(handler)


#: The longest time that a worker waits for the lock of a handler, in seconds.
PATIENCE = 1.0


class _WorkerLogger(logging.Logger):
    """Pass a record to its own standard output handler last, if no other handler has shown it.

    A handler whose lock is taken does not get the record: a task may hold the lock for ever, and
    the worker has leases to renew. Instead of its own handler, standard error gets the record.
    """

    def __init__(self, name: str, level: int | str) -> None:
        super().__init__(name, level)
        self._stuck: set[int] = set()  # by id(): handlers that the logger no longer waits for

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        """Return whether to make a record; the inherited method takes the lock of all logging."""
        if self.disabled or self.manager.disable >= level:
            return False
        return level >= self.getEffectiveLevel()

    def callHandlers(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Pass a record to all handlers, also of the loggers above if it propagates."""
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
                    # Its filters decide only now, and must be asked once.
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
        """Let a handler handle a record, unless its lock stays taken."""
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
    """Return the stream of a handler, also of one of ``rich``; else a new object."""
    stream = getattr(handler, "stream", None) or getattr(
        getattr(handler, "console", None), "file", None
    )
    return object() if stream is None else stream


class SafeTracebacks(logging.Filter):
    """Render the traceback of a record, which formatters then use as it is.

    The text of an exception may come from a message. Control characters are escaped, and every
    line is indented, so that none looks like the start of a record.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Set ``record.exc_text``, which :class:`logging.Formatter` uses if it is set."""
        if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
            record.exc_text = safe_traceback(record.exc_info[1])
        return True


def safe_traceback(err: BaseException) -> str:
    """Return a traceback, fit for a log; see :func:`describe_traceback`."""
    text = describe_traceback(err).rstrip("\n")
    return "\n".join(f"  {escape(line)}" for line in text.split("\n"))


def worker_logger(level: int | str) -> logging.Logger:
    """Return a new logger with its own level, so that workers neither share nor repeat it.

    Its records also reach the handlers of ``logging.getLogger('alligator.workers')`` and above.
    It writes a record to standard output itself, unless one of these has written the record to
    standard output or standard error.
    """
    logger = _WorkerLogger("alligator.workers", level)
    logger.parent = logging.getLogger("alligator.workers")
    logger.addFilter(SafeTracebacks())
    handler = _StdoutHandler(sys.stdout)
    handler.setFormatter(logging.Formatter(_FORMAT))
    logger.addHandler(handler)
    return logger
