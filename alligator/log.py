"""Where a worker's lines go: standard output, once."""

import logging
import sys

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


def worker_logger(level: int | str) -> logging.Logger:
    """Return a new logger with a level of its own, so that workers do not share or double it.

    Its lines also reach the handlers of ``logging.getLogger('alligator.workers')`` and up.
    """
    logger = logging.Logger("alligator.workers", level)
    logger.parent = logging.getLogger("alligator.workers")
    handler = _StdoutHandler(sys.stdout)
    handler.setFormatter(logging.Formatter(_FORMAT))
    logger.addHandler(handler)
    return logger
