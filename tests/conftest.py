"""Start the servers that more than one test module uses, once each, and stop them at the end."""

import uuid

import pytest
from hypothesis import settings

from alligator import Gator
from tests.support import markers

# Enough to find what is wrong in a few runs; tests that need more say so.
settings.register_profile("suite", max_examples=50, deadline=None)  # a busy machine is no fault
settings.load_profile("suite")


def pytest_collection_modifyitems(items):
    for item in items:
        markers.mark(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    markers.current = frozenset(each.name for each in item.iter_markers())
    try:
        return (yield)
    finally:
        markers.current = None


@pytest.fixture(scope="session")
def redis_dsn(tmp_path_factory):
    from tests.support.servers import redis

    server = redis.start(tmp_path_factory.mktemp("shared-redis"))
    yield server.dsn
    server.stop()


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory):
    """A server for one test module, which may empty it and count what is there."""
    from tests.support.servers import redis

    server = redis.start(tmp_path_factory.mktemp("own-redis"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def cluster_dsn(tmp_path_factory):
    from tests.support.servers import redis

    nodes = redis.start_cluster(tmp_path_factory.mktemp("shared-cluster"))
    yield redis.cluster_dsn(nodes)
    for node in nodes:
        node.stop()


@pytest.fixture(scope="session")
def beanstalk_dsn(tmp_path_factory):
    from tests.support.servers.beanstalk import Beanstalkd

    server = Beanstalkd(tmp_path_factory.mktemp("shared-beanstalkd")).start()
    yield f"{server.dsn}?ttr=2"
    server.stop()


@pytest.fixture(scope="session")
def _moto(tmp_path_factory):
    from tests.support.servers.sqs import MotoServer

    server = MotoServer(tmp_path_factory.mktemp("shared-moto")).start()
    yield server
    server.stop()


@pytest.fixture
def sqs_dsn(_moto, monkeypatch):
    from tests.support.servers.sqs import use_emulator

    use_emulator(monkeypatch)
    return _moto.dsn


@pytest.fixture
def sqlite_dsn(tmp_path):
    return f"sqlite://{tmp_path}/queue.db"


@pytest.fixture(params=["sqlite", "redis", "beanstalk", "sqs"])
def durable_dsn(request):
    """Each backend that outlives a worker, in turn."""
    return request.getfixturevalue(f"{request.param}_dsn")


@pytest.fixture
def durable_gator(durable_dsn):
    """Make Gators on that backend; queues that have to be created are."""
    made = []

    def make(queue_name, **options):
        gator = Gator(durable_dsn, queue_name, **options)
        if durable_dsn.startswith("sqs"):
            for name in (queue_name, f"{queue_name}-dead"):
                gator.client.conn.create_queue(QueueName=name)
        made.append(gator)
        return gator

    yield make
    for gator in made:
        gator.client.drop_all(gator.queue_name)
        gator.close()


@pytest.fixture(params=["locmem", "sqlite", "redis", "cluster", "beanstalk+redis", "sqs+sqlite"])
def gator_with_store(request, tmp_path):
    """Return a Gator on each backend in turn, with a store of another backend if it has none."""
    backend, _, store = request.param.partition("+")
    where = [
        f"locmem://{tmp_path}" if name == "locmem" else request.getfixturevalue(f"{name}_dsn")
        for name in (backend, store)
        if name
    ]
    queue_name = f"q-{uuid.uuid4().hex[:8]}"
    gator = Gator(where[0], queue_name, store=where[1] if store else None)
    if backend == "sqs":
        for name in (queue_name, f"{queue_name}-dead"):
            gator.client.conn.create_queue(QueueName=name)
    yield gator
    gator.client.drop_all(queue_name)
    gator.close()
