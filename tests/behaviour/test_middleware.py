"""Test middleware around runs, in every way of running: plain, or an ``async def``."""

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
import threading
import uuid
from contextvars import ContextVar
from types import SimpleNamespace

import pytest

from alligator import CANCELED, FAILED, SUCCESS, Gator, Task, Worker, current_task
from alligator.common.text import describe_error
from alligator.exceptions import InvalidTask, LeaveNow, TaskFailed, TaskTimeout
from alligator.testing import FakeClock
from tests.support import jobs
from tests.support.helpers import eventually

seen: list = []
VALUE: ContextVar[str] = ContextVar("value", default="the default")


class Plain:
    """Notes what happens, and does what its subclasses do."""

    def __init__(self, name="plain"):
        self.name = name

    def before(self, task):
        seen.append(f"{self.name} in")
        assert current_task() is task

    def after(self, task, result):
        seen.append(f"{self.name} out {result}")

    def failed(self, task, err):
        seen.append(f"{self.name} sees {type(err).__name__}")
        raise err

    def run(self, task, call_next):
        self.before(task)
        try:
            result = call_next()
        except BaseException as err:
            self.failed(task, err)
        else:
            self.after(task, result)


class Async(Plain):
    async def run(self, task, call_next):
        self.before(task)
        try:
            result = await call_next()
        except BaseException as err:
            self.failed(task, err)
        else:
            self.after(task, result)


def both(**methods):
    """Make two classes with these methods: a plain one, and one with an async def."""
    return [type(f"Own{base.__name__}", (base,), methods) for base in (Plain, Async)]


def work_out(value=1):
    seen.append("function")
    if value is None:
        raise ValueError
    if value == "again":
        current_task().retry()
    if value == "leave":
        raise LeaveNow
    return value


async def work_out_in_a_coroutine(value=1):
    await asyncio.sleep(0)
    return work_out(value)


def hands_on_a_coroutine(value=1):
    return work_out_in_a_coroutine(value)


def on_start(task):
    seen.append("on_start")


def on_success(task, result):
    seen.append(f"on_success {result}")


def on_error(task, err):
    seen.append(f"on_error {type(err).__name__}")


HOOKS = {"on_start": on_start, "on_success": on_success, "on_error": on_error}
functions = pytest.mark.parametrize("func", [work_out, work_out_in_a_coroutine])
of_all_kinds = pytest.mark.parametrize(
    "func", [work_out, work_out_in_a_coroutine, hands_on_a_coroutine]
)


def work(gator, **options):
    Worker(gator, log_level="CRITICAL", **{"burst": True, **options}).run_forever()


def work_given(gator):
    """As in a process for a single task."""
    worker = Worker(gator, log_level="CRITICAL")
    front = gator.client.reserve([gator.queue_name], 1, 30).deliveries[0]
    gator.client.release(front)
    worker.given = SimpleNamespace(keys=lambda stop: iter([("all", front.task_id)]))
    worker.run_forever()


def caught(call, *args):
    try:
        return call(*args)
    except Exception as err:
        return err


FROM_A_QUEUE = {
    "inline": work,
    "threads": lambda gator: work(gator, concurrency=3),
    "given": work_given,
    "run_all": Gator.run_all,
    "pop": lambda gator: caught(gator.pop),
    "get": lambda gator: caught(
        gator.get, gator.client.reserve(["all"], 1, 30).deliveries[0].task_id
    ),
    "one by one": lambda gator: Worker(gator, log_level="CRITICAL").check_and_run_task(),
}
ways = pytest.mark.parametrize("way", [*FROM_A_QUEUE, "at once", "execute"])


def run(gator, way, func, *args, **options):
    """Run a function once and return its error as the task, or its dead letter, has it."""
    options = {**HOOKS, **options}
    if way in ("at once", "execute"):
        task = Task(is_async=way == "execute", **options)
        task.to_call(func, *args)
        call = gator.execute if way == "execute" else (lambda it: gator.push(it, func, *args))
        err = caught(call, task)
        assert task.status == (FAILED if isinstance(err, Exception) else SUCCESS)
        return None if err is task else describe_error(err)
    task = gator.options(**options).task(func, *args)
    if way == "get":
        caught(gator.get, task)
    else:
        FROM_A_QUEUE[way](gator)
    assert gator.len() == 0
    return next((letter.error for letter in gator.dead()), None)


@pytest.fixture(autouse=True)
def nothing_seen():
    seen.clear()
    jobs.seen.clear()


def make(*middleware, **options):
    dsn = f"locmem://{uuid.uuid4().hex}"
    return Gator(dsn, clock=FakeClock(), middleware=middleware, **options)


@ways
@of_all_kinds
@pytest.mark.parametrize("outer", [Plain, Async])
@pytest.mark.parametrize("inner", [Plain, Async])
def test_around_the_run_and_its_hooks(way, func, outer, inner):
    gator = make(outer("1"), inner("2"))
    assert run(gator, way, func, 7) is None
    middle = ["on_start", "function", "on_success 7"]
    assert seen == ["1 in", "2 in", *middle, "2 out 7", "1 out 7"]


@ways
@of_all_kinds
@pytest.mark.parametrize("outer", [Plain, Async])
@pytest.mark.parametrize("inner", both(failed=lambda self, task, err: seen.append("swallowed")))
def test_who_swallows_an_error_makes_no_success_of_it(way, func, outer, inner):
    gator = make(outer("1"), inner("2"))
    assert run(gator, way, func, None) == "ValueError"
    middle = ["on_start", "function", "on_error ValueError"]
    assert seen == ["1 in", "2 in", *middle, "swallowed", "1 sees ValueError"]


def refuse(self, *args):
    seen.append("refused")
    raise PermissionError


@ways
@functions
@pytest.mark.parametrize("outer", [Plain, Async])
@pytest.mark.parametrize("inner", both(before=refuse))
def test_who_raises_before_the_run_makes_it_fail(way, func, outer, inner):
    gator = make(outer("1"), inner("2"))
    assert run(gator, way, func) == "PermissionError"
    assert seen == ["1 in", "refused", "1 sees PermissionError", "on_error PermissionError"]


@ways
@functions
@pytest.mark.parametrize("kind", both(after=refuse))
def test_who_raises_after_the_run_makes_it_fail(way, func, kind):
    """As a transaction that cannot be committed."""
    assert run(make(kind()), way, func, 5).startswith("PermissionError")
    after = ["on_success 5", "refused", "on_error PermissionError"]
    assert seen == ["plain in", "on_start", "function", *after]


class Forgets:
    def run(self, task, call_next):
        seen.append("forgot")


class ForgetsToAwait:
    async def run(self, task, call_next):
        call_next().close()


class ForgetsBoth:
    def run(self, task, call_next):
        return ForgetsToAwait().run(task, call_next)


@ways
@functions
@pytest.mark.parametrize("kind", [Forgets, ForgetsToAwait])
def test_who_does_not_call_the_next_one_makes_it_fail(way, func, kind):
    gator = make(Plain("1"), kind())
    error = run(gator, way, func)
    assert f"{kind.__name__}.run did not call call_next(), so the task did not run" in error
    assert seen[-2:] == ["1 sees TaskFailed", "on_error TaskFailed"]
    assert "function" not in seen


def test_a_coroutine_that_a_plain_run_returns_is_never_awaited():
    error = run(make(ForgetsBoth()), "inline", work_out)
    assert "a coroutine, of which nothing has run" in error


class Twice:
    def run(self, task, call_next):
        call_next()
        call_next(task)


class TwiceAwaited:
    async def run(self, task, call_next):
        await call_next(task)
        await call_next()


class Another:
    def run(self, task, call_next):
        call_next(Task())


@functions
@pytest.mark.parametrize("way", ["inline", "threads"])
def test_a_task_runs_once(way, func):
    for kind in (Twice, TwiceAwaited):
        seen.clear()
        assert "call_next() was called a second time" in run(make(kind()), way, func)
        assert seen.count("function") == 1
    assert "no task but the one" in run(make(Another()), way, func)


def test_nothing_runs_after_its_middleware_has_returned():
    kept = []
    gator = make(SimpleNamespace(run=lambda task, call_next: kept.append(call_next)))
    assert "did not call call_next()" in run(gator, "inline", work_out)
    with pytest.raises(RuntimeError, match="after its middleware had returned"):
        kept[0]()
    assert "function" not in seen


@functions
@pytest.mark.parametrize("way", ["inline", "threads", "at once"])
@pytest.mark.parametrize("kind", both(failed=refuse))
def test_the_first_error_counts_and_another_is_logged(way, func, kind, caplog):
    assert run(make(Plain("1"), kind()), way, func, None) == "ValueError"
    assert "1 sees ValueError" in seen
    assert "run of task" in caplog.text
    assert "PermissionError" in caplog.text


@functions
@pytest.mark.parametrize("way", ["inline", "threads", "run_all", "at once"])
@pytest.mark.parametrize("kind", [Plain, Async])
def test_each_retry_passes(way, func, kind):
    run(make(kind()), way, func, None, retries=2)
    assert seen.count("plain in") == seen.count("plain sees ValueError") == 3
    seen.clear()
    run(make(kind()), way, func, "again", retries=2)
    assert (seen.count("plain in"), seen.count("plain sees RunAgain")) == (3, 2)
    assert seen[-2:] == ["on_error TaskFailed", "plain sees TaskFailed"]


@functions
@pytest.mark.parametrize("way", ["inline", "threads", "run_all"])
@pytest.mark.parametrize("kind", both(before=lambda self, task: refuse_once(task)))
def test_a_failure_of_a_middleware_is_retried_as_any_other(way, func, kind):
    gator = make(kind())
    assert run(gator, way, func, retries=1) is None
    assert seen.count("function") == 1
    seen.clear()
    assert run(gator, way, func, retries=1, retry_on=OSError) is None
    assert run(gator, way, func, retries=1, retry_on=KeyError) == "PermissionError"


def refuse_once(task):
    if not task.retried:
        raise PermissionError


@functions
@pytest.mark.parametrize("kind", both(before=lambda self, task: task.retried or task.retry()))
def test_a_middleware_may_put_a_run_off(func, kind):
    assert run(make(kind()), "inline", func, retries=1) is None
    assert seen == ["on_start", "function", "on_success 1", "plain out 1"]


@ways
@pytest.mark.parametrize("kind", both(failed=lambda self, task, err: seen.append("swallowed")))
def test_a_timeout_passes_through(way, kind):
    for func in (sleeps_long, sleeps_long_in_a_coroutine):
        assert run(make(kind()), way, func, timeout=0.03).startswith("TaskTimeout")
        assert seen.count("on_error TaskTimeout") == 1
        seen.clear()


def sleeps_long():
    eventually(lambda: False)


async def sleeps_long_in_a_coroutine():
    await asyncio.sleep(30)


@pytest.mark.parametrize("way", ["inline", "pop", "execute"])
@pytest.mark.parametrize("kind", both(failed=lambda self, task, err: seen.append("swallowed")))
def test_a_worker_that_leaves_is_let_go(way, kind):
    gator = make(kind("1"), kind("2"))
    task = gator.options(**HOOKS).task(work_out, "leave")
    if way == "inline":
        work(gator, burst=False)
        assert gator.len() == 1, "the task was handed back"
    else:
        with pytest.raises(LeaveNow):
            gator.pop() if way == "pop" else gator.execute(task)
    assert seen == ["1 in", "2 in", "on_start", "function", "swallowed", "swallowed"]
    assert gator.dead() == []


def leave(self, task, err):
    raise LeaveNow


@pytest.mark.parametrize("kind", both(failed=leave))
def test_a_worker_may_leave_while_a_middleware_ends(kind):
    gator = make(Plain("1"), kind("2"))
    gator.options(**HOOKS).task(work_out, None)
    work(gator, burst=False)
    assert seen[-2:] == ["on_error ValueError", "1 sees LeaveNow"]
    assert (gator.len(), gator.dead()) == (1, [])


@pytest.mark.parametrize("kinds", [(Plain,), (Async,), (Plain, Async), (Async, Plain)])
def test_a_worker_that_leaves_cancels_a_coroutine_and_hands_it_back(kinds):
    gator = make(*(kind(str(number)) for number, kind in enumerate(kinds)))
    gator.options(**HOOKS).task(waits_for_ever)
    worker = Worker(gator, log_level="CRITICAL", concurrency=2, grace=0.1)
    thread = threading.Thread(target=worker.run_forever)
    thread.start()
    eventually(lambda: "waiting" in seen)
    worker._signals.count = 2
    worker.keep_running = False
    thread.join(20)
    assert not thread.is_alive()
    assert gator.stats()["waiting"] == 1
    eventually(lambda: all(f"{each} sees CancelledError" in seen for each in range(len(kinds))))
    assert "on_error CancelledError" not in seen


async def waits_for_ever():
    seen.append("waiting")
    await asyncio.Event().wait()


def loops_for_ever():
    seen.append("waiting")
    eventually(lambda: False)


async def goes_on_when_canceled():
    with contextlib.suppress(asyncio.CancelledError):
        await waits_for_ever()


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("kinds", [(Async, Plain), (Plain, Async)])
def test_a_task_that_is_canceled_while_it_runs(kinds, concurrency):
    """No middleware makes a success of it, and none sees one."""
    swallow = {"failed": lambda self, task, err: seen.append(type(err).__name__)}
    gator = make(*(type("Swallows", (each,), swallow)() for each in kinds))
    functions = [loops_for_ever, waits_for_ever, goes_on_when_canceled][
        : 3 if concurrency > 1 else 1
    ]
    tasks = [gator.options(retries=2, **HOOKS).task(each) for each in functions]
    worker = Worker(gator, log_level="CRITICAL", burst=True, concurrency=concurrency)
    thread = threading.Thread(target=worker.run_forever)
    thread.start()
    eventually(lambda: seen.count("waiting") == len(tasks))
    for task in tasks:
        assert gator.cancel(task.task_id, running=True) is not None
    thread.join(20)
    assert not thread.is_alive()
    assert [gator.status(task) for task in tasks] == [CANCELED] * len(tasks)
    assert gator.stats()["dead"] == gator.len() == 0
    errors = [each for each in seen if each.endswith(("TaskCanceled", "CancelledError"))]
    assert len(errors) == 2 * len(tasks)
    assert not [each for each in seen if each.startswith(("on_success", "on_error", "plain out"))]


async def cancels_itself():
    asyncio.current_task().cancel()
    await asyncio.sleep(1)


@pytest.mark.parametrize("way", ["inline", "threads", "at once"])
@pytest.mark.parametrize("kind", [Plain, Async])
def test_a_coroutine_that_cancels_itself_has_failed(way, kind):
    gator = make(kind())
    if way == "at once":
        with pytest.raises(asyncio.CancelledError):
            gator.options(is_async=False, **HOOKS).task(cancels_itself)
    else:
        assert run(gator, way, cancels_itself) == "CancelledError"
    assert seen[-2:] == ["plain sees CancelledError", "on_error CancelledError"]


class Awaits:
    async def run(self, task, call_next):
        await asyncio.sleep(0.001)
        await call_next()
        await asyncio.gather(asyncio.sleep(0.001))
        seen.append("awaited")


@ways
def test_around_a_coroutine_an_async_run_may_await_anything(way):
    assert run(make(Awaits()), way, work_out_in_a_coroutine) is None
    assert seen[-1] == "awaited"


class Suspends:
    async def run(self, task, call_next):
        await asyncio.sleep(0)
        await call_next()


@pytest.mark.parametrize("way", ["inline", "threads", "at once"])
def test_around_a_function_it_may_not(way):
    error = run(make(Suspends()), way, work_out)
    assert "Suspends.run awaits something other than call_next()" in error
    assert "no running event loop" in run(make(Awaits()), way, work_out)
    assert "function" not in seen


def test_coroutines_take_no_thread_each():
    gator = make(Async(), Awaits())
    with gator.batch() as batch:
        for _ in range(200):
            batch.task(count_threads)
    before = threading.active_count()  # servers of other tests may have some
    work(gator, concurrency=200)
    counts = [each for each in seen if isinstance(each, int)]
    assert len(counts) == 200
    assert max(counts) < before + 20


async def count_threads():
    for _ in range(3):
        await asyncio.sleep(0.01)
    seen.append(threading.active_count())


def test_a_function_runs_in_the_thread_that_took_it():
    gator = make(Async(), Plain())
    gator.task(note_thread)
    gator.task(note_thread)
    work(gator)
    assert seen.count(threading.current_thread().name) == 2


def note_thread():
    seen.append(threading.current_thread().name)


class OwnWay(Task):
    def run(self):
        seen.append("own")
        return super().run()


@functions
@pytest.mark.parametrize("way", ["inline", "threads", "run_all", "at once"])
def test_a_task_class_that_runs_in_a_way_of_its_own(way, func):
    gator = make(Plain("1"), Async("2"), task_class=OwnWay)
    gator.options(is_async=way != "at once").task(func)
    FROM_A_QUEUE.get(way, Gator.len)(gator)
    assert seen == ["1 in", "2 in", "own", "function", "2 out 1", "1 out 1"]


class Sets:
    """Sets a variable, and puts it back, as tracers do."""

    def run(self, task, call_next):
        assert VALUE.get() == "the caller's"
        token = VALUE.set("a middleware's")
        try:
            call_next()
            assert VALUE.get() == "a hook's"
        finally:
            VALUE.reset(token)
            seen.append(VALUE.get())


class SetsAsync:
    async def run(self, task, call_next):
        assert VALUE.get() == "the caller's"
        token = VALUE.set("a middleware's")
        try:
            await call_next()
            assert VALUE.get() == "a hook's"
        finally:
            VALUE.reset(token)
            seen.append(VALUE.get())


def sets_in_a_hook(task, result):
    assert VALUE.get() == "a function's"
    VALUE.set("a hook's")


def sets():
    assert VALUE.get() == "a middleware's"
    VALUE.set("a function's")


async def sets_in_a_coroutine():
    await asyncio.sleep(0)
    sets()


@ways
@pytest.mark.parametrize("func", [sets, sets_in_a_coroutine])
@pytest.mark.parametrize("kind", [Sets, SetsAsync])
def test_all_see_one_context_and_nobody_else_does(way, func, kind):
    token = VALUE.set("the caller's")
    try:
        gator = make(kind())
        for _ in range(2):
            assert run(gator, way, func, on_success=sets_in_a_hook) is None
        assert (seen.count("the caller's"), VALUE.get(), current_task()) == (
            2,
            "the caller's",
            None,
        )
    finally:
        VALUE.reset(token)


def forks(*, fail=False):
    if os.fork():
        os.wait()
    elif fail:
        raise ValueError


def forks_and_fails():
    forks(fail=True)


@pytest.mark.parametrize("way", ["inline", "run_all"])
@pytest.mark.parametrize("func", [forks, forks_and_fails])
@pytest.mark.parametrize("kind", [Plain, Async])
def test_a_child_of_a_task_runs_no_middleware(way, func, kind, tmp_path):
    class Notes(kind):
        def after(self, task, result=None):
            with (tmp_path / "ended").open("a") as file:
                file.write(f"{os.getpid()}\n")

        failed = after

    assert run(make(Notes()), way, func) is None
    assert (tmp_path / "ended").read_text() == f"{os.getpid()}\n"


APP = """
import os
from alligator import Gator

class Notes:
    async def run(self, task, call_next):
        await call_next()
        with open("passed", "a") as file:
            file.write(f"{task.func.__name__} {os.getpid()}\\n")

def nothing():
    pass

async def nothing_in_a_coroutine():
    pass

gator = Gator("sqlite://queue.db", middleware=[Notes()], options={"retries": 2})
"""


def test_of_an_app_on_the_command_line(tmp_path):
    (tmp_path / "noting_app.py").write_text(APP)
    push = (
        "import noting_app as a; [a.gator.task(f) for f in (a.nothing, a.nothing_in_a_coroutine)]"
    )
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    for command in (
        ["-c", push],
        ["-m", "alligator", "--app=noting_app:gator", "--burst", "--processes=2"],
    ):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=env, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
    lines = (tmp_path / "passed").read_text().split()
    assert sorted(lines[::2]) == ["nothing", "nothing_in_a_coroutine"]
    assert str(os.getpid()) not in lines


class Number:
    run = 5


class OneArgument:
    def push(self, task):
        """Take too little."""


class Yields:
    def run(self, task, call_next):
        yield


class AsyncBatch:
    async def push_batch(self, tasks, call_next):
        """Be what a push cannot be."""


class BatchOfOne:
    def push_batch(self, call_next):
        """Take too little."""


class AsyncPush:
    async def push(self, task, call_next):
        """Be what a push cannot be."""


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([object()], "has neither push.task, call_next. nor run"),
        ([None], "None has neither"),
        ([Plain], "Plain is a class; give Plain"),
        (Plain(), "middleware= is a Plain, not a list"),
        ([Plain(), Number()], "Number.run cannot be called as run.task, call_next"),
        ([OneArgument()], "OneArgument.push cannot be called as push"),
        ([Yields()], "Yields.run has a 'yield'"),
        ([AsyncPush()], "AsyncPush.push is an async def"),
        ([AsyncBatch()], "AsyncBatch.push_batch is an async def"),
        ([BatchOfOne()], "BatchOfOne.push_batch cannot be called as push_batch.tasks, call_next"),
    ],
)
def test_bad_ones_are_refused_by_the_constructor(given, says):
    with pytest.raises(InvalidTask, match=says) as error:
        Gator("locmem://", middleware=given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("none", [None, [], ()])
def test_without_any_nothing_is_called(none):
    gator = Gator("locmem://", middleware=none)
    assert gator.run_middleware is None
    assert Gator("locmem://", middleware=[OnlyPush()]).run_middleware is None


class OnlyPush:
    def push(self, task, call_next):
        return call_next()


def test_it_stays_when_the_queue_is_another(caplog):
    caplog.set_level(logging.CRITICAL)
    gator = make(Plain())
    gator.queue_name = "other"
    gator.task(work_out)
    assert gator.run_all() == 1
    assert "plain in" in seen
    assert issubclass(TaskTimeout, TaskFailed)
