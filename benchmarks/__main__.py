"""Compare Alligator with other queues, and with bare loops: ``python -m benchmarks``."""

import argparse
import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.render import render
from benchmarks.results import Results
from benchmarks.runner import run
from benchmarks.scenarios import QUICK, Scale, Scenario
from benchmarks.scenarios.every import EVERY, SELF
from benchmarks.table import as_text


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = made.add_argument
    add("--self", action="store_true", dest="ours", help="Alligator against bare loops only")
    add("--quick", action="store_true", help="little work each: rough figures, soon")
    add("--only", metavar="LIBRARY,LIBRARY", help="these libraries (folder names; ours always)")
    add(
        "--scenarios",
        metavar="SCENARIO,SCENARIO",
        help=f"of {', '.join(scenario.name for scenario in EVERY)}",
    )
    add("--passes", type=int, default=3, metavar="N", help="default: 3")
    add("--crash", type=float, metavar="SECONDS", help="wait so long for an interrupted task")
    add("--out", type=Path, default=Path("build/bench.json"), help="where the JSON goes")
    add("--docs", type=Path, metavar="FOLDER", help="write table and chart there, too")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the scenarios, save the results, and print the targets."""
    arguments = parser().parse_args(argv)
    scenarios = chosen(SELF if arguments.ours else EVERY, arguments.scenarios, arguments.only)
    if not scenarios:
        sys.exit("None of the named libraries is in these scenarios.")
    scale = QUICK if arguments.quick else Scale()
    if arguments.crash:
        scale = dataclasses.replace(scale, crash=arguments.crash)
    started = time.monotonic()
    results = Results()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {text}", file=sys.stderr, flush=True)

    run(scenarios, arguments.passes, scale, results, arguments.out, say)
    print(as_text(results))
    if arguments.docs:
        render(results, arguments.docs)
    return 0


def chosen(scenarios: Sequence[Scenario], names: str | None, only: str | None) -> list[Scenario]:
    """Return the scenarios named, with the libraries named, Alligator and the bare loops."""
    _check(names, {scenario.name for scenario in scenarios})
    _check(only, {library.folder for scenario in scenarios for library in scenario.libraries})
    found = [
        scenario for scenario in scenarios if names is None or scenario.name in names.split(",")
    ]
    if only is not None:
        folders = {"alligator", "bare", *only.split(",")}
        found = [
            dataclasses.replace(
                scenario,
                libraries=[library for library in scenario.libraries if library.folder in folders],
            )
            for scenario in found
        ]
    return [scenario for scenario in found if scenario.libraries]


def _check(names: str | None, known: set[str]) -> None:
    unknown = set(names.split(",")) - known if names else ()
    if unknown:
        listed = ", ".join(sorted(known))
        sys.exit(f"There is no {', '.join(sorted(unknown))} here, but {listed}.")


if __name__ == "__main__":
    sys.exit(main())
