"""Start, measure and stop the processes of a worker."""

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path


class Worker:
    """Run the processes that the given commands start, with all their descendants.

    :param binaries: the folder of the library's own scripts and interpreter.
    :param commands: as an adapter's ``worker`` returns them.
    """

    def __init__(
        self, binaries: Path, commands: Iterable[list[str]], env: Mapping[str, str], log: Path
    ) -> None:
        self.log = log
        self._started = []
        for argv in commands:
            first = [str(binaries / "python"), "-m"] if argv[0] == "-m" else [binaries / argv[0]]
            with log.open("ab") as output:
                self._started.append(
                    subprocess.Popen(
                        [*first, *argv[1:]],
                        env=dict(env),
                        cwd=log.parent,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                    )
                )

    def alive(self) -> bool:
        """Return whether all started processes still run."""
        return all(each.poll() is None for each in self._started)

    def last_words(self) -> str:
        """Return the last line that the worker wrote."""
        lines = self.log.read_text(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its processes so far, ended ones included."""
        return sum(map(_cpu_seconds, self._pids()))

    def rss_mb(self) -> float:
        """Return the resident memory of all its processes, shared pages counted in each."""
        return sum(map(_rss_mb, self._pids()))

    def kill(self) -> None:
        """Kill all processes at once, by SIGKILL, as the OOM killer does."""
        for pid in self._pids():
            if not _tidies(pid):
                _signal(pid, signal.SIGKILL)
        for each in self._started:
            each.wait()

    def stop(self, within: float = 20.0) -> None:
        """Stop gracefully, with ``SIGTERM``; kill if that takes too long."""
        for each in self._started:
            each.send_signal(signal.SIGTERM)
            each.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + within
        try:
            for each in self._started:
                each.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()

    def hold(self) -> None:
        """Stop its processes until :meth:`go`."""
        for pid in self._pids():
            _signal(pid, signal.SIGSTOP)

    def go(self) -> None:
        """Let them run on."""
        for pid in self._pids():
            _signal(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        parents = dict(_parents())
        pids = [each.pid for each in self._started if each.poll() is None]
        for pid in pids:  # grows while it is walked
            pids += [child for child, parent in parents.items() if parent == pid]
        return pids


def _tidies(pid: int) -> bool:
    """Return whether a process is multiprocessing's resource tracker, which ends by itself."""
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _parents() -> Iterator[tuple[int, int]]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = _stat_fields(stat)
        except OSError:
            continue
        yield int(stat.parent.name), int(fields[1])


def _stat_fields(stat: Path) -> list[str]:
    """Return the fields of /proc/PID/stat after the name, which may hold anything."""
    return stat.read_text().rpartition(")")[2].split()


def _cpu_seconds(pid: int) -> float:
    """Return the time of the process's clock, exact to the ns, plus its dead children's ticks."""
    try:
        own = time.clock_gettime((~pid << 3) | 2)  # CPUCLOCK_SCHED of the whole process
        children = sum(map(int, _stat_fields(Path(f"/proc/{pid}/stat"))[13:15]))
    except OSError:
        return 0.0
    return own + children / os.sysconf("SC_CLK_TCK")


def _rss_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    kilobytes = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(kilobytes[0]) / 1024 if kilobytes else 0.0
