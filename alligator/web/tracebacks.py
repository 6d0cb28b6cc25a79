"""Show the traceback of a task, with the frames of Alligator folded."""

import re
from itertools import groupby

from alligator.web.rendering import lines

_OURS = re.compile(r'^\s+File "[^"]*[/\\]alligator[/\\][^"]*", line \d+')
_FRAME = re.compile(r'^\s+File "')


def folded(traceback: str) -> list[tuple[bool, str]]:
    """Return the parts of a traceback, each with whether it is frames of Alligator."""
    kinds, is_ours = [], False
    for line in traceback.rstrip("\n").split("\n") if traceback else ():
        if _FRAME.match(line):
            is_ours = bool(_OURS.match(line))
        elif not line.startswith("  "):
            is_ours = False
        kinds.append((is_ours, line))
    return [
        (ours, lines("\n".join(line for _, line in some)))
        for ours, some in groupby(kinds, key=lambda each: each[0])
    ]
