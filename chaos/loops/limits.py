"""Kill busy workers with SIGKILL while all tasks have a limit: never above it, and no place lost.

A task that starts locks one of as many files as its limit lets run. The system frees such a lock
when the process dies, so it tells at each moment how many run. In the end every place must be free:
as many tasks as the limit says can be leased, and no more.
"""

import time
from collections import defaultdict
from collections.abc import Iterable

from alligator import Gator
from alligator.backends.base import Controls, Message, controlled
from chaos import jobs
from chaos.environment import Environment
from chaos.fleet import Fleet
from chaos.ledger import Account, Entry, Ledger
from chaos.loops.worker_killed import SECONDS, Feed, finish, judge, kill_while_busy
from chaos.rows import Row, row_of

BACKENDS = ("sqlite", "redis")
FULL = 1000
SMALL = 3

WORKERS, CONCURRENCY = 3, 3
TASKS_PER_KILL = 13
LIMITS = {"one": 1, "two": 2, "three": 3}


def run(environment: Environment, size: int, patience: float = 60.0) -> Row:
    """Kill ``size`` workers over 13 times as many tasks.

    :param patience: seconds to wait for what is missing in the end.
    """
    started = time.monotonic()
    names = [str(number) for number in range(size * TASKS_PER_KILL)]
    gator, ledger = environment.gator(), Ledger(environment.folder / "ledger")
    slots = environment.folder / "slots"
    slots.mkdir()
    feed = _Feed(gator, ledger, names, ahead=len(names))
    feed.slots = str(slots)
    feed.on(completed=0)
    fleet = Fleet(
        environment.dsn,
        gator.queue_name,
        environment.folder,
        ledger,
        *("--lease", str(environment.lease), "--concurrency", str(CONCURRENCY)),
        size=WORKERS,
        variables=environment.variables,
    )
    with fleet:
        kills = kill_while_busy(fleet, ledger, size, len(names), feed)
        buried = finish(gator, ledger, names, within=patience)
    account = ledger.account()
    row = row_of("limits", environment.name, account, kills)
    row.buried = len(buried)
    row.recovery = account.recoveries(but=buried)
    row.seconds = time.monotonic() - started
    judge(row, account, kills, CONCURRENCY)
    noted = (slots / "above").read_text().splitlines() if (slots / "above").exists() else []
    above = above_limit(noted, account)
    if above:
        row.wrong.append(f"{len(above)} tasks started above their limit: {', '.join(above[:5])}")
    row.wrong += _lost_places(gator)
    if kills < size:
        row.wrong.append(
            f"only {kills} kills of {size}, {row.completed} tasks of {len(names)} done"
        )
    row.note = f"{len(names)} tasks, {sum(LIMITS.values())} places of {len(LIMITS)} keys"
    if len(noted) > len(above):
        row.note += f"; {len(noted) - len(above)} starts while a lease had run out"
    gator.client.drop_all(gator.queue_name)
    gator.close()
    return row


class _Feed(Feed):
    slots = ""

    def push(self, names: list[str]) -> None:
        for key, limit in LIMITS.items():
            with self.gator.batch(limit=limit, limit_key=key) as batch:
                for name in names:
                    if _key_of(name) == key:
                        arguments = (name, SECONDS, self.slots, key, limit)
                        batch.task(jobs.limited, self.ledger.path, *arguments)


def above_limit(noted: Iterable[str], account: Account) -> list[str]:
    """Return the tasks above their limit that no lease explains which had run out.

    A worker that the machine does not let run loses its leases, and with them the places of its
    tasks, which go on. Such a task was back on its queue. So it starts once more: before the start
    above the limit, if it is not that very start, or later, though the first run came to its end.

    :param noted: name and Unix time of each start above a limit.
    """
    starts, ends = _times(account.starts), _times(account.ends)
    killed = {each.pid: each.at for each in account.kills}
    found = []
    for name, when in (line.split() for line in noted):
        at, key = float(when), _key_of(name)
        for start in account.starts:
            if start.at > at or _key_of(start.name) != key:
                continue
            end = min((each for each in ends[start.name, start.pid] if each >= start.at), default=0)
            if (end or killed.get(start.pid, at)) < at:
                continue  # it did not run any more
            again = min((each for each in starts[start.name, 0] if each > start.at), default=0)
            if again and (again <= at or end):
                break
        else:
            found.append(name)
    return found


def _times(entries: Iterable[Entry]) -> dict[tuple[str, int], list[float]]:
    """Return when each task had such an entry, by its process and (0) in all of them."""
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for each in entries:
        found[each.name, each.pid].append(each.at)
        found[each.name, 0].append(each.at)
    return found


def _key_of(name: str) -> str:
    return list(LIMITS)[int(name) % len(LIMITS)]


def _lost_places(gator: Gator) -> list[str]:
    """Return what is wrong with the places once nothing runs any more."""
    client, found = gator.client, list[str]()
    deadline = time.monotonic() + 30
    while client.stats(gator.queue_name).running and time.monotonic() < deadline:
        client.ack(client.reserve([gator.queue_name], 10, 30.0, 0.1).deliveries)
    for key, limit in LIMITS.items():
        controls = Controls(limit_key=key, limit=limit)
        probes = [controlled(Message(f"{key} {each}", "{}"), controls) for each in range(limit + 1)]
        client.push_many(gator.queue_name, probes)
        leased = client.reserve([gator.queue_name], limit + 1, 600.0).deliveries
        if len(leased) != limit:
            found.append(f"of {key!r}, {len(leased)} could be leased; its limit is {limit}")
        client.ack(leased)
        client.get(gator.queue_name, f"{key} {limit}")
    return found
