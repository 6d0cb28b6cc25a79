"""Fill a redis server to its maxmemory: it takes no more tasks, loses none, and can be drained."""

import itertools
import json
import time
from collections.abc import Callable
from typing import Any

from alligator.exceptions import QueueFull
from chaos import jobs
from chaos.common import is_empty, wait_until
from chaos.environment import Environment
from chaos.fleet import Fleet
from chaos.ledger import ACKNOWLEDGED, ATTEMPTED, Ledger
from chaos.rows import Row, row_of

BACKENDS = ("redis",)
FULL = 15  # times
SMALL = 1

ROOM = 512 * 1024  # bytes of memory for tasks, some hundreds


def run(environment: Environment, size: int) -> Row:
    """Fill and drain it so many times; recovery is the time until a push works again."""
    began, loop = time.monotonic(), _Loop(environment)
    recovery = [loop.fill_and_empty() for _ in range(size)]
    row = row_of("redis full", environment.name, loop.ledger.account(), size, loop.buried())
    loop.gator.close()
    if run_after_all := loop.refused & set(loop.ledger.account().completed):
        row.wrong.append(f"refused and yet run: {sorted(run_after_all)[:5]}")
    row.wrong += loop.wrong
    row.recovery, row.seconds = sorted(recovery), time.monotonic() - began
    row.note = f"pushes refused {len(loop.refused)}"
    return row


class _Loop:
    def __init__(self, environment: Environment) -> None:
        self.environment, self.gator = environment, environment.gator()
        self.ledger = Ledger(environment.folder / "ledger")
        self.conn: Any = self.gator.client.conn
        self.refused: set[str] = set()
        self.wrong: list[str] = []
        self._numbers = itertools.count()

    def fill_and_empty(self) -> float:
        self._limit(self.conn.info("memory")["used_memory"] + ROOM)
        pushed = self._fill()
        if self.gator.len() != pushed:
            self.wrong.append(f"{pushed} pushed, {self.gator.len()} there")
        self._limit(1)  # so that it stays full while it is emptied
        flags = ("--lease", "5", "--concurrency", "2")
        queue = self.gator.queue_name
        with Fleet(
            self.environment.dsn, queue, self.environment.folder, self.ledger, *flags
        ) as fleet:
            if not wait_until(lambda: is_empty(self.gator), 30):
                self.wrong.append(f"not emptied: {self.gator.stats()}; {fleet.said()[-500:]}")
            if self._push("short"):
                self.wrong.append("a push went through while it was full")
            emptied_at = time.monotonic()
            self._limit(0)
            if not self._push("short"):
                self.wrong.append("a push was refused though there is room again")
            took = time.monotonic() - emptied_at
            if not wait_until(lambda: is_empty(self.gator), 10):
                self.wrong.append("what was pushed after it had been full did not run")
        return took

    def _limit(self, size: int) -> None:
        self.conn.config_set("maxmemory", size)

    def _fill(self) -> int:
        """Push until nothing fits, in batches and one by one; return how many were taken."""
        pushed = 0
        for kinds in (("short", "again", "short", "never") * 10, ("short",)):
            while self._push(*kinds):
                pushed += len(kinds)
        return pushed

    def _push(self, *kinds: str) -> bool:
        names = [f"{next(self._numbers)}-{kind}" for kind in kinds]
        self.ledger.note(ATTEMPTED, *names)
        try:
            with self.gator.batch(retries=1) as batch:
                for name in names:
                    batch.task(_job(name), self.ledger.path, name)
        except QueueFull:
            self.refused.update(names)
            return False
        except Exception as err:
            self.wrong.append(f"a push raised {err!r}")
            return False
        self.ledger.note(ACKNOWLEDGED, *names)
        return True

    def buried(self) -> set[str]:
        """Return the names of the dead letters, which must be the tasks that always fail."""
        names = {json.loads(each.data)["args"][1] for each in self.gator.dead(100_000)}
        self.wrong += [f"buried: {name}" for name in names if "never" not in name][:5]
        return names


def _job(name: str) -> Callable[..., None]:
    jobs_of = {"again": jobs.second_time, "never": jobs.never}
    return jobs_of.get(name.rpartition("-")[2], jobs.work)
