"""Measure a page of 100 in a long queue: ``python -m benchmarks.list_tasks DSN [count]``.

It pushes so many tasks, waiting and delayed, reads pages at the beginning, in the middle and at the
end, and prints the median and the longest time of each. The queues are dropped at the end.
"""

import sys
import time
import uuid
from statistics import median

from alligator import Gator
from alligator.backends.base import Client, Message
from alligator.common.ids import new_task_id
from alligator.constants import DELAYED, WAITING

_DATA = (
    '{{"task_id":"{}","retries":0,"is_async":true,"module":"myapp.photos","callable":"resize",'
    '"args":["photo-{}.jpg",640],"kwargs":{{}},"options":{{}}}}'
)
_PAGES = 200  # of each kind


def fill(client: Client, queue_name: str, count: int, due: float | None) -> list[str]:
    """Push so many tasks; return the ids."""
    ids = [new_task_id() for _ in range(count)]
    for first in range(0, count, 10_000):
        some = ids[first : first + 10_000]
        client.push_many(
            queue_name, [Message(each, _DATA.format(each, first), due) for each in some]
        )
    return ids


def measure(client: Client, queue_name: str, state: int, count: int) -> list[float]:
    """Return the milliseconds of pages at the beginning, in the middle and at the end."""
    times, cursor, page = list[float](), None, 0
    wanted = {*range(_PAGES), *range(count // 200, count // 200 + _PAGES)}
    wanted.update(range(count // 100 - _PAGES, count // 100))
    while True:
        began = time.perf_counter()
        found, cursor = client.list_tasks(queue_name, state, 100, cursor)
        if page in wanted:
            times.append((time.perf_counter() - began) * 1000)
        assert len(found) == 100
        page += 1
        if cursor is None:
            return times


def main(dsn: str, count: int) -> None:
    """Measure, and print."""
    client = Gator(dsn).client
    for name, state, due in (("waiting", WAITING, None), ("delayed", DELAYED, time.time() + 9e4)):
        queue_name = f"list-{uuid.uuid4().hex[:8]}"
        try:
            fill(client, queue_name, count, due)
            times = measure(client, queue_name, state, count)
        finally:
            client.drop_all(queue_name)
        longest = max(times)
        print(f"{name}: {count:,} tasks, median {median(times):.2f} ms, longest {longest:.1f} ms")


if __name__ == "__main__":
    main(sys.argv[1], int((sys.argv[2:] or ["1000000"])[0]))
