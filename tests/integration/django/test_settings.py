"""Test what the setting ALLIGATOR may say, and what is said of a mistake in it."""

import pytest

from alligator.contrib.django.settings import KEYS, InvalidSettings, parse
from alligator.exceptions import AlligatorException


def test_a_flat_setting_is_that_of_the_default_alias():
    found = parse({"DSN": "redis://localhost:6379/0", "OPTIONS": {"retries": 3}})
    assert list(found) == ["default"]
    one = found["default"]
    assert (one.dsn, one.queue, one.served) == ("redis://localhost:6379/0", "all", ("all",))
    assert one.options == {"retries": 3}


def test_a_setting_per_alias():
    found = parse({"default": {"DSN": "locmem://"}, "mail": {"DSN": "locmem://m", "QUEUE": "m"}})
    assert [(each.alias, each.dsn, each.queue) for each in found.values()] == [
        ("default", "locmem://", "all"),
        ("mail", "locmem://m", "m"),
    ]


def test_tasks_go_to_the_first_of_the_queues():
    one = parse({"DSN": "locmem://", "QUEUES": ["urgent", "bulk"]})["default"]
    assert (one.queue, one.served) == ("urgent", ("urgent", "bulk"))
    one = parse({"DSN": "locmem://", "QUEUES": ["urgent", "bulk"], "QUEUE": "bulk"})["default"]
    assert (one.queue, one.served) == ("bulk", ("urgent", "bulk"))


@pytest.mark.parametrize("on_commit", [True, "orders"])
def test_on_commit_becomes_an_option_of_all_tasks(on_commit):
    one = parse({"DSN": "locmem://", "ON_COMMIT": on_commit})["default"]
    assert one.options == {"on_commit": on_commit}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "ALLIGATOR is None, not a dictionary"),
        ({}, "ALLIGATOR is empty; write ALLIGATOR = {'DSN'"),
        ({"DNS": "redis://h:1/0"}, "unknown key 'DNS'. Did you mean 'DSN'?"),
        ({"DSN": "locmem://", "QUEUE_NAMES": []}, "'QUEUE_NAMES'. Did you mean 'QUEUE"),
        ({"DSN": "locmem://", "on_commit": True}, "Did you mean 'ON_COMMIT'?"),
        ({"DSN": "locmem://", "XYZZY": 1}, "Known: DSN, QUEUES, "),
        ({"default": {"DSM": "locmem://"}}, "ALLIGATOR['default'] has the unknown key 'DSM'"),
        ({"default": {}}, "ALLIGATOR['default'] has no 'DSN'"),
        ({"default": "redis://h:1/0"}, "Write {'default': {'DSN': …}}"),
        ({"OPTIONS": {}}, "ALLIGATOR has no 'DSN'"),
        ({"DSN": None}, "ALLIGATOR['DSN'] is None, and no DSN"),
        ({"DSN": "localhost"}, "and no DSN such as 'redis://localhost:6379/0'"),
        ({"DSN": "locmem://", "QUEUES": "all"}, "ALLIGATOR['QUEUES'] is 'all', and no list"),
        ({"DSN": "locmem://", "OPTIONS": []}, "['OPTIONS'] is [], and no dictionary"),
        ({"DSN": "locmem://", "ON_COMMIT": 1}, "it is True, False, or the alias of a database"),
        ({"DSN": "locmem://", "ACTIVITY": "no"}, "neither True nor False"),
        ({"DSN": "locmem://", "TASK_CLASS": "Task"}, "no dotted path"),
        (
            {"DSN": "locmem://", "ON_COMMIT": True, "OPTIONS": {"on_commit": False}},
            "both 'ON_COMMIT' and OPTIONS['on_commit']",
        ),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_write(value, said):
    with pytest.raises(InvalidSettings) as caught:
        parse(value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, AlligatorException)


def test_no_error_shows_a_secret():
    for value in (
        "redis://:s3cret-s3cret@host/0",
        ["redis://:s3cret-s3cret@host/0"],
        {"DSN": ["redis://:s3cret-s3cret@host/0"]},
        {"DSN": "locmem://", "SECRET_KEYS": "s3cret-s3cret-s3cret"},
        {"DSN": "locmem://", "QUEUES": "redis://:s3cret-s3cret@host/0"},
        {"DSN": "locmem://", "SECRET_KEYS": ["s3cret-s3cret-s3cret", 1]},
        {"DSN": "locmem://", "STORE": "redis:/user:s3cret-s3cret@h"},
    ):
        with pytest.raises(InvalidSettings) as caught:
            parse(value)
        assert "s3cret" not in str(caught.value)


def test_every_key_is_accepted():
    values = dict.fromkeys(KEYS) | {
        "DSN": "locmem://",
        "QUEUES": ["all"],
        "QUEUE": "all",
        "OPTIONS": {},
        "ON_COMMIT": False,
        "USING": "default",
        "WARN_IN_TRANSACTION": True,
        "MIDDLEWARE": [],
        "ACTIVITY": True,
        "WARN_IN_LOOP": False,
    }
    assert parse(values)["default"].warn_in_transaction
