"""Helpers that know nothing of tasks: text, ids, time, JSON, imports by name, logs.

Imports: only ``alligator.exceptions`` and ``alligator.constants``.
"""
