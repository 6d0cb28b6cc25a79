"""Small helpers of tests."""

import pytest


def skip_without_children(gator) -> None:
    """Skip a test of ``depends_on`` where that is refused: on a cluster with no other store."""
    if gator.conn_string.startswith("redis+cluster") and gator.store is gator.client.store:
        pytest.skip("a redis cluster keeps no children")
