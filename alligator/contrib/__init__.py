"""Provide optional extras: metrics, the names of rpqueue, and a pytest plugin.

Imports: everything but ``alligator.cli``. Exports nothing; import the modules.
"""
