"""The suites that every backend and every store must pass; they need pytest.

Imports: ``alligator.backends`` and below.
"""
