"""Run the conformance suite on Redis and Valkey, with every way to reach them."""

import time

import pytest

from alligator.backends.redis_backend import Client
from alligator.exceptions import ConnectionLost
from alligator.testing import BackendContract, StoreContract
from tests.support.servers import redis as servers

pytestmark = pytest.mark.redis


def reachable(dsn):
    """Wait until a task can be pushed, and return the DSN."""
    client, deadline = Client(dsn), time.monotonic() + 30
    while True:
        try:
            client.push("probe", "probe", "data")
            break
        except ConnectionLost:
            assert time.monotonic() < deadline, f"{dsn} takes no task"
            time.sleep(0.05)
    client.drop_all("probe")
    client.close()
    return dsn


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("redis")
    server = servers.start(folder, "--unixsocket", str(folder / "s"))
    yield server.dsn, f"redis+unix://{folder / 's'}?db=1"
    server.stop()


@pytest.fixture(scope="session")
def tcp(plain):
    return plain[0]


@pytest.fixture(scope="session")
def unix_socket(plain):
    return plain[1]


@pytest.fixture(scope="session")
def valkey(tmp_path_factory):
    server = servers.start(tmp_path_factory.mktemp("valkey"), program=servers.valkey_program())
    yield server.dsn.replace("redis://", "valkey://")
    server.stop()


@pytest.fixture(scope="session")
def tls(tmp_path_factory):
    server, port, cert = servers.start_tls(tmp_path_factory.mktemp("tls"))
    yield f"rediss://localhost:{port}/0?ssl_ca_certs={cert}"
    server.stop()


@pytest.fixture(scope="session")
def cluster(cluster_dsn):
    return reachable(cluster_dsn)


@pytest.fixture(scope="session")
def sentinels(tmp_path_factory):
    found = servers.start_sentinels(tmp_path_factory.mktemp("sentinels"))
    yield reachable(found.dsn)
    found.stop()


class OnRedis:
    """Subclasses name the fixture that has their DSN."""

    road: str

    @pytest.fixture
    def server(self, request):
        self.dsn = request.getfixturevalue(self.road)

    def make_client(self):
        return Client(self.dsn)


class RedisContract(OnRedis, BackendContract):
    """What queues promise."""


class TestRedis(RedisContract):
    road = "tcp"


class TestValkey(RedisContract):
    road = "valkey"


class TestCluster(RedisContract):
    road = "cluster"


class RedisStoreContract(OnRedis, StoreContract):
    """What stores promise."""


class TestRedisStore(RedisStoreContract):
    road = "tcp"


class TestValkeyStore(RedisStoreContract):
    road = "valkey"


class TestClusterStore(RedisStoreContract):
    road = "cluster"


class TestSentinelStore(RedisStoreContract):
    road = "sentinels"


@pytest.mark.parametrize("road", ["unix_socket", "tls", "sentinels"])
@pytest.mark.parametrize(
    "name",
    [
        "test_text_and_bytes_come_back_as_they_went",
        "test_acks_ride_with_reserve",
        "test_same_id_replaces_delay_and_priority",
        "test_delay_holds_and_ends",
        "test_a_stale_delivery_changes_nothing",
        "test_a_waiting_reserve_is_woken_by_a_push",
        "test_a_wait_ends_on_stop_and_on_time",
        "test_many_threads_get_each_task_once",
        "test_drop_all_drops_the_dead",
        "test_close_then_use_again",
    ],
)
def test_other_roads(road, name, request):
    """The same backend by another road: the parts of the contract that the road may break."""
    contract = RedisContract()
    contract.dsn = request.getfixturevalue(road)
    with contract.prepared():
        getattr(contract, name)()
