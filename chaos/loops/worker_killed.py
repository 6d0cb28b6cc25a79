"""Kill busy workers with SIGKILL, one after the other, until all tasks are done.

After every thirteen completions one worker is killed. Interrupted tasks must run again, within a
lease. A task that runs twice had not been acked when its worker died.
"""

import json
import time

from alligator import Gator
from chaos import jobs
from chaos.environment import Environment
from chaos.fleet import Fleet
from chaos.ledger import ACKNOWLEDGED, ATTEMPTED, Account, Ledger
from chaos.rows import Row, row_of

BACKENDS = ("sqlite", "redis", "beanstalk", "sqs")
FULL = {"sqlite": 1000, "redis": 1000, "beanstalk": 1000, "sqs": 200}
SMALL = {"sqlite": 8, "redis": 8, "beanstalk": 8, "sqs": 3}

WORKERS = 3
TASKS_PER_KILL = {"sqs": 10}
SECONDS = 0.03  # of work in a task

#: How many tasks are queued at most; the emulator's receive takes a millisecond for each.
AHEAD = {"sqs": 100}

#: The worker sends an ack at most 5 ms after the end. Then the busy machine has to deliver it, and
#: beanstalkd, when told to, waits for the disk at each ack.
ACKED_WITHIN = 0.005 + 0.095

#: From so many kills up, half of the interrupted tasks must start again within a lease and so many
#: seconds. Not all: the next worker may be killed before it starts one, or be the only one left.
MANY, SLACK = 100, 0.5


def run(environment: Environment, size: int, *flags: str, patience: float = 60.0) -> Row:
    """Kill ``size`` workers over 13 times as many tasks (10 on sqs).

    :param patience: seconds to wait for what is missing in the end.
    """
    started = time.monotonic()
    count = size * TASKS_PER_KILL.get(environment.name, 13)
    gator, ledger = environment.gator(), Ledger(environment.folder / "ledger")
    names = [str(number) for number in range(count)]
    feed = Feed(gator, ledger, names, ahead=AHEAD.get(environment.name, count))
    feed.on(completed=0)
    lease = ("--lease", str(environment.lease), *flags)
    fleet = Fleet(
        environment.dsn,
        gator.queue_name,
        environment.folder,
        ledger,
        *lease,
        size=WORKERS,
        variables=environment.variables,
    )
    with fleet:
        kills = kill_while_busy(fleet, ledger, size, count, feed)
        buried = finish(gator, ledger, names, within=patience)
    account = ledger.account()
    row = row_of("worker killed", environment.name, account, kills)
    row.buried = len(buried)
    row.recovery = account.recoveries(but=buried)  # those waited for their owner
    row.seconds = time.monotonic() - started
    judge(row, account, kills)
    if size >= MANY and not (row.recovery and row.recovery_p50 <= environment.lease + SLACK):
        row.wrong.append(f"back after {row.recovery_p50} s, with a lease of {environment.lease:g}")
    if kills < size:
        row.wrong.append(f"only {kills} kills of {size}, {row.completed} tasks of {count} done")
    gator.client.drop_all(gator.queue_name)
    gator.close()
    return row


class Feed:
    """Push tasks, a fixed number ahead of the completed ones."""

    def __init__(self, gator: Gator, ledger: Ledger, names: list[str], ahead: int) -> None:
        self.gator, self.ledger, self.names, self.ahead = gator, ledger, names, ahead
        self.pushed = 0

    def on(self, completed: int) -> None:
        """Push the tasks that are missing, if they are enough for a portion."""
        portion = self.names[self.pushed : completed + self.ahead]
        if not portion or (self.pushed and len(portion) < self.ahead / 2 < self.left):
            return
        self.ledger.note(ATTEMPTED, *portion)
        self.push(portion)
        self.ledger.note(ACKNOWLEDGED, *portion)
        self.pushed += len(portion)

    def push(self, names: list[str]) -> None:
        """Push tasks of these names."""
        with self.gator.batch() as batch:
            for name in names:
                batch.task(jobs.work, self.ledger.path, name, SECONDS)

    @property
    def left(self) -> int:
        """Return how many tasks are not pushed yet."""
        return len(self.names) - self.pushed


def kill_while_busy(fleet: Fleet, ledger: Ledger, kills: int, tasks: int, feed: Feed) -> int:
    """Kill a worker at even distances of progress; return how many were killed."""
    done, deadline = 0, time.monotonic() + 60 + 4 * tasks * SECONDS
    while done < kills and time.monotonic() < deadline:
        completed = ledger.count_completed()
        if completed >= tasks:
            break
        feed.on(completed)
        if completed * (kills + 1) > done * tasks:
            fleet.kill()
            fleet.fill()
            done += 1
        else:
            time.sleep(0.005)
    return done


def finish(gator: Gator, ledger: Ledger, names: list[str], within: float) -> set[str]:
    """Wait until all is done; revive the tasks whose worker died three times; return their names.

    Alligator buries such a task by its rule, and its owner would revive it.
    """
    revived, deadline = set[str](), time.monotonic() + within
    while ledger.count_completed() < len(names) and time.monotonic() < deadline:
        revived |= {json.loads(letter.data)["args"][1] for letter in gator.dead()}
        gator.revive()
        time.sleep(0.05)
    while gator.stats()["running"] and time.monotonic() < deadline:
        time.sleep(0.02)
    return revived


def judge(row: Row, account: Account, kills: int, concurrency: int = 1) -> None:
    """Report tasks that ran twice without a good reason."""
    late = [gap for gap in account.gaps() if gap > ACKED_WITHIN]
    if late:
        row.wrong.append(
            f"{len(late)} ran again although they had ended {max(late):.3f} s before the kill"
        )
    soon = sum(1 for gap in account.gaps() if gap <= ACKED_WITHIN)
    row.note = f"{soon} had ended within {ACKED_WITHIN * 1000:.0f} ms of the kill"
    if row.duplicated > kills * concurrency + soon:
        row.wrong.append(f"{row.duplicated} ran again after {kills} kills")
