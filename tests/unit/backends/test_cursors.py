import pytest

from alligator.backends.cursors import read_cursor, write_cursor
from alligator.exceptions import InvalidTask


def test_a_cursor_holds_what_it_was_written_with():
    values = ["ready", 0.1, -3, "id ✓ \x00"]
    assert read_cursor(write_cursor(*values), str, float, int, str) == values


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "no cursor",
        "é",
        write_cursor("a"),
        write_cursor("a", "b"),
        write_cursor(1, "b"),
        write_cursor("a", 1.5),
        write_cursor("a", True),
        write_cursor("a", float("nan")),
        write_cursor("a", float("inf")),
        write_cursor("a", 2**63),
        write_cursor("a", 1, 2),
        write_cursor("a", 1)[:-1],
        None,
        7,
    ],
)
def test_others_are_refused(cursor):
    with pytest.raises(InvalidTask, match="cursor of this listing"):
        read_cursor(cursor, str, int)
