"""Describe one task: its options, its function, its message, its run and its backoff.

Imports: ``alligator.backends`` and below. Exports :class:`Task` and :func:`current_task`.
"""

from alligator.tasks.task import Task, current_task

__all__ = ["Task", "current_task"]
