"""Run the conformance suite on a real beanstalkd."""

import contextlib
import threading

import pytest

from alligator.backends.beanstalk_backend import Client
from alligator.exceptions import ConnectionLost
from alligator.testing import BackendContract
from tests.support.servers.beanstalk import Beanstalkd


@pytest.fixture(scope="session")
def beanstalkd(tmp_path_factory):
    server = Beanstalkd(tmp_path_factory.mktemp("beanstalkd")).start()
    yield server
    server.stop()


class TestBeanstalk(BackendContract):
    short_lease = 2.0  # the server gives a job its lease at the push: see ?ttr= below

    @pytest.fixture
    def server(self, beanstalkd):
        self.dsn = f"{beanstalkd.dsn}?ttr=2"
        self.clients = []
        over = threading.Event()
        reminder = threading.Thread(target=self._remind, args=[over], daemon=True)
        reminder.start()
        yield
        over.set()
        reminder.join()

    def _remind(self, over):
        # Version 1.12 may miss the end of a lease while its connection says nothing.
        while not over.wait(0.2):
            for connection in [each for client in self.clients for each in client._pool.all()]:
                if connection.leases:
                    with connection.lock, contextlib.suppress(ConnectionLost):
                        connection.stats_job(1)

    def make_client(self):
        return Client(self.dsn)
