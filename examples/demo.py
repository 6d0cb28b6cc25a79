"""The main job of Alligator, on SQLite, with nothing to install but Python.

    python3 examples/demo.py [FOLDER]

Queues one task for every Python module of the standard library (or of a folder), starts
two workers, kills one of them in the middle, and checks afterwards that every file was
processed all the same. Some files cannot be: they are retried, and end as dead letters.
"""

import argparse
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent
ROOT = EXAMPLES.parent
sys.path[:0] = [str(ROOT), str(EXAMPLES)]

from measure import measure, note_failure  # noqa: E402

from alligator import Gator  # noqa: E402

RETRIES = 2
LEASE = 2  # seconds; short, so that the killed worker's tasks are back soon
DEADLINE = 300  # seconds for everything


@dataclass
class Report:
    """What the tasks have written down so far."""

    done: dict[str, tuple[int, int]] = field(default_factory=dict)
    failed_tries: dict[str, int] = field(default_factory=dict)
    twice: int = 0
    pids: set[int] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path) -> "Report":
        """Read the lines that :mod:`measure` appended."""
        report = cls()
        if not path.exists():
            return report
        for line in path.read_bytes().decode("utf-8", "surrogateescape").splitlines():
            kind, size, packed, pid, name = line.split("\t", 4)
            report.pids.add(int(pid))
            if kind == "failed":
                report.failed_tries[name] = report.failed_tries.get(name, 0) + 1
            else:
                report.twice += name in report.done
                report.done[name] = (int(size), int(packed))
        return report


def find_files(folder: Path, scratch: Path) -> tuple[list[Path], list[Path]]:
    """Return the files to process, and some that cannot be."""
    good = sorted(
        path
        for path in folder.rglob("*.py")
        if path.is_file() and "site-packages" not in path.parts and is_utf8(path)
    )
    latin, gone = scratch / "not_utf8.py", scratch / "gone.py"
    latin.write_bytes("# Gr\xfc\xdfe\n".encode("latin-1"))
    binary = scratch / "binary.py"
    binary.write_bytes(bytes(range(256)))
    return good, [latin, gone, binary]


def is_utf8(path: Path) -> bool:
    """Whether a file can be processed; what cannot, the demo makes itself, to know how many."""
    try:
        path.read_bytes().decode("utf-8")
    except (UnicodeDecodeError, OSError):
        return False
    return "\t" not in str(path) and "\n" not in str(path)


@contextmanager
def workers(dsn: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run two worker processes, supervised, and stop them at the end."""
    command = [sys.executable, str(ROOT / "bin" / "latergator.py"), dsn]
    command += ["--processes", "2", "--lease", str(LEASE), "--log-level", "WARNING"]
    paths = os.pathsep.join([str(ROOT), str(EXAMPLES)])
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": paths}, stdout=out, stderr=out
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def show(done: int, total: int, shown: int) -> int:
    """Draw the progress bar and return its length; a line per tenth where there is no terminal."""
    length = 40 * done // total
    if sys.stdout.isatty():
        print(f"\r[{'#' * length:<40}] {done}/{total}", end="", flush=True)
    elif length // 4 > shown // 4:
        print(f"{done} of {total} files", flush=True)
    return length


def work_through(gator: Gator, supervisor: subprocess.Popen[bytes], lines: Path, total: int) -> int:
    """Watch until all is done, killing one worker on the way; return the pid of that one."""
    killed, shown, deadline = 0, 0, time.monotonic() + DEADLINE
    while True:
        report, stats = Report.read(lines), gator.stats()
        ended = len(report.done) + stats["dead"]
        shown = show(ended, total, shown)
        if not killed and ended > total // 4:
            killed = kill_one(report, supervisor)
        if not stats["waiting"] + stats["delayed"] + stats["running"]:
            print()
            return killed
        if time.monotonic() > deadline or supervisor.poll() is not None:
            raise SystemExit("The workers did not finish.")
        time.sleep(0.05)


def kill_one(report: Report, supervisor: subprocess.Popen[bytes]) -> int:
    """Kill a worker as the out-of-memory killer would: SIGKILL, with no chance to clean up."""
    for pid in report.pids - {supervisor.pid, os.getpid()}:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        return pid
    return 0


def check(report: Report, good: list[Path], bad: list[Path], gator: Gator) -> tuple[int, list[str]]:
    """Hold the report against the input; return how many were lost, and what else is wrong."""
    dead = {letter.data for letter in gator.dead(limit=10_000)}
    buried = [path for path in bad if any(str(path) in str(data) for data in dead)]
    lost = [path for path in good if str(path) not in report.done]
    lost += [path for path in bad if path not in buried]
    wrong = [f"lost: {path}" for path in lost[:10]]
    wrong += [
        f"wrong size: {path}"
        for path in good
        if str(path) in report.done and report.done[str(path)][0] != path.stat().st_size
    ]
    if len(dead) != len(bad):
        wrong.append(f"{len(dead)} dead letters for {len(bad)} files that cannot be processed")
    for path in bad:
        tries = report.failed_tries.get(str(path), 0)
        if tries < RETRIES + 1:
            wrong.append(f"{path} was tried {tries} times, not {RETRIES + 1}")
    return len(lost), wrong


def main() -> int:
    """Run the demo and return 0 if nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=sysconfig.get_path("stdlib"))
    folder = Path(parser.parse_args().folder).resolve()
    with tempfile.TemporaryDirectory(prefix="alligator-demo-") as name:
        scratch = Path(name)
        good, bad = find_files(folder, scratch)
        if not good:
            print(f"There are no Python files in {folder}.", file=sys.stderr)
            return 2
        lines, dsn = scratch / "report.tsv", f"sqlite://{scratch}/queue.db"
        gator = Gator(dsn)
        started = time.monotonic()
        with gator.batch(retries=RETRIES, on_error=note_failure) as batch:
            for path in [*good[: len(good) // 2], *bad, *good[len(good) // 2 :]]:
                batch.task(measure, str(path), str(lines))
        print(f"{len(good) + len(bad)} files of {folder} are on the queue {dsn}")
        with workers(dsn, scratch / "workers.log") as supervisor:
            killed = work_through(gator, supervisor, lines, len(good) + len(bad))
        report = Report.read(lines)
        lost, wrong = check(report, good, bad, gator)
        gator.close()
        if not killed:
            wrong.append("no worker was killed: the demo ended too soon to show anything")
        print(f"files       {len(report.done)} in {time.monotonic() - started:.1f} s")
        print(f"bytes       {sum(size for size, _ in report.done.values()):,}")
        print(f"compressed  {sum(packed for _, packed in report.done.values()):,}")
        print(f"killed      worker #{killed} with SIGKILL; {report.twice} files ran twice")
        print(f"retried     {sum(report.failed_tries.values()) - len(bad)}")
        print(f"dead        {len(bad)} that cannot be processed, kept with their errors")
        print(f"lost        {lost}")
        for line in wrong:
            print(f"WRONG: {line}", file=sys.stderr)
        return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
