"""Test a backend against the contract: a third party's as well as Alligator's.

::

    from alligator.testing import BackendContract

    class TestMyBackend(BackendContract):
        def make_client(self):
            return MyClient("mine://localhost")

Run it with pytest. What a backend does not support (``Client.supports``) is skipped.
Where a server has to be up first, override the fixture ``server``::

    class TestMyBackend(BackendContract):
        @pytest.fixture
        def server(self, tmp_path):
            with my_server(tmp_path) as self.dsn:
                yield

        def make_client(self):
            return MyClient(self.dsn)
"""

from alligator.testing.conformance.dead_letters import DeadLetterContract
from alligator.testing.conformance.leases import LeaseContract
from alligator.testing.conformance.limits import LimitContract
from alligator.testing.conformance.listing import ListingContract
from alligator.testing.conformance.pauses import PauseContract
from alligator.testing.conformance.queues import QueueContract
from alligator.testing.conformance.unique import UniqueContract


class BackendContract(
    QueueContract,
    LeaseContract,
    DeadLetterContract,
    ListingContract,
    LimitContract,
    PauseContract,
    UniqueContract,
):
    """Inherit, define :meth:`make_client`, and name the class ``Test…``."""
