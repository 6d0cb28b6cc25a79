"""Make label values of the names of queues and functions: printable, and so many at most."""

import threading

from alligator.common.text import shorten

#: The label of what has none of its own.
OTHERS = "(others)"

#: Characters of a label value.
_LONGEST = 200


def clean(name: str) -> str:
    """Return a name as a label value: short, and without control characters."""
    return shorten(name, _LONGEST)


class Labels:
    """Gives pairs of queue and function their label values.

    The first ``most`` pairs have their own. The function of a further one is :data:`OTHERS`; and of
    further queues than ``most``, the queue, too. So there are ``2 * most + 1`` at most.

    A message may name anything. So the functions that never ran here to the end have a quarter of
    the places, and the first ones of them take these.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._unknown = most // 4  # places that are left for these
        self._pairs: dict[tuple[str, str], tuple[str, str]] = {}
        self._queues: dict[str, tuple[str, str]] = {}
        self._lock = threading.Lock()

    def of(self, queue_name: str, function: str, *, is_known: bool) -> tuple[str, str]:
        """Return the label values of queue and function.

        :param is_known: whether the function is one, and not just a name in a message.
        """
        found = self._pairs.get((queue_name, function))
        if found is not None:
            return found
        with self._lock:
            has_place = len(self._pairs) < self.most and (is_known or self._unknown > 0)
            if function not in ("", OTHERS) and has_place:
                self._unknown -= not is_known
                pair = clean(queue_name), clean(function)
                return self._pairs.setdefault((queue_name, function), pair)
            if queue_name in self._queues or len(self._queues) < self.most:
                return self._queues.setdefault(queue_name, (clean(queue_name), OTHERS))
        return OTHERS, OTHERS
