"""Run the conformance suite on SQLite files."""

import pytest

from alligator.backends.sqlite_backend import Client
from alligator.testing import BackendContract, StoreContract


class TestSqlite(BackendContract):
    level = "NORMAL"

    @pytest.fixture
    def server(self, tmp_path):
        self.dsn = f"sqlite://{tmp_path}/q.db?synchronous={self.level}"

    def make_client(self):
        return Client(self.dsn)


class TestSqliteFull(TestSqlite):
    level = "FULL"


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def server(self, tmp_path):
        self.dsn = f"sqlite://{tmp_path}/q.db"

    def make_client(self):
        return Client(self.dsn)
