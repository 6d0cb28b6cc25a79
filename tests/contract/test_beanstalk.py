"""The contract on a real beanstalkd."""

import pytest

from alligator.backends.beanstalk_backend import Client
from alligator.testing import BackendContract
from tests.servers.beanstalk import Beanstalkd


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

    def make_client(self):
        return Client(self.dsn)
