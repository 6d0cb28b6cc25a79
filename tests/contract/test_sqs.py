"""The contract on an emulator of SQS over HTTP, and on AWS itself where a DSN is given."""

import os
import uuid

import pytest

from alligator.backends.sqs_backend import Client
from alligator.testing import BackendContract
from tests.servers.sqs import MotoServer, make_queue, use_emulator

AWS = os.environ.get("ALLIGATOR_TEST_SQS_DSN")


@pytest.fixture(scope="session")
def moto(tmp_path_factory):
    server = MotoServer(tmp_path_factory.mktemp("moto")).start()
    yield server
    server.stop()


class SQSContract(BackendContract):
    short_lease = 2.0  # SQS keeps whole seconds
    keeps_order = False
    has_exact_counts = False

    def setup_method(self):
        """Nothing: the server comes up first."""

    def teardown_method(self):
        """Nothing: the fixture does it while the server is up."""

    def _run(self):
        self.made = []
        super().setup_method()
        yield
        super().teardown_method()
        for url in self.made:
            self.client.conn.delete_queue(QueueUrl=url)
        self.client.close()

    def make_client(self):
        return Client(self.dsn)

    def make_queue(self):
        name = f"contract-{uuid.uuid4().hex[:12]}"
        self.made += [make_queue(self.client.conn, each) for each in (name, f"{name}-dead")]
        return name


class TestEmulator(SQSContract):
    def reserve(self, limit=1, lease=30.0, **options):
        """As in the suite, but the emulator is quick: a wait for nothing is short."""
        return super().reserve(limit, lease, **{"wait": 0.4, **options})

    @pytest.fixture(autouse=True)
    def _server(self, moto, monkeypatch):
        use_emulator(monkeypatch)
        self.dsn = moto.dsn
        yield from self._run()


@pytest.mark.skipif(not AWS, reason="ALLIGATOR_TEST_SQS_DSN names no SQS to test with")
class TestAWS(SQSContract):
    @pytest.fixture(autouse=True)
    def _server(self):
        self.dsn = AWS
        yield from self._run()
