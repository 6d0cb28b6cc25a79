"""Add up what workers report of their tasks, within bounds: for the stores that keep it.

A row is what happened to one function on one queue in one minute, as numbers that only their reader
(``alligator.monitoring``) has names for.
"""

from collections.abc import Callable, Sequence
from itertools import zip_longest

#: Places of the numbers in a row that are maxima. All others are sums.
MAX_AT = frozenset({7, 9, 41, 42, 43, 44})

#: Seconds that rows, and tasks that have ended, are kept.
KEEP_ACTIVITY = 48 * 3600.0

#: Rows of one minute, at most.
MAX_ROWS = 1_000

#: Rows of one minute for single functions, at most; what remains is for the others.
SINGLE_ROWS = 900

#: The function of a row that stands for several.
OTHERS = "(others)"

#: Tasks that have ended, at most.
MAX_RECENT = 10_000

#: Seconds that a worker is still listed after it was lost.
KEEP_LOST = 3600.0


def added(standing: Sequence[float], numbers: Sequence[float]) -> tuple[float, ...]:
    """Return a row with the numbers of another one added; the shorter one ends in zeros."""
    return added_up((standing, numbers))


def added_up(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return what several rows add up to; a shorter one ends in zeros."""
    columns = enumerate(zip_longest(*rows, fillvalue=0))
    return tuple(max(each) if index in MAX_AT else sum(each) for index, each in columns)


def row_for(
    queue_name: str, function: str, stands: Callable[[str, str], bool], count: Callable[[], int]
) -> tuple[str, str]:
    """Return the queue and the function under which something is added up in a minute.

    A function that is new when there are 900 counts as another one of its queue; a queue that is
    new when there are 999 rows counts as another one as well.

    :param stands: whether there is a row of that queue and function.
    :param count: returns how many rows there are.
    """
    if stands(queue_name, function) or count() < SINGLE_ROWS:
        return queue_name, function
    if stands(queue_name, OTHERS) or count() < MAX_ROWS - 1:
        return queue_name, OTHERS
    return "", OTHERS
