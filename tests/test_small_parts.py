"""Pure parts: strict JSON, retry delays, pace, ids, DSNs."""

import logging
import random
import threading
import tracemalloc
import uuid

import pytest

from alligator import Gator
from alligator.backends import client_class, known_schemes
from alligator.backends.dsn import mask_password, parse_dsn
from alligator.common import strict_json
from alligator.common.ids import new_task_id
from alligator.common.text import describe_error, shorten
from alligator.exceptions import (
    AlligatorException,
    BadPayload,
    ConnectionLost,
    InvalidDSN,
    MissingDriver,
)
from alligator.execution.outage import ECHO, FIRST_PAUSE, LONGEST_PAUSE, Outage
from alligator.tasks.backoff import DEPLOY_DELAYS, deploy_delay, retry_delay
from alligator.workers.prefetch import Pace


def deep(levels):
    value = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "NaN",
        "[Infinity]",
        "[-Infinity]",
        '{"a": 1, "a": 2}',
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 101 + "1" + "}" * 101,
        "1" * 5000,
        b"\xff",
        b"\xff\xfe{\x00}\x00",
        "[1] 2",
        "1e999",
        "'a'",
    ],
)
def test_what_strict_json_refuses(text):
    with pytest.raises(BadPayload):
        strict_json.loads(text)


def test_brackets_in_text_do_not_count_as_depth():
    value = {"a": '[{"' * 500, "b": [[[1]]]}
    assert strict_json.loads(strict_json.dumps(value)) == value
    assert strict_json.loads("[" * 100 + "]" * 100)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([[]] * 50 + [deep(100)], "deeper than 100"),
        (deep(100_000), "deeper than 100"),
        ("x" * 2_000, "more than the 1000"),
        ({1: 1, "1": 2}, "stands twice"),
        ([{None: 1, "null": 2}], "stands twice"),
        ({"a": {True: 1, "true": 2}}, "stands twice"),
        ({1.5: 1, "1.5": 2}, "stands twice"),
        ({float("nan"): 1}, "not JSON compliant"),
    ],
    ids=lambda value: None if isinstance(value, list | dict) else value[-20:],
)
def test_what_would_not_be_read_is_not_written(value, says, monkeypatch):
    monkeypatch.setattr(strict_json, "MAX_BYTES", 1_000)
    with pytest.raises(ValueError, match=says):
        strict_json.dumps(value)


@pytest.mark.parametrize("value", [deep(100), {"1": 1, 2: 2}, {"a": '"1":'}, [{1: 1}, {1: 1}]])
def test_what_is_written_is_read(value):
    text = strict_json.dumps(value)
    assert strict_json.dumps(strict_json.loads(text)) == text


def test_a_long_string_costs_no_more_than_its_length():
    """The check of depth once took 120 bytes for each letter of it."""
    tracemalloc.start()
    try:
        with pytest.raises(BadPayload, match="deeper"):
            strict_json.loads("[" * 101 + '"' + 'x\\"' * 300_000)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_retry_delays():
    rng = random.Random(1)
    assert [retry_delay(0, 2, n) for n in (0, 1, 2000)] == [0, 0, 0]
    assert [retry_delay(5, 1, n) for n in range(3)] == [5, 5, 5]
    assert retry_delay(5, 2, 0) == 5
    for retried in range(1, 200):
        delay = retry_delay(5, 2, retried, 60, rng)
        assert min(60, 5 * 2**retried) * 0.75 <= delay <= min(60, 5 * 2**retried)
    assert retry_delay(1, 10, 10_000, None, rng) < 1e9


def test_deploy_delays_end():
    assert [deploy_delay(n) for n in range(1, 8)] == [*DEPLOY_DELAYS, None, None]


def test_pace_fetches_many_short_and_few_slow_tasks():
    pace = Pace("auto", 1)
    assert pace.limit() == 1
    for _ in range(20):
        pace.note(0.0001)
    assert pace.limit() == 100
    pace.note(1.0)
    assert pace.limit() == 1
    for _ in range(200):
        pace.note(0.005)
    assert 5 <= pace.limit() <= 10
    assert Pace(7, 1).limit() == 7


def test_ids_sort_by_creation_and_are_unique():
    ids = [new_task_id() for _ in range(5000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 5000
    assert {uuid.UUID(each).version for each in ids} == {7}
    assert {uuid.UUID(each).variant for each in ids} == {uuid.RFC_4122}
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.extend(new_task_id() for _ in range(500)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 4000


def test_text_from_messages_is_made_fit_for_a_log():
    assert shorten("a\nb\x1b[31m") == "a\\nb\\x1b[31m"
    assert len(shorten("x" * 1000)) == 120
    assert describe_error(ValueError("a\nb")) == "ValueError: a\\nb"

    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    assert describe_error(Mute()).startswith("Mute")


@pytest.mark.parametrize(
    "dsn",
    [
        "redis://user:secret@host/0",
        "redis://:secret@host",
        "redis://me@corp:secret@host",
        "redis://u:secret\n@host",
        "redis://u:sec@ret/secret@host:1/0",
        "redis://u:secret@host/0?password=secret&db=1",
        "redis+sentinel://h/m/0?sentinel_password=secret",
    ],
)
def test_passwords_are_masked(dsn):
    assert "secret" not in mask_password(dsn).replace("sec@ret", "secret")
    assert "***" in mask_password(dsn)


@pytest.mark.parametrize(
    "dsn",
    [
        "redis:/u:hunter2@h",
        "redis:u:hunter2@h",
        "//u:hunter2@h",
        "u:hunter2@h",
        "redis://:hunter2",
        "redis://u:hunter2%40h/0",
        "redis://a:1,b:hunter2,c/m/0",
        "redis://[::1]:hunter2",
        "redis://h/0?passwd=hunter2",
        "redis://h/0?pwd=hunter2&db=3",
        "redis://hunter2@h",
        "redis://u:hunt/er2?hunter2@h",
        "sqlite:///x?password=hunter2",
        "sqs://eu-west-1/?endpoint_url=http://u:hunter2@h",
    ],
)
def test_a_malformed_dsn_shows_no_password_either(dsn):
    assert "hunter2" not in mask_password(dsn)
    try:
        shown = repr(Gator(dsn))
    except AlligatorException as err:
        shown = f"{err} {err.__cause__}"
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    "dsn",
    [
        "redis://localhost:6379/0",
        "redis://localhost:",
        "redis://[::1]:6379,[::2]:1/m/0?db=1",
        "redis+unix:///run/r.sock?db=1",
        "sqlite:///home/a@b:c/q.db?synchronous=FULL",
        "beanstalk://127.0.0.1:11300?ttr=5",
        "sqs://eu-west-1/?endpoint_url=http://127.0.0.1:5000",
    ],
)
def test_a_dsn_without_a_password_is_shown_whole(dsn):
    assert mask_password(dsn) == dsn


def test_taking_a_dsn_apart():
    dsn = parse_dsn("redis://us%40er:p%2Fw@h1:1,[::1]:2,h3/a%20b?x=1", 9, allowed=("x",))
    assert dsn.hosts == [("h1", 1), ("::1", 2), ("h3", 9)]
    assert (dsn.username, dsn.password, dsn.path, dsn.query) == ("us@er", "p/w", "a b", {"x": "1"})
    assert parse_dsn("redis://localhost:", 6379).hosts == [("localhost", 6379)]
    assert parse_dsn("redis://", 6379).hosts == [("localhost", 6379)]
    assert "p/w" not in repr(dsn)


@pytest.mark.parametrize(
    "dsn",
    [
        "redis://h:0",
        "redis://h:x",
        "redis://h?y=1",
        "redis://h:99999",
        "redis://h:" + "1" * 5000,
        "redis://user:123/456@host/0",
        "redis://user:hush?hush@host/0",
    ],
)
def test_bad_dsns(dsn):
    with pytest.raises(InvalidDSN) as caught:
        parse_dsn(dsn, 1)
    assert "hush" not in str(caught.value)


def test_schemes():
    assert {"locmem", "sqlite", "redis", "beanstalk", "sqs", "valkey"} <= set(known_schemes())
    with pytest.raises(InvalidDSN, match="sqlite://"):
        client_class("nosuch://x")


def test_a_missing_driver_names_its_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "greenstalk", None)
    for name in [each for each in sys.modules if each.startswith("alligator.backends.beanstalk")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingDriver, match=r"alligator\[beanstalk\]"):
        client_class("beanstalk://h")


def test_the_pauses_of_an_outage_grow_and_differ(monkeypatch):
    now = 0.0
    monkeypatch.setattr("alligator.execution.outage.time.monotonic", lambda: now)

    def pauses():
        nonlocal now
        found, outage = [], Outage(logging.getLogger("silent"))
        for _ in range(12):
            outage.begins(ConnectionLost("gone"))
            outage.begins(ConnectionLost("gone, says another thread of the same try"))
            began = now
            while not outage.try_is_due():
                now += 0.001
            found.append(now - began)
        outage.ends()
        assert outage.try_is_due()
        return found

    first, second = pauses(), pauses()
    assert first != second
    for found in (first, second):
        for index, pause in enumerate(found):
            longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2**index)
            assert longest / 2 - 0.002 <= pause <= longest + 0.002


def test_an_outage_is_said_in_step_whoever_of_many_threads_begins_or_ends_it(caplog):
    outage, why = Outage(logging.getLogger("in.step")), ConnectionLost("gone")

    def begin_and_end():
        for _ in range(100):
            outage.begins(why)
            outage.ends()

    threads = [threading.Thread(target=begin_and_end) for _ in range(6)]
    with caplog.at_level(logging.INFO, "in.step"):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lost = [record.levelno == logging.WARNING for record in caplog.records]
    assert lost == [True, False] * (len(lost) // 2)
    assert lost


def test_a_call_that_fails_late_is_no_outage_of_its_own(monkeypatch, caplog):
    now = 100.0
    monkeypatch.setattr("alligator.execution.outage.time.monotonic", lambda: now)
    outage, why = Outage(logging.getLogger("in.step")), ConnectionLost("gone")
    with caplog.at_level(logging.INFO, "in.step"):
        outage.begins(why)
        outage.ends()
        outage.begins(why)  # over a connection of before
        assert outage.lasts
        outage.ends()
        assert len(caplog.records) == 2
        outage.begins(why)
        now += ECHO
        outage.begins(why)  # it goes on
        assert len(caplog.records) == 3
        outage.ends()
        assert len(caplog.records) == 4
