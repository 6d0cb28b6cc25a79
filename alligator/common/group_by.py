"""Group items by a key."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Key = TypeVar("Key")


def group_by(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Return the items by their key; both keys and items keep their order.

    ::

        group_by(deliveries, attrgetter('queue_name'))

    Unlike ``itertools.groupby``, it needs no sorted input.
    """
    groups = defaultdict[Key, list[Item]](list)
    for each in items:
        groups[key(each)].append(each)
    return dict(groups)
