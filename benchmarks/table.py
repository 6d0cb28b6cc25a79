"""Format results as tables: plain text for a terminal, reStructuredText for the documentation."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple

from benchmarks.catalog import BARE, BATCHES, LIBRARIES, OURS
from benchmarks.errors import TOO_LONG
from benchmarks.results import Missing, Results
from benchmarks.targets import judge

#: Heading, scenario, figure, and how it is written.
Column = tuple[str, str, str, str]

SPEED: tuple[Column, ...] = (
    ("Drain", "drain", "rate", "{:,.0f}"),
    ("By two", "two", "rate", "{:,.0f}"),
    ("CPU µs", "drain", "cpu_us", "{:,.0f}"),
    ("Enqueue", "enqueue", "rate", "{:,.0f}"),
    ("In bulk", "bulk", "rate", "{:,.0f}"),
    ("p50 ms", "latency", "p50", "{:,.2f}"),
    ("p99 ms", "latency", "p99", "{:,.2f}"),
)
WEIGHT: tuple[Column, ...] = (
    ("Bytes a task", "enqueue", "bytes", "{:,.0f}"),
    ("Idle commands/s", "idle", "sent", "{:,.2f}"),
    ("… with those in scripts", "idle", "commands", "{:,.2f}"),
    ("Idle CPU %", "idle", "cpu_percent", "{:,.2f}"),
    ("RSS MB", "idle", "rss_mb", "{:,.0f}"),
    ("Import ms", "import", "ms", "{:,.0f}"),
    ("After kill -9, s", "crash", "seconds", "{:,.1f}"),
)
BATCH: tuple[Column, ...] = (
    ("Tasks/s", "batches", "rate", "{:,.0f}"),
    ("CPU µs", "batches", "cpu_us", "{:,.1f}"),
)
_ROUGH = " **A quick run: the figures are rough, and nothing is to be concluded from them.**"
_TARGET_HEADS = ("What", "Measured", "Target", "Stretch", "")
_LIBRARIES = (OURS.name, *(library.name for library in LIBRARIES))


def as_text(results: Results) -> str:
    """Return the targets that were measured, for a terminal."""
    rows = [astuple(each) for each in judge(results) if each.verdict != "not measured"]
    lines = [_TARGET_HEADS, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def as_rst(results: Results) -> str:
    """Return everything that was measured, for the documentation."""
    about = results.about
    parts = [
        f"``make bench`` on {about['date']}: {about['cores']} cores, {about['system']}, "
        f"{about['python']}, redis {about['redis']}; medians of {about['passes']} passes, "
        f"{about['scale']}.{_ROUGH if about.get('quick') else ''}",
        *list_table(_TARGET_HEADS, (astuple(each) for each in judge(results))),
        "Rates are tasks/s, CPU that of the worker per task; *p50* and *p99* from the push to the "
        "start in an idle worker.",
        *list_table(("", *(each[0] for each in SPEED)), _lines(results, _LIBRARIES, SPEED)),
        *list_table(("", *(each[0] for each in WEIGHT)), _lines(results, _LIBRARIES, WEIGHT)),
        "Alligator with a fixed prefetch, and the bare loop that takes as many at once:",
        *list_table(
            ("", *(each[0] for each in BATCH)),
            _lines(results, [library.name for library in BATCHES], BATCH),
        ),
        *_failures(results),
        "How each was run:",
        *list_table(("", "Versions", "Worker"), _settings(results)),
    ]
    return "\n\n".join(parts) + "\n"


def list_table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> Iterator[str]:
    """Return a table as one piece of reStructuredText; none if there are no lines."""
    rows = ["\n".join(_cells(line)) for line in lines]
    if rows:
        yield "\n".join(
            [".. list-table::", "   :header-rows: 1", "", "\n".join(_cells(heads)), *rows]
        )


def _cells(line: Sequence[str]) -> Iterator[str]:
    for index, cell in enumerate(line):
        yield f"   {'* -' if index == 0 else '  -'} {cell}".rstrip()


def _lines(
    results: Results, names: Iterable[str], columns: Sequence[Column]
) -> Iterator[tuple[str, ...]]:
    for name in names:
        cells = [_cell(results, name, column) for column in columns]
        if any(cell != "–" for cell in cells):
            yield (name, *cells)


def _cell(results: Results, name: str, column: Column) -> str:
    _, scenario, figure, shown = column
    try:
        return shown.format(results.median(scenario, name, figure))
    except Missing:
        why = results.failures.get(scenario, {}).get(name, "")
        return why.replace(TOO_LONG, ">").removesuffix(" s") if why.startswith(TOO_LONG) else "–"


def _failures(results: Results) -> Iterator[str]:
    """Yield each measurement without a figure, and the reason."""
    missing = [
        f"* {name}, {scenario}: {why}"
        for scenario, found in results.failures.items()
        for name, why in sorted(found.items())
        if not results.figures.get(scenario, {}).get(name) and not why.startswith(TOO_LONG)
    ]
    if missing:
        yield "Not measured:"
        yield "\n".join(missing)


def _settings(results: Results) -> Iterator[tuple[str, ...]]:
    for name in (*_LIBRARIES, BARE.name):
        found = results.libraries.get(name)
        if found:
            yield (name, found["versions"], found["settings"])
