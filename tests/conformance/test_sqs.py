"""Run the conformance suite on an emulator of SQS over HTTP, and on AWS if a DSN is given."""

import os
import uuid

import pytest

from alligator.backends.sqs_backend import Client
from alligator.testing import BackendContract
from tests.support.servers.sqs import MotoServer, make_queue, use_emulator

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

    @pytest.fixture
    def made(self):
        """The URLs of the queues that a test made, deleted after it."""
        self.made = []
        yield
        client = Client(self.dsn)
        for url in self.made:
            client.conn.delete_queue(QueueUrl=url)
        client.close()

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

    @pytest.fixture
    def server(self, moto, monkeypatch, made):
        use_emulator(monkeypatch)
        self.dsn = moto.dsn


@pytest.mark.sqs
@pytest.mark.skipif(not AWS, reason="ALLIGATOR_TEST_SQS_DSN names no SQS to test with")
class TestAWS(SQSContract):
    @pytest.fixture
    def server(self, made):
        self.dsn = AWS
