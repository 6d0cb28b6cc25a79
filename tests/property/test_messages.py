"""Test properties of tasks and of foreign messages."""

import contextlib
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from alligator import Task
from alligator.common import strict_json
from alligator.exceptions import AlligatorException, BadPayload
from alligator.tasks.validation import check_options
from tests.support import jobs

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)

PRINTABLE = st.text(st.characters(exclude_categories=["Cs"]).filter(str.isprintable), max_size=80)
HEADERS = st.dictionaries(PRINTABLE.filter(bool), PRINTABLE, max_size=20)
NAMES = st.from_regex(r"[a-z_]{1,9}(\.[A-Za-z_][A-Za-z0-9_]{0,9}){1,3}", fullmatch=True)

OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "retries": st.integers(0, 1_000_000),
        "priority": st.integers(-100, 100),
        "retry_delay": st.floats(0, 1e9),
        "retry_backoff": st.floats(1, 1e3),
        "retry_max_delay": st.floats(0, 1e9),
        "delay_until": st.floats(0, 1e12),
        "is_async": st.booleans(),
        "on_start": st.just(jobs.on_start),
        "on_success": st.just(jobs.on_success),
        "on_error": st.just(jobs.on_error),
        "headers": HEADERS,
        "give_up_on": st.lists(NAMES, min_size=1, max_size=3, unique=True),
        "limit": st.integers(1, 1_000_000_000),
        "rate": st.tuples(st.integers(1, 1_000_000_000), st.floats(0.001, 1e7)),
    },
)


@given(st.lists(JSON, max_size=4), st.dictionaries(st.text(min_size=1), JSON, max_size=4), OPTIONS)
def test_a_task_survives_the_wire(args, kwargs, options):
    task = Task(**options)
    task.to_call(jobs.note, *args, **kwargs)
    back = Task.deserialize(task.serialize())
    assert back.task_id == task.task_id
    assert (list(back.func_args), back.func_kwargs) == (args, kwargs)
    for name in (*options, "func"):
        assert getattr(back, name) == getattr(task, name)
    assert back.serialize() == task.serialize()


@given(st.text() | st.binary())
def test_reading_raises_nothing_else(data):
    with contextlib.suppress(BadPayload):
        strict_json.loads(data)


FIELDS = ["task_id", "retries", "is_async", "async", "module", "callable", "args", "kwargs"]


@given(st.dictionaries(st.sampled_from([*FIELDS, "options"]), JSON))
def test_hostile_objects_raise_nothing_else(fields):
    start = {"task_id": "x", "retries": 0, "module": "tests.support.jobs", "callable": "note"}
    with contextlib.suppress(AlligatorException):
        Task.deserialize(json.dumps({**start, **fields}))


@settings(max_examples=100)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "retries",
                "priority",
                "delay_by",
                "is_async",
                "run_after",
                "task_id",
                "retry_backoff",
                "x",
            ]
        ),
        JSON,
    )
)
def test_options_are_checked_or_refused(options):
    try:
        once = check_options(options)
    except (AlligatorException, TypeError):
        return
    assert check_options(once) == once
