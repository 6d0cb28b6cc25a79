"""Test the redis users that docs/security.rst describes: they can do their work, and no more."""

import re
import shlex

import pytest
import redis

from alligator import CANCELED, WAITING, Gator, Worker
from alligator.backends.redis_backend import Client
from alligator.exceptions import AlligatorException, TaskFailed
from alligator.testing import BackendContract, StoreContract
from tests.docs.snippets import ROOT, blocks
from tests.support import jobs
from tests.support.servers import redis as servers

REFUSED = "permissions|can't (run|access)"


def recipe():
    """Return the arguments of each ``ACL SETUSER`` in the documentation."""
    found = {}
    for block in blocks(ROOT / "docs" / "security.rst"):
        for line in re.sub(r"\\\n", " ", block.code).splitlines():
            words = shlex.split(line.removeprefix("$ "))
            if words[:3] == ["redis-cli", "ACL", "SETUSER"]:
                found[words[3]] = words[1:]
    return found


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    found = servers.start(tmp_path_factory.mktemp("acl"))
    admin = redis.Redis(port=found.port)
    for command in recipe().values():
        admin.execute_command(*command)
    admin.set("precious", "keep me")
    yield found
    admin.close()
    found.stop()


def dsn_of(guarded, user):
    password = next(word[1:] for word in recipe()[user] if word.startswith(">"))
    return f"redis://{user}:{password}@127.0.0.1:{guarded.port}/0"


class TestWorkersUser(BackendContract):
    """All of the contract, with the rights of the worker."""

    @pytest.fixture
    def server(self, guarded):
        self.dsn = dsn_of(guarded, "worker")

    def make_client(self):
        return Client(self.dsn)


class TestWorkersStore(StoreContract):
    """Of the store, too."""

    @pytest.fixture
    def server(self, guarded):
        self.dsn = dsn_of(guarded, "worker")

    def make_client(self):
        return Client(self.dsn)


def test_a_producer_waits_for_results(guarded):
    producer, working = (Gator(dsn_of(guarded, user), "acl") for user in ("producer", "worker"))
    saved = producer.options(save_results=60).task(jobs.note, 1)
    plain, bad = producer.task(jobs.note, 2), producer.task(jobs.fail)
    assert producer.status(saved) == producer.status(plain) == WAITING
    assert saved.wait(0.1) is False
    Worker(working, burst=True, log_level="CRITICAL").run_forever()
    assert producer.wait([saved, plain, bad], 10) is True
    assert isinstance(producer.result(saved.id), int)
    with pytest.raises(TaskFailed, match="too much"):
        producer.result(bad.id)
    with pytest.raises(AlligatorException, match=REFUSED):
        producer.cancel(producer.task(jobs.note, 3))
    working.client.drop_all("acl")


def test_a_producer_pushes_tasks_that_wait_for_others(guarded):
    producer, working = (Gator(dsn_of(guarded, user), "acl") for user in ("producer", "worker"))
    parent, bad = producer.task(jobs.note, "parent"), producer.task(jobs.fail)
    child = producer.options(depends_on=[parent]).task(jobs.note, "child")
    lost = producer.options(depends_on=[parent, bad]).task(jobs.note, "lost")
    assert (working.len(), producer.status(child)) == (2, WAITING)
    Worker(working, burst=True, log_level="CRITICAL").run_forever()
    assert child.wait(10) is True
    assert producer.status(lost) == CANCELED
    late = producer.options(depends_on=bad).task(jobs.note, "late")
    assert late.status == CANCELED
    waits = producer.options(depends_on=[producer.task(jobs.note, "parent")])
    held = waits.task(jobs.note, "held")
    assert working.cancel(held) is not None
    waits.task(jobs.note, "dropped")
    working.client.drop_all("acl")


def test_a_producer_pushes_and_a_worker_works(guarded):
    jobs.seen.clear()
    producer, working = (Gator(dsn_of(guarded, user), "acl") for user in ("producer", "worker"))
    producer.task(jobs.note, 1)
    with producer.options(task_id="same", priority=5) as opts:
        opts.task(jobs.note, 2)
        opts.task(jobs.note, 3)
    with producer.options(delay_by=3600, task_id="later") as opts:
        opts.task(jobs.note, 4)
        opts.task(jobs.note, 4)
    with producer.batch(retries=1) as batch:
        batch.task(jobs.fail)
    Worker(working, burst=True, log_level="CRITICAL").run_forever()
    assert sorted(args for args, _ in jobs.seen) == [(1,), (3,)]
    assert [letter.error for letter in working.dead()] == ["ValueError: too much"]
    for take in (producer.pop, producer.dead, producer.stats, producer.revive):
        with pytest.raises(AlligatorException):
            take()
    working.client.drop_all("acl")


@pytest.mark.parametrize("user", ["producer", "worker"])
@pytest.mark.parametrize(
    "command",
    [
        "GET precious",
        "SET precious gone",
        "HGET precious x",
        "KEYS *",
        "SCAN 0",
        "FLUSHALL",
        "CONFIG GET requirepass",
        "CONFIG SET dir /tmp",
        "ACL LIST",
        "CLIENT LIST",
        "SCRIPT FLUSH",
        "MONITOR",
        "SHUTDOWN",
        "REPLICAOF 127.0.0.1 1",
        "MODULE LIST",
        "PUBLISH x y",
        "EVAL return(redis.call('GET','precious')) 0",
        "EVAL return(redis.call('FLUSHALL')) 0",
    ],
)
def test_neither_can_do_more(guarded, user, command):
    target = dsn_of(guarded, user)
    refused = pytest.raises(redis.ResponseError, match=REFUSED)
    with redis.Redis.from_url(target) as client, refused:
        client.execute_command(*command.split())


def test_a_refusal_says_what_is_missing_and_not_the_password(guarded):
    gator = Gator(dsn_of(guarded, "producer"))
    with pytest.raises(AlligatorException, match=REFUSED) as caught:
        gator.pop()
    assert "change-me" not in str(caught.value)
