"""Break servers and workers on purpose, and count what is lost.

Each loop is a function ``run(environment, size) -> Row``. ``make chaos`` runs all loops at full
size and prints a table. The tests in ``tests/chaos`` run the same loops at a smaller size.
"""
