"""Test what the doctor finds on each backend, and its exit codes."""

import json

import pytest

from alligator import Gator
from alligator.backends.base import Client, Finding
from alligator.backends.redis import server_findings
from alligator.backends.types import clock_finding
from alligator.cli import commands as cli
from tests.support import ROOT, jobs


@pytest.fixture
def sick(tmp_path):
    """A redis that keeps nothing, forgets tasks, and lets a user do little."""
    from tests.support.servers import redis

    server = redis.start(tmp_path / "sick", "--maxmemory-policy", "allkeys-lru")
    yield server
    server.stop()


def findings(capsys, *arguments):
    code = cli.main(["doctor", *arguments, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"must_change", "findings"}
    assert code == int(document["must_change"])
    for each in document["findings"]:
        assert set(each) == {"subject", "found", "advice", "must_change"}
    return {each["subject"]: each for each in document["findings"]}


def test_a_file(sqlite_dsn, capsys, tmp_path):
    Gator(sqlite_dsn).task(jobs.note)
    found = findings(capsys, sqlite_dsn)
    assert {"version", "persistence", "schema", "integrity", "permissions", "disk"} <= set(found)
    assert "synchronous=FULL" in found["persistence"]["advice"]
    assert not found["persistence"]["must_change"]
    found = findings(capsys, f"{sqlite_dsn}?synchronous=FULL")
    assert found["persistence"]["advice"] == ""
    assert found["integrity"]["found"] == "the file is not damaged"
    (tmp_path / "queue.db").chmod(0o644)
    assert "chmod 600" in findings(capsys, sqlite_dsn)["permissions"]["advice"]


def test_a_file_that_is_not_there(sqlite_dsn, capsys):
    assert cli.main(["doctor", sqlite_dsn]) == 2
    assert "There is no file" in capsys.readouterr().err


def test_no_server(capsys):
    assert cli.main(["doctor", "redis://127.0.0.1:1/"]) == 2
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_text_marks_what_must_be_changed(sick, capsys):
    assert cli.main(["doctor", sick.dsn]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert any(
        line.startswith("!!  eviction") and "deletes tasks when its memory is full" in line
        for line in shown
    )
    assert any(line.endswith("→ set it to noeviction.") for line in shown)
    assert any(line.startswith("ok  permissions") for line in shown)
    assert shown[-1] == "2 to change, 1 to consider."


def test_a_redis(sick, capsys):
    import redis

    found = findings(capsys, sick.dsn)
    assert found["eviction"]["must_change"]
    assert found["persistence"]["advice"] == "set appendonly to yes"
    assert found["clock"]["found"] == "the clocks of the server and of this machine agree"
    admin = redis.Redis(port=sick.port)
    admin.config_set("maxmemory-policy", "noeviction")
    admin.config_set("appendonly", "yes")
    found = findings(capsys, sick.dsn)
    assert not any(each["must_change"] for each in found.values())
    rights = ("~alligator:*", "-@all", "+eval", "+time", "+zadd", "+ping", "+hello")
    admin.execute_command("ACL", "SETUSER", "few", "on", ">secret", *rights)
    few = f"redis://few:secret@127.0.0.1:{sick.port}/0"
    code = cli.main(["doctor", few, "--json"])
    found = json.loads(capsys.readouterr().out)["findings"]
    said = {each["subject"]: each["found"] for each in found}
    assert code == 0
    assert "which a worker needs: blpop exists get" in said["permissions"]
    assert " zadd" not in said["permissions"]
    assert "may not ask" in said["persistence"]
    assert "secret" not in json.dumps(found)
    admin.config_set("appendonly", "no")  # else the server takes ten seconds to stop
    admin.close()


def test_the_rights_that_are_asked_for_are_those_of_the_docs():
    page = (ROOT / "docs" / "security.rst").read_text()
    _, _, worker = page.partition("ACL SETUSER worker")
    words = worker.partition("\n\n")[0].split()
    documented = {each[1:] for each in words if each.startswith("+")}
    assert set(server_findings._COMMANDS) == documented - {
        "hello",
        "ping",
        "select",
        "eval",
        "evalsha",
    }


def test_the_place_of_a_redis_is_its_server_and_database(redis_dsn):
    first, same, other = (
        Gator(dsn).client
        for dsn in (redis_dsn, redis_dsn.replace("127.0.0.1", "localhost"), redis_dsn[:-1] + "1")
    )
    assert first.place_of("all") == same.place_of("all") != other.place_of("all")


def test_a_beanstalkd(beanstalk_dsn, capsys):
    found = findings(capsys, beanstalk_dsn)
    assert found["persistence"]["must_change"] == ("binlog (option -b)" in str(found))
    assert found["version"]["found"].startswith("beanstalkd ")
    place = Gator(beanstalk_dsn).client.place_of("all")
    assert place is not None
    assert place == Gator(f"{beanstalk_dsn.partition('?')[0]}?ttr=60").client.place_of("all")


def test_sqs(sqs_dsn, capsys):
    gator = Gator(sqs_dsn, "cli-doctor")
    gator.client.conn.create_queue(QueueName="cli-doctor")
    found = findings(capsys, sqs_dsn, "--queue", "cli-doctor")
    assert found["dead letters"]["advice"] == "make that queue"
    assert "MessageRetentionPeriod" in found["persistence"]["advice"]
    assert "clock" in found
    assert "cli-doctor" in gator.client.place_of("cli-doctor")
    gator.close()


def test_memory_and_a_store_elsewhere(sqlite_dsn, capsys):
    Gator(sqlite_dsn).task(jobs.note)
    found = findings(capsys, "locmem://doctor", "--store", sqlite_dsn)
    assert "memory of this process" in found["persistence"]["found"]
    assert "store: integrity" in found


def test_a_client_of_your_own_warns_of_what_it_may_lose():
    class Mine(Client):
        def durability_warning(self):
            return "It forgets."

    Mine.__abstractmethods__ = frozenset()
    found = Mine("mine://").examine()
    assert [each.must_change for each in found] == [False, True]
    assert found[1].found == "It forgets"
    assert Mine("mine://").place_of("all") is None


@pytest.mark.parametrize(
    ("server", "says"),
    [(100.2, "agree"), (103.1, "3.0 s ahead of"), (40.1, "60.0 s behind")],
)
def test_clocks(server, says):
    found = clock_finding(server, 100.0, 100.2)
    assert says in found.found
    assert bool(found.advice) is (says != "agree")


def test_a_finding_with_advice_is_one_sentence():
    assert Finding("a", "It is bad", "mend it").warning == "It is bad; mend it."
    assert Finding("a", "It is good").warning == "It is good."
