"""Messages that begin as others did, which are read from where they differ."""

import json
import sys
import uuid
from types import ModuleType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alligator import Gator, Task
from alligator.backends.base import Delivery
from alligator.exceptions import AlligatorException, BadPayload, NotAllowed
from alligator.gator import reconfigure

KNOWN = '{{"task_id":"{id}","retries":2,"is_async":true,"module":"{module}","callable":"run",'
KNOWN += '"args":{args},"kwargs":{kwargs},"options":{options}}}'
ID = str(uuid.uuid4())


@pytest.fixture(scope="module")
def module():
    module = sys.modules["usual_jobs"] = ModuleType("usual_jobs")
    exec("def run(*args, **kwargs): return args, kwargs", module.__dict__)
    module.run.__module__ = "usual_jobs"
    yield module
    del sys.modules["usual_jobs"]


def message(task_id=ID, args="[]", kwargs="{}", options="{}"):
    return KNOWN.format(id=task_id, module="usual_jobs", args=args, kwargs=kwargs, options=options)


def gator(**options):
    made = Gator(f"locmem://{uuid.uuid4().hex}", **options)
    assert decode(made, message()).task_id == ID
    return made


def decode(gator, data):
    return gator.codec.decode(Delivery("all", "x", data, None))


def outcome(gator, data):
    """What reading says, in a form to be compared."""
    try:
        task = decode(gator, data)
    except AlligatorException as err:
        return type(err)
    shown = {name: value for name, value in vars(task).items() if name != "func"}
    shown |= {"retries": task.retries, "is_async": task.is_async, "depends_on": task.depends_on}
    return type(task), task.func.__qualname__, {**shown, "func_args": list(task.func_args)}


class Other(Task):
    """Read in full, always."""


def same(gator_, data):
    quick = outcome(gator_, data)
    fresh = outcome(Gator(f"locmem://{uuid.uuid4().hex}"), data)
    assert quick == fresh
    return quick


def test_the_second_is_read_from_where_it_differs(module):
    made = gator()
    other = str(uuid.uuid4())
    task = made.codec.cache.read(message(other, '[1,"a"]', '{"x":[2]}'))
    assert (task.task_id, task.retries, task.func) == (other, 2, module.run)
    assert (task.func_args, task.func_kwargs) == ((1, "a"), {"x": [2]})
    assert task.run() == ((1, "a"), {"x": [2]})


@pytest.mark.parametrize(
    "data",
    [
        message("x" * 36),
        message("é" * 36),
        message('a"' + "b" * 34),
        message("a\\\\" + "b" * 33),
        message("\\u0041" * 6),
        message("\n" * 36),
        message("a" * 35),
        message(args="[1,]"),
        message(args="{}"),
        message(args="null"),
        message(kwargs="[]"),
        message(kwargs="null"),
        message(kwargs='{"a":1,"a":2}'),
        message(args="[NaN]"),
        message(args="[1e999]"),
        message(args="[" * 101 + "]" * 101),
        message(args='[",\\"args\\":"]'),
        message(args='[{"args":[1]}]'),
        message(args='[],"args":[1]'),
        message(args='[],"task_id":"other"'),
        message(args='[],"retries":0'),
        message(kwargs='{},"other":1'),
        message(kwargs='{"a":1,"options":{}}'),
        message(options='{"priority":5}'),
        message(options='{"unknown option":5}'),
        message(options="[]"),
        message(options="null"),
        message() + " ",
        " " + message(),
        message() + "}",
        message()[:-1],
        message().replace(',"options":{}}', "}"),
        message().replace('"options":{}}', '"options":{}},"options":{}}'),
        message().replace('"args"', '"args" '),
        message().replace("true", "false"),
        message().replace('"retries":2', '"retries":-1'),
        message().replace('"retries":2', '"retries":2,"retries":3'),
        message(kwargs='{"a":",\\"options\\":{}}"}'),
    ],
)
def test_nothing_is_read_otherwise_than_in_full(module, data):
    same(gator(), data)


FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | FINITE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(
    args=st.lists(VALUES, max_size=3),
    kwargs=st.dictionaries(st.text(max_size=8), VALUES, max_size=3),
    cut=st.integers(0, 400),
    put=st.sampled_from(
        ["", '"', "\\", ",", "}", "{", "]", ',"args":', ',"options":{}}', "é", "0"]
    ),
)
@example(args=[], kwargs={}, cut=0, put="")
def test_whatever_is_put_in(module, args, kwargs, cut, put):
    data = message(args=json.dumps(args), kwargs=json.dumps(kwargs))
    made = gator()
    assert same(made, data)[0] is Task
    same(made, data[:cut] + put + data[cut:])
    same(made, data[:cut] + put + data[cut + 1 :])


def test_a_function_that_was_replaced_is_imported_anew(module):
    made, first = gator(), module.run

    def run():
        return "another"

    run.__module__, run.__qualname__ = "usual_jobs", "run"
    module.run = run
    try:
        assert decode(made, message()).func is run
        del module.run
        with pytest.raises(AlligatorException):
            decode(made, message())
    finally:
        module.run = first


def test_a_policy_that_was_replaced_is_asked(module):
    made = gator()
    reconfigure(made, allowed=["other.*"], secret_keys=None)
    with pytest.raises(NotAllowed):
        decode(made, message())


def test_a_class_of_ones_own_reads_for_itself(module):
    made = gator(task_class=Other)
    assert type(decode(made, message())) is Other
    assert made.codec.cache.read(message()) is None


def test_what_is_remembered_has_an_end(module, monkeypatch):
    monkeypatch.setattr("alligator.tasks.codec._MOST_HEADERS", 3)
    made = gator()
    for retries in range(10):
        decode(made, message().replace('"retries":2', f'"retries":{retries}'))
        assert len(made.codec.cache._known) <= 3
    with pytest.raises(BadPayload):
        decode(made, message().replace('"retries":2', '"retries":"2"'))
