"""Test the targets of awaitable calls by what a busy machine does not change.

``python -m benchmarks.asyncio_calls`` measures all of them.
"""

import asyncio
import gc
from urllib.parse import urlsplit

import pytest

from alligator import Gator
from benchmarks import asyncio_calls as bench
from tests.support.servers.round_trips import RoundTrips


@pytest.fixture
def gator(redis_dsn):
    found = Gator(redis_dsn, "asyncio-calls")
    found.client.drop_all("asyncio-calls")
    bench.plain_rate(found, 5)
    yield found
    found.client.drop_all("asyncio-calls")
    found.close()


def test_coroutines_share_round_trips(gator, redis_dsn, monkeypatch):
    """So they push more than plain calls, each of which takes one."""
    port = urlsplit(redis_dsn).port
    trips = RoundTrips(monkeypatch, port)
    asyncio.run(bench.awaited_rate(gator, 1000))
    assert gator.len() == 1005
    assert trips.count <= 200


def test_five_times_the_rate_of_plain_calls_over_a_slow_network(redis_dsn):
    port = urlsplit(redis_dsn).port
    with bench.late_by(port, 0.002) as late:
        gator = Gator(f"redis://127.0.0.1:{late}/0", "asyncio-calls")
        bench.plain_rate(gator, 5)
        plain, awaited = 1.0, 0.0
        for _ in range(3):  # others may take the machine for one of the two
            if awaited <= 5 * plain:
                plain = bench.plain_rate(gator, 100)
                awaited = asyncio.run(bench.awaited_rate(gator, 1000))
        gator.client.drop_all("asyncio-calls")
        gator.close()
    assert plain < 500, "the proxy adds 2 ms"
    assert awaited > 5 * plain


def test_no_call_keeps_the_loop_busy(gator):
    async def main():
        task = await gator.options(save_results=60).atask(bench.note, 1)
        await bench.each_call(gator, task, 1)  # what is imported at the first call
        found = []
        while not found or (min(found) >= 0.005 and len(found) < 3):
            async with bench.held_up() as held:
                await bench.each_call(gator, task, 2)
                await bench.awaited_rate(gator, 500)
            found.append(held.longest_work)
        assert min(found) < 0.005, "a call that takes so long would do so each time"

    gc.collect()
    gc.disable()  # a large heap takes longer than that
    try:
        asyncio.run(main())
    finally:
        gc.enable()
