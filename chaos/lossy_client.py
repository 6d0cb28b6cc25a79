"""Provide a backend that loses tasks: it deletes them before they run.

The harness must see these losses, or it proves nothing.
"""

import os
from typing import Any

from alligator import Gator
from alligator.backends.base import Delivery, Reserved
from alligator.backends.sqlite_backend import Client as SqliteClient


class Client(SqliteClient):
    """Deliver at most once."""

    def reserve(self, *args: Any, **kwargs: Any) -> Reserved:
        """Dequeue tasks instead of leasing them."""
        reserved = super().reserve(*args, **kwargs)
        super().ack(reserved.deliveries)
        return Reserved(reserved.deliveries, [])

    def ack(self, deliveries: Any) -> list[Delivery]:
        """Do nothing: the tasks were deleted before."""
        return []


DSN = os.environ.get("CHAOS_LOSSY_DSN", "sqlite://lossy.db")
gator = Gator(DSN, backend_class=Client)
