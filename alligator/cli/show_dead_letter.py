"""Show a dead letter, as text or as a test that fails as the task did.

Anyone who can write to the queue may have written the letter. So its control characters are
escaped.
"""

import sys
from collections.abc import Iterable

from alligator.backends.base import DeadTask
from alligator.common.text import escape, shorten, show_time
from alligator.gator import Gator
from alligator.testing.reproduce import as_test

#: How many letters of a queue are searched for an id.
_LOOKED_THROUGH = 10_000


def print_one(gator: Gator, queues: Iterable[str], task_id: str, *, as_code: bool = False) -> int:
    """Print the dead letter of that id, or a test made of it; return 1 if there is none."""
    letter = find(gator, queues, task_id)
    if letter is None:
        print(f"latergator.py: no dead task {shorten(repr(task_id))} there", file=sys.stderr)
        return 1
    print(as_test(gator, letter) if as_code else show(letter), end="")
    return 0


def find(gator: Gator, queues: Iterable[str], task_id: str) -> DeadTask | None:
    """Return the dead letter of that id on one of the queues; None: there is none."""
    for name in queues:
        for letter in gator.client.dead(name, _LOOKED_THROUGH):
            if letter.task_id == task_id:
                return letter
    return None


def show(letter: DeadTask) -> str:
    """Return a letter as text, with its error, traceback and data."""
    data = letter.data
    text = data if isinstance(data, str) else data.decode(errors="backslashreplace")
    return (
        f"id:        {escape(letter.task_id)}\n"
        f"queue:     {escape(letter.queue_name)}\n"
        f"died:      {show_time(letter.died_at)}\n"
        f"attempts:  {letter.attempts}\n"
        f"error:     {escape(letter.error)}\n"
        f"traceback:\n{_indented(letter.traceback)}"
        f"data:\n{_indented(text)}"
    )


def _indented(text: str) -> str:
    # No line of it may look like one of ours.
    return "".join(f"  {escape(line)}\n" for line in text.rstrip("\n").split("\n") if text)
