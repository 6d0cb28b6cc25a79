"""Run producers and workers under load while a loop breaks their server."""

import json
import random
import re
import threading
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

from alligator import Gator
from alligator.exceptions import ConnectionLost
from chaos import jobs
from chaos.environment import Environment
from chaos.fleet import Fleet
from chaos.ledger import ACKNOWLEDGED, ATTEMPTED, COMPLETED, Ledger
from chaos.overlaps import unexplained
from chaos.rows import Row, row_of

#: Seconds within which a push must fail while the server is away.
FAST = 2.0

#: The log lines of a worker when its server is lost, and when it is back.
_CHANGE = re.compile(r" (?:WARNING|INFO) The queue can(not)? be reached")


class Load:
    """Run two producing threads and two workers on one queue; use it as a context manager.

    One worker runs its tasks one by one, the other in four threads. Some tasks are longer than a
    lease, some fail once and some always.

    :param dsn: the DSN of workers and producers; default: that of the environment.
    :param workers_dsn: the DSN of the workers; default: that of the producers.
    :param lease: seconds.
    """

    def __init__(
        self, environment: Environment, *, lease: float, dsn: str = "", workers_dsn: str = ""
    ) -> None:
        self.environment, self.lease = environment, lease
        self.watcher = environment.gator()
        self.gator = Gator(dsn or environment.dsn, self.watcher.queue_name)
        self.workers_dsn = workers_dsn or self.gator.conn_string
        self.folder = environment.folder / self.gator.queue_name
        self.folder.mkdir()
        self.ledger = Ledger(self.folder / "ledger")
        Path(self.ledger.path).touch()
        self.fleets = [self._fleet("1"), self._fleet("4")]
        self.pushed = self.refused = 0
        self.slowest = 0.0  # seconds that a refused push took
        self.wrong: list[str] = []
        self._pushing = True
        self._threads = [threading.Thread(target=self._produce, args=[name]) for name in "ab"]

    def _fleet(self, concurrency: str) -> Fleet:
        folder = self.folder / f"worker-{concurrency}"
        folder.mkdir()
        flags = ["--concurrency", concurrency, "--lease", str(self.lease), "--log-level", "INFO"]
        flags += ["--app", "chaos.traced_client:gator"]
        dsn, queue = self.workers_dsn, self.gator.queue_name
        traced = {"CHAOS_DSN": dsn, "CHAOS_LEDGER": self.ledger.path}
        return Fleet(dsn, queue, folder, self.ledger, *flags, size=1, variables=traced)

    def __enter__(self) -> Self:
        for each in self.fleets:
            each.__enter__()
        self._workers = [each.workers[0] for each in self.fleets]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop_pushing()
        for each in self.fleets:
            each.__exit__(kind, error, trace)
        self.gator.close()
        self.watcher.close()

    # -- Producing. -------------------------------------------------------------------------

    def _produce(self, who: str) -> None:
        number = 0
        while self._pushing:
            number += 1
            kind = _kind(random.random())
            name = f"{who}{number}-{kind}"
            self.ledger.note(ATTEMPTED, name)
            started = time.monotonic()
            try:
                self._push(kind, name)
                self.ledger.note(ACKNOWLEDGED, name)
                self.pushed += 1
            except ConnectionLost:
                self.refused += 1
                self.slowest = max(self.slowest, time.monotonic() - started)
            except Exception as err:
                self.wrong.append(f"a push raised {err!r}")
            time.sleep(0.01)

    def _push(self, kind: str, name: str) -> None:
        if kind == "again":
            with self.gator.options(retries=1) as options:
                options.task(jobs.second_time, self.ledger.path, name)
        elif kind == "never":
            self.gator.task(jobs.never, self.ledger.path, name)
        else:
            seconds = {"short": 0.002, "slow": 0.3, "long": 1.2 * self.lease}[kind]
            self.gator.task(jobs.work, self.ledger.path, name, seconds)

    def stop_pushing(self) -> None:
        """Let the producers end."""
        self._pushing = False
        for thread in self._threads:
            if thread.ident:
                thread.join()

    # -- Watching. --------------------------------------------------------------------------

    def size(self) -> int:
        """Return the length of the ledger, for :meth:`progress`."""
        return Path(self.ledger.path).stat().st_size

    def progress(self, since: int, *, by_all: bool = False, within: float = 30.0) -> float:
        """Wait until a worker (or each) completes another task; return how long it took."""
        started = time.monotonic()
        pids = {worker.pid for worker in self._workers}
        while True:
            with Path(self.ledger.path).open("rb") as file:
                file.seek(since)
                lines = [line.split() for line in file.read().decode().splitlines()[:-1]]
            done = {int(each[2]) for each in lines if len(each) == 4 and each[0] == COMPLETED}
            took = time.monotonic() - started
            if done >= pids or (done and not by_all):
                return took
            if took > within or not all(worker.is_alive() for worker in self._workers):
                raise AssertionError(f"no progress in {took:.1f} s; {self.said()}")
            time.sleep(0.02)

    def drain(self, within: float = 60.0) -> None:
        """Stop the producers, and wait until no task is left and all workers are connected."""
        self.stop_pushing()
        deadline = time.monotonic() + within
        while True:
            stats = self.watcher.stats()
            left = stats["waiting"] + stats["running"] + stats["delayed"]
            # If one worker did all that was left, the other may not have reconnected yet.
            if not left and not any(each.endswith("-") for each in self.changes()):
                return
            if time.monotonic() > deadline:
                self.wrong.append(f"not drained within {within} s: {stats}, {self.changes()}")
                return
            time.sleep(0.05)

    def said(self) -> str:
        """Return the last lines that the workers logged."""
        return "\n".join(each.said() for each in self.fleets)

    def changes(self) -> list[str]:
        """Return what each worker logged about its server: 'lost' and 'back', as '-' and '+'."""
        return [changes_in(Path(each.log).read_text(errors="replace")) for each in self.fleets]

    # -- Adding up. -------------------------------------------------------------------------

    def row(self, loop: str, faults: list[tuple[float, float]]) -> Row:
        """Return the results; call it after :meth:`drain`, while the workers still run."""
        account = self.ledger.account()
        buried, condemned = self._dead()
        row = row_of(
            loop, self.environment.name, account, len(faults), buried, handed=account.handed
        )
        at_once = self.environment.name == "beanstalk"
        overlaps, wrong = unexplained(account, faults, self.lease, at_once=at_once)
        row.wrong += self.wrong + wrong[:5]
        row.wrong += [f"buried though no worker died: {each}" for each in condemned[:5]]
        if self.slowest > FAST:
            row.wrong.append(f"a push took {self.slowest:.1f} s to fail")
        for fleet, worker in zip(self.fleets, self._workers, strict=True):
            if not worker.is_alive():
                row.wrong.append(f"a worker ended with {worker.exitcode}: {fleet.said()[-800:]}")
        for changes in self.changes():
            if "--" in changes or "++" in changes or changes.endswith("-"):
                row.wrong.append(f"logged losses and returns out of order: {changes}")
        tries = Counter(start.name for start in account.starts)
        again = sum(max(0, tries[name] - 1 - name.endswith("-again")) for name in tries)
        row.note = (
            f"pushes refused {self.refused}, slowest {self.slowest:.2f} s; overlaps {overlaps}; "
            f"run again {again}; states {[len(each) for each in self.changes()]}"
        )
        return row

    def _dead(self) -> tuple[set[str], list[str]]:
        """Return the names of the dead letters, and the errors of the wrong ones."""
        names, condemned = set(), []
        for letter in self.watcher.dead(100_000):
            names.add(json.loads(letter.data)["args"][1])
            if "never" not in letter.error:
                condemned.append(letter.error)
        return names, condemned


def _kind(dice: float) -> str:
    for kind, share in (("long", 0.003), ("never", 0.01), ("slow", 0.02), ("again", 0.05)):
        if dice < share:
            return kind
        dice -= share
    return "short"


def changes_in(log: str) -> str:
    """Return each 'lost' and 'back' in the log of one worker, as '-' and '+'.

    Other lines may contain the words, too, such as a line about one task that could not be settled
    because the server could not be reached.
    """
    return "".join("-" if found == "not" else "+" for found in _CHANGE.findall(log))
