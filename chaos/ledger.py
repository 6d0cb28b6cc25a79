"""Who was promised what, and what was done: a file that survives every kill.

The accounting is that of Jepsen's total-queue checker: *attempted* is what a producer
tried to push, *acknowledged* what it was told is on the queue, *completed* what ran to its
end. Acknowledged and never completed is *lost*; completed more than once is *duplicated*;
completed and never attempted is *unexpected*.
"""

import os
import re
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

ATTEMPTED, ACKNOWLEDGED, STARTED, COMPLETED, KILLED, FAILED, HANDED = "TASCKFH"

_LINE = re.compile(r"^([TASCKFH]) (\S+) (\d+) (\d+\.\d{6})$", re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """One line: what happened to which task, in which process, when (Unix seconds)."""

    what: str
    name: str
    pid: int
    at: float


@dataclass
class Account:
    """What a ledger says when all is done."""

    attempted: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    completed: Counter = field(default_factory=Counter)
    starts: list[Entry] = field(default_factory=list)
    ends: list[Entry] = field(default_factory=list)
    failures: list[Entry] = field(default_factory=list)  # runs that raised, as they were to
    kills: list[Entry] = field(default_factory=list)
    handed: set[str] = field(default_factory=set)  # out by the server, where that is traced

    def lost(self, buried: set[str] = frozenset()) -> set[str]:
        """Acknowledged, and neither completed nor (where that is right) a dead letter."""
        return self.acknowledged - set(self.completed) - set(buried)

    @property
    def duplicated(self) -> int:
        """How many completions there were beyond the first of each task."""
        return sum(self.completed.values()) - len(self.completed)

    @property
    def unexpected(self) -> set[str]:
        """Completed although nobody tried to push it."""
        return set(self.completed) - self.attempted

    def gaps(self) -> list[float]:
        """Of what ended, was killed and ended once more: seconds from that end to the kill."""
        killed = {kill.pid: kill.at for kill in self.kills}
        last = {end.name: end for end in self.ends}  # in order of time
        return sorted(
            killed[end.pid] - end.at
            for end in self.ends
            if end.pid in killed and last[end.name] is not end
        )

    def recoveries(self, but: Collection[str] = ()) -> list[float]:
        """Seconds from each kill to the next start of a task that the kill had interrupted.

        :param but: the names of tasks to leave out.
        """
        ended = {(entry.name, entry.pid) for entry in self.ends}
        starts: dict[str, list[Entry]] = {}
        for entry in self.starts:
            starts.setdefault(entry.name, []).append(entry)
        found = []
        for kill in self.kills:
            for start in (each for each in self.starts if each.pid == kill.pid):
                if (start.name, start.pid) in ended or start.name in but:
                    continue
                again = [each.at for each in starts[start.name] if each.at > kill.at]
                if again:
                    found.append(min(again) - kill.at)
        return sorted(found)


class Ledger:
    """An append-only file; a line is written in one call, so lines never mix.

    A kill in the middle of a call leaves a torn line. It counts as never written, and ends
    where the next call begins.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)
        self._read_to = 0
        self._completed: set[str] = set()

    def note(self, what: str, *names: str, pid: int | None = None) -> None:
        """Write one line per name, all in one call.

        :raises ValueError: a name that could not be read back.
        """
        stamp, pid = time.time(), pid or os.getpid()
        lines = "".join(f"{what} {name} {pid} {stamp:.6f}\n" for name in names)
        if len(_LINE.findall(lines)) != len(names):
            raise ValueError(f"not to be noted: {what!r} of {names!r}")
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, b"\n" + lines.encode())
        finally:
            os.close(descriptor)

    def entries(self) -> list[Entry]:
        """Return all lines that are whole."""
        try:
            text = Path(self.path).read_text()
        except FileNotFoundError:
            return []
        found = _LINE.findall(text)
        return [Entry(what, name, int(pid), float(at)) for what, name, pid, at in found]

    def count_completed(self) -> int:
        """Return how many tasks have completed so far, each counted once; cheap to ask again."""
        try:
            with Path(self.path).open() as lines:
                lines.seek(self._read_to)
                for line in iter(lines.readline, ""):
                    if not line.endswith("\n"):
                        break
                    self._read_to += len(line)
                    if line[0] == COMPLETED and (whole := _LINE.match(line)):
                        self._completed.add(whole[2])
        except FileNotFoundError:
            pass
        return len(self._completed)

    def wait_for(self, prefix: str, what: str = ACKNOWLEDGED, within: float = 20.0) -> bool:
        """Wait for the first such line about a task whose name begins so."""
        start, deadline = f"{what} {prefix}", time.monotonic() + within
        while time.monotonic() < deadline:
            text = Path(self.path).read_bytes() if Path(self.path).exists() else b""
            if f"\n{start}".encode() in b"\n" + text[-200_000:]:
                return True
            time.sleep(0.002)
        return False

    def account(self) -> Account:
        """Add everything up."""
        account = Account()
        for entry in self.entries():
            if entry.what == ATTEMPTED:
                account.attempted.add(entry.name)
            elif entry.what == ACKNOWLEDGED:
                account.acknowledged.add(entry.name)
            elif entry.what == STARTED:
                account.starts.append(entry)
            elif entry.what == COMPLETED:
                account.completed[entry.name] += 1
                account.ends.append(entry)
            elif entry.what == FAILED:
                account.failures.append(entry)
            elif entry.what == HANDED:
                account.handed.add(entry.name)
            elif entry.what == KILLED:
                account.kills.append(entry)
        return account
