"""Test the Gator: enqueueing, checks at the call, and dequeueing."""

import datetime
import operator
import time
import uuid

import pytest

import alligator
from alligator import CANCELED, DELAYED, FAILED, RETRYING, SUCCESS, WAITING, Gator, Task
from alligator.exceptions import (
    BadPayload,
    BadSignature,
    InvalidDSN,
    InvalidTask,
    NotAllowed,
    UnknownCallableError,
)
from alligator.gator import reconfigure
from alligator.testing import FakeClock

calls = []


def note(*args, **kwargs):
    calls.append((args, kwargs))
    return list(args)


def fail(*args):
    calls.append(("fail", args))
    raise ValueError("too much")


def on_error(task, err):
    calls.append(("on_error", task.status, str(err)))


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def gator(clock):
    calls.clear()
    return Gator(f"locmem://{uuid.uuid4().hex}", clock=clock)


def test_task_goes_on_the_queue_and_pop_runs_it(gator):
    task = gator.task(note, 1, b=2)
    assert (task.status, gator.len(), calls) == (WAITING, 1, [])
    done = gator.pop()
    assert (done.task_id, done.status, done.result) == (task.task_id, SUCCESS, [1])
    assert calls == [((1,), {"b": 2})]
    assert gator.len() == 0
    assert gator.pop() is None


def test_public_attributes_of_1_0(gator):
    assert [type(number) for number in alligator.__version__] == [int, int, int]
    assert alligator.version() == ".".join(map(str, alligator.__version__))
    assert (gator.queue_name, gator.task_class, gator.backend_class) == ("all", Task, None)
    assert gator.conn_string == gator.backend.conn_string
    assert isinstance(gator.build_backend("locmem://"), type(gator.backend))


def test_by_name_needs_no_code_at_hand(gator):
    gator.task("operator.add", 2, 3)
    gator.task("tests.unit.test_gator:note", 4)
    assert gator.pop().result == 5
    assert gator.pop().result == [4]
    task = gator.task("no.such.module.function")
    assert gator.len() == 1
    assert gator.cancel(task.task_id + "x") is None


def test_get_and_cancel(gator, clock):
    first, second = gator.task(note, 1), gator.task(note, 2)
    with gator.options(delay_by=3600) as opts:
        later = opts.task(note, 3)
    assert later.status == DELAYED
    assert gator.get(second.task_id).result == [2]
    canceled = gator.cancel(first.task_id)
    assert (canceled.task_id, canceled.status) == (first.task_id, CANCELED)
    assert gator.get(later.task_id).result == [3]
    assert gator.get("unknown") is None
    assert gator.cancel("unknown") is None
    assert gator.len() == 0


def test_pop_raises_once_no_retry_is_left_and_the_task_is_dead(gator):
    with gator.options(retries=1, on_error=on_error) as opts:
        task = opts.task(fail, 1)
    assert gator.pop().status == RETRYING
    assert gator.len() == 1
    with pytest.raises(ValueError, match="too much"):
        gator.pop()
    (letter,) = gator.dead()
    assert letter.task_id == task.task_id
    assert letter.error == "ValueError: too much"
    assert "in fail" in letter.traceback
    assert calls.count(("on_error", FAILED, "too much")) == 2
    assert gator.revive() == 1
    assert gator.stats() == {"waiting": 1, "delayed": 0, "running": 0, "dead": 0, "oldest": 0.0}


def test_retries_keep_options_and_hooks_and_wait(gator, clock):
    with gator.options(
        retries=3, retry_delay=10, retry_backoff=3, retry_max_delay=60, on_error=on_error
    ) as opts:
        task = opts.task(fail, 1)
    waits = []
    for _ in range(3):
        gator.pop()
        assert gator.pop() is None
        due = gator.client.find("all", task.task_id).due
        waits.append(due - clock.time())
        clock.advance(waits[-1] - 0.01)
        assert gator.pop() is None
        clock.advance(0.02)
    assert waits[0] == pytest.approx(10, abs=0.1)
    assert 22.4 <= waits[1] <= 30.1
    assert 44.9 <= waits[2] <= 60.1
    with pytest.raises(ValueError, match="too much"):
        gator.pop()


def test_sync_runs_at_once_with_retries_and_json(gator):
    with gator.options(is_async="False", retries=2, on_error=on_error, delay_by=99) as opts:
        with pytest.raises(ValueError, match="too much"):
            opts.task(fail)
        assert [call for call in calls if call[0] == "fail"] == [("fail", ())] * 3
        assert opts.task(lambda pair: pair, (1, 2)).result == [1, 2]
        with pytest.raises(InvalidTask, match="JSON"):
            opts.task(note, {1, 2})
    assert gator.len() == 0


def test_execute_a_task_of_ones_own(gator):
    task = Task(**{"async": False}, retries=5)
    task.to_call(operator.add, 101, 35)
    assert gator.execute(task).result == 136
    failing = Task(retries=1)
    failing.to_call(fail)
    assert gator.execute(failing).status == RETRYING
    assert gator.len() == 1
    assert gator.push(Task(is_async=False), operator.add, 1, 2).result == 3


@pytest.mark.parametrize("bad", [{1, 2}, float("nan"), b"raw", object()])
def test_what_json_cannot_carry_is_refused_at_the_call(gator, bad):
    with pytest.raises(InvalidTask, match="survive JSON"):
        gator.task(note, bad)
    assert gator.len() == 0


def test_misfit_arguments_and_hooks_are_refused_at_the_call(gator):
    with pytest.raises(InvalidTask, match="missing a required argument"):
        gator.task(on_error, 1)
    with gator.options(on_error=lambda task: None) as opts, pytest.raises(InvalidTask):
        opts.task(note)
    assert gator.len() == 0


def test_options_are_reusable_and_callable(gator):
    opts = gator.options(priority=5, task_id="same")
    opts(note, 1)
    with opts:
        opts.task(note, 2)
    assert gator.len() == 1
    assert gator.pop().result == [2]
    assert opts(note_without_timeout, timeout=3).timeout == 3
    gator.pop()
    opts(note, timeout=3)
    gator.pop()
    assert calls[-1] == ((), {"timeout": 3})


def note_without_timeout():
    """Take nothing."""


def test_batch_pushes_at_the_end_or_not_at_all(gator):
    with gator.batch(priority=1) as batch:
        batch.task(note, 1)
        batch(note, 2)
        assert gator.len() == 0
    assert gator.len() == 2
    with pytest.raises(RuntimeError, match="boom"), gator.batch() as batch:
        batch.task(note, 3)
        raise RuntimeError("boom")
    assert gator.len() == 2
    with gator.batch(is_async=False) as batch:
        batch.task(note, 4)
        assert ((4,), {}) not in calls
    assert ((4,), {}) in calls
    with pytest.raises(RuntimeError, match="with gator.batch"):
        gator.batch().task(note)


def test_queue_name_option_and_rule(gator):
    with gator.options(queue_name="images") as opts:
        opts.task(note, 1)
    assert gator.len() == 0
    assert Gator(gator.conn_string, "images").len() == 1
    for bad in ("", "a b", "a" * 81, "a/b", None, 3):
        with pytest.raises(InvalidTask, match="1 to 80 letters"):
            Gator("locmem://", queue_name=bad)
    with pytest.raises(InvalidTask, match="1 to 80 letters"):
        gator.options(queue_name="a b")


def test_delays(gator, clock):
    naive = datetime.datetime.fromtimestamp(clock.time() + 60)
    for delay in ({"delay_by": 60}, {"delay_until": clock.time() + 60}, {"delay_until": naive}):
        gator.options(**delay)(note, 1)
    gator.options(delay_until=clock.time() - 1)(note, 2)
    assert gator.run_all() == 1
    clock.advance(59)
    assert gator.run_all() == 0
    clock.advance(2)
    assert gator.run_all() == 3


def test_unreadable_messages_are_dead_letters_with_their_bytes(gator):
    gator.client.push("all", "x", b"\xffnot json")
    with pytest.raises(BadPayload):
        gator.pop()
    (letter,) = gator.dead()
    assert (letter.task_id, letter.data) == ("x", b"\xffnot json")
    assert letter.error.startswith("BadPayload")


def test_missing_code_waits_for_a_deploy_and_then_dies(gator, clock):
    task = gator.task("tests.unit.test_gator.not_yet_deployed")
    gator.task("tests.no_such_module.function")
    for _ in range(5):
        assert gator.run_all() == 2
        assert gator.dead() == []
        assert gator.len() == 2
        assert gator.run_all() == 0
        clock.advance(301)
    assert gator.run_all() == 2
    errors = [letter.error.split(":")[0] for letter in gator.dead()]
    assert sorted(errors) == ["UnknownCallableError", "UnknownModuleError"]
    gator.revive(task.task_id)
    with pytest.raises(UnknownCallableError):
        gator.get(task.task_id)


def test_constructing_connects_to_nothing_and_bad_dsns_are_told():
    for dsn in ("nonsense", "mongodb://x", "redis", "", 3):
        with pytest.raises(InvalidDSN):
            Gator(dsn)
    with pytest.raises(InvalidDSN, match="locmem://.*redis://.*sqlite://"):
        Gator("mongodb://user:secret@x")
    with pytest.raises(InvalidDSN) as caught:
        Gator("mongodb://user:secret@x")
    assert "secret" not in str(caught.value)


def test_two_gators_of_one_name_share_and_others_do_not(gator):
    gator.task(note, 1)
    assert Gator(gator.conn_string).len() == 1
    assert Gator(gator.conn_string + "x").len() == 0


def test_run_all_drains_and_buries(gator):
    for number in range(5):
        gator.task(note, number)
    gator.options(retries=1)(fail)
    started = time.monotonic()
    assert gator.run_all() == 7
    assert time.monotonic() - started < 30
    assert gator.stats()["dead"] == 1


@pytest.mark.parametrize("name", ["task", "func", "self", "timeout", "retries"])
def test_a_function_may_call_its_parameters_what_it_likes(gator, name):
    gator.task(note, **{name: 1})
    gator.options(retries=1).task(note, **{name: 2})
    with gator.batch() as batch:
        batch.task(note, **{name: 3})
    assert gator.run_all() == 3
    assert calls == [((), {name: value}) for value in (1, 2, 3)]


# -- Its configuration. ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["policy", "signer", "store", "clock"])
def test_what_is_fixed_cannot_be_assigned(name):
    gator = Gator(f"locmem://{uuid.uuid4().hex}")
    with pytest.raises(AttributeError):
        setattr(gator, name, None)


@pytest.mark.parametrize("name", ["codec", "recorder", "results", "schedules"])
def test_parts_are_built_once(name):
    gator = Gator(f"locmem://{uuid.uuid4().hex}")
    assert getattr(gator, name) is getattr(gator, name)


def test_the_queue_may_be_assigned():
    gator = Gator(f"locmem://{uuid.uuid4().hex}")
    opts = gator.options(save_results=60)
    gator.queue_name = "other"
    task = opts.task(note, 1, 2)
    assert gator.len() == gator.client.len("other") == 1
    assert gator.status(task.task_id) == WAITING
    gator.run_all()
    assert gator.result(task.task_id) == [1, 2]


def test_the_task_class_may_be_assigned():
    class Own(Task):
        pass

    gator = Gator(f"locmem://{uuid.uuid4().hex}")
    opts = gator.options(retries=1)
    gator.task_class = Own
    assert type(gator.task(note, 1, 2)) is type(opts.task(note, 1, 2)) is Own
    assert type(gator.pop()) is Own


def test_the_command_line_may_set_keys_and_what_is_allowed():
    gator = Gator(f"locmem://{uuid.uuid4().hex}")
    reconfigure(gator, allowed=["other.*"], secret_keys=["k" * 16])
    with pytest.raises(NotAllowed):
        gator.task(note, 1, 2)
    reconfigure(gator, allowed=["tests.*"], secret_keys=None)
    gator.task(note, 1, 2)
    (delivery,) = gator.client.reserve(["all"]).deliveries
    with pytest.raises(BadSignature):
        Gator(gator.conn_string).codec.decode(delivery)
    assert gator.codec.decode(delivery).func is note
