"""Count the requests of tasks on SQS, which bills them, and on beanstalkd (round trips)."""

import collections
import importlib.util
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alligator import Gator, Worker
from benchmarks.errors import NotMeasured
from benchmarks.tasks import tick

#: How tasks are pushed and reserved: tasks per call of each.
WAYS = (1, 10)

Counts = dict[str, int]
Found = dict[str, dict[str, Any]]


def measure(tasks: int) -> dict[str, Found]:
    """Return requests by backend, way and operation; none if the server is missing."""
    found: dict[str, Found] = {}
    for name, ask in (("sqs", _sqs), ("beanstalk", _beanstalk)):
        folder = Path(tempfile.mkdtemp(prefix="alligator-scale-"))
        try:
            found[name] = {str(way): ask(folder, way, tasks) for way in WAYS}
        except NotMeasured:
            continue
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return found


def _sqs(folder: Path, way: int, tasks: int) -> dict[str, Any]:
    if importlib.util.find_spec("moto.server") is None:
        raise NotMeasured("no emulator")
    from tests.support.servers.sqs import CREDENTIALS, MotoServer, make_queue

    os.environ.update(CREDENTIALS)
    server = MotoServer(folder).start()
    try:
        gator = Gator(server.dsn, "all")
        conn, counts = gator.client.conn, collections.Counter[str]()
        for name in ("all", "all-dead"):
            make_queue(conn, name)
        conn.meta.events.register(
            "before-send.sqs.*",
            lambda request, **_: counts.update([_operation(request)]),
        )
        gator.len()
        return _counted(gator, way, tasks, lambda: dict(counts))
    finally:
        server.stop()


def _operation(request: Any) -> str:
    target = request.headers.get("X-Amz-Target", b"?.?")
    return (target.decode() if isinstance(target, bytes) else target).rpartition(".")[2]


def _beanstalk(folder: Path, way: int, tasks: int) -> dict[str, Any]:
    if shutil.which("beanstalkd") is None:
        raise NotMeasured("no beanstalkd")
    import greenstalk

    from tests.support.servers.beanstalk import Beanstalkd

    server = Beanstalkd(folder).start()
    try:
        with greenstalk.Client(("127.0.0.1", server.port)) as asking:

            def counts() -> Counts:
                stats = asking.stats()
                names = [name for name in stats if name.startswith("cmd-") and name != "cmd-stats"]
                return {name.removeprefix("cmd-"): int(stats[name]) for name in names}

            return _counted(Gator(server.dsn, "all"), way, tasks, counts)
    finally:
        server.stop()


def _counted(gator: Gator, way: int, tasks: int, counts: Callable[[], Counts]) -> dict[str, Any]:
    """Push and run tasks in this process; return the requests of both, without those at start."""
    gator.task(tick, 0, "warm")
    _work(gator, way)
    first = counts()
    for start in range(0, tasks, way):
        if way == 1:
            gator.task(tick, start, "abc")
            continue
        with gator.batch() as batch:
            for number in range(start, min(start + way, tasks)):
                batch.task(tick, number, "abc")
    pushed = counts()
    _work(gator, way, tasks)
    worked = counts()
    gator.close()
    return {
        "tasks": tasks,
        "push": _between(first, pushed),
        "work": _between(pushed, worked),
    }


def _work(gator: Gator, way: int, count: int = 1) -> None:
    Worker(gator, max_tasks=count, prefetch=way, log_level=logging.ERROR).run_forever()


def _between(first: Counts, last: Counts) -> Counts:
    return {
        name: last[name] - first.get(name, 0) for name in last if last[name] > first.get(name, 0)
    }
