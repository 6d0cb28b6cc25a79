"""Hold the results of a loop, one row of the table."""

from dataclasses import dataclass, field
from statistics import median

from chaos.ledger import Account


@dataclass
class Row:
    """Hold one row: ``faults`` is their number; ``wrong`` lists what must not have happened."""

    loop: str
    backend: str
    faults: int
    acknowledged: int
    completed: int
    lost: int
    duplicated: int
    unexpected: int
    buried: int = 0  # dead letters; kept, so not lost
    recovery: list[float] = field(default_factory=list)  # seconds, sorted
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    note: str = ""
    lost_by_server: int = 0  # acknowledged by a server that never delivered them

    @property
    def recovery_p50(self) -> float | None:
        """The middle recovery, in seconds."""
        return median(self.recovery) if self.recovery else None

    @property
    def recovery_max(self) -> float | None:
        """The longest recovery, in seconds."""
        return self.recovery[-1] if self.recovery else None


#: Servers that are known to lose tasks that they acknowledged: see the docs.
LOSE_BY_THEMSELVES = ("beanstalk",)


def row_of(
    loop: str,
    backend: str,
    account: Account,
    faults: int,
    buried: set[str] = frozenset(),
    handed: set[str] | None = None,
) -> Row:
    """Return the row of an account; a lost or unexpected task is wrong in every loop.

    :param handed: tasks that the server was seen to deliver. It lost any other lost task itself,
        which counts separately for a server that is known to lose tasks.
    """
    lost, unexpected = account.lost(buried), account.unexpected
    by_server = set[str]()
    if handed is not None and backend in LOSE_BY_THEMSELVES:
        by_server, lost = lost - handed, lost & handed
    row = Row(
        loop,
        backend,
        faults,
        len(account.acknowledged),
        len(account.completed),
        len(lost),
        account.duplicated,
        len(unexpected),
        len(buried),
        account.recoveries(),
        lost_by_server=len(by_server),
    )
    if lost:
        row.wrong.append(f"lost {sorted(lost)[:5]}")
    if unexpected:
        row.wrong.append(f"ran, but no producer pushed them: {sorted(unexpected)[:5]}")
    return row
