"""The suites that every backend and every store must pass; they need pytest.

``alligator.testing`` exports ``backend.BackendContract`` and ``store.StoreContract``.

Imports: ``alligator.backends`` and below.
"""
