"""Keep the account of pushed and completed tasks, in a file that survives every kill.

The accounting is that of Jepsen's total-queue checker. A task is *attempted* if a producer tried
to push it, *acknowledged* if the push returned, and *completed* if it ran to its end. Acknowledged
and never completed is *lost*; completed more than once is *duplicated*; completed and never
attempted is *unexpected*.
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
    """Hold one line: what happened to which task, in which process, when (Unix seconds)."""

    what: str
    name: str
    pid: int
    at: float


@dataclass
class Account:
    """Hold all that a ledger says when a loop has ended."""

    attempted: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    completed: Counter = field(default_factory=Counter)
    starts: list[Entry] = field(default_factory=list)
    ends: list[Entry] = field(default_factory=list)
    failures: list[Entry] = field(default_factory=list)  # runs that raised, as they were to
    kills: list[Entry] = field(default_factory=list)
    handed: set[str] = field(default_factory=set)  # out by the server, where that is traced

    def lost(self, buried: set[str] = frozenset()) -> set[str]:
        """Return the tasks acknowledged, and neither completed nor among these dead letters."""
        return self.acknowledged - set(self.completed) - set(buried)

    @property
    def duplicated(self) -> int:
        """The number of completions beyond the first of each task."""
        return sum(self.completed.values()) - len(self.completed)

    @property
    def unexpected(self) -> set[str]:
        """Return the tasks completed that no producer tried to push."""
        return set(self.completed) - self.attempted

    def gaps(self) -> list[float]:
        """Return, for tasks that ended, were killed and ended again, seconds from end to kill."""
        killed = {kill.pid: kill.at for kill in self.kills}
        last = {end.name: end for end in self.ends}  # in order of time
        return sorted(
            killed[end.pid] - end.at
            for end in self.ends
            if end.pid in killed and last[end.name] is not end
        )

    def recoveries(self, but: Collection[str] = ()) -> list[float]:
        """Return seconds from each kill to the next start of a task that the kill interrupted.

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
    """Append lines to a file, each in one call, so that lines never mix.

    A kill in the middle of a call leaves a torn line. It counts as never written, and ends where
    the next call begins.
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
            raise ValueError(f"cannot note {what!r} of {names!r}: the line could not be read back")
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, b"\n" + lines.encode())
        finally:
            os.close(descriptor)

    def entries(self) -> list[Entry]:
        """Return all complete lines."""
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
        """Wait for the first line of one kind about a task whose name has that prefix."""
        start, deadline = f"{what} {prefix}", time.monotonic() + within
        while time.monotonic() < deadline:
            text = Path(self.path).read_bytes() if Path(self.path).exists() else b""
            if f"\n{start}".encode() in b"\n" + text[-200_000:]:
                return True
            time.sleep(0.002)
        return False

    def account(self) -> Account:
        """Return the account of all lines."""
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
