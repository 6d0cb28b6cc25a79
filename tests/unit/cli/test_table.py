"""Test that tables fit a terminal, escape what messages say, and have color only where wanted."""

import json
import sys

import pytest

from alligator.cli import table
from alligator.cli.table import Column, lines_of

COLUMNS = [
    Column("task", lambda row: row[0], may_be_cut=True),
    Column("n", lambda row: row[1], is_number=True),
    Column("error", lambda row: row[2], may_be_cut=True),
]
ROWS = [("myapp.tasks.resize", 3, "ValueError: too much"), ("f", 12_000, "x")]


def test_columns_are_as_wide_as_their_cells():
    assert lines_of(COLUMNS, ROWS) == [
        "task                    n  error",
        "myapp.tasks.resize      3  ValueError: too much",
        "f                   12000  x",
    ]


def test_no_rows_leave_the_titles():
    assert lines_of(COLUMNS, []) == ["task  n  error"]


@pytest.mark.parametrize("width", [40, 30, 25])
def test_long_cells_are_cut_for_a_narrow_terminal(width):
    lines = lines_of(COLUMNS, ROWS, width)
    assert max(map(len, lines)) <= width
    assert len(lines) == 3
    assert "…" in lines[1]
    assert "12000" in lines[2], "numbers are never cut"


def test_a_very_narrow_terminal_gets_a_few_lines_for_each_row():
    assert lines_of(COLUMNS, ROWS, 12) == [
        "task:  myapp.tasks.resize",
        "n:     3",
        "error: ValueError: too much",
        "",
        "task:  f",
        "n:     12000",
        "error: x",
    ]


@pytest.mark.parametrize("width", [None, 40, 10])
def test_control_characters_are_escaped(width):
    lines = lines_of(COLUMNS, [("\x1b[2Jgone", 1, "two\nlines")], width)
    text = "".join(lines)
    assert "\x1b" not in text
    assert "two\\nlines" in text


class Terminal:
    def __init__(self, is_one=True):
        self.is_one = is_one

    def isatty(self):
        return self.is_one


@pytest.mark.parametrize(
    ("is_terminal", "variables", "colored"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colors_go_to_terminals_that_want_them(monkeypatch, is_terminal, variables, colored):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", Terminal(is_terminal))
    assert table.has_color(sys.stdout) is colored
    assert table.warning("a\x1b") == ("\x1b[33ma\\x1b\x1b[0m" if colored else "a\\x1b")


def test_json_is_one_document_in_ascii(capsys):
    table.print_json({"error": "\x1b[2J → ü"})
    shown = capsys.readouterr().out
    assert shown.isascii()
    assert "\x1b" not in shown
    assert json.loads(shown) == {"error": "\x1b[2J → ü"}


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "-"), (0.04, "0.0 s"), (59.6, "60 s"), (600, "10 min"), (7200, "2 h"), (2e5, "2 d")],
)
def test_time_spans(seconds, shown):
    assert table.ago(seconds) == shown
