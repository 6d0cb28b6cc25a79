"""``python -m benchmarks``: compare Alligator with other queues, and with bare loops."""

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.render import render
from benchmarks.results import Results
from benchmarks.rows import QUICK, Row, Scale
from benchmarks.rows.every import EVERY, SELF
from benchmarks.runner import run
from benchmarks.table import as_text


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = made.add_argument
    add("--self", action="store_true", dest="ours", help="Alligator against bare loops only")
    add("--quick", action="store_true", help="little work each: rough figures, soon")
    add("--only", metavar="PEER,PEER", help="these libraries (folder names; ours always)")
    add("--rows", metavar="ROW,ROW", help=f"of {', '.join(row.name for row in EVERY)}")
    add("--passes", type=int, default=3, metavar="N", help="default: 3")
    add("--crash", type=float, metavar="SECONDS", help="wait so long for an interrupted task")
    add("--out", type=Path, default=Path("build/bench.json"), help="where the JSON goes")
    add("--docs", type=Path, metavar="FOLDER", help="write table and chart there, too")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for, save it, and print the targets."""
    arguments = parser().parse_args(argv)
    rows = chosen(SELF if arguments.ours else EVERY, arguments.rows, arguments.only)
    if not rows:
        sys.exit("Nobody named is in these rows.")
    scale = QUICK if arguments.quick else Scale()
    if arguments.crash:
        scale = dataclasses.replace(scale, crash=arguments.crash)
    started = time.monotonic()
    results = Results()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {text}", file=sys.stderr, flush=True)

    run(rows, arguments.passes, scale, results, arguments.out, say)
    print(as_text(results))
    if arguments.docs:
        render(results, arguments.docs)
    return 0


def chosen(rows: Sequence[Row], names: str | None, only: str | None) -> list[Row]:
    """Return the rows named, with the libraries named, Alligator and the bare loops."""
    _check(names, {row.name for row in rows})
    _check(only, {peer.folder for row in rows for peer in row.peers})
    found = [row for row in rows if names is None or row.name in names.split(",")]
    if only is not None:
        folders = {"alligator", "bare", *only.split(",")}
        found = [
            dataclasses.replace(row, peers=[peer for peer in row.peers if peer.folder in folders])
            for row in found
        ]
    return [row for row in found if row.peers]


def _check(names: str | None, known: set[str]) -> None:
    unknown = set(names.split(",")) - known if names else ()
    if unknown:
        listed = ", ".join(sorted(known))
        sys.exit(f"There is no {', '.join(sorted(unknown))} here, but {listed}.")


if __name__ == "__main__":
    sys.exit(main())
