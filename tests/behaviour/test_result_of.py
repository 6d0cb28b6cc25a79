"""Test ``result_of``: what one task returned as an argument of another, on every backend with a
store, in a worker and without one.
"""

import json
import uuid

import pytest

from alligator import CANCELED, FAILED, WAITING, Gator, Task, result_of
from alligator.backends.store import record_key
from alligator.exceptions import (
    BadPayload,
    ConnectionLost,
    InvalidTask,
    ResultTimeout,
    UnsupportedOption,
)
from alligator.execution.attempt import Verdict, attempt
from alligator.tasks.parent_results import ResultOf
from tests.behaviour.test_dependencies import STORES, number, work
from tests.behaviour.test_dependencies_across_backends import PAIRS, work_until
from tests.support import jobs

KEY = "0123456789abcdef"
calls: list = []


def call(*args, **kwargs):
    calls.append((args, kwargs))
    return [list(args), kwargs]


def fail_once(value):
    calls.append(list(value))
    value.append("changed")
    if len(calls) < 2:
        raise ValueError("not yet")


def fail(value):
    raise ValueError(value)


def unsavable():
    return object()


def note_error(task, err):
    calls.append((task.status, task.func_args, type(err).__name__, str(err)))


@pytest.fixture(autouse=True)
def _calls():
    calls.clear()
    jobs.seen.clear()


@pytest.fixture
def locmem_dsn():
    return f"locmem://{uuid.uuid4().hex}"


@pytest.fixture(params=STORES)
def gator(request):
    gator = Gator(request.getfixturevalue(f"{request.param}_dsn"), f"r-{uuid.uuid4().hex[:12]}")
    gator.other = f"{gator.queue_name}-other"
    yield gator
    for name in (gator.queue_name, gator.other):
        gator.client.drop_all(name)
    gator.close()


@pytest.fixture
def local():
    gator = Gator(f"locmem://{uuid.uuid4().hex}")
    yield gator
    gator.close()


def test_a_chain_and_a_diamond(gator):
    with gator.batch() as batch:
        # The children first: a batch puts them in order.
        top = Task()
        left, right = (batch.task(call, result_of(top), side) for side in "lr")
        last = batch.task(call, result_of(left), other=result_of(right))
        gator.prepare(top, number, [[1, None, {"a": 2}]], {})
        batch._tasks.append(top)
    assert (gator.len(), gator.status(last)) == (1, WAITING)
    work(gator)
    value = [1, None, {"a": 2}]
    assert calls[-1] == (([[value, "l"], {}],), {"other": [[value, "r"], {}]})
    assert gator.wait([left, right, last], 5)


def test_by_id_on_another_queue_none_and_own_ids(gator):
    own = gator.options(task_id="own", queue_name=gator.other, save_results=60).task(number, None)
    by_pair = gator.task(call, result_of((gator.other, "own")), 1)
    by_id = gator.task(call, 2, result_of("own"))  # this Gator has pushed to that queue
    by_task = gator.task(call, 3, name=result_of(own))
    work(gator, gator.queue_name, gator.other)
    assert sorted(map(str, calls)) == sorted(
        map(str, [((None, 1), {}), ((2, None), {}), ((3,), {"name": None})])
    )
    assert gator.wait([by_pair, by_id, by_task], 5)


def test_a_retry_gets_the_result_as_it_was_and_a_revived_task_as_well(gator):
    parent = gator.options(save_results=60).task(number, ["x"])
    gator.options(retries=1).task(fail_once, result_of(parent))
    assert gator.run_all() == 3
    assert calls == [["x"], ["x"]]
    dead = gator.options(save_results=60).task(fail, result_of(parent))
    gator.run_all()
    assert gator.status(dead) == FAILED
    letter = gator.dead()[0]
    fields = json.loads(letter.data)
    assert fields["args"] == [None]
    assert fields["options"]["result_of"] == [[0, parent.task_id, gator.queue_name]]
    assert gator.revive() == 1
    gator.run_all()
    assert gator.dead()[0].error == "ValueError: ['x']"


def test_a_failed_parent_cancels_the_child(gator):
    parent = gator.options(save_results=60).task(fail, 1)
    child = gator.task(call, result_of(parent))
    gator.run_all()
    assert (gator.status(child), calls) == (CANCELED, [])


def test_a_result_that_is_gone_is_a_failure_with_retries_and_hook(gator):
    parent = gator.options(save_results=60).task(number, 1)
    gator.run_all()
    opts = gator.options(retries=1, on_error=note_error)
    opts.task(call, result_of(parent), 7)
    gator.store.forget([record_key(gator.queue_name, parent.task_id)])
    assert gator.run_all() == 2
    (letter,) = gator.dead()
    assert letter.error.startswith(f"ResultTimeout: There is no result of task {parent.task_id}")
    assert letter.attempts == 2
    assert [each[0] for each in calls] == [FAILED, FAILED]
    assert isinstance(calls[0][1][0], ResultOf)
    # Once it is there again, the revived task gets it.
    calls.clear()
    parent = gator.options(task_id=parent.task_id, save_results=60).task(number, 5)
    gator.run_all()
    gator.revive()
    gator.run_all()
    assert calls == [((5, 7), {})]


@pytest.mark.parametrize("pair", PAIRS)
def test_across_backends(pair, request):
    backend, store = (request.getfixturevalue(f"{each}_dsn") for each in pair.split("+"))
    gator = Gator(backend, f"r-{uuid.uuid4().hex[:8]}", store=store)
    if backend.startswith("sqs"):
        for name in (gator.queue_name, f"{gator.queue_name}-dead"):
            gator.client.conn.create_queue(QueueName=name)
    try:
        with gator.batch() as batch:
            one = batch.task(number, [1])
            two = batch.task(number, None)
            last = batch.task(call, result_of(one), 3, two=result_of(two))
        work_until(gator, last)
        assert calls == [(([1], 3), {"two": None})]
    finally:
        gator.client.drop_all(gator.queue_name)
        gator.close()


def test_signed_results_only():
    name = uuid.uuid4().hex
    gator = Gator(f"locmem://{name}", secret_keys=[KEY])
    parent = gator.options(save_results=60).task(number, 1)
    own = gator.options(save_results=60, task_id="own").task(number, 2)
    child = gator.task(call, result_of(parent), result_of(own))
    gator.run_all()
    assert calls == [((1, 2), {})]
    record = gator.store.record(parent.task_id)
    gator.store.note(parent.task_id, record._replace(result="666"), 60)
    child = gator.task(call, result_of(parent))
    gator.run_all()
    assert gator.dead()[0].error.startswith("BadSignature: ")
    assert gator.status(child) == FAILED
    gator.close()


def test_here_without_a_queue(local):
    opts = local.options(is_async=False)
    parent = opts.task(number, (1, 2))
    assert opts.task(call, result_of(parent), x=result_of(parent)).result == [
        [[1, 2]],
        {"x": [1, 2]},
    ]
    with local.batch(is_async=False) as batch:
        first = batch.task(number, (3,))
        batch.task(call, result_of(first))
    assert calls[-1] == (([3],), {})
    local.task(call, result_of(parent))  # its result is known, so it is a plain argument
    assert local.run_all() == 1
    assert calls[-1] == (([1, 2],), {})
    pushed = local.options(save_results=60).task(number, 4)
    with pytest.raises(InvalidTask, match="wait for that first"):
        opts.task(call, result_of(pushed))
    local.run_all()
    assert pushed.wait(1)
    assert opts.task(call, result_of(pushed)).result == [[4], {}]
    with pytest.raises(ValueError, match="1"):
        opts.task(fail, 1)
    calls.clear()
    assert local.options(is_async=False, retries=1).task(fail_once, result_of(parent)).retried == 1
    assert calls == [[1, 2], [1, 2]]


def test_a_result_that_json_cannot_hold_is_no_argument(local):
    parent = local.options(save_results=60).task(unsavable)
    child = local.task(call, result_of(parent))
    local.run_all()
    assert local.status(child) == FAILED
    assert "it is not as it was returned" in local.dead()[0].error
    ran = local.options(is_async=False).task(unsavable)
    with pytest.raises(InvalidTask, match="cannot be an argument"):
        local.task(call, result_of(ran))
    with local.batch(is_async=False) as batch:
        batch.task(call, 1)
    with pytest.raises(ResultTimeout), local.batch(is_async=False) as batch:
        batch.task(call, result_of(batch.task(unsavable)))


def test_what_is_refused_at_the_call(local):
    unsaved = local.task(number, 1)
    for parent in (unsaved, unsaved.task_id, (local.queue_name, unsaved.task_id)):
        with pytest.raises(UnsupportedOption, match="without save_results"):
            local.task(call, result_of(parent))
    saved = local.options(save_results=60).task(number, 1)
    with pytest.raises(InvalidTask, match="inside another argument"):
        local.task(call, [result_of(saved)])
    with pytest.raises(InvalidTask, match="inside another argument"):
        local.options(is_async=False).task(call, {"a": result_of(saved)})
    with pytest.raises(InvalidTask, match="debounce= and result_of"):
        local.options(debounce=1).task(call, result_of(saved))
    with pytest.raises(InvalidTask, match="schedule"):
        local.every(60, call, result_of(saved))
    with pytest.raises(InvalidTask, match="was not pushed"):
        local.task(call, result_of(Task()))
    for wrong in (None, 7, ("a", "b", "c"), [saved]):
        with pytest.raises(InvalidTask, match="is no task"):
            result_of(wrong)
    with pytest.raises(InvalidTask):
        local.task(fail, result_of(saved), result_of(saved))  # takes one argument
    assert local.len() == 2


def test_unique_tells_the_parents_apart(local):
    one, two = (local.options(save_results=60).task(number, each) for each in "12")
    opts = local.options(unique=True)
    first, other, again = (opts.task(call, result_of(each)) for each in (one, two, one))
    assert (other.is_duplicate, again.is_duplicate) == (False, True)
    assert again.task_id == first.task_id
    local.run_all()
    assert len(calls) == 2


def test_while_the_store_cannot_be_reached_the_task_waits(local, monkeypatch):
    parent = local.options(save_results=60).task(number, 1)
    local.run_all()
    local.task(call, result_of(parent))
    (delivery,) = local.client.reserve([local.queue_name], 1, 30).deliveries

    def lost(*args):
        raise ConnectionLost("the store is away")

    monkeypatch.setattr(local.store, "records", lost)
    outcome = attempt(delivery, local.codec, 5, local.clock)
    assert (outcome.verdict, outcome.delay, calls) == (Verdict.LATER, 5.0, [])


BAD = [
    {},
    "x",
    [0, "id"],
    [[]],
    [[0]],
    [[1, "id"]],
    [["b", "id"]],
    [[0, 7]],
    [[0, "id", 7]],
    [[[], "id"]],
]


@pytest.mark.parametrize("given", BAD, ids=str)
def test_a_bad_option_in_a_message_is_refused(given):
    fields = {
        "task_id": "x",
        "retries": 0,
        "module": __name__,
        "callable": "call",
        "args": [None, 1],
        "kwargs": {"a": None, "b": 1},
        "options": {"result_of": given},
    }
    with pytest.raises(BadPayload):
        Task.deserialize(json.dumps(fields))


def test_an_argument_of_the_user_is_never_taken_for_a_result(local):
    given = [[0, "id"], {"result_of": [[0, "id"]]}, None, "result_of('id')"]
    local.task(call, *given, result_of=given)
    local.run_all()
    assert calls == [((*given,), {"result_of": given})]
