"""Test the warning of plain calls that a coroutine makes, and calls that run tasks in a loop."""

import asyncio
import operator
import subprocess
import sys
import textwrap
import time
import warnings
from contextvars import ContextVar
from functools import partial

import pytest

from alligator import SUCCESS, Gator, Worker
from alligator.exceptions import InvalidTask, QueueFull, ResultTimeout
from alligator.runtime import blocking_calls
from alligator.testing import FakeClock
from tests.support import ROOT, jobs

variable: ContextVar[str] = ContextVar("variable", default="")


@pytest.fixture
def gator(tmp_path, monkeypatch):
    monkeypatch.setattr(blocking_calls, "_warned", set())
    found = Gator(f"locmem://{tmp_path}")
    yield found
    found.client.drop_all(found.queue_name)


def warned(call):
    """Return what is warned of while a function is called."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    return [str(each.message) for each in found if each.category is RuntimeWarning]


def in_loop(call):
    """Call a function in a coroutine."""

    async def main():
        call()

    asyncio.run(main())


def a_batch(gator):
    with gator.batch() as batch:
        batch.task(operator.add, 1, 2)


def a_result(gator):
    with pytest.raises(ResultTimeout):
        gator.result("id")


PLAIN = {
    "atask": lambda gator: gator.task(operator.add, 1, 2),
    "options().atask": lambda gator: gator.options(retries=1).task(operator.add, 1, 2),
    "call": lambda gator: gator.options(retries=1)(operator.add, 1, 2),
    "abatch": a_batch,
    "astatus": lambda gator: gator.status("id"),
    "await_": lambda gator: gator.wait("id", 0),
    "aresult": lambda gator: a_result(gator),
    "aprogress": lambda gator: gator.progress("id"),
    "acancel": lambda gator: gator.cancel("id"),
    "arevive": lambda gator: gator.revive(),
    "aqueues": lambda gator: gator.queues(),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_call_is_warned_of_with_its_twin(name, gator):
    found = warned(lambda: in_loop(lambda: PLAIN[name](gator)))
    assert len(found) == 1
    twin = "atask" if name == "call" else name.split(".")[-1]
    assert "event loop" in found[0]
    assert twin in found[0]
    assert "warn_in_loop=False" in found[0]
    assert warned(lambda: PLAIN[name](gator)) == [], "no loop runs here"


NO_TWIN = {
    "len": lambda gator: gator.len(),
    "stats": lambda gator: gator.stats(),
    "dead": lambda gator: gator.dead(),
    "purge, …": lambda gator: gator.purge(older_than=60),
    "explain, …": lambda gator: gator.explain("id"),
    "run_now, …": lambda gator: gator.run_now("id"),
    "workers": lambda gator: gator.workers(),
    "running": lambda gator: gator.running(),
    "activity, …": lambda gator: gator.activity(),
    "depths, …": lambda gator: gator.depths(),
    "activity_and_depths, …": lambda gator: gator.activity_and_depths(),
    "recent, …": lambda gator: gator.recent(),
    "history, …": lambda gator: gator.history("id"),
    "schedule_rows": lambda gator: gator.schedule_rows(),
    "tasks, …": lambda gator: gator.tasks("waiting"),
    "task_info, …": lambda gator: gator.task_info("id"),
    "pause, …": lambda gator: gator.pause(),
    "paused, …": lambda gator: gator.paused(),
    "resume, …": lambda gator: gator.resume(),
}


@pytest.mark.parametrize("call", NO_TWIN)
def test_a_plain_call_without_a_twin_is_warned_of_with_a_thread(call, gator):
    (found,) = warned(lambda: in_loop(lambda: NO_TWIN[call](gator)))
    assert f"write 'await asyncio.to_thread(gator.{call})'" in found
    assert warned(lambda: NO_TWIN[call](gator)) == [], "no loop runs here"


FORGOTTEN = {
    "atask": lambda gator: gator.options(retries=1).atask(operator.add, 1, 2),
    "astatus": lambda gator: gator.astatus("id"),
    "await_": lambda gator: gator.await_("id", 0),
    "aresult": lambda gator: gator.aresult("id"),
    "aprogress": lambda gator: gator.aprogress("id"),
    "acancel": lambda gator: gator.acancel("id"),
    "arevive": lambda gator: gator.arevive(),
    "aqueues": lambda gator: gator.aqueues(),
    "arun_all": lambda gator: gator.arun_all(),
    "arun_until": lambda gator: gator.arun_until("+1s"),
    "apush_batch": lambda gator: gator.apush_batch([]),
    "aclose": lambda gator: gator.aclose(),
}


@pytest.mark.parametrize("name", FORGOTTEN)
def test_a_forgotten_await_is_warned_of_with_the_call_of_the_user(name, gator):
    (found,) = warned(lambda: in_loop(lambda: FORGOTTEN[name](gator)))
    assert found == f"coroutine 'Gator.{name}' was never awaited"


def test_once_for_each_place(gator):
    def twice():
        for _ in range(2):
            gator.task(operator.add, 1, 2)
        gator.task(operator.add, 1, 2)

    assert len(warned(lambda: in_loop(twice))) == 2
    assert warned(lambda: in_loop(twice)) == []


def test_it_names_the_line_of_the_user(gator):
    with pytest.warns(RuntimeWarning) as found:
        in_loop(lambda: gator.options().task(operator.add, 1, 2))
    assert found[0].filename == __file__


def test_an_option_turns_it_off(tmp_path):
    gator = Gator(f"locmem://{tmp_path}/off", warn_in_loop=False)
    assert warned(lambda: [in_loop(partial(call, gator)) for call in PLAIN.values()]) == []
    with pytest.raises(InvalidTask, match="warn_in_loop"):
        Gator("locmem://", warn_in_loop="no")


def test_awaitable_calls_warn_of_nothing(gator):
    async def main():
        await asyncio.to_thread(gator.stats)
        task = await gator.options(save_results=60).atask(operator.add, 1, 2)
        async with gator.abatch() as batch:
            batch.task(operator.add, 1, 2)
        await gator.arun_all()
        assert await gator.aresult(task, 5) == 3
        assert await task.await_(5)
        await gator.aqueues()
        await gator.arevive()

    assert warned(lambda: asyncio.run(main())) == []


seen: list = []
other = Gator("locmem://pushes-of-tasks")


def plain_task():
    other.task(operator.add, 1, 2)


async def coroutine_task():
    await asyncio.sleep(0)
    await other.atask(operator.add, 1, 2)


async def careless_task():
    other.task(operator.add, 1, 2)


def hook(*args):
    other.task(operator.add, 1, 2)


def test_a_worker_and_its_hooks_are_not_warned_of(gator):
    opts = gator.options(on_start=hook, on_success=hook)
    for each in (plain_task, coroutine_task):
        opts.task(each)
    work = Worker(gator, burst=True, log_level="CRITICAL").run_forever
    assert warned(work) == []
    for each in (plain_task, coroutine_task):
        opts.task(each)
    assert warned(gator.run_all) == []
    gator.task(careless_task)
    assert len(warned(work)) == 1, "it holds up the other coroutines of the worker"
    assert gator.dead() == []


def test_asyncio_is_not_imported_for_it():
    code = """
    import operator, sys
    from alligator import Gator

    gator = Gator("locmem://")
    gator.task(operator.add, 1, 2)
    gator.run_all()
    gator.close()
    print([name for name in ("asyncio", "alligator.asynchronous") if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr


# -- Tasks that run where a loop runs. ------------------------------------------------------------


async def twice(number):
    await asyncio.sleep(0)
    return 2 * number


def test_tasks_run_inside_a_running_loop():
    gator = Gator("locmem://run-in-a-loop", clock=FakeClock(), options={"save_results": 86_400})

    async def main():
        assert gator.options(is_async=False).task(twice, 21).result == 42
        assert (await gator.options(is_async=False).atask(twice, 21)).result == 42
        later = await gator.options(delay_by=3600).atask(twice, 4)
        assert gator.run_until("+30m") == 0
        assert await gator.arun_until("+1h") == 1
        assert await gator.aresult(later) == 8
        await gator.options(delay_by=3600).atask(twice, 5)
        assert gator.run_until("+2h") == 1
        now = await gator.atask(twice, 6)
        assert gator.run_all() == 1
        assert now.status != SUCCESS
        assert await now.await_(5)
        assert now.status == SUCCESS
        assert gator.execute(await gator.atask(twice, 7)).result == 14

    asyncio.run(main())


# -- What belongs to the caller. ------------------------------------------------------------------


class Tenant:
    """Writes a context variable into each task that is pushed."""

    def push(self, task, call_next):
        task.headers = {"tenant": variable.get()}
        return call_next()


def test_middleware_sees_the_context_of_its_caller():
    gator = Gator("locmem://tenants", middleware=[Tenant()])

    async def push(name):
        variable.set(name)
        await asyncio.sleep(0)
        return await gator.atask(operator.add, 1, 2)

    async def main():
        names = [f"tenant-{number}" for number in range(40)]
        tasks = await asyncio.gather(*map(push, names))
        assert [task.headers["tenant"] for task in tasks] == names
        async with gator.abatch() as batch:
            variable.set("of the batch")
            last = batch.task(operator.add, 1, 2)
        assert last.headers["tenant"] == "of the batch"

    asyncio.run(main())


class OwnGator(Gator):
    """A class of the user's own that does more with each push."""

    def push(self, task, func, /, *args, **kwargs):
        seen.append((func, args))
        return super().push(task, func, *args, **kwargs)


def test_a_gator_of_ones_own_pushes_its_own_way():
    gator = OwnGator("locmem://own-gator")
    seen.clear()
    asyncio.run(_push_one(gator))
    assert seen == [(operator.add, (1, 2))]


async def _push_one(gator):
    await gator.atask(operator.add, 1, 2)


class OwnClient:
    """The least that a client is, as in the documentation of 0.x."""

    def __init__(self, conn_string):
        self.conn_string, self.pushed = conn_string, []

    def len(self, queue_name):
        return len(self.pushed)

    def drop_all(self, queue_name):
        self.pushed.clear()

    def push(self, queue_name, task_id, data):
        if "full" in data:
            raise QueueFull("It is full.")
        self.pushed.append(data)
        return task_id

    def pop(self, queue_name):
        return self.pushed.pop(0)

    def get(self, queue_name, task_id):
        return None


def test_a_client_of_ones_own():
    gator = Gator("own://", backend_class=OwnClient)

    async def main():
        calls = [gator.atask(jobs.note, each) for each in ("a", "full", "b", "c")]
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(each, QueueFull) for each in found] == [False, True, False, False]

    asyncio.run(main())
    assert [each[each.index("args") :][:12] for each in gator.backend.pushed]
    assert len(gator.backend.pushed) == 3
    assert gator.run_all() == 3


# -- A coroutine where a function is meant. -------------------------------------------------------

COROUTINES = {
    "task": lambda gator: gator.task(twice(1)),
    "options": lambda gator: gator.options(retries=1).task(twice(1)),
    "call": lambda gator: gator.options(retries=1)(twice(1)),
    "is_async": lambda gator: gator.options(is_async=False).task(twice(1)),
    "every": lambda gator: gator.every(5, twice(1)),
    "cron": lambda gator: gator.cron("0 5 * * *", twice(1)),
    "on_success": lambda gator: gator.options(on_success=twice(1)),
    "batch": lambda gator: gator.batch(on_success=twice(1)),
    "in a batch": lambda gator: _in_a_batch(gator),
    "atask": lambda gator: asyncio.run(_coroutine_to_atask(gator)),
}


def _in_a_batch(gator):
    with gator.batch() as batch:
        batch.task(twice(1))


async def _coroutine_to_atask(gator):
    await gator.options(retries=1).atask(twice(1))


@pytest.mark.parametrize("name", COROUTINES)
def test_a_coroutine_is_refused_and_closed(name, gator):
    def call():
        with pytest.raises(InvalidTask, match=r"gator\.task\(twice, …\)") as raised:
            COROUTINES[name](gator)
        assert "\n" not in str(raised.value)

    assert warned(call) == [], "it was never awaited, and that is no news"
    assert gator.len() == 0


def test_how_many_threads():
    for wrong in (0, 1001, 2.5, True, "32"):
        with pytest.raises(InvalidTask, match="async_threads"):
            Gator("locmem://", async_threads=wrong)
    gator = Gator("locmem://threads", async_threads=3)
    began = time.monotonic()

    async def main():
        calls = gator._awaitable("atask", "task")
        await asyncio.gather(*(calls.call(time.sleep, 0.05) for _ in range(9)))
        assert len(calls.pool) == 3

    asyncio.run(main())
    assert time.monotonic() - began >= 0.14
    gator.close()
