"""Test every backend and every store against the contract, with pytest.

``alligator.testing`` exports ``backend.BackendContract`` and ``store.StoreContract``.

Imports: ``alligator.backends`` and below.
"""
