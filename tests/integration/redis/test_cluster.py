"""Test a Gator and the command line on a redis cluster: new ids, many queues."""

import uuid

import pytest
import redis

from alligator import FAILED, SUCCESS, WAITING, Gator
from alligator.cli import commands as cli
from alligator.exceptions import UnsupportedOption
from tests.support import jobs
from tests.support.servers import redis as servers
from tests.support.servers.process import free_port


def add(one, two=0):
    return one + two


@pytest.fixture
def gators(cluster_dsn):
    """One Gator on each of the three nodes."""
    found = {}
    with redis.RedisCluster.from_url(cluster_dsn.split(",")[0].replace("+cluster", "")) as conn:
        while len(found) < 3:
            name = f"c-{uuid.uuid4().hex[:8]}"
            node = conn.get_node_from_key(f"alligator:{{{name}}}:data").name
            found.setdefault(node, Gator(cluster_dsn, name))
    yield list(found.values())
    for gator in found.values():
        gator.client.drop_all(gator.queue_name)
        gator.close()


def test_the_whole_command_line(gators, cluster_dsn, capsys):
    gator = gators[0]
    names = [each.queue_name for each in gators]
    queues = [part for name in names for part in ("--queue", name)]

    def run(command, *arguments):
        assert cli.main([command, cluster_dsn, *queues, *map(str, arguments)]) == 0
        return capsys.readouterr().out

    failing = [each.task(jobs.fail) for each in gators]
    waiting = gator.options(delay_by=3600).task(add, 1)
    assert all(name in run("status") for name in names)
    assert "delay" in run("explain", waiting.id)
    assert cli.main([cluster_dsn, *queues, "--burst", "--log-level", "CRITICAL"]) == 0
    assert all(task.id in run("dead") for task in failing)
    assert "ValueError" in run("dead", "--show", failing[2].id)
    assert "ValueError" in run("explain", failing[1].id)
    assert [each.status(task) for each, task in zip(gators, failing, strict=True)] == [FAILED] * 3
    run("revive", failing[0].id)
    run("revive")
    assert [each.status(task) for each, task in zip(gators, failing, strict=True)] == [WAITING] * 3
    run("drop", "--yes")
    assert [each.len() for each in gators] == [0, 0, 0]


def test_the_schedule(cluster_dsn, tmp_path, monkeypatch, capsys):
    (tmp_path / "cluster_jobs.py").write_text(
        "from alligator import Gator\n"
        f"gator = Gator({cluster_dsn!r}, 'timed')\n"
        "def tick(): pass\n"
        "gator.every(3600, tick)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cli.main(["schedule", "--app", "cluster_jobs:gator", "--next", "3"]) == 0
    assert capsys.readouterr().out.count("cluster_jobs.tick") == 3


def test_a_cluster_as_the_store_of_another_backend(sqlite_dsn, cluster_dsn, capsys):
    gator = Gator(sqlite_dsn, "q", store=cluster_dsn)
    task = gator.options(save_results=60).task(add, 1, two=2)
    store = ["--store", cluster_dsn]
    assert cli.main([sqlite_dsn, *store, "--queue", "q", "--burst", "--log-level", "ERROR"]) == 0
    assert gator.result(task, timeout=30) == 3
    assert (gator.status(task), task.wait(0)) == (SUCCESS, True)
    assert cli.main(["explain", sqlite_dsn, *store, "--queue", "q", task.id]) == 0
    assert "succeeded" in capsys.readouterr().out
    gator.close()


def test_children_are_refused_with_what_to_do(gators):
    parent = gators[0].task(add, 1)
    with pytest.raises(UnsupportedOption, match="name a store on one server"):
        gators[0].options(depends_on=[parent], queue_name=gators[1].queue_name).task(add, 2)
    assert gators[1].len() == 0


def test_over_tls(tmp_path):
    cluster = ["--cluster-enabled", "yes", "--tls-cluster", "yes"]
    cluster += ["--cluster-port", str(free_port())]
    server, port, cert = servers.start_tls(tmp_path, *cluster, names="IP:127.0.0.1")
    gator = Gator(f"rediss+cluster://127.0.0.1:{port}?ssl_ca_certs={cert}", "q")
    try:
        with redis.Redis(port=server.port) as conn:
            conn.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            servers.until_agreed([server])
        task = gator.options(save_results=60).task(add, 1, two=2)
        assert gator.run_all() == 1
        assert gator.result(task, timeout=30) == 3
    finally:
        gator.close()
        server.stop()
