"""What a loop found, one row of the table."""

from dataclasses import dataclass, field
from statistics import median

from tests.chaos.ledger import Account


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

    @property
    def recovery_p50(self) -> float | None:
        """The middle recovery, in seconds."""
        return median(self.recovery) if self.recovery else None

    @property
    def recovery_max(self) -> float | None:
        """The longest recovery, in seconds."""
        return self.recovery[-1] if self.recovery else None


def row_of(
    loop: str, backend: str, account: Account, faults: int, buried: set[str] = frozenset()
) -> Row:
    """Make the row that an account adds up to; a loss or a surprise is wrong in every loop."""
    lost, unexpected = account.lost(buried), account.unexpected
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
    )
    if lost:
        row.wrong.append(f"lost {sorted(lost)[:5]}")
    if unexpected:
        row.wrong.append(f"ran what nobody pushed: {sorted(unexpected)[:5]}")
    return row
