"""Kill busy workers with SIGKILL while all tasks have a rate: no more start than there are tokens.

The ledger says when each task started. In no time do more tasks of a key start than its bucket
holds, plus those whose token came meanwhile. In the end no token may be lost: a full bucket lets
as many tasks start at once as it holds, and no more.
"""

import time
from collections.abc import Iterable

from alligator import Gator
from alligator.backends.base import Controls, Message, controlled
from chaos import jobs
from chaos.environment import Environment
from chaos.fleet import Fleet
from chaos.ledger import Account, Ledger
from chaos.loops.worker_killed import SECONDS, Feed, finish, judge, kill_while_busy
from chaos.rows import Row, row_of

BACKENDS = ("sqlite", "redis")
FULL = 1000
SMALL = 2

WORKERS, CONCURRENCY = 3, 3
TASKS_PER_KILL = 8
#: How many tasks of each key may start, and in how many seconds; and its share of the tasks.
RATES = {"one": (1, 0.1), "four": (4, 0.2), "fifteen": (15, 0.5)}
_KEYS = ("one", "four", "four", "fifteen", "fifteen", "fifteen")

#: Seconds within which a task that was leased has started, on a busy machine.
STARTED_WITHIN = 0.5


def run(environment: Environment, size: int, patience: float = 60.0) -> Row:
    """Kill ``size`` workers over eight times as many tasks.

    :param patience: seconds to wait for what is missing in the end.
    """
    started = time.monotonic()
    names = [str(number) for number in range(size * TASKS_PER_KILL)]
    gator, ledger = environment.gator(), Ledger(environment.folder / "ledger")
    feed = _Feed(gator, ledger, names, ahead=len(names))
    feed.on(completed=0)
    fleet = Fleet(
        environment.dsn,
        gator.queue_name,
        environment.folder,
        ledger,
        *("--lease", str(environment.lease), "--concurrency", str(CONCURRENCY), "--prefetch=1"),
        size=WORKERS,
        variables=environment.variables,
    )
    with fleet:
        kills = kill_while_busy(fleet, ledger, size, len(names), feed)
        buried = finish(gator, ledger, names, within=patience)
    account = ledger.account()
    row = row_of("rates", environment.name, account, kills)
    row.buried = len(buried)
    row.recovery = account.recoveries(but=buried)
    judge(row, account, kills, CONCURRENCY)
    used = []
    for key, starts in starts_by_key(account).items():
        above = above_rate(starts, *RATES[key], late=STARTED_WITHIN)
        if above:
            row.wrong.append(f"{len(above)} of {key!r} started above the rate: {above[:3]}")
        used.append(f"{key} {share_used(starts, *RATES[key]):.0%}")
    row.wrong += _wrong_buckets(gator)
    if kills < size:
        row.wrong.append(
            f"only {kills} kills of {size}, {row.completed} tasks of {len(names)} done"
        )
    row.note = f"{len(names)} tasks; tokens used: {', '.join(used)}"
    row.seconds = time.monotonic() - started
    gator.client.drop_all(gator.queue_name)
    gator.close()
    return row


class _Feed(Feed):
    def push(self, names: list[str]) -> None:
        for key, rate in RATES.items():
            with self.gator.batch(rate=rate, rate_key=key) as batch:
                for name in names:
                    if key_of(name) == key:
                        batch.task(jobs.work, self.ledger.path, name, SECONDS)


def key_of(name: str) -> str:
    """Return the rate key of a task."""
    return _KEYS[int(name) % len(_KEYS)]


def starts_by_key(account: Account) -> dict[str, list[float]]:
    """Return when tasks started, in order, by rate key."""
    found: dict[str, list[float]] = {}
    for start in sorted(account.starts, key=lambda entry: entry.at):
        found.setdefault(key_of(start.name), []).append(start.at)
    return found


def above_rate(starts: Iterable[float], rate: int, seconds: float, late: float) -> list[float]:
    """Return the starts for which there can have been no token.

    From any start to any later one, at most ``rate`` tasks may start, and one more for each
    ``seconds / rate`` between them.

    :param starts: when each task started, in order.
    :param late: seconds that a task may start after it took its token. Tasks that took theirs one
        after the other may then start closer to each other.
    """
    interval, full, found = seconds / rate, 0.0, []
    for at in starts:
        full = max(full, at) + interval  # when the bucket would be full again
        if full - at > seconds + late + 1e-6:
            found.append(at)
            full -= interval  # count it once: those after it may have had a token
    return found


def share_used(starts: list[float], rate: int, seconds: float) -> float:
    """Return the share of the tokens that were used, of those there were until the last start."""
    tokens = rate + (starts[-1] - starts[0]) * rate / seconds
    return len(starts) / tokens


def _wrong_buckets(gator: Gator) -> list[str]:
    """Return what is wrong with the buckets once nothing runs any more, and all are full.

    Tokens that come during the look are allowed for.
    """
    client, found = gator.client, list[str]()
    time.sleep(max(seconds for _, seconds in RATES.values()) + 1)  # the last start was not long ago
    for key, (rate, seconds) in RATES.items():
        controls = Controls(rate_key=key, rate=rate, rate_seconds=seconds)
        probes = [controlled(Message(f"{key} {each}", "{}"), controls) for each in range(rate + 1)]
        client.push_many(gator.queue_name, probes)
        began = time.monotonic()
        leased = client.reserve([gator.queue_name], rate + 1, 600.0).deliveries
        came = int((time.monotonic() - began) * rate / seconds)
        if not rate <= len(leased) <= rate + came:
            found.append(f"of {key!r}, {len(leased)} could start at once; its bucket holds {rate}")
        client.ack(leased)
        for each in range(rate + 1):
            client.get(gator.queue_name, f"{key} {each}")
    return found
