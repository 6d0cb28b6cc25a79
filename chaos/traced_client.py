"""Note which tasks a server delivers: if a lost task never was, the server lost it.

Workers load it with ``--app chaos.traced_client:gator``.
"""

import json
import os
from typing import Any

from alligator import Gator
from alligator.backends import client_class
from alligator.backends.base import Reserved
from chaos.ledger import HANDED, Ledger

DSN = os.environ.get("CHAOS_DSN", "locmem://traced")
LEDGER = os.environ.get("CHAOS_LEDGER", "")


class Traced:
    """Wrap the client of a backend."""

    def reserve(self, *args: Any, **kwargs: Any) -> Reserved:
        """Reserve, and note the names of the tasks."""
        reserved = super().reserve(*args, **kwargs)
        if reserved.deliveries:
            names = [json.loads(each.data)["args"][1] for each in reserved.deliveries]
            Ledger(LEDGER).note(HANDED, *names)
        return reserved


if LEDGER:
    gator = Gator(DSN, backend_class=type("Client", (Traced, client_class(DSN)), {}))
