"""Run the conformance suite on the in-memory backend."""

import uuid

import pytest

from alligator.backends.locmem_backend import Client
from alligator.testing import BackendContract, StoreContract


class TestLocmem(BackendContract):
    @pytest.fixture
    def server(self):
        self.dsn = f"locmem://{uuid.uuid4().hex}"

    def make_client(self):
        return Client(self.dsn)


class TestLocmemStore(StoreContract):
    @pytest.fixture
    def server(self):
        self.dsn = f"locmem://{uuid.uuid4().hex}"

    def make_client(self):
        return Client(self.dsn)
