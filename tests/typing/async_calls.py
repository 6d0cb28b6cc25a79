# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""Make the awaitable calls, which have the types of the plain ones."""

from datetime import timedelta
from typing import Any, assert_type

from alligator import Gator, Task


def add(one: int, two: int) -> int:
    """Return a sum."""
    return one + two


async def fetch(url: str) -> bytes:
    """Return what it waited for."""
    return url.encode()


gator = Gator("locmem://")
opts = gator.options(save_results=60)


async def right() -> None:
    """Call as it is meant."""
    total, page = await gator.atask(add, 1, 2), await opts.atask(fetch, "a")
    assert_type(total, Task[int])
    assert_type(page, Task[bytes])
    assert_type(await gator.atask("myapp.f", 1, two=2), Task[Any])
    assert_type(await opts.atask(add, 1, two=2), Task[int])
    assert_type(await opts.atask("myapp.f"), Task[Any])
    async with gator.abatch(retries=3, on_success=(add, 1, 2)) as batch:
        assert_type(batch.task(add, 1, 2), Task[int])
        batch.options(timeout=5).task(fetch, "a")

    assert_type(await gator.aresult(total, 5), int)
    assert_type(await gator.aresult(page, timeout=timedelta(seconds=5)), bytes)
    assert_type(await gator.aresult("id"), Any)
    assert_type(await gator.astatus(total), int | None)
    assert_type(await gator.aprogress(total), tuple[float, str] | None)
    assert_type(await gator.acancel(total, running=True), Task[Any] | None)
    assert_type(await gator.await_([total, "id"], 5), bool)
    assert_type(await total.await_(5), bool)
    assert_type(await total.acancel(), bool)
    assert_type(await gator.arun_all(), int)
    async for event in gator.aevents(page):
        assert_type(event.text, str)


async def wrong() -> None:
    """Call as it is not."""
    await gator.atask(add, 1)  # type: ignore[call-overload]
    await gator.atask(add, 1, "2")  # type: ignore[call-overload]
    await gator.atask(fetch("a"))  # type: ignore[call-overload]
    await gator.atask(None)  # type: ignore[call-overload]
    await opts.atask(add, 1, 2, 3)  # type: ignore[call-overload]
    await opts.atask(fetch, 5)  # type: ignore[call-overload]
    await gator.aresult(5)  # type: ignore[call-overload]
    await gator.await_(5)  # type: ignore[arg-type]
    gator.abatch(retrys=3)  # type: ignore[call-arg]
    async with gator.abatch() as batch:
        batch.task(add, 1)  # type: ignore[call-overload]
    total = await gator.atask(add, 1, 2)
    text: str = await gator.aresult(total)  # type: ignore[arg-type]
    print(text)
    gator.atask(add, 1, 2)  # type: ignore[unused-coroutine]
    print(gator.atask(add, 1, 2).result)  # type: ignore[attr-defined]
