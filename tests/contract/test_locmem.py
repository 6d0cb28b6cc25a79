"""The contract on the in-memory backend."""

import uuid

from alligator.backends.locmem_backend import Client
from alligator.testing import BackendContract


class TestLocmem(BackendContract):
    def setup_method(self):
        self.dsn = f"locmem://{uuid.uuid4().hex}"
        super().setup_method()

    def make_client(self):
        return Client(self.dsn)
