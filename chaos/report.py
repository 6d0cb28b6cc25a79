"""Save the figures of ``make chaos`` as JSON, and write the table of the documentation.

``python -m chaos.report FILE`` writes reStructuredText for ``docs/figures/chaos.rst``.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from chaos.rows import Row

_HEADS = ("Loop", "Backend", "Faults", "Acknowledged", "Completed", "Lost", "Twice", "Buried")
_HEADS += ("Recovery p50 / max",)


def save(file: Path, rows: Iterable[Row], versions: str, seconds: float) -> None:
    """Write all results of a run."""
    found = {"versions": versions, "seconds": seconds, "rows": [asdict(row) for row in rows]}
    file.write_text(json.dumps(found, indent=1))


def as_rst(file: Path) -> str:
    """Return the table of a saved run."""
    found = json.loads(file.read_text())
    rows = [Row(**row) for row in found["rows"]]
    return "\n".join([*_head(found, rows), *(each for row in rows for each in _cells(row)), ""])


def _head(found: dict, rows: list[Row]) -> Iterator[str]:
    yield f"``make chaos``, whole, in {found['seconds'] / 60:.0f} minutes: {found['versions']}."
    yield f"In all {sum(row.acknowledged for row in rows):,} tasks were acknowledged and"
    yield f"{sum(row.lost for row in rows)} lost; {sum(row.unexpected for row in rows)} ran that"
    yield "no producer had pushed."
    yield ""
    yield ".. list-table::"
    yield "   :header-rows: 1"
    yield ""
    yield from _line(_HEADS)


def _cells(row: Row) -> Iterator[str]:
    recovery = f"{row.recovery_p50:.2f} / {row.recovery_max:.2f} s" if row.recovery else "-"
    lost = f"{row.lost} (the server: {row.lost_by_server})" if row.lost_by_server else row.lost
    counts = (row.faults, row.acknowledged, row.completed, lost, row.duplicated, row.buried)
    yield from _line((row.loop, row.backend, *map(str, counts), recovery))


def _line(cells: Iterable[str]) -> Iterator[str]:
    for index, cell in enumerate(cells):
        yield f"   {'* -' if index == 0 else '  -'} {cell}"


if __name__ == "__main__":
    sys.stdout.write(as_rst(Path(sys.argv[1])))
