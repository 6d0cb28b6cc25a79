"""Where a worker's lines go: standard output, once, with nothing in them that could pass
for another line or steer a terminal.
"""

import logging
import sys

from alligator.utils import describe_traceback, end_of, escape

_FORMAT = "%(asctime)s %(name)s %(levelname)s %(message)s"


class _StdoutHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to whatever ``sys.stdout`` is at the time.

    It keeps silent where the application has its own handler on the terminal, which gets
    the same line by propagation.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, unless the root logger shows it already."""
        terminals = (sys.stdout, sys.stderr)
        if not any(getattr(each, "stream", None) in terminals for each in logging.root.handlers):
            self.stream = sys.stdout
            super().emit(record)


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


def safe_traceback(err: BaseException, longest: int = 20_000) -> str:
    """Return a traceback, fit for a log; of a very long one the end, which says most."""
    text = end_of(describe_traceback(err).rstrip("\n"), longest)
    return "\n".join(f"  {escape(line)}" for line in text.split("\n"))


def worker_logger(level: int | str) -> logging.Logger:
    """Return a new logger with a level of its own, so that workers do not share or double it.

    Its lines also reach the handlers of ``logging.getLogger('alligator.workers')`` and up.
    """
    logger = logging.Logger("alligator.workers", level)
    logger.parent = logging.getLogger("alligator.workers")
    logger.addFilter(SafeTracebacks())
    handler = _StdoutHandler(sys.stdout)
    handler.setFormatter(logging.Formatter(_FORMAT))
    logger.addHandler(handler)
    return logger
