"""Describe one task: its options, its function, its message, its run and its backoff.

Imports: ``alligator.backends`` and below. Exports :class:`Task`,
:func:`current_task` and :func:`result_of`.
"""

from alligator.tasks.task import Task, current_task, result_of

__all__ = ["Task", "current_task", "result_of"]
