"""Test how arguments are shown: bounded, masked, and without a call of the user's code."""

import functools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alligator import Task
from alligator.exceptions import LeaveNow
from alligator.monitoring.arguments import (
    LONGEST,
    MASK,
    as_json,
    is_secret,
    joined,
    parameter_names,
    show_call,
    show_task,
)


class Trap:
    """An object whose methods must not be called."""

    def __repr__(self):
        raise AssertionError("the user's code ran")

    __str__ = __hash__ = __eq__ = __iter__ = __len__ = __repr__


SECRETS = [
    "password",
    "user_password",
    "userPassword",
    "PASSWORD",
    "passwd",
    "pwd",
    "passphrase",
    "token",
    "access_token",
    "accessToken",
    "tokens",
    "secret",
    "client_secret",
    "SECRET_KEY",
    "key",
    "api_key",
    "apiKey",
    "APIKey",
    "apikey",
    "keys",
    "auth",
    "Authorization",
    "authorization_header",
    "X-Auth-Token",
    "credentials",
    "cookie",
    "pin",
    "cvv",
    "ssn",
    "jwt",
    "private_key",
    "otp",
    "bearer",
    "sessionid",
    "signature",
]
PLAIN = [
    "monkey",
    "keyboard",
    "author",
    "authors",
    "pinned",
    "user",
    "name",
    "id",
    "count",
    "spin",
    "keynote",
    "passenger",
]


@pytest.mark.parametrize("name", SECRETS)
def test_names_of_secrets(name):
    assert is_secret(name)
    args, kwargs = show_call([{name: "hunter2"}, [{"x": {name: ["hunter2"]}}]], {name: "hunter2"})
    assert "hunter2" not in args + kwargs
    assert args.count(MASK) == 2
    assert kwargs == f"{name}='{MASK}'"
    assert "hunter2" not in as_json({name: {"inner": "hunter2"}})


@pytest.mark.parametrize("name", PLAIN)
def test_names_of_others(name):
    assert not is_secret(name)
    assert show_call([], {name: 1}) == ("", f"{name}=1")


def test_as_python_writes_it():
    args = [1, "x", None, True, 1.5, [1, {"a": (2, "é")}], -7]
    shown, kwargs = show_call(args, {"b": [None], "ü": "z"})
    assert shown == "1, 'x', None, True, 1.5, [1, {'a': (2, 'é')}], -7"
    assert kwargs == "b=[None], ü='z'"
    assert joined(shown, kwargs) == f"{shown}, {kwargs}"
    assert joined("", "a=1") == "a=1"
    assert joined("1", "") == "1"


def test_as_json():
    assert as_json({"a": [1, None, True, 'say "é"', 0.5]}) == (
        '{"a": [1, null, true, "say \\"é\\"", 0.5]}'
    )


def login(user, password, *more, token=None):
    """Stand for a function with secrets among its parameters."""


def test_positional_secrets_are_known_by_the_parameters():
    @functools.wraps(login)
    def wrapped(*args, **kwargs):
        return login(*args, **kwargs)

    class Mailer:
        @classmethod
        def send(cls, key, text):
            pass

    for func in (login, wrapped):
        assert parameter_names(func) == ("user", "password")
        args, _ = show_call(["me", "hunter2", "more"], {}, parameter_names(func))
        assert args == f"'me', '{MASK}', 'more'"
    assert parameter_names(Mailer.send) == ("key", "text")
    assert parameter_names(Trap()) == parameter_names(print) == parameter_names(None) == ()


def test_a_function_wrapped_by_itself_ends():
    def func(a):
        pass

    func.__wrapped__ = func
    assert parameter_names(func) == ()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://me:hunter2@host/0", "redis://me:***@host/0"),
        ("at sqs://a:b/c and redis://:p@w@host", "at sqs://a:b/c and redis://:***@host"),
        ("https://host:80/path", "https://host:80/path"),
    ],
)
def test_passwords_in_urls(text, shown):
    assert show_call([text], {})[0] == repr(shown)


def test_a_password_in_a_url_that_is_cut_is_not_shown_in_part():
    for length in range(100, 1200, 50):
        text = "x" * (LONGEST - 20) + "redis://me:" + "hunter2" * length + "@host"
        assert "hunter2" not in show_call([text], {})[0]


def test_no_code_of_the_user_runs():
    args, kwargs = show_call([Trap(), {1: Trap()}, Trap], {"a": Trap()})
    assert args == "<Trap>, {1: <Trap>}, <type>"
    assert kwargs == "a=<Trap>"


def test_hostile_arguments_are_bounded_and_quick():
    loop = []
    loop.append(loop)
    deep = []
    for _ in range(5000):
        deep = [deep]
    hostile = [
        "x" * 50_000_000,
        [0] * 5_000_000,
        {f"k{i}": i for i in range(200_000)},
        10**200_000,
        deep,
        loop,
        {"n" * 1_000_000: 1},
        "\x1b[31m\n\r\u202e\ud800" * 100,
    ]
    began = time.process_time()
    for each in hostile:
        for shown in (*show_call([each], {"a": each}), as_json(each, LONGEST)):
            assert len(shown) <= LONGEST
            assert shown.isprintable(), shown
            shown.encode()
    assert time.process_time() - began < 0.5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(JSON), st.dictionaries(st.text(), JSON), st.integers(1, 400))
def test_any_arguments(args, kwargs, limit):
    for shown in (*show_call(args, kwargs, (), limit), as_json(args, limit)):
        assert len(shown) <= limit
        assert shown.isprintable()
        shown.encode()


def made(*args, **kwargs):
    task = Task()
    task.to_call(login, *args, **kwargs)
    return task


def test_what_the_gator_wants_shown():
    task = made("me", "hunter2", token="hunter2")
    assert show_task(task, None, ("user", "password")) == (f"'me', '{MASK}'", f"token='{MASK}'")
    assert show_task(task, False) == ("(hidden)", "(hidden)")
    assert joined(*show_task(task, False)) == "(hidden)"
    assert show_task(task, lambda it: f"for {it.func_args[0]}\n") == ("for me\\n", "")
    assert show_task(task, lambda it: 5) == ("(cannot be shown)", "")
    assert len(show_task(task, lambda it: "x" * 9999)[0]) == LONGEST


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_function_that_cannot_show_them(error):
    def show(task):
        raise error

    assert show_task(made(1), show) == ("(cannot be shown)", "")


def test_a_worker_that_leaves_leaves():
    def show(task):
        raise LeaveNow

    with pytest.raises(LeaveNow):
        show_task(made(1), show)
