"""Test middleware around pushes: each task passes once, however it is pushed."""

import operator
import uuid

import pytest

from alligator import Gator, Task, Worker, current_task, result_of
from alligator.exceptions import InvalidTask, UnsupportedOption
from alligator.testing import FakeClock
from tests.support import jobs
from tests.support.helpers import skip_without_children

seen: list = []


class Traces:
    """Gives each task a header, and notes it."""

    def __init__(self, name="trace"):
        self.name = name

    def push(self, task, call_next):
        task.headers[self.name] = f"{len(task.headers)}"
        seen.append(f"{self.name} in")
        pushed = call_next()
        assert pushed in (task, None)
        seen.append(f"{self.name} out" if pushed else f"{self.name} too late")


def look(*, fail=False):
    seen.append(dict(current_task().headers))
    if fail:
        raise ValueError


@pytest.fixture(autouse=True)
def nothing_seen():
    seen.clear()
    jobs.seen.clear()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def make(clock):
    return lambda *middleware, **options: Gator(
        f"locmem://{uuid.uuid4().hex}", clock=clock, middleware=middleware, **options
    )


PUSHES = {
    "task": lambda gator: gator.task(look),
    "by name": lambda gator: gator.task(f"{__name__}.look"),
    "options": lambda gator: gator.options(priority=3).task(look),
    "push": lambda gator: gator.push(Task(), look),
}
PASSED = ["1 in", "2 in", "2 out", "1 out"]
HEADERS = {"1": "0", "2": "1"}


@pytest.mark.parametrize("push", PUSHES)
def test_around_a_push_the_first_one_outermost(make, push):
    gator = make(Traces("1"), Traces("2"))
    task = PUSHES[push](gator)
    assert task.is_pushed
    assert seen == PASSED
    assert gator.run_all() == 1
    assert seen.pop() == task.headers == HEADERS


def test_around_a_run_at_once(make):
    gator = make(Traces("1"), Traces("2"))
    task = gator.options(is_async=False).task(look)
    assert seen == ["1 in", "2 in", HEADERS, "2 out", "1 out"]
    assert task.headers == HEADERS


def test_each_of_a_batch_passes_before_any_is_pushed(make):
    gator = make(Traces())
    with gator.batch() as batch:
        first = batch.task(look)
        batch.task(look)
        assert seen == []
    assert seen == ["trace in", "trace out"] * 2
    assert first.headers == {"trace": "0"}
    assert gator.run_all() == 2
    with pytest.raises(ZeroDivisionError), gator.batch() as batch:
        batch.task(look)
        raise ZeroDivisionError
    assert len(seen) == 6, "nothing was pushed, so nothing passed"


def test_children_pass_when_they_are_pushed_and_no_more(gator_with_store):
    skip_without_children(gator_with_store)
    gator = Gator(
        gator_with_store.conn_string,
        gator_with_store.queue_name,
        store=gator_with_store.store,
        middleware=[Traces()],
    )
    parent = gator.task(jobs.note)
    gator.options(depends_on=parent).task(look)
    with gator.batch() as batch:
        batch.task(jobs.note)
        batch.task(jobs.note)
    assert seen == ["trace in", "trace out"] * 4
    Worker(gator, max_tasks=4, log_level="CRITICAL").run_forever()
    assert seen[8:] == [{"trace": "0"}]


def test_each_tick_passes_and_knows_whether_it_was_queued(make, clock):
    gator = make(Traces())
    other = Gator(gator.conn_string, clock=clock, middleware=[Traces("other")])
    for each in (gator, other):
        each.options(headers={"tenant": "ada"}).every(60, look)
        each.schedules.fire()
    clock.advance(60)
    for each in (gator, other):
        each.schedules.fire()
    assert seen == ["trace in", "trace out", "other in", "other too late"]
    assert gator.run_all() == 1
    assert seen.pop() == {"tenant": "ada", "trace": "1"}


class NotesQueues:
    """Notes the queue that each task goes to; may send it elsewhere."""

    def __init__(self, other=None):
        self.other = other

    def push(self, task, call_next):
        seen.append(task.queue_name)
        task.queue_name = self.other or task.queue_name
        call_next()


def test_it_sees_the_queue_that_a_task_goes_to(make, clock):
    """Which the task itself names only if an option did."""
    gator = make(NotesQueues())
    plain = gator.task(look)
    other = gator.options(queue_name="other").task(look)
    with gator.batch() as batch:
        batched = batch.task(look)
    gator.every(60, look)
    gator.schedules.fire()
    clock.advance(60)
    gator.schedules.fire()
    assert seen == ["all", "other", "all", "all"]
    assert [plain.queue_name, other.queue_name, batched.queue_name] == [None, "other", None]


def test_it_may_choose_another_queue(make):
    gator = make(NotesQueues("other"))
    assert gator.task(look).queue_name == "other"
    assert gator.client.len("other") == 1


def test_a_middleware_that_raises_stops_no_worker(make, clock):
    gator = make(Raises(SystemExit))
    gator.every(60, look)
    gator.schedules.fire()
    clock.advance(60)
    gator.schedules.fire()
    assert gator.len() == 0


@pytest.mark.parametrize("context", ["options", "batch"])
def test_a_duplicate_passes_and_is_known_as_one(make, context):
    class Notes:
        def push(self, task, call_next):
            call_next()
            seen.append(task.is_duplicate)

    gator = make(Notes())
    for _ in range(2):
        with getattr(gator, context)(unique=True) as opts:
            task = opts.task(look)
    assert gator.len() == 1
    assert task.is_duplicate
    assert seen == [False, context == "options"], "in a batch, it is pushed afterwards"


def test_a_result_of_another_task_stays_an_argument(make):
    gator = make(Traces())
    first = gator.options(save_results=60).task(operator.add, 1, 2)
    with gator.batch(save_results=60) as batch:
        second = batch.task(operator.mul, result_of(first), 5)
        third = batch.task(operator.mul, result_of(second), 2)
    assert gator.run_all() == 3
    assert gator.result(third) == 30
    assert seen == ["trace in", "trace out"] * 3


def test_retries_and_revivals_are_no_pushes(make):
    gator = make(Traces())
    gator.options(retries=1).task(look, fail=True)
    assert gator.run_all() == 2
    gator.revive()
    gator.run_all()
    task = Task(retries=1)
    task.to_call(look, fail=True)
    gator.execute(task)
    assert seen.count("trace in") == 1
    assert seen.count({"trace": "0"}) == 4


class Raises:
    def __init__(self, error=PermissionError):
        self.error = error

    def push(self, task, call_next):
        raise self.error


class RaisesAfter:
    def push(self, task, call_next):
        call_next()
        raise PermissionError


class Swallows:
    def push(self, task, call_next):
        try:
            call_next()
        except Exception as err:
            seen.append(type(err))


class Forgets:
    def push(self, task, call_next):
        return task


def batch_of_two(gator):
    with gator.batch() as batch:
        batch.task(look)
        batch.task(look)


WAYS = {
    "task": lambda gator: gator.task(look),
    "batch": batch_of_two,
    "at once": lambda gator: gator.options(is_async=False).task(look),
}
ways = pytest.mark.parametrize("way", WAYS)


@ways
def test_who_raises_before_the_push_prevents_it(make, way):
    gator = make(Swallows(), Raises())
    with pytest.raises(PermissionError):
        WAYS[way](gator)
    assert (gator.len(), seen) == (0, [PermissionError])


def test_who_raises_after_the_push_raises_to_the_caller(make):
    gator = make(RaisesAfter())
    with pytest.raises(PermissionError):
        gator.task(look)
    assert gator.len() == 1


@ways
def test_who_does_not_call_the_next_one_is_found_out(make, way):
    gator = make(Forgets())
    with pytest.raises(InvalidTask, match="Forgets.push did not call call_next.*was not pushed"):
        WAYS[way](gator)
    assert (gator.len(), seen) == (0, [])


def test_who_swallows_the_error_of_a_push_does_not_hide_it(make):
    gator = make(Swallows())
    gator.client.push = lambda *args, **options: 1 / 0
    with pytest.raises(ZeroDivisionError):
        gator.task(look)
    assert seen == [ZeroDivisionError]


def test_a_call_that_is_refused_reaches_no_middleware(make):
    gator = make(Traces())
    with pytest.raises(InvalidTask):
        gator.task(look, 1, 2, 3)
    with pytest.raises(InvalidTask):
        gator.task(lambda: None)
    assert seen == []


def changes(**changed):
    class Changes:
        def push(self, task, call_next):
            for name, value in changed.items():
                setattr(task, name, value)
            call_next()

    return Changes()


@pytest.mark.parametrize("way", ["task", "batch"])
@pytest.mark.parametrize(
    "changed",
    [
        {"func_args": (1, 2, 3)},
        {"func": print, "func_kwargs": {"sep": object()}},
        {"func": len(seen)},
        {"on_success": lambda task: None},
        {"headers": {str(each): "" for each in range(32)} | {"a": ""}},
    ],
)
def test_what_it_changes_is_checked(make, way, changed):
    gator = make(changes(**changed))
    with pytest.raises(InvalidTask):
        WAYS[way](gator)
    assert gator.len() == 0


def test_its_changes_count(make, clock):
    gator = make(changes(retries=2, delay_by=60.0, func=jobs.note, func_args=("changed",)))
    task = gator.task(look)
    assert task.delay_until == clock.time() + 60
    assert gator.run_all() == 0
    clock.advance(60)
    assert gator.run_all() == 1
    assert jobs.seen == [(("changed",), {})]


def test_a_delay_in_a_batch_counts_from_its_call(make, clock):
    gator = make(Traces())
    with gator.batch(delay_by=60) as batch:
        task = batch.task(look)
        clock.advance(50)
    assert task.delay_until == clock.time() + 10


def test_an_option_that_the_backend_cannot_keep(beanstalk_dsn):
    gator = Gator(beanstalk_dsn, f"q-{uuid.uuid4().hex[:8]}", middleware=[changes(save_results=5)])
    with pytest.raises(UnsupportedOption):
        gator.task(look)
    gator.close()


class Batches:
    """Notes what is pushed in bulk."""

    def push(self, task, call_next):
        seen.append(call_next() is task)

    def push_batch(self, tasks, call_next):
        before = [task.queue_name for task in tasks]
        try:
            returned = call_next()
        except Exception as err:
            seen.append(type(err).__name__)
            raise
        seen.append((before, [task.is_pushed for task in tasks], returned))


def test_the_push_of_a_batch_passes_once(make):
    """With the tasks that go to a queue, and not with others."""
    gator = make(Batches())
    with gator.batch() as batch:
        first = batch.task(look)
        batch.options(queue_name="other").task(look)
        batch.options(is_async=False).task(look)
    pushed = ["all", "other"], [True, True], None
    assert seen[:4] == [True, True, True, pushed]
    assert first.queue_name is None
    assert seen[4] == {}, "and the task that is not async has run after that"
    assert (gator.client.len("all"), gator.client.len("other")) == (1, 1)


def test_a_batch_that_is_not_async_is_pushed_nowhere(make):
    gator = make(Batches())
    with gator.batch(is_async=False) as batch:
        batch.task(look)
    assert seen == [True, {}]


def test_single_tasks_are_no_batch(make):
    make(Batches()).task(look)
    assert seen == [True]


def test_around_a_batch_the_error_of_the_push_is_seen_and_raised(make, monkeypatch):
    gator = make(Batches())

    def refuse(*arguments, **options):
        raise PermissionError

    monkeypatch.setattr(gator.client, "push_many", refuse)
    with pytest.raises(PermissionError), gator.batch() as batch:
        batch.task(look)
    assert seen == [True, "PermissionError"]


def test_who_does_not_go_on_prevents_the_push_of_a_batch(make):
    class Forgets:
        def push_batch(self, tasks, call_next):
            pass

    gator = make(Forgets())
    with pytest.raises(InvalidTask, match="so a batch of 2 was not pushed"):
        batch_of_two(gator)
    assert gator.len() == 0
