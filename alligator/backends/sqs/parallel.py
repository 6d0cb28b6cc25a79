"""A few requests to SQS at a time, since most of one is waiting for its reply."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from alligator.exceptions import AlligatorException

#: Requests under way at a time for one call.
MOST = 4

T = TypeVar("T")
R = TypeVar("R")


def run_all(
    request: Callable[[T], R], items: Sequence[T], *, in_order: bool = False
) -> list[R | AlligatorException]:
    """Make a request for each item; return what each returned or raised, in their order.

    Once one has failed, none is begun: those left have the same error for a result.

    :param in_order: one at a time, each after the one before it.
    """
    failed: list[AlligatorException] = []

    def run(item: T) -> R | AlligatorException:
        if failed:
            return failed[0]
        try:
            return request(item)
        except AlligatorException as err:
            failed.append(err)
            return err

    if in_order or len(items) < 2:
        return [run(each) for each in items]
    # Threads of this call alone: a request may come here again, and a fork finds none.
    threads = ThreadPoolExecutor(min(MOST, len(items)), "alligator-sqs")
    try:
        return list(threads.map(run, items))
    finally:
        threads.shutdown(wait=False, cancel_futures=True)  # who has to leave now does not wait
