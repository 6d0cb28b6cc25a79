"""Help every package with text, ids, time, JSON, imports by name, logs and forks.

Imports: only ``alligator.exceptions`` and ``alligator.constants``.
"""
