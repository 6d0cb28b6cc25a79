"""Run workers and maintain queues from a shell: ``latergator.py``.

Imports: everything but ``alligator.contrib``. Exports :func:`main`.
"""

from alligator.cli.commands import main

__all__ = ["main"]
