"""The contract on SQLite files."""

import shutil
import tempfile
from pathlib import Path

from alligator.backends.sqlite_backend import Client
from alligator.testing import BackendContract


class TestSqlite(BackendContract):
    level = "NORMAL"

    def setup_method(self):
        self.folder = Path(tempfile.mkdtemp())
        super().setup_method()

    def teardown_method(self):
        super().teardown_method()
        shutil.rmtree(self.folder)

    def make_client(self):
        return Client(f"sqlite://{self.folder}/q.db?synchronous={self.level}")


class TestSqliteFull(TestSqlite):
    level = "FULL"
