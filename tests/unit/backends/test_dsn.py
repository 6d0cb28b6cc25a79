"""Test that DSNs are parsed, shown without passwords, and lead to their backend."""

import pytest

from alligator import Gator
from alligator.backends import client_class, known_schemes
from alligator.backends.dsn import mask_password, parse_dsn
from alligator.exceptions import (
    AlligatorException,
    InvalidDSN,
    MissingDriver,
)


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
