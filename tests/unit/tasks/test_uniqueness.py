"""Test the key by which a queue tells that a task is pending already, and its options."""

import pytest

from alligator import Gator, Task
from alligator.backends.base import Client, Controls
from alligator.exceptions import InvalidTask, UnsupportedOption
from alligator.tasks.uniqueness import with_unique
from alligator.tasks.validation import check_options
from tests.support import jobs


def call(one, two=2, *rest, three=3, **more):
    """A function with all kinds of parameters."""


def key(func, *args, **kwargs):
    task = Task(unique=True)
    task.to_call(func, *args, **kwargs)
    return with_unique(Controls(), task).unique_key


def test_one_call_has_one_key_however_it_is_spelled():
    same = [
        key(call, 1, 5),
        key(call, 1, two=5),
        key(call, two=5, one=1),
        key(f"{__name__}.call", 1, 5),
        key(f"{__name__}:call", 1, 5),
    ]
    assert len(set(same)) == 1
    assert key(call, 1, b={"x": 1, "a": 2}) == key(call, 1, b={"a": 2, "x": 1})
    assert key(call, (1, 2)) == key(call, [1, 2])
    assert key(call, {1: "a"}) == key(call, {"1": "a"})  # as JSON, they are


def test_other_calls_have_other_keys():
    calls = [
        key(call, 1),
        key(call, "1"),
        key(call, True),
        key(call, 1.0),
        key(call, None),
        key(call, 1, 2),  # which is the default: it is not filled in
        key(call, 1, 2, 3),
        key(call, 1, 2, three=4),
        key(call, 1, four=4),
        key(call, [1]),
        key(jobs.note, 1),
        key(jobs.note, 1, 2),
        key(jobs.note, [1, 2]),
        key(jobs.note, 1, args=2),
    ]
    assert len(set(calls)) == len(calls)


def test_a_key_of_the_users_own_is_never_that_of_a_call():
    task = Task(unique=key(call, 1))
    assert with_unique(Controls(), task).unique_key != key(call, 1)
    assert with_unique(Controls(), Task(unique="customer 7")).unique_key == "key:customer 7"


def test_what_is_asked_of_the_queue():
    def asked(**options):
        task = Task(**options)
        task.to_call(call, 1)
        return with_unique(Controls(limit=2), task)

    assert asked() == asked(unique=False) == Controls(limit=2)
    assert asked(unique="a") == Controls(limit=2, unique_key="key:a")
    assert asked(unique="a", unique_until="start").unique_until_start
    found = asked(debounce=5)
    assert (found.unique_key, found.unique_until_start) == (key(call, 1), True)
    assert (found.debounce, found.debounce_max) == (5.0, 50.0)
    assert asked(debounce=5, debounce_max=60, unique="a").debounce_max == 60.0


class Format(Task):
    """A task that writes messages in its own way."""

    def serialize(self):
        return b"bytes"


UNSORTED = [
    (Task, {1: "a", "1": "b"}),
    (Task, {"a": {None: 1, "null": 2}}),
    (Task, object()),
    (Task, float("nan")),
    (Format, {"a", "b"}),
    (Format, {(1, 2): "a tuple as name"}),
]


@pytest.mark.parametrize(("kind", "argument"), UNSORTED, ids=range(len(UNSORTED)))
@pytest.mark.parametrize("options", [{"unique": True}, {"debounce": 5}], ids=str)
def test_arguments_that_make_no_key(kind, argument, options):
    gator = Gator("locmem://no-key", task_class=kind)
    with pytest.raises(InvalidTask, match="must survive JSON") as found:
        gator.options(**options).task(jobs.note, argument)
    assert "\n" not in str(found.value)
    assert gator.len() == 0
    if kind is Format:  # a key of one's own will do, as the error says
        assert "give unique='key'" in str(found.value)
        assert gator.options(**options | {"unique": "mine"}).task(jobs.note, argument)
        gator.client.drop_all(gator.queue_name)


REFUSED = [
    ({"unique": ""}, "unique=''"),
    ({"unique": 1}, "unique=1 is neither True"),
    ({"unique": "x" * 201}, "200 printable"),
    ({"unique": "a\nb"}, "200 printable"),
    ({"unique": b"a"}, "unique=b'a'"),
    ({"unique": True, "unique_until": "done"}, "neither 'end' nor 'start'"),
    ({"unique": True, "unique_until": 5}, "neither 'end' nor 'start'"),
    ({"unique_until": "start"}, "give unique=True"),
    ({"unique": False, "unique_until": "end"}, "give unique=True"),
    ({"debounce": 0}, "debounce=0"),
    ({"debounce": -1}, "debounce=-1"),
    ({"debounce": "5"}, "debounce='5'"),
    ({"debounce": float("inf")}, "debounce=inf"),
    ({"debounce": 5, "debounce_max": 4}, "debounce_max=4 is below debounce=5"),
    ({"debounce_max": 60}, "give debounce=seconds"),
    ({"debounce": 5, "unique": False}, "leave unique= out"),
    ({"debounce": 5, "unique": True, "unique_until": "end"}, "leave unique_until= out"),
    ({"debounce": 5, "depends_on": "x"}, "use unique= instead"),
]


@pytest.mark.parametrize(("options", "says"), REFUSED, ids=lambda each: str(each)[:30])
def test_options_that_cannot_be(options, says):
    with pytest.raises(InvalidTask) as found:
        check_options(options)
    assert says in str(found.value)
    assert "\n" not in str(found.value)


def test_options_that_are_not_set():
    options = dict.fromkeys(["unique", "unique_until", "debounce", "debounce_max"])
    assert check_options(options) == {}
    assert check_options({"debounce": 5, "debounce_max": 5}) == {"debounce": 5, "debounce_max": 5}


def test_defaults_of_a_gator_may_be_overridden():
    defaults = {"unique": True, "unique_until": "start"}
    assert check_options({"unique": False}, defaults)["unique"] is False
    gator = Gator("locmem://defaults", options=defaults)
    first, second = gator.task(jobs.note, 1), gator.task(jobs.note, 1)
    third = gator.options(unique=None, unique_until=None).task(jobs.note, 1)
    assert (second.task_id, third.is_duplicate, gator.len()) == (first.task_id, False, 2)
    gator.client.drop_all(gator.queue_name)


@pytest.mark.parametrize("dsn", ["beanstalk://localhost:1/", "sqs://us-west-2/"])
@pytest.mark.parametrize("store", [None, "locmem://beside"])
@pytest.mark.parametrize("options", [{"unique": True}, {"unique": "a"}, {"debounce": 5}], ids=str)
def test_backends_that_cannot_keep_it(dsn, store, options):
    gator = Gator(dsn, store=store)
    with pytest.raises(UnsupportedOption, match="use a queue on locmem, sqlite or redis"):
        gator.options(**options).task(jobs.note)
    with pytest.raises(UnsupportedOption), gator.batch(**options) as batch:
        batch.task(jobs.note)
    assert gator.options(unique=False, is_async=False).task(jobs.note)


def test_a_client_made_for_an_earlier_version_keeps_none():
    assert Client.controls == frozenset()
