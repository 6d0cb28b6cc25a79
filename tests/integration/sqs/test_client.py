"""Test the features of the SQS backend beyond the contract, on an emulator over HTTP."""

import json
import logging
import os
import threading
import time
import uuid

import pytest

from alligator.backends.base import Message, Reason
from alligator.backends.sqs import encoding as sqs_encoding
from alligator.backends.sqs.encoding import ATTRIBUTE, LARGEST_TEXT, LIMIT, Metadata, decode, encode
from alligator.backends.sqs_backend import Client
from alligator.exceptions import (
    AlligatorException,
    ConnectionLost,
    InvalidDSN,
    InvalidTask,
    QueueFull,
    QueueNotFound,
    UnsupportedOption,
)
from alligator.testing import FakeClock
from tests.support.helpers import eventually
from tests.support.servers.process import free_port
from tests.support.servers.sqs import MotoServer, make_queue, use_emulator

WHY = Reason("ValueError: too much", "Traceback …\nValueError: too much")


@pytest.fixture(scope="module")
def moto(tmp_path_factory):
    server = MotoServer(tmp_path_factory.mktemp("moto")).start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _emulator(monkeypatch):
    use_emulator(monkeypatch)


@pytest.fixture
def client(moto):
    client = Client(moto.dsn)
    yield client
    client.close()


@pytest.fixture
def queue(client):
    return new_queue(client, dead=True)


def new_queue(client, suffix="", *, dead=False, **attributes):
    name = f"q-{uuid.uuid4().hex[:12]}"
    make_queue(client.conn, name + suffix, **attributes)
    if dead:
        make_queue(client.conn, f"{name}-dead{suffix}")
    return name + suffix


def take(client, queue, limit=1, lease=30.0, wait=15.0):
    return client.reserve([queue], limit, lease, wait).deliveries


def take_one(client, queue, **options):
    (delivery,) = take(client, queue, **options)
    return delivery


def url(client, queue):
    return client.conn.get_queue_url(QueueName=queue)["QueueUrl"]


# -- Connection strings. --------------------------------------------------------------------


@pytest.mark.parametrize(
    "dsn",
    [
        "sqs://us-west-2/?endpont_url=http://localhost",
        "sqs://us-west-2/?endpoint_url=localhost:9324",
        "sqs://us-west-2/queue",
        "sqs://us-west-2:99/",
        "sqs://us-west-2,us-east-1/",
        "sqs://US_WEST/",
    ],
)
def test_bad_dsn(dsn):
    with pytest.raises(InvalidDSN):
        Client(dsn)


@pytest.mark.parametrize("where", ["AKIA:sec/ret@us-west-2", "AKIA@us-west-2"])
def test_credentials_in_a_dsn_are_refused_and_not_shown(where):
    with pytest.raises(InvalidDSN, match="boto3's own chain") as caught:
        Client(f"sqs://{where}/")
    assert "sec" not in str(caught.value)


def test_no_region_is_boto3s_default(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert Client("sqs:///").conn.meta.region_name == "eu-west-1"


def test_no_region_anywhere_says_so(monkeypatch):
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(InvalidDSN, match="region"):
        Client("sqs://").len("q")


def test_no_credentials_says_where_they_come_from(moto, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, os.devnull)
    with pytest.raises(ConnectionLost, match="AWS_ACCESS_KEY_ID"):
        Client(moto.dsn).len("q")


def test_nobody_there_fails_fast():
    client = Client(f"sqs://us-west-2/?endpoint_url=http://127.0.0.1:{free_port()}")
    started = time.monotonic()
    with pytest.raises(ConnectionLost):
        client.push("q", "1", "x")
    with pytest.raises(ConnectionLost):
        client.reserve(["q"], wait=60.0)
    assert time.monotonic() - started < 30


# -- Queues. --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "A-b_9", "x" * 80, "x" * 75 + ".fifo"])
def test_queue_names(client, name):
    client.check_queue_name(name)


@pytest.mark.parametrize("name", ["", "a.b", "x" * 81, "x" * 76 + ".fifo", "ä", ".fifo", "a\n"])
def test_queue_names_refused(client, name):
    with pytest.raises(InvalidTask):
        client.check_queue_name(name)


def test_a_missing_queue_says_how_to_make_it(client):
    calls = [
        lambda: client.push("missing", "1", "x"),
        lambda: client.reserve(["missing"]),
        lambda: client.reserve(["missing"], wait=3.0),
        lambda: client.len("missing"),
        lambda: client.drop_all("missing"),
        lambda: client.dead("missing"),
        lambda: client.revive("missing"),
    ]
    for call in calls:
        with pytest.raises(QueueNotFound, match="create-queue --queue-name missing"):
            call()


def test_a_deleted_queue_is_missing_and_may_return(client, queue):
    client.push(queue, "1", "x")
    client.conn.delete_queue(QueueUrl=url(client, queue))
    with pytest.raises(QueueNotFound):
        client.push(queue, "1", "x")
    make_queue(client.conn, queue)
    client.push(queue, "1", "x")


def test_what_sqs_cannot_do(client, queue):
    for call in (
        lambda: client.get(queue, "1"),
        lambda: client.find(queue, "1"),
        lambda: client.peek(queue, "1"),
        lambda: client.reserve([queue], task_id="1"),
    ):
        with pytest.raises(NotImplementedError, match="by id"):
            call()
    with pytest.raises(UnsupportedOption, match="several queues"):
        client.push(queue, "1", "x", priority=1)


def test_a_push_that_is_refused_sends_nothing(client, queue):
    with pytest.raises(UnsupportedOption):
        client.push_many(queue, [Message("1", "x"), Message("2", "y", priority=1)])
    assert client.len(queue) == 0


# -- Messages. ------------------------------------------------------------------------------

ODD = ["", "\x00", "\x1f\x7f", "\ud800 alone", "￾￿", "\r\n\t ", " ", "-", "🐊", b"", b"-", b"\xff"]


@pytest.mark.parametrize("data", ODD, ids=repr)
def test_any_data_comes_back(data):
    body, attribute = encode(data, Metadata("own"))
    assert body
    assert sqs_encoding._PLAIN.fullmatch(body)
    assert attribute.isascii()
    message = {"Body": body, "MessageAttributes": {ATTRIBUTE: {"StringValue": attribute}}}
    assert decode(message) == (data, Metadata("own"))


def test_odd_data_over_the_wire(client, queue):
    ids = client.push_many(queue, [Message(f"\x00{n}ä", each) for n, each in enumerate(ODD)])
    assert len(set(ids)) == len(ODD)
    found = []
    while len(found) < len(ODD):
        found += take(client, queue, limit=10)
    assert take(client, queue, wait=0.2) == []
    assert sorted(repr(each.data) for each in found) == sorted(map(repr, ODD))
    assert {each.task_id for each in found} == set(ids)
    own_ids = {each.receipt.metadata.own_id for each in found}
    assert own_ids == {f"\x00{n}ä" for n in range(len(ODD))}


@pytest.mark.parametrize(
    "attribute",
    [
        "[1]",
        "{",
        '{"due": NaN}',
        '{"due": 1e999}',
        '{"deaths": "3"}',
        '{"attempts": true}',
        '{"base64": "bytes"}',
        '{"base64": 3}',
        "[" * 100_000,
        '{"due": 1' + "0" * 400 + "}",
    ],
    ids=lambda text: text[:20],
)
def test_an_attribute_that_cannot_be_read_leaves_the_body(attribute):
    message = {"Body": "no base64", "MessageAttributes": {ATTRIBUTE: {"StringValue": attribute}}}
    assert decode(message)[0] == "no base64"
    assert decode(message)[1].due == 0


def test_a_message_of_alligator_1_0_is_text(client, queue):
    body = json.dumps({"task_id": "1", "module": "os"})
    sent = client.conn.send_message(QueueUrl=url(client, queue), MessageBody=body)
    delivery = take_one(client, queue)
    assert (delivery.data, delivery.task_id) == (body, sent["MessageId"])


def test_a_plain_task_is_plain_on_the_wire(client, queue):
    client.push(queue, "1", '{"a": "ä"}')
    reply = client.conn.receive_message(QueueUrl=url(client, queue))
    assert reply["Messages"][0]["Body"] == '{"a": "ä"}'


def test_sizes(client, queue):
    assert client.max_size() == LARGEST_TEXT
    client.push(queue, "1" * 36, "x" * LARGEST_TEXT)
    delivery = take_one(client, queue)
    assert len(delivery.data) == LARGEST_TEXT
    assert client.release(delivery, "y" * LARGEST_TEXT)
    delivery = take_one(client, queue)
    assert client.bury(delivery, None, Reason("e" * 9999, "ü" * 99_999))
    (letter,) = client.dead(queue)
    assert letter.data == "y" * LARGEST_TEXT
    assert letter.error[:9] == "e" * 9
    assert client.revive(queue) == 1
    for data in ("x" * LIMIT, "ä" * (LIMIT // 2), b"x" * (LIMIT * 3 // 4), "\x00" * LIMIT):
        with pytest.raises(InvalidTask, match=rf"{len(data)}|{LIMIT}.*{LIMIT}"):
            client.push(queue, "1", data)
    client.push(queue, "1", b"x" * (LARGEST_TEXT // 4 * 3))


def test_a_queue_with_a_limit_of_its_own(client):
    small = new_queue(client, MaximumMessageSize="1024")
    with pytest.raises(InvalidTask, match="1024"):
        client.push(small, "1", "x" * 2000)


def test_batches_above_ten_and_above_a_mebibyte(client, queue):
    data = [f"{number:02}" + "x" * 200_000 for number in range(12)]
    data += [f"{number}" for number in range(100, 113)]
    ids = client.push_many(queue, [Message(each[:3], each) for each in data])
    assert len(set(ids)) == 25
    taken = take(client, queue, limit=25)
    assert sorted(each.data for each in taken) == sorted(data)
    assert client.extend(taken, 60.0) == []
    assert client.reserve([queue], acks=taken) == ([], [])
    assert client.stats(queue).running == 0


# -- Delays. --------------------------------------------------------------------------------


def test_a_long_delay_goes_in_hops(client, queue, monkeypatch):
    monkeypatch.setattr(Client, "MAX_DELAY", 1)
    due = time.time() + 2.5
    task_id = client.push(queue, "own", b"\x00 later", delay_until=due)
    (delivery,) = take(client, queue, lease=10.0, wait=20.0)
    assert time.time() >= due
    assert (delivery.data, delivery.task_id) == (b"\x00 later", task_id)
    assert (delivery.receipt.metadata.own_id, delivery.attempt, delivery.deaths) == ("own", 1, 0)
    assert client.ack([delivery]) == []
    stats = client.stats(queue)
    assert (stats.waiting, stats.delayed, stats.running) == (0, 0, 0)


def test_a_delay_above_the_limit_is_sent_with_the_limit(moto):
    clock = FakeClock()
    client = Client(moto.dsn, clock=clock)
    queue = new_queue(client)
    sent = []
    client.conn.meta.events.register(
        "before-parameter-build.sqs.SendMessageBatch",
        lambda params, **_: sent.extend(params["Entries"]),
    )
    for delay in (0.1, 899.5, 100_000.0, -5.0):
        client.push(queue, "1", "x", delay_until=clock.time() + delay)
    assert [entry.get("DelaySeconds", 0) for entry in sent] == [1, 900, 900, 0]


def test_a_retry_later_than_sqs_hides_a_message_hops(client, queue):
    client.push(queue, "own", "x")
    delivery = take_one(client, queue)
    assert client.release(delivery, None, time.time() + 90_000)
    stats = client.stats(queue)
    assert (stats.delayed, stats.running) == (1, 0)


# -- Leases. --------------------------------------------------------------------------------


def test_a_lease_is_whole_seconds_rounded_up(client, queue):
    client.push(queue, "1", "x")
    seen = []
    client.conn.meta.events.register(
        "before-parameter-build.sqs.ReceiveMessage", lambda params, **_: seen.append(params)
    )
    for lease in (0.1, 1.5, 1e9):
        client.reserve([queue], lease=lease)
    assert [each["VisibilityTimeout"] for each in seen] == [1, 2, 43_200]


def test_a_lease_that_ran_out_by_our_clock_is_refused(moto):
    clock = FakeClock()
    client = Client(moto.dsn, clock=clock)
    queue = new_queue(client, dead=True)
    client.push(queue, "1", "x")
    delivery = take_one(client, queue)
    clock.advance(29)
    assert client.extend([delivery], 30.0) == []
    clock.advance(29)
    assert client.ack([]) == []
    clock.advance(2)
    assert client.extend([delivery], 30.0) == [delivery]
    assert client.release(delivery) is False
    assert client.release(delivery, "changed") is False
    assert client.bury(delivery, None, WHY) is False
    assert client.ack([delivery]) == [delivery]
    assert client.stats(queue).running == 1
    assert client.dead(queue) == []


def test_an_extension_in_flight_does_not_open_a_settled_receipt(client, queue, monkeypatch):
    client.push(queue, "x", "1")
    delivery = take_one(client, queue)
    change = client._connection.change

    def slow_change(*args):
        stale = change(*args)
        monkeypatch.undo()
        assert client.release(delivery) is True
        return stale

    monkeypatch.setattr(client._connection, "change", slow_change)
    assert client.extend([delivery], 30.0) == [delivery]
    assert client.ack([delivery]) == [delivery]
    assert take_one(client, queue).data == "1"


def test_extensions_end_at_twelve_hours(moto):
    clock = FakeClock()
    client = Client(moto.dsn, clock=clock)
    queue = new_queue(client)
    client.push(queue, "1", "x")
    delivery = take_one(client, queue, lease=43_000.0)
    clock.advance(42_990)
    asked = []
    client.conn.meta.events.register(
        "before-parameter-build.sqs.ChangeMessageVisibilityBatch",
        lambda params, **_: asked.extend(params["Entries"]),
    )
    assert client.extend([delivery], 600.0) == []
    assert asked[0]["VisibilityTimeout"] == 210
    clock.advance(211)
    assert client.extend([delivery], 600.0) == [delivery]


def test_after_a_release_nothing_counts_any_more(client, queue):
    client.push(queue, "1", "x")
    delivery = take_one(client, queue)
    assert client.release(delivery) is True
    assert client.release(delivery) is False
    assert client.ack([delivery]) == [delivery]
    assert take_one(client, queue).data == "x"


def test_deaths_begin_after_the_free_receives(client, queue):
    client.push(queue, "1", "x")
    here = url(client, queue)
    for count in range(1, 11):
        delivery = take_one(client, queue)
        assert (delivery.attempt, delivery.deaths) == (count, max(0, count - 7))
        handle = delivery.receipt.handle
        client.conn.change_message_visibility(  # as if the lease had run out
            QueueUrl=here, ReceiptHandle=handle, VisibilityTimeout=0
        )
    assert delivery.deaths == client.max_deaths


def test_handing_back_never_adds_a_death(client, queue):
    task_id = client.push(queue, "own", b"\x00")
    for count in range(1, 13):
        delivery = take_one(client, queue)
        assert (delivery.task_id, delivery.data) == (task_id, b"\x00")
        assert (delivery.attempt, delivery.deaths) == (count, 0)
        assert client.release(delivery)


def test_handing_back_gives_no_free_receives_anew(client, queue):
    client.push(queue, "1", "x")
    for _ in range(7):
        _let_run_out(client, queue, take_one(client, queue))
    handed_back = take_one(client, queue)
    assert handed_back.deaths == 1
    assert client.release(handed_back)
    for deaths in (1, 2):
        delivery = take_one(client, queue)
        assert delivery.deaths == deaths
        _let_run_out(client, queue, delivery)
    assert take_one(client, queue).deaths == client.max_deaths


def _let_run_out(client, queue, delivery):
    client.conn.change_message_visibility(
        QueueUrl=url(client, queue), ReceiptHandle=delivery.receipt.handle, VisibilityTimeout=0
    )


def test_one_with_deaths_goes_alone(client, queue):
    client.push_many(queue, [Message(each, each) for each in "abc"])
    here = url(client, queue)
    for _ in range(7):
        for each in take(client, queue, limit=3):
            handle = each.receipt.handle
            client.conn.change_message_visibility(
                QueueUrl=here, ReceiptHandle=handle, VisibilityTimeout=0
            )
    found = []
    for _ in range(3):
        (delivery,) = take(client, queue, limit=3)
        found.append(delivery.data)
        assert client.ack([delivery]) == []
    assert sorted(found) == ["a", "b", "c"]


# -- Waiting. -------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", [0.0, 0.001, 0.02, 0.2, 1.0])
def test_a_short_wait_finds_what_is_there(client, queue, wait):
    client.push_many(queue, [Message(each, each) for each in "abcd"])
    assert len(client.reserve([queue], 2, wait=wait).deliveries) == 2
    assert len(client.reserve([queue, queue], 10, wait=wait).deliveries) == 2


def test_the_next_reserve_takes_a_poll_over(client, queue):
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    assert client.reserve([queue], wait=8.0, stop=stop.is_set).deliveries == []
    seen = []
    client.conn.meta.events.register(
        "before-parameter-build.sqs.ReceiveMessage", lambda params, **_: seen.append(params)
    )
    client.push(queue, "1", "x")
    assert take_one(client, queue).data == "x"
    assert seen == []


def test_what_nobody_takes_is_handed_back(client, moto, queue):
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    assert client.reserve([queue], wait=8.0, stop=stop.is_set).deliveries == []
    client.push(queue, "1", "x")
    other = Client(moto.dsn)
    delivery = take_one(other, queue, wait=20.0)
    assert (delivery.data, delivery.attempt, delivery.deaths) == ("x", 2, 0)
    other.close()


def test_a_closed_client_hands_back_what_its_poll_brings(client, moto, queue):
    other = Client(moto.dsn)
    other.reserve([queue], wait=0.1)
    other.close()
    client.push(queue, "1", "x")
    assert take_one(client, queue).data == "x"


# -- Dead letters. --------------------------------------------------------------------------


def test_a_dead_letter_keeps_the_id_through_retry_and_revival(client, queue):
    task_id = client.push(queue, "own", "x")
    assert client.release(take_one(client, queue), "retried")
    delivery = take_one(client, queue)
    assert (delivery.task_id, delivery.attempt) == (task_id, 2)
    assert client.bury(delivery, None, WHY)
    (letter,) = client.dead(queue)
    assert (letter.task_id, letter.attempts, letter.data) == (task_id, 2, "retried")
    assert client.stats(queue).dead == 1
    assert client.revive(queue, "own") == 1
    delivery = take_one(client, queue)
    assert (delivery.task_id, delivery.attempt) == (task_id, 1)


def test_a_dead_letter_that_was_sent_twice_counts_once(client, queue):
    client.push(queue, "own", "x")
    delivery = take_one(client, queue)
    assert client.bury(delivery, None, WHY)
    delivery.receipt.ends, delivery.receipt.succeeded = float("inf"), False  # the reply was lost
    assert client.bury(delivery, None, WHY)
    assert client.stats(queue).dead == 2
    assert len(client.dead(queue)) == 1
    assert client.revive(queue) == 1
    assert client.len(queue) == 1
    assert client.dead(queue) == []


def test_many_dead_letters(client, queue):
    client.push_many(queue, [Message(f"{n}", f"{n}") for n in range(23)])
    for each in take(client, queue, limit=23):
        assert client.bury(each, None, WHY)
    assert len(client.dead(queue)) == 23
    assert len(client.dead(queue, limit=5)) == 5
    assert client.purge_dead(queue, older_than=3600) == 0
    assert client.purge_dead(queue) == 23
    assert client.stats(queue).dead == 0


def test_without_a_dead_queue_the_letter_is_logged_whole_and_deleted(client, caplog):
    queue = new_queue(client)
    client.push(queue, "own\n", b"\x00 all of it")
    delivery = take_one(client, queue)
    with caplog.at_level(logging.ERROR, "alligator.backends.sqs"):
        assert client.bury(delivery, None, WHY) is True
    (record,) = caplog.records
    said = record.getMessage()
    for part in (delivery.task_id, repr("own\n"), repr(b"\x00 all of it"), *map(repr, WHY)):
        assert part in said
    assert "\n" not in said
    stats = client.stats(queue)
    assert (stats.waiting, stats.running, stats.dead) == (0, 0, 0)
    assert client.dead(queue) == []
    assert client.revive(queue) == client.purge_dead(queue) == 0


def test_a_name_too_long_for_a_dead_queue(client):
    queue = uuid.uuid4().hex * 2 + "x" * 16
    make_queue(client.conn, queue)
    client.push(queue, "1", "x")
    assert client.stats(queue).dead == 0
    assert client.bury(take_one(client, queue), None, WHY) is True
    assert client.len(queue) == 0


def test_a_redrive_policy_gets_what_has_no_dead_queue(client, caplog):
    elsewhere = new_queue(client)
    arn = f"arn:aws:sqs:us-west-2:123456789012:{elsewhere}"
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
    queue = new_queue(client, RedrivePolicy=policy)
    client.push(queue, "own", "x")
    for _ in range(2):
        assert client.bury(take_one(client, queue), None, WHY) is True
    assert len(caplog.records) == 2
    assert take(client, queue, wait=0.1) == []
    assert client.len(elsewhere) == 1


def test_what_the_service_moved_is_a_dead_letter_too(client):
    name = f"q-{uuid.uuid4().hex[:12]}"
    make_queue(client.conn, f"{name}-dead")
    arn = f"arn:aws:sqs:us-west-2:123456789012:{name}-dead"
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1})
    make_queue(client.conn, name, RedrivePolicy=policy)
    task_id = client.push(name, "own", "x")
    assert client.release(take_one(client, name))
    assert take(client, name, wait=0.1) == []
    (letter,) = eventually(lambda: client.dead(name))
    assert (letter.task_id, letter.data) == (task_id, "x")
    assert "redrive" in letter.error
    assert abs(letter.died_at - time.time()) < 60
    assert client.revive(name) == 1
    assert take_one(client, name).data == "x"


# -- FIFO queues. ---------------------------------------------------------------------------


def test_a_fifo_queue_keeps_order(client):
    queue = new_queue(client, ".fifo", dead=True)
    data = [f"{number:02}" for number in range(12)]
    client.push_many(queue, [Message("same", each) for each in data])
    with pytest.raises(UnsupportedOption, match="FIFO"):
        client.push(queue, "1", "x", delay_until=time.time() + 5)
    found = []
    while len(found) < len(data):
        taken = take(client, queue, limit=5)
        found += [each.data for each in taken]
        assert client.ack(taken) == []
    assert take(client, queue, wait=0.2) == []
    assert found == data


def test_fifo_retries_and_dead_letters(client):
    queue = new_queue(client, ".fifo", dead=True)
    client.push(queue, "1", "x")
    assert client.release(take_one(client, queue), "again")
    delivery = take_one(client, queue)
    assert delivery.data == "again"
    due = time.time() + 1.2
    assert client.release(delivery, "later", due)
    delivery = take_one(client, queue, wait=20.0)
    assert time.time() >= due
    assert delivery.data == "later"
    assert client.bury(delivery, None, WHY)
    assert [each.data for each in client.dead(queue)] == ["later"]
    assert client.revive(queue) == 1
    assert take_one(client, queue).data == "later"


# -- How queues are set up. -----------------------------------------------------------------


def test_durability_warning(client):
    assert client.durability_warning() is None
    sound = new_queue(client, dead=True, MessageRetentionPeriod="1209600")
    client.check_queue_name(sound)
    assert client.durability_warning() is None
    client.check_queue_name(new_queue(client))
    warning = client.durability_warning()
    assert "4 days" in warning
    assert "-dead" in warning
    assert "\n" not in warning


def test_drop_all_twice_within_a_minute(client, queue):
    for _ in range(2):
        client.push(queue, "1", "x")
        client.drop_all(queue)
        assert client.len(queue) == 0


def test_a_fork_connects_anew(client, queue):
    client.push(queue, "1", "x")
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if take_one(client, queue).data == "x" else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert client.len(queue) == 0


def test_partial_failure_of_a_batch_raises_and_keeps_the_rest(client, queue, monkeypatch):
    call = client.conn.send_message_batch

    def failing(**params):
        first, lost, *others = params["Entries"]
        failed = {"Id": lost["Id"], "Code": "InternalError", "SenderFault": False}
        # The emulator names the results by position, not by the ids of the entries.
        reply = call(**{**params, "Entries": [first, *others]})
        for entry, sent in zip([first, *others], reply["Successful"], strict=True):
            sent["Id"] = entry["Id"]
        return {**reply, "Failed": [failed]}

    monkeypatch.setattr(client.conn, "send_message_batch", failing)
    with pytest.raises(AlligatorException, match="InternalError"):
        client.push_many(queue, [Message(each, each) for each in "abc"])
    assert sorted(each.data for each in take(client, queue, limit=3)) == ["a", "c"]


@pytest.mark.parametrize("code", ["RequestThrottled", "AWS.SimpleQueueService.OverLimit"])
def test_one_of_a_batch_that_is_throttled_is_no_outage(client, queue, monkeypatch, code):
    """The message is there still, and its lease stands."""
    client.push(queue, "x", "1")
    (delivery,) = client.reserve([queue]).deliveries
    failed = [{"Id": "0", "Code": code, "Message": "Slower.", "SenderFault": True}]

    def refuse(**parameters):
        return {"Failed": failed}

    for name in ("send_message_batch", "change_message_visibility_batch", "delete_message_batch"):
        monkeypatch.setattr(client.conn, name, refuse)
    for call in (
        lambda: client.push(queue, "y", "2"),
        lambda: client.release(delivery, "again"),
        lambda: client.release(delivery),
        lambda: client.extend([delivery], 30),
        lambda: client.ack([delivery]),
        lambda: client.bury(delivery, None, WHY),
    ):
        with pytest.raises(QueueFull, match="for now"):
            call()
    monkeypatch.undo()
    use_emulator(monkeypatch)
    assert client.ack([delivery]) == []
    assert client.len(queue) == 0
