"""Keep a public path of Alligator 1.0: the contexts that push tasks with the same options.

Here are also the types of options, for annotations.
"""

from alligator.producer.options_and_batch import AsyncBatch, Batch, Options, ScheduleOptions
from alligator.tasks.task import (
    BatchOptions,
    ErrorHook,
    GatorOptions,
    Hook,
    SuccessHook,
    TaskOptions,
)

__all__ = [
    "AsyncBatch",
    "Batch",
    "BatchOptions",
    "ErrorHook",
    "GatorOptions",
    "Hook",
    "Options",
    "ScheduleOptions",
    "SuccessHook",
    "TaskOptions",
]
