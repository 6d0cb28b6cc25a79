"""Find tasks that ran twice at the same time, and whether a fault explains it."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from chaos.ledger import Account

_AHEAD = 0.5  # seconds that a task may be on lease before it starts


@dataclass(frozen=True)
class Run:
    """Hold one run of one task, in Unix seconds."""

    name: str
    pid: int
    began: float
    ended: float


def runs(account: Account) -> dict[str, list[Run]]:
    """Return the runs that ended, by task, in the order of their start."""
    ends: dict[tuple[str, int], list[float]] = {}
    for entry in [*account.ends, *account.failures]:
        ends.setdefault((entry.name, entry.pid), []).append(entry.at)
    found: dict[str, list[Run]] = {}
    for start in account.starts:
        later = [at for at in ends.get((start.name, start.pid), []) if at >= start.at]
        if later:
            run = Run(start.name, start.pid, start.at, min(later))
            found.setdefault(start.name, []).append(run)
    for each in found.values():
        each.sort(key=lambda run: run.began)
    return found


def unexplained(
    account: Account, faults: Iterable[tuple[float, float]], lease: float, *, at_once: bool
) -> tuple[int, list[str]]:
    """Return how many runs overlapped, and a text for each overlap that no fault explains.

    :param faults: start and end of each fault, in Unix seconds.
    :param at_once: whether a lost connection alone gives a lease back, as on beanstalkd.
        Elsewhere a worker extends its leases three times before they run out, so that only
        a fault of some length explains anything.
    """
    spans = [span for span in faults if at_once or span[1] - span[0] >= lease / 3]
    count, wrong = 0, []
    for name, each in runs(account).items():
        for first, second in pairwise(each):
            if second.began >= first.ended:
                continue
            count += 1
            since = first.began - _AHEAD if at_once else second.began - lease
            if not any(begins <= second.began and ends >= since for begins, ends in spans):
                wrong.append(
                    f"{name} ran in {first.pid} from {first.began:.3f} to {first.ended:.3f}"
                    f" and in {second.pid} from {second.began:.3f}"
                )
    return count, wrong
