"""Test an exception from elsewhere in the middle of a command: no other command gets its reply.

A timeout, or a signal handler, raises it at any step: between what was sent and its reply, too.
"""

import pytest

from alligator.backends.base import Message
from alligator.backends.beanstalk.socket import Socket
from alligator.backends.redis_backend import Client
from tests.faults.test_sqlite_stopped import Interrupted, in_time, interrupted_at


@pytest.fixture(params=["redis", "cluster"])
def client(request):
    client = Client(request.getfixturevalue(f"{request.param}_dsn"))
    client.drop_all("interrupted")
    yield client
    client.drop_all("interrupted")
    client.close()


def test_at_any_step_on_redis(client):
    client.push_many("interrupted", [Message(f"{n}", "x") for n in range(3)])
    client.len("interrupted")
    for step in range(1, 10_000):
        done = interrupted_at(step, lambda: client.len("interrupted")) is None
        assert in_time(lambda: client.dead("interrupted")) == [], f"at step {step}"
        assert in_time(lambda: client.len("interrupted")) == 3, f"at step {step}"
        if done:
            break
    assert step > 10


def test_a_cluster_gets_no_connection_back_that_waits_for_a_reply(cluster_dsn, monkeypatch):
    """The driver lends out again what has nothing to read yet, whatever was sent before."""
    client, given_back = Client(cluster_dsn), []
    client.len("interrupted")
    (node,) = [each for each in client.conn.get_nodes() if each == _node_of(client)]
    pool = node.redis_connection.connection_pool
    release = pool.release

    def interrupt(*_, **__):
        raise Interrupted

    def note(connection):
        release(connection)
        given_back.append(connection)

    with monkeypatch.context() as patched:
        patched.setattr(node.redis_connection, "parse_response", interrupt)
        patched.setattr(pool, "release", note)
        with pytest.raises(Interrupted):
            client.len("interrupted")
    assert [each._sock for each in given_back] == [None]
    assert client.len("interrupted") == 0
    client.close()


def _node_of(client):
    return client.conn.get_node_from_key("alligator:{interrupted}:data")


def test_at_any_step_on_a_line_to_beanstalkd(beanstalk_dsn):
    host = beanstalk_dsn.partition("://")[2].partition("/")[0].split(":")
    line = Socket((host[0], int(host[1])), on_close=lambda: None)
    for step in range(1, 10_000):
        if not line.is_alive():
            line.connect()
        done = interrupted_at(step, lambda: line.call(lambda server: server.stats())) is None
        if not line.is_alive():
            line.connect()
        assert "default" in line.call(lambda server: server.tubes()), f"at step {step}"
        if done:
            break
    assert step > 10
    line.close()
