"""Record how tasks end, and answer what became of them: status, wait, result, explain.

Imports: ``alligator.tasks`` and below.
"""
