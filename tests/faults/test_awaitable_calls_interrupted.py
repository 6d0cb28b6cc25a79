"""Test awaitable calls that are canceled, whose server is gone, or whose loop or process ends."""

import asyncio
import contextlib
import operator
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid

import pytest

from alligator import Gator, Task
from alligator.exceptions import ConnectionLost, ResultTimeout, TaskCanceled
from tests.support import ROOT
from tests.support.helpers import eventually
from tests.support.servers import redis as servers
from tests.support.servers.proxy import Fault, Proxy


@pytest.fixture
def gator(own_redis):
    found = Gator(own_redis.dsn, f"q-{uuid.uuid4().hex[:8]}")
    yield found
    found.close()


@contextlib.contextmanager
def paused(server):
    pid = server.server.process.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.asynccontextmanager
async def never_held_up(within):
    """Check that the event loop goes on in the block: a plain call would hold it up for seconds."""
    longest = 0.0

    async def tick():
        nonlocal longest
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.002)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()

    ticking = asyncio.create_task(tick())
    yield
    ticking.cancel()
    assert longest < within


def test_a_paused_server_holds_up_no_loop_and_no_timeout(own_redis, gator):
    async def main():
        task = await gator.options(save_results=60).atask(operator.add, 1, 2)
        goes_on = asyncio.create_task(gator.aresult(task, None))
        patient = asyncio.create_task(gator.aresult(task, 30))
        events = asyncio.create_task(anext(gator.aevents(task)))
        await events
        async with never_held_up(2.0):
            with paused(own_redis):
                waits = [gator.aresult(task, 0.8), gator.await_(task, 0.8)]
                began = time.monotonic()
                for found in await asyncio.gather(*waits, return_exceptions=True):
                    assert isinstance(found, ConnectionLost)
                assert 0.79 < time.monotonic() - began < 5, "without the 10 s of the server"
                push, status = gator.atask(operator.add, 1, 1), gator.astatus(task)
                for each in (push, status):
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(each, 0.2)
            assert not goes_on.done()
            await gator.arun_all()
            assert await goes_on == await patient == 3

    asyncio.run(main())


def test_a_server_that_restarts_ends_no_wait(own_redis, tmp_path):
    # Its queue is on the first server; the outcome comes from the second one, which restarts.
    store = servers.start(tmp_path / "store")
    gator = Gator(own_redis.dsn, f"q-{uuid.uuid4().hex[:8]}", store=store.dsn)

    async def main():
        task = await gator.options(save_results=60).atask(operator.add, 1, 2)
        waits = asyncio.create_task(gator.aresult(task, 30))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(store.stop)
        with pytest.raises(ConnectionLost):
            await gator.aresult(task, 0.5)
        assert not waits.done()
        await asyncio.to_thread(store.server.start)
        await gator.arun_all()
        assert await waits == 3

    asyncio.run(main())
    gator.close()
    store.stop()


@pytest.mark.parametrize("is_durable", [True, False])
def test_a_server_that_restarts_while_many_results_are_awaited(tmp_path, is_durable):
    """Each gets its result, or is told that the server has forgotten it; one thread waits."""
    server = servers.start(tmp_path, *(("--appendonly", "yes") if is_durable else ()))
    gator = Gator(server.dsn, "restarts", options={"save_results": 600})

    async def main():
        tasks = await asyncio.gather(*(gator.atask(operator.add, n, 1) for n in range(100)))
        before = {each.name for each in threading.enumerate()}
        waits = [asyncio.create_task(gator.aresult(task, 60)) for task in tasks]
        await asyncio.sleep(0.1)
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(0.3)
        assert not any(each.done() for each in waits)
        new = {each.name for each in threading.enumerate()} - before
        assert len([each for each in new if not each.startswith("asyncio")]) <= 1, new
        await asyncio.to_thread(server.server.start)
        await gator.arun_all()
        found = await asyncio.gather(*waits, return_exceptions=True)
        if is_durable:
            assert found == list(range(1, 101))
        else:
            assert all(isinstance(each, ResultTimeout) for each in found)
            assert "it was dropped or lost" in str(found[0])
        listener = gator._shared_calls["calls"].listener
        await asyncio.to_thread(eventually, lambda: not listener._watched, "none is watched")

    asyncio.run(main())
    gator.close()
    server.stop()


def test_calls_that_are_canceled_at_random_on_beanstalkd(beanstalk_dsn, sqlite_dsn):
    """No reply is taken for that of another call, and what was pushed runs."""
    port = int(beanstalk_dsn.partition("?")[0].strip("/").rpartition(":")[2])
    chance = random.Random(11)

    async def canceled(calls, count):
        for each in chance.sample(calls, count):
            await asyncio.sleep(0.0002)
            each.cancel()
        await asyncio.wait(calls)

    async def main(gator):
        tasks = [Task(save_results=60) for _ in range(40)]
        pushes = [
            asyncio.create_task(gator.apush(t, operator.add, 1, n)) for n, t in enumerate(tasks)
        ]
        looks = [asyncio.create_task(gator.astatus("unknown")) for _ in range(10)]
        await canceled([*pushes, *looks], 25)
        sent = [each for each, push in zip(tasks, pushes, strict=True) if not push.cancelled()]
        assert all(each.is_pushed for each in sent)
        waits = [asyncio.create_task(gator.aresult(each, 30)) for each in sent]
        calls = [asyncio.create_task(gator.astatus(each)) for each in sent]
        calls += [asyncio.create_task(gator.acancel(each)) for each in sent[:5]]
        await canceled(calls, len(calls) // 2)
        assert await gator.atask(operator.add, 1, 1)  # sent after all that was under way
        pushed = [each for each in tasks if each.is_pushed]
        assert len(pushed) - 5 <= await gator.arun_all() - 1 <= len(pushed)
        found = await asyncio.gather(*waits, return_exceptions=True)
        for task, each in zip(sent, found, strict=True):
            assert each == 1 + task.func_args[1] or isinstance(each, TaskCanceled)
        for number in range(5):
            assert await gator.astatus("unknown") is None
            assert await gator.astatus(await gator.atask(operator.add, number, 1)) == 0

    with Proxy(port, lambda: Fault(delay=0.002)) as proxy:
        dsn = f"beanstalk://127.0.0.1:{proxy.port}/"
        gator = Gator(dsn, f"q-{uuid.uuid4().hex[:8]}", store=sqlite_dsn)
        asyncio.run(main(gator))
        gator.client.drop_all(gator.queue_name)
        gator.close()


def test_a_canceled_push_is_done_or_not_and_leaves_nothing_half_read(own_redis):
    with Proxy(own_redis.port, lambda: Fault(delay=0.002)) as proxy:
        gator = Gator(f"redis://127.0.0.1:{proxy.port}/0", f"q-{uuid.uuid4().hex[:8]}")
        chance = random.Random(7)

        async def push(number, sent):
            task = Task()
            with contextlib.suppress(asyncio.CancelledError):
                await gator.apush(task, operator.add, number, 0)
                sent.add(task.task_id)
            return task

        async def main():
            sent: set[str] = set()
            pushes = [asyncio.create_task(push(number, sent)) for number in range(300)]
            looks = [asyncio.create_task(gator.astatus("unknown")) for _ in range(30)]
            for each in chance.sample([*pushes, *looks], 150):
                await asyncio.sleep(0.0003)
                each.cancel()
            await asyncio.wait([*pushes, *looks])
            tasks = [each.result() for each in pushes if not each.cancelled()]
            await gator.aclose()
            assert await gator.atask(operator.add, 1, 1)  # sent after all that was under way
            there = {row.task_id for row in await asyncio.to_thread(gator.tasks, "waiting", 1000)}
            assert sent <= there, "what was awaited is queued"
            assert {each.task_id for each in tasks if each.is_pushed} <= there
            assert len(sent) >= 100
            for number in range(20):
                assert await gator.astatus("unknown") is None
                task = await gator.atask(operator.add, number, 1)
                assert await gator.astatus(task) == 0

        asyncio.run(main())
        gator.close()


def test_a_loop_that_is_closed_meanwhile_harms_no_other(own_redis, gator):
    async def leave():
        loop = asyncio.get_running_loop()
        future = asyncio.ensure_future(gator.atask(operator.add, 1, 2))
        waits = asyncio.ensure_future(gator.aresult("never-heard-of", 30))
        await asyncio.sleep(0.05)
        loop.stop()
        return future, waits

    async def again():
        task = await gator.options(save_results=60).atask(operator.add, 1, 1)
        waits = asyncio.create_task(gator.aresult(task, 20))
        await gator.arun_all()
        return await waits

    with paused(own_redis):
        loop = asyncio.new_event_loop()
        left = loop.create_task(leave())
        loop.run_forever()
        loop.close()  # with two calls under way
    assert asyncio.run(again()) == 2
    del left


def test_loops_in_several_threads(gator):
    found = []

    async def main(number):
        opts = gator.options(save_results=60)
        tasks = await asyncio.gather(*(opts.atask(operator.add, number, n) for n in range(20)))
        found.append(await asyncio.gather(*(gator.aresult(task, 30) for task in tasks)))

    threads = [
        threading.Thread(target=asyncio.run, args=[main(number)], daemon=True)
        for number in range(0, 500, 100)
    ]
    for each in threads:
        each.start()
    eventually(lambda: gator.len() == 100, "all are pushed")
    gator.run_all()
    for each in threads:
        each.join(30)
    assert sorted(found) == [list(range(n, n + 20)) for n in range(0, 500, 100)]


def test_a_closed_gator_goes_on(gator):
    async def main():
        task = await gator.options(save_results=60).atask(operator.add, 1, 2)
        waits = asyncio.create_task(gator.aresult(task, 30))
        await asyncio.sleep(0.05)
        await gator.aclose()
        await gator.arun_all()
        assert await waits == 3

    asyncio.run(main())


def run(code, dsn, *, interrupt=False):
    """Run a program; return its exit code, what it printed, and how long its end took."""
    text = textwrap.dedent(code)
    process = subprocess.Popen(
        [sys.executable, "-c", text, dsn],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    began = time.monotonic()
    if interrupt:
        process.send_signal(signal.SIGINT)
    try:
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    return process.returncode, first + said, time.monotonic() - began


def test_ctrl_c_while_a_server_does_not_answer(own_redis):
    with paused(own_redis):
        code, said, took = run(
            """
            import asyncio, operator, sys
            from alligator import Gator

            async def main():
                gator = Gator(sys.argv[1], "ctrl-c")
                calls = [gator.atask(operator.add, 1, 2), gator.aresult("some", None)]
                waits = [asyncio.ensure_future(each) for each in calls]
                await asyncio.sleep(0.3)
                print("waits", flush=True)
                await asyncio.gather(*waits)

            asyncio.run(main())
            """,
            own_redis.dsn,
            interrupt=True,
        )
    assert "KeyboardInterrupt" in said
    assert "never awaited" not in said
    assert code == -signal.SIGINT or code == 130
    assert took < 8, said  # the server alone would be waited for 10 s


def test_a_forked_child_has_threads_of_its_own(own_redis):
    code, said, _ = run(
        """
        import asyncio, operator, os, sys
        from alligator import Gator

        gator = Gator(sys.argv[1], "forked")

        async def push_and_wait(number):
            task = await gator.options(save_results=60).atask(operator.add, number, 1)
            waits = asyncio.ensure_future(gator.aresult(task, 20))
            await asyncio.sleep(0.05)
            await gator.arun_all()
            return await waits

        print(asyncio.run(push_and_wait(1)), flush=True)
        if child := os.fork():
            print(asyncio.run(push_and_wait(2)), flush=True)
            print(os.waitpid(child, 0)[1], flush=True)
        else:
            print(asyncio.run(push_and_wait(2)), flush=True)
        """,
        own_redis.dsn,
    )
    assert sorted("".join(said.split())) == ["0", "2", "3", "3"], said
    assert code == 0


def test_a_timeout_is_exact(gator):
    async def main():
        task = await gator.options(save_results=60).atask(operator.add, 1, 2)

        async def timed(seconds):
            began = time.monotonic()
            with pytest.raises(ResultTimeout, match="has not ended within"):
                await gator.aresult(task, seconds)
            return time.monotonic() - began - seconds

        async def slept(seconds):
            began = time.monotonic()
            await asyncio.sleep(seconds)
            return time.monotonic() - began - seconds

        times = [0.1 + number / 100 for number in range(60)]
        late, plain = await asyncio.gather(
            asyncio.gather(*map(timed, times)), asyncio.gather(*map(slept, times))
        )
        assert min(late) > -0.005
        # On a machine that is busy each is late, and so is a plain sleep beside it.
        assert sorted(late)[30] < 0.05 + 4 * sorted(plain)[30]

    asyncio.run(main())
