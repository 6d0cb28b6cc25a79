"""Record how tasks end, and answer questions about tasks: status, wait, result, explain.

Imports: ``alligator.tasks`` and below.
"""
