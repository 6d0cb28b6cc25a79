"""Write the files of the documentation: ``python -m benchmarks.render FILE FOLDER``.

Writes ``bench.inc`` (the tables) and ``bench.svg`` (the chart; needs ``alligator[bench]``).
"""

import sys
from pathlib import Path

from benchmarks.chart import draw
from benchmarks.results import Results
from benchmarks.table import as_rst


def render(results: Results, folder: Path) -> None:
    """Write both files."""
    (folder / "bench.inc").write_text(as_rst(results))
    draw(results, folder / "bench.svg")


if __name__ == "__main__":
    render(Results.load(Path(sys.argv[1])), Path(sys.argv[2]))
