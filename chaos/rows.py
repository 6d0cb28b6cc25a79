"""What a loop found, one row of the table."""

from dataclasses import dataclass, field
from statistics import median

from chaos.ledger import Account


@dataclass
class Row:
    """``faults`` is how many there were; ``wrong`` says in words what must not have happened."""

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
    lost_by_server: int = 0  # never handed out again by a server that had taken them

    @property
    def recovery_p50(self) -> float | None:
        """The middle recovery, in seconds."""
        return median(self.recovery) if self.recovery else None

    @property
    def recovery_max(self) -> float | None:
        """The longest recovery, in seconds."""
        return self.recovery[-1] if self.recovery else None


#: Servers that are known to lose, by themselves, what they said to have: see the docs.
LOSE_BY_THEMSELVES = ("beanstalk",)


def row_of(
    loop: str,
    backend: str,
    account: Account,
    faults: int,
    buried: set[str] = frozenset(),
    handed: set[str] | None = None,
) -> Row:
    """Make the row that an account adds up to; a loss or a surprise is wrong in every loop.

    :param handed: what the server was seen to hand out. What is lost and not among it, the
        server has lost; that is told apart where the server is known to.
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
        row.wrong.append(f"ran what nobody pushed: {sorted(unexpected)[:5]}")
    return row
