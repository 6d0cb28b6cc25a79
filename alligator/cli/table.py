"""Print rows as a table for people, or as one JSON document for programs.

A table needs no other library. On a terminal it is made to fit: long cells are cut, and if the
terminal is too narrow for that, each row becomes a few lines. Into a pipe or a file, a table is
written in full. Colors go to terminals only, and not if ``NO_COLOR`` is set.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from alligator.common.text import escape

#: Cells are cut to this width, but no further.
_LEAST_WIDTH = 8

_BETWEEN = "  "

#: Goes to the first line of a terminal, and clears what is there.
CLEAR = "\x1b[H\x1b[J"

_BOLD, _YELLOW, _RED, _PLAIN = "\x1b[1m", "\x1b[33m", "\x1b[31m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    :ivar title: its first line.
    :ivar cell: returns the text of a row; it is escaped afterwards.
    :ivar is_number: whether it is set to the right.
    :ivar may_be_cut: whether it may be cut for a narrow terminal.
    """

    title: str
    cell: Callable[[Any], object]
    is_number: bool = False
    may_be_cut: bool = False


def lines_of(
    columns: Sequence[Column], rows: Iterable[Any], width: int | None = None, *, color: bool = False
) -> list[str]:
    """Return the lines of a table, its titles first.

    :param width: of the terminal, in characters; None: any.
    :param color: whether to set the titles in bold.
    """
    cells = [[escape(str(column.cell(row))) for column in columns] for row in rows]
    titles = [column.title for column in columns]
    widths = [max(map(len, each)) for each in zip(titles, *cells, strict=True)]
    if width is not None and not _fit(widths, columns, width):
        return _one_below_another(titles, cells, color=color)
    lines = [_line(each, widths, columns) for each in (titles, *cells)]
    lines[0] = _bold(lines[0]) if color else lines[0]
    return lines


def _fit(widths: list[int], columns: Sequence[Column], width: int) -> bool:
    """Make columns narrower, the widest first, until all fit; return whether they do."""
    over = sum(widths) + len(_BETWEEN) * (len(widths) - 1) - width
    cut = [
        index
        for index, column in enumerate(columns)
        if column.may_be_cut and widths[index] > max(_LEAST_WIDTH, len(column.title))
    ]
    room = sum(widths[index] - max(_LEAST_WIDTH, len(columns[index].title)) for index in cut)
    if over > room:
        return False
    while over > 0:
        widest = max(cut, key=widths.__getitem__)
        least = max(_LEAST_WIDTH, len(columns[widest].title))
        if widths[widest] <= least:
            cut.remove(widest)
            continue
        widths[widest] -= 1
        over -= 1
    return True


def _line(cells: Sequence[str], widths: Sequence[int], columns: Sequence[Column]) -> str:
    shown = [
        _cut(cell, width).rjust(width) if column.is_number else _cut(cell, width).ljust(width)
        for cell, width, column in zip(cells, widths, columns, strict=True)
    ]
    return _BETWEEN.join(shown).rstrip()


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else f"{cell[: width - 1]}…"


def _one_below_another(
    titles: Sequence[str], cells: Iterable[Sequence[str]], *, color: bool
) -> list[str]:
    widest = max(map(len, titles))
    lines: list[str] = []
    for row in cells:
        if lines:
            lines.append("")
        for title, cell in zip(titles, row, strict=True):
            name = f"{title}:".ljust(widest + 1)
            lines.append(f"{_bold(name) if color else name} {cell}".rstrip())
    return lines


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a person reads a stream."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def has_color(stream: TextIO | None) -> bool:
    """Return whether to write colors: to a terminal, unless NO_COLOR is set (no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


def terminal_width() -> int | None:
    """Return the width of the terminal that standard output is; None: it is none."""
    return shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None


def _bold(text: str) -> str:
    return f"{_BOLD}{text}{_PLAIN}"


def warning(text: str) -> str:
    """Return a line, escaped, in yellow where standard output has colors."""
    return f"{_YELLOW}{escape(text)}{_PLAIN}" if has_color(sys.stdout) else escape(text)


def problem(text: str) -> str:
    """Return a line, escaped, in red where standard output has colors."""
    return f"{_RED}{escape(text)}{_PLAIN}" if has_color(sys.stdout) else escape(text)


def show(columns: Sequence[Column], rows: Iterable[Any]) -> list[str]:
    """Return the lines of a table as they fit standard output."""
    return lines_of(columns, rows, terminal_width(), color=has_color(sys.stdout))


def print_json(document: Any) -> None:
    """Print one JSON document, in ASCII, so that no terminal or encoding is in its way."""
    print(json.dumps(document, indent=2))


def ago(seconds: float | None) -> str:
    """Return a time span in seconds as ``'5 s'``, ``'12 min'``, ``'3 h'`` or ``'2 d'``."""
    if seconds is None:
        return "-"
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if abs(seconds) >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s" if abs(seconds) >= 10 else f"{seconds:.1f} s"
