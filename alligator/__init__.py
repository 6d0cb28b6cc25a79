"""Simple offline task queues. For Python."""

from alligator.backends.base import DeadTask
from alligator.constants import (
    ALL,
    CANCELED,
    DELAYED,
    FAILED,
    RETRYING,
    RUNNING,
    SUCCESS,
    WAITING,
)
from alligator.gator import Gator
from alligator.producer.options_and_batch import Batch, Options
from alligator.tasks.task import Task, current_task, result_of
from alligator.workers.worker import Worker

__all__ = [
    "ALL",
    "CANCELED",
    "DELAYED",
    "FAILED",
    "RETRYING",
    "RUNNING",
    "SUCCESS",
    "WAITING",
    "Batch",
    "DeadTask",
    "Gator",
    "Options",
    "Task",
    "Worker",
    "current_task",
    "result_of",
    "version",
]

__author__ = "Daniel Lindsley"
__license__ = "New BSD"
__version__ = (1, 1, 0)


def version() -> str:
    """Return the version as text, such as ``'1.1.0'``."""
    return ".".join(map(str, __version__))
