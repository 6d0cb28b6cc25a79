"""A backend that loses tasks: it deletes them before they run.

The harness has to see that, or it proves nothing.
"""

import os
from typing import Any

from alligator import Gator
from alligator.backends.base import Delivery, Reserved
from alligator.backends.sqlite_backend import Client as SqliteClient


class Client(SqliteClient):
    """At most once, as queues were wont to be."""

    def reserve(self, *args: Any, **kwargs: Any) -> Reserved:
        """Take tasks off the queue for good."""
        reserved = super().reserve(*args, **kwargs)
        super().ack(reserved.deliveries)
        return Reserved(reserved.deliveries, [])

    def ack(self, deliveries: Any) -> list[Delivery]:
        """Do nothing: it is done."""
        return []


DSN = os.environ.get("CHAOS_LOSSY_DSN", "sqlite://lossy.db")
gator = Gator(DSN, backend_class=Client)
