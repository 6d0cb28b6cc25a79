"""Finding the code in a page."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted([ROOT / "README.rst", *(ROOT / "docs").rglob("*.rst")])

_DIRECTIVE = re.compile(r"^( *)\.\. (?:code-block|code):: (\w+)$")


class Block(NamedTuple):
    """One piece of code, and the line that it begins on."""

    language: str
    line: int
    code: str


def blocks(page: Path) -> list[Block]:
    """Return the code blocks of a page, in order."""
    found, lines = [], page.read_text().splitlines()
    for number, line in enumerate(lines):
        if match := _DIRECTIVE.match(line):
            body = []
            for inner in lines[number + 1 :]:
                if inner.strip() and not inner.startswith(match[1] + "   "):
                    break
                body.append(inner[len(match[1]) + 4 :])
            found.append(Block(match[2], number + 2, "\n".join(body).strip("\n") + "\n"))
    return found
