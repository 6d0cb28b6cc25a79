"""Find the code in a page."""

import re
from pathlib import Path
from typing import NamedTuple

from tests.support import ROOT

PAGES = sorted([ROOT / "README.rst", *(ROOT / "docs").rglob("*.rst")])

_DIRECTIVE = re.compile(r"^( *)\.\. code-block:: (\w+)$")
_NO_RUN = re.compile(r"^ *\.\. no-run: (.+)$")

#: A DSN as it stands in text or code; not a bare scheme, nor one cut off by an ellipsis.
_DSN = re.compile(
    r"(?<![\w+])(?:locmem|sqlite|(?:redis|valkey)s?(?:\+\w+)?|beanstalk|sqs)://[^\s'\"`…]+"
)


class Block(NamedTuple):
    """One piece of code, and the line that it begins on."""

    language: str
    line: int
    code: str
    no_run: str = ""  # why not, from a comment ".. no-run: reason" right before it


def blocks(page: Path) -> list[Block]:
    """Return the code blocks of a page, in order."""
    found, lines, no_run = [], page.read_text().splitlines(), ""
    for number, line in enumerate(lines):
        if match := _DIRECTIVE.match(line):
            body = []
            for inner in lines[number + 1 :]:
                if inner.strip() and not inner.startswith(match[1] + "   "):
                    break
                body.append(inner[len(match[1]) + 4 :])
            code = "\n".join(body).strip("\n") + "\n"
            found.append(Block(match[2], number + 2, code, no_run))
        if match := _NO_RUN.match(line):
            no_run = match[1]
        elif line.strip():
            no_run = ""
    return found


def commands(page: Path) -> list[str]:
    """Return every ``latergator.py …`` of a page, in blocks, in text and in a systemd unit."""
    text = page.read_text()
    shell = re.findall(r"^ *\$ (?:\w+=\S+ )*latergator\.py (.+)$", text, re.MULTILINE)
    unit = re.findall(r"^ *ExecStart=\S*/latergator\.py (.+)$", text, re.MULTILINE)
    inline = re.findall(r"``latergator\.py ([^`-][^`]+)``", text)  # not a flag by itself
    return [*shell, *unit, *(" ".join(each.split()) for each in inline)]


def dsns(page: Path) -> list[str]:
    """Return every DSN that a page writes out."""
    return sorted(set(_DSN.findall(page.read_text())))


def hidden_code(page: Path) -> list[str]:
    """Return lines that begin code which :func:`blocks` would not see."""
    other = re.compile(r"(::$|^ *(>>>|\.\. (code|code-block|sourcecode|parsed-literal)::))")
    return [
        line
        for line in page.read_text().splitlines()
        if other.search(line)
        and not _DIRECTIVE.match(line)
        and not re.match(r" *\.\. (glossary|list-table|toctree)::$", line)
    ]
