"""Test messages that other programs write straight onto a server: they block no worker."""

import json
import uuid

import greenstalk
import pytest
import redis

from alligator import Gator, Worker
from alligator.backends.dsn import parse_dsn
from alligator.backends.sqs.encoding import decode_delivery
from alligator.cli import main
from alligator.exceptions import ConnectionLost
from tests.support import jobs


@pytest.fixture(autouse=True)
def _nothing_seen():
    jobs.seen.clear()


def work(gator):
    Worker(gator, burst=True, log_level="CRITICAL").run_forever()


# -- Redis. ------------------------------------------------------------------------------------


@pytest.fixture
def on_redis(redis_dsn):
    """A Gator, a bare connection, and how the keys of the queue begin."""
    gator = Gator(redis_dsn, f"strangers-{uuid.uuid4().hex[:8]}")
    with redis.Redis.from_url(redis_dsn) as conn:
        yield gator, conn, f"alligator:{{{gator.queue_name}}}:"
    gator.client.drop_all(gator.queue_name)
    gator.close()


def test_ids_that_are_no_text_become_dead_letters(on_redis):
    gator, conn, prefix = on_redis
    ids = [b"\xff%d" % number for number in range(20)]
    for each in ids:
        conn.hset(prefix + "data", each, "x")
        conn.zadd(prefix + "ready", {each: 1})
    gator.task(jobs.note, "honest")
    work(gator)
    assert jobs.seen == [(("honest",), {})]
    letters = gator.dead()
    assert sorted(letter.task_id.encode(errors="surrogateescape") for letter in letters) == sorted(
        ids
    )
    assert {letter.data for letter in letters} == {"x"}
    one = letters[0].task_id
    assert gator.client.find(gator.queue_name, one) is not None
    assert gator.client.peek(gator.queue_name, one) == "x"
    assert gator.client.revive(gator.queue_name, one) == 1
    assert gator.client.get(gator.queue_name, one) == "x"


def test_records_that_are_no_records_are_none(on_redis):
    gator, conn, prefix = on_redis
    for name in ("meta", "after"):
        for index, garbage in enumerate([b"garbage", b"\xc1", b"\x91\xa1x", b""]):
            task_id = f"{name}-{index}"
            gator.client.push(gator.queue_name, task_id, gator_message(gator))
            conn.hset(prefix + name, task_id, garbage)
    work(gator)
    assert len(jobs.seen) >= 8
    assert gator.stats()["running"] == 0


def gator_message(gator):
    return json.dumps(
        {
            "task_id": "x",
            "retries": 0,
            "module": "tests.support.jobs",
            "callable": "note",
            "args": [1],
        }
    )


def test_a_dead_letter_that_cannot_be_read_hides_no_other(on_redis, capsys):
    gator, conn, prefix = on_redis
    gator.task(jobs.fail, "\udcff")
    work(gator)
    for task_id, letter in {
        "a": b"garbage",
        "b": b"\x91\x05",
        "c": b"\x93\xa1\xff\xa1\xff\xa1\xff",
    }.items():
        conn.hset(prefix + "dead", task_id, letter)
        conn.zadd(prefix + "graves", {task_id: 9e18})
    assert len(gator.dead()) == 4
    assert main(["dead", gator.conn_string, "--queue", gator.queue_name]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert gator.revive() == 4
    work(gator)
    assert len(gator.dead()) == 4


# -- beanstalkd. ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"attempts": float("inf")},
        {"urgency": 10**30},
        {"urgency": -5},
        {"died_at": 1e300},
        {"died_at": float("nan")},
        {"died_at": float("-inf")},
        {"kind": 5},
    ],
    ids=str,
)
def test_a_letter_of_a_stranger_hides_no_other(beanstalk_dsn, fields, capsys):
    gator = Gator(beanstalk_dsn, f"strangers-{uuid.uuid4().hex[:8]}")
    gator.task(jobs.fail)
    work(gator)
    header = {"id": "x", "kind": "s", "error": "e", "traceback": "t", "died_at": 1.0}
    header |= {"attempts": 1, "urgency": 1, **fields}
    where = parse_dsn(beanstalk_dsn, allowed=("ttr",))
    tube = f"{gator.queue_name}.dead"
    with greenstalk.Client((where.host, where.port), use=tube, encoding=None) as raw:
        raw.put(json.dumps(header).encode() + b"\nDATA")
    assert len(gator.dead()) == 2
    assert main(["dead", gator.conn_string, "--queue", gator.queue_name]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert gator.revive() == 2
    gator.client.drop_all(gator.queue_name)
    gator.close()


# -- SQS. ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "note",
    [{"deaths": -(10**9)}, {"attempts": -1}, {"own_id": "é" * 180_000}, {"first_id": "x" * 1001}],
)
def test_a_note_that_we_would_not_write_is_none(note):
    value = json.dumps(note, ensure_ascii=False)
    message = {
        "MessageId": "m",
        "ReceiptHandle": "r",
        "Body": "data",
        "MessageAttributes": {"alligator": {"StringValue": value}},
        "Attributes": {"ApproximateReceiveCount": "12"},
    }
    delivery = decode_delivery("q", message, 0.0, 30)
    assert (delivery.task_id, delivery.data) == ("m", "data")
    assert (delivery.attempt, delivery.deaths) == (12, 5)
    assert delivery.receipt.metadata.own_id == ""


# -- SQLite. ---------------------------------------------------------------------------------------


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "queue.db.lock").symlink_to(tmp_path / "elsewhere")
    gator = Gator(f"sqlite://{tmp_path}/queue.db")
    with pytest.raises(ConnectionLost):
        gator.task(jobs.note, 1)
    assert not (tmp_path / "elsewhere").exists()
