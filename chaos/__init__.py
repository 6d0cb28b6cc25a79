"""Loops that break things on purpose, and count what is lost.

Each loop is a function ``run(environment, size) -> Row``. ``make chaos`` runs them all at full
size and prints a table; the tests in ``tests/chaos`` run the same loops, smaller.
"""
