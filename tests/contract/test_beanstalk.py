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

    @pytest.fixture(autouse=True)
    def _server(self, beanstalkd):
        self.dsn = f"{beanstalkd.dsn}?ttr=2"
        self._begin()
        yield
        self._end()

    def setup_method(self):
        """Nothing: the server comes up first."""

    def teardown_method(self):
        """Nothing: the fixture does it while the server is up."""

    def _begin(self):
        super().setup_method()

    def _end(self):
        super().teardown_method()

    def make_client(self):
        return Client(self.dsn)
