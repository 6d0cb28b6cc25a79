"""``latergator.py``: run workers, and look after queues, from a shell.

Imports: everything below. Exports :func:`main`.
"""

from alligator.cli.commands import main

__all__ = ["main"]
